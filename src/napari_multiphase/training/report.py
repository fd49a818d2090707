"""``report.html`` of a run folder: one file that explains the run, without any resource from elsewhere."""

from __future__ import annotations

import json
import math
import os
import platform
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import yaml

from napari_multiphase.events import Event
from napari_multiphase.io.atomic import atomic_path
from napari_multiphase.io.html import dot, figure, page, pairs, section, tile_row, version_of, warning_list
from napari_multiphase.labels import IDS_BY_NAME, STRUCTURES
from napari_multiphase.training.curves import Curve, chart, sparkline
from napari_multiphase.training.preview import PREVIEW_FOLDER
from napari_multiphase.training.record import Row, Split, read_events, read_metrics

REPORT_FILE = "report.html"
MOST_PREVIEWS = 24
_TRAIN, _VALIDATION = "#2f6fb0", "#d1662b"
_OTHERS = ("#5b6b7d", "#2f6fb0", "#d1662b", "#3c8d5a", "#8c5fb0")


def machine() -> dict[str, str]:
    """Processor, memory, system and versions of this machine, in words. A run says it when it starts."""
    import torch

    facts = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "napari-multiphase": version_of("napari-multiphase"),
    }
    if torch.cuda.is_available():
        facts["accelerator"] = torch.cuda.get_device_name()
    return facts


def write_report(folder: Path) -> Path:
    """Write ``report.html`` from what else lies in a run folder; files that are not there yet are left out.

    Raises
    ------
    UserError : ``metrics.csv`` is damaged, or the report cannot be written.
    """
    facts = _Facts(folder)
    sections = (
        _header(facts),
        section("Losses", _losses(facts)),
        section(f"Dice per structure{_measured(folder)}", _dice(facts)),
        section("Further figures", _further(facts)),
        section("Held-out slices", _previews(folder)),
        section("Data and split", _split(folder)),
        section("Time", _time(facts)),
        section("Machine", pairs(facts.machine)),
        section("Configuration", _configuration(folder)),
    )
    with atomic_path(folder / REPORT_FILE) as part:
        part.write_text(page(facts.name, "".join(sections)), encoding="utf-8")
    return folder / REPORT_FILE


# --- what happened ---------------------------------------------------------------------------------------------------


@dataclass
class _Facts:
    folder: Path
    rows: list[Row] = field(init=False)
    events: list[Event] = field(init=False)
    run: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.rows, self.events = read_metrics(self.folder), read_events(self.folder)
        self.run = _mapping(_text(self.folder / "run.yaml"))

    @property
    def name(self) -> str:
        return str(self.run.get("name") or self.folder.name)

    def curves(self, split: Split) -> dict[str, list[tuple[float, float]]]:
        """Points (step, value) by name, in the order of first appearance."""
        found: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for row in self.rows:
            if row.split == split:
                found[row.name].append((row.step, row.value))
        return dict(found)

    @cached_property
    def dice(self) -> dict[str, list[tuple[float, float]]]:
        """Validation Dice by structure."""
        curves = self.curves("validation")
        return {_structure(name): points for name, points in curves.items() if _structure(name)}

    @cached_property
    def stages(self) -> list[tuple[float, str]]:
        """(last step, name) of each stage with rows."""
        last: dict[str, float] = {}
        for row in self.rows:
            last[row.stage] = max(row.step, last.get(row.stage, 0))
        return sorted((step, name) for name, step in last.items())

    @cached_property
    def sessions(self) -> list[tuple[float, float]]:
        """(first, last) time of each process that worked on the run: it begins by saying its machine."""
        spans: list[tuple[float, float]] = []
        for event in self.events:
            if not spans or "machine" in event.data:
                spans.append((event.time_s, event.time_s))
            spans[-1] = (spans[-1][0], event.time_s)
        return spans

    @property
    def machine(self) -> Mapping[str, str]:
        said = [event.data["machine"] for event in self.events if "machine" in event.data]
        return said[-1] if said else machine()

    @property
    def state(self) -> str:
        for event in reversed(self.events):
            if event.kind in ("done", "failed"):
                return "finished" if event.kind == "done" else f"failed: {event.message}"
            if "machine" in event.data:  # a process began, or went on
                break
        return "not finished"


def _structure(name: str) -> str:
    """What a validation figure's name says the Dice of; empty for other figures."""
    if not name.lower().startswith("dice"):
        return ""
    return name[4:].strip(" _/:.,") or "mean"


# --- sections --------------------------------------------------------------------------------------------------------


def _header(facts: _Facts) -> str:
    steps = max((row.step for row in facts.rows), default=0)
    tiles = [("method", str(facts.run.get("method", "-"))), ("state", facts.state), ("steps", f"{steps:,}")]
    mean = _mean_dice(facts.dice)
    if mean:
        step, value = max(mean, key=lambda point: point[1])
        tiles += [("mean Dice, last", f"{mean[-1][1]:.3f}"), ("mean Dice, best", f"{value:.3f} at step {step:,.0f}")]
    if facts.sessions:
        tiles.append(("time", _duration(sum(last - first for first, last in facts.sessions))))
    summary = f"<p>{escape(str(facts.run['summary']))}</p>" if facts.run.get("summary") else ""
    warnings = list(dict.fromkeys(e.message for e in facts.events if e.kind == "warning"))
    return f"<h1>{escape(facts.name)}</h1>{summary}{tile_row(tiles)}{warning_list(warnings[-20:])}"


