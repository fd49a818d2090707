"""What reports are made of: one HTML file each, without any resource from elsewhere. Every text is escaped here."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def page(title: str, body: str) -> str:
    """A whole file; `body` is HTML, `title` text."""
    return _PAGE.format(title=escape(title), style=_STYLE, body=body)


def section(title: str, content: str) -> str:
    """A box with a heading around `content`, which is HTML; nothing around nothing."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def tile_row(tiles: Iterable[tuple[str, str]]) -> str:
    """A row of (name, value), large enough to be read first."""
    cells = "".join(f"<div class=tile><span>{escape(n)}</span><b>{escape(v)}</b></div>" for n, v in tiles)
    return f"<div class=tiles>{cells}</div>"


def warning_list(texts: Sequence[str]) -> str:
    """Sentences that must be seen."""
    entries = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul class=warnings>{entries}</ul>" if entries else ""


def pairs(values: Mapping[str, Any]) -> str:
    """A table of names and values."""
    rows = "".join(f"<tr><td>{escape(str(n))}<td class=words>{escape(str(v))}</tr>" for n, v in values.items())
    return f"<table>{rows}</table>"


def dot(colour: str) -> str:
    """A small disc in a CSS colour."""
    return f'<i class=dot style="background:{colour}"></i>'


def figure(png: bytes, alt: str, caption: str) -> str:
    """A picture within the file, with its caption below."""
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{escape(alt)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def version_of(package: str) -> str:
    """The installed version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


_STYLE = """
:root{color-scheme:light}*{box-sizing:border-box}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;color:#1d2733;background:#f5f7fa;margin:0}
main{max-width:1120px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:28px;margin:0 0 4px}h2{font-size:18px;margin:0 0 12px}
section{background:#fff;border:1px solid #e1e6ec;border-radius:10px;padding:18px 20px;margin-top:20px}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin-top:16px}
.tile{background:#fff;border:1px solid #e1e6ec;border-radius:10px;padding:10px 16px}
.tile span{display:block;font-size:12px;color:#66717f}.tile b{font-size:17px}
.warnings{background:#fff6e5;border:1px solid #f0d9a8;border-radius:10px;padding:10px 16px 10px 34px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,470px),1fr));gap:16px}
.charts svg{width:100%;height:auto;display:block}
table{border-collapse:collapse;margin-top:12px;font-variant-numeric:tabular-nums}
th{font-weight:600;font-size:12px;color:#66717f;text-align:right}
td,th{padding:3px 14px 3px 0;text-align:right;white-space:nowrap;border-bottom:1px solid #eef1f5}
td:first-child,th:first-child,td.words{text-align:left}td.words{white-space:normal}
.dot{display:inline-block;width:10px;height:10px;border-radius:50%;margin-right:8px}.spark{vertical-align:middle}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,470px),1fr));gap:16px}
figure{margin:0}figure img{width:100%;border-radius:6px;display:block}
figcaption{font-size:12px;color:#66717f;margin-top:4px}
code{background:#eef1f5;border-radius:4px;padding:1px 6px;font-size:12px}.cases{line-height:1.9;margin-top:0}
pre{background:#f5f7fa;border-radius:6px;padding:12px;overflow:auto;font-size:12.5px;line-height:1.45}
summary{cursor:pointer;color:#66717f}.faint{color:#66717f;font-size:13px}
@media print{body{background:#fff}main{padding:0}section,figure,tr{break-inside:avoid}section{border:0;padding:0}}
"""

_PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width,initial-scale=1">'
    "<title>{title}</title><style>{style}</style></head><body><main>{body}</main></body></html>\n"
)
