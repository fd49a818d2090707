"""A model's card in words: what it learned from, which structures, how good, under which licence."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from napari_multiphase.labels import name_of

if TYPE_CHECKING:
    from napari_multiphase.model import ModelCard

PHANTOMS_ONLY = "Trained on phantoms only: a demonstration, not for patients."


def card_lines(card: ModelCard) -> list[tuple[str, str]]:
    """What the card says, as (heading, text)."""
    from napari_multiphase.config import traits_of  # building all settings takes longer than all docks together

    phases = " and ".join(card.phases)
    if traits_of(card.method, card.config).reads == "pair":
        phases += ", both at once: one result, on the venous grid and carried to the arterial one"
    names = ", ".join(name_of(label) for label in card.labels[1:])
    spacing = " x ".join(f"{s:g}" for s in card.spacing_mm)
    lines = [
        ("Learned from", card.training_data),
        ("Phases", phases),
        (f"{len(card.labels) - 1} structures", names),
        ("Works at", f"{spacing} mm, {card.window_hu[0]:g} to {card.window_hu[1]:g} HU"),
        ("Figures", figures(card.metrics)),
        ("Licence", card.licence),
    ]
    return [(title, text) for title, text in lines if text]


def figures(metrics: dict[str, Any]) -> str:
    """The plain numbers of the card's metrics, in words."""
    plain = [(k, v) for k, v in metrics.items() if isinstance(v, (int, float)) and not isinstance(v, bool)]
    return ", ".join(f"{key.replace('_', ' ')} {value:.3g}" for key, value in plain)


def card_html(card: ModelCard, more: Sequence[tuple[str, str]] = (), *, summary: bool = False) -> str:
    """The card, with `more` lines, for a label. It is a stranger's text: no markup of it is interpreted."""
    lines = [f"<b>{title}:</b> {escape(text, quote=False)}" for title, text in (*card_lines(card), *more)]
    return "<br>".join([f"{escape(card.summary, quote=False)}<br>", *lines] if summary else lines)