def _mean_dice(dice: Mapping[str, Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """The run's own mean where it recorded one, else the mean over structures at each step."""
    if "mean" in dice:
        return [point for point in dice["mean"] if math.isfinite(point[1])]
    by_step: dict[float, list[float]] = defaultdict(list)
    for points in dice.values():
        for step, value in points:
            if math.isfinite(value):
                by_step[step].append(value)
    return [(step, sum(values) / len(values)) for step, values in sorted(by_step.items())]


def _losses(facts: _Facts) -> str:
    train, held_out = facts.curves("train"), facts.curves("validation")
    charts = []
    for name, points in train.items():
        curves = [Curve("train", points, _TRAIN)]
        if name in held_out:
            curves.append(Curve("validation", held_out[name], _VALIDATION, dashed=True))
        charts.append(chart(name, curves, facts.stages))
    return _grid(charts)


def _further(facts: _Facts) -> str:
    """Validation figures that are neither a Dice nor a training loss."""
    train = facts.curves("train")
    others = {n: p for n, p in facts.curves("validation").items() if n not in train and not _structure(n)}
    return _grid(chart(n, [Curve("validation", p, _VALIDATION, True)], facts.stages) for n, p in others.items())


def _dice(facts: _Facts) -> str:
    if not facts.dice:
        return ""
    mean = _mean_dice(facts.dice)
    each = {name: points for name, points in facts.dice.items() if name != "mean"}
    curves = [Curve(name, points, _colour(name, i)) for i, (name, points) in enumerate(each.items())]
    overview = chart("mean", [Curve("mean", mean, _TRAIN)], facts.stages, (0.0, 1.0), legend=False)
    every = chart("each structure", curves, facts.stages, (0.0, 1.0), legend=False)
    rows = "".join(_dice_row(curve.name, curve.points, curve.colour) for curve in curves)
    rows += _dice_row("mean", mean, _TRAIN)
    head = "<tr><th>structure<th>over time<th>last<th>best<th>at step</tr>"
    return _grid([overview, every]) + f"<table>{head}{rows}</table>"


def _dice_row(name: str, points: Iterable[tuple[float, float]], colour: str) -> str:
    whole = [point for point in points if math.isfinite(point[1])]
    if not whole:
        return f"<tr><td>{dot(colour)}{escape(name)}<td><td>-<td>-<td>-</tr>"
    step, best = max(whole, key=lambda point: point[1])
    figures = f"<td>{whole[-1][1]:.3f}<td>{best:.3f}<td>{step:,.0f}"
    return f"<tr><td>{dot(colour)}{escape(name)}<td>{sparkline(whole, colour)}{figures}</tr>"


def _colour(name: str, number: int) -> str:
    """The label table's colour of the structure that `name` names, else one of a few."""
    named = [known for known in IDS_BY_NAME if known in name]
    if named:
        return "#{:02x}{:02x}{:02x}".format(*STRUCTURES[IDS_BY_NAME[max(named, key=len)]].colour)
    return _OTHERS[number % len(_OTHERS)]


def _previews(folder: Path) -> str:
    files = sorted((folder / PREVIEW_FOLDER).glob("*.png"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    figures = [
        figure(path.read_bytes(), path.stem, f"{_caption(path.stem)}: scan, reference, prediction")
        for path in files[-MOST_PREVIEWS:]
    ]
    return f"<div class=figures>{''.join(figures)}</div>" if figures else ""


def _caption(name: str) -> str:
    return f"step {int(name):,}" if name.isdecimal() else name


def _split(folder: Path) -> str:
    try:
        split = json.loads(_text(folder / "split.json") or "{}")
    except ValueError:
        return "<p>split.json is damaged.</p>"
    entries = split.items() if isinstance(split, dict) else ()
    return "".join(_split_entry(str(name), value) for name, value in entries if value != "")


def _measured(folder: Path) -> str:
    """Where held-out cases are measured, if not everywhere."""
    measured = _mapping(_text(folder / "split.json")).get("measured")
    return f", {measured}" if measured else ""


def _split_entry(name: str, value: Any) -> str:
    if not isinstance(value, list):
        return f"<p><b>{escape(name)}</b> {escape(str(value))}</p>"
    if name == "notes":
        return "".join(f"<p>{escape(str(note))}</p>" for note in value)
    cases = "".join(f"<code>{escape(_case(case))}</code> " for case in value)
    return f"<p><b>{escape(name)}</b> ({len(value)})</p><p class=cases>{cases or 'none'}</p>"


def _case(case: Any) -> str:
    return str(case.get("id") or case.get("patient") or case) if isinstance(case, dict) else str(case)


def _time(facts: _Facts) -> str:
    rows = [
        f"<tr><td>{i + 1}<td>{_clock(first)}<td>{_clock(last)}<td>{_duration(last - first)}</tr>"
        for i, (first, last) in enumerate(facts.sessions)
    ]
    if not rows:
        return ""
    return f"<table><tr><th>process<th>began (UTC)<th>last word (UTC)<th>time</tr>{''.join(rows)}</table>"


def _configuration(folder: Path) -> str:
    text = _text(folder / "run.yaml")
    return f"<details open><summary>run.yaml</summary><pre>{escape(text)}</pre></details>" if text else ""


def _grid(charts: Iterable[str]) -> str:
    cells = "".join(f"<div>{svg}</div>" for svg in charts)
    return f"<div class=charts>{cells}</div>" if cells else ""


# --- words -----------------------------------------------------------------------------------------------------------


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _clock(time_s: float) -> str:
    return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M:%S}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _mapping(text: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return values if isinstance(values, dict) else {}


def _processor() -> str:
    lines = _text(Path("/proc/cpuinfo")).splitlines()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
