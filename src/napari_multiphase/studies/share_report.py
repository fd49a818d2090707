"""The report of an exported study: one HTML file with pictures of both phases, volumes, states and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.imaging.body import Body, find_body
from napari_multiphase.imaging.picture import outlined, palette
from napari_multiphase.imaging.tables import StructureRow, structure_table
from napari_multiphase.io.html import dot, figure, page, pairs, section, tile_row, version_of, warning_list
from napari_multiphase.io.images import is_synthetic
from napari_multiphase.io.png import png_of_palette
from napari_multiphase.labels import STRUCTURES, name_of
from napari_multiphase.studies.shared import Shared, SharedPhase, ids_of, state_of
from napari_multiphase.study import PhaseTransform, Study
from napari_multiphase.volume import Phase

REPORT_FILE = "report.html"
PANEL_PX = 380
_GAP_PX = 6
_MARGIN_MM = 8.0
_WHITE = 199
"""Index of the palette's brightest grey."""
_LEVELS = {"good": "#3c8d5a", "note": "#2f6fb0", "warning": "#d1662b", "bad": "#b3261e"}
_COMPARED = (("ncc", "correlation"), ("mi", "mutual information (nats)"), ("bone_mm", "bone surfaces (mm)"),
             ("body_dice", "overlap of the bodies"))  # fmt: skip
_ALONE = (("translation_mm", "moved as a whole (mm)"), ("rotation_deg", "turned (degrees)"),
          ("moved_mean_mm", "moved beyond that, mean (mm)"), ("moved_max_mm", "moved beyond that, at most (mm)"),
          ("jacobian_min", "smallest Jacobian"), ("folded_share", "folded share"),
          ("inverse_mean_mm", "there and back, mean (mm)"))  # fmt: skip


def report_page(
    shared: Shared, files: Mapping[str, str], on_share: Callable[[float], object] = lambda _share: None
) -> tuple[str, list[dict[str, Any]]]:
    """The HTML, and its table of structures as JSON types; `on_share` is called with the share done, in [0, 1]."""
    study = shared.study
    tables = {phase: _table(shared, phase) for phase in shared.phases}
    trust = {phase: _confidences(shared.phases[phase]) for phase in shared.phases}
    figures = [_figures(shared, tables, trust, label) for label in ids_of(shared)]
    sections = (
        _header(shared),
        section("Structures", _structures(shared, figures)),
        section("Pictures", _pictures(shared, tables, on_share)),
        section("How the scans fit", _findings(study)),
        section("Registration", _registration(study.transform) if len(study.phases) > 1 else ""),
        section("Model", pairs(shared.model)),
        section("Notes of the run", _sentences(shared.notes)),
        section("Files", pairs(files)),
    )
    return page(f"Study {study.id}", "".join(sections)), figures


def _header(shared: Shared) -> str:
    study = shared.study
    person = [str(phase) for phase, labels in shared.phases.items() if labels.corrected]
    tiles = [
        ("phases", " and ".join(map(str, study.phases))),
        ("labels of", " and ".join(map(str, shared.phases))),
        ("corrected by a person", " and ".join(person) or "no"),
        ("model", str(shared.model.get("name") or "not known")),
        ("exported", f"{datetime.now(UTC):%Y-%m-%d}"),
        ("napari-multiphase", version_of("napari-multiphase")),
    ]
    warnings = ["Research software, not a medical device: nothing here is a finding about a patient."]
    warnings += [
        f"The {p} image is SYNTHETIC: a model made it, it is no scan."
        for p in study.phases
        if is_synthetic(study.volumes[p].source)
    ]
    warnings += [finding.text for finding in study.findings if finding.level in ("warning", "bad")]
    return f"<h1>Study {escape(study.id)}</h1>{tile_row(tiles)}{warning_list(warnings)}"


# --- structures ------------------------------------------------------------------------------------------------------


def _table(shared: Shared, phase: Phase) -> dict[int, StructureRow]:
    """Volume and HU of the labels as they are now."""
    volume, labels = shared.study.volumes[phase], shared.phases[phase].labels
    return {row.id: row for row in structure_table(labels, volume.grid.voxel_ml, {phase: volume.data})}


def _confidences(labels: SharedPhase) -> dict[int, float | None]:
    """The model's mean confidence in each structure, over its own labels: what was corrected, it did not say."""
    if labels.predicted is None or labels.confidence is None:
        return {}
    return {row.id: row.mean_confidence for row in structure_table(labels.predicted, 1.0, None, labels.confidence)}


def _figures(
    shared: Shared,
    tables: Mapping[Phase, Mapping[int, StructureRow]],
    trust: Mapping[Phase, Mapping[int, float | None]],
    label: int,
) -> dict[str, Any]:
    """One structure, by phase; `group_ml` counts what lies in the organ as well."""
    entry: dict[str, Any] = {"id": label, "name": name_of(label)}
    entry |= {"ml": {}, "group_ml": {}, "mean_hu": {}, "mean_confidence": {}, "state": {}}
    for phase, labels in shared.phases.items():
        row, where = tables[phase].get(label), str(phase)
        hu, said = row.mean_hu[phase] if row else None, trust[phase].get(label)
        entry["ml"][where] = round(row.ml, 3) if row else 0.0
        entry["group_ml"][where] = round(row.group_ml, 3) if row else 0.0
        entry["mean_hu"][where] = None if hu is None else round(hu, 1)
        entry["mean_confidence"][where] = None if said is None else round(said, 4)
        entry["state"][where] = state_of(labels, label)
    return entry


def _structures(shared: Shared, figures: list[dict[str, Any]]) -> str:
    phases = [str(phase) for phase in shared.phases]
    columns = (("ml", "ml", "{:,.1f}"), ("mean_hu", "mean HU", "{:z.0f}"), ("mean_confidence", "confidence", "{:.2f}"))
    head = "".join(f"<th>{title}, {phase}" for _, title, _ in columns for phase in phases)
    lines = []
    for entry in figures:
        cells = [_cell(entry[key][phase], form) for key, _, form in columns for phase in phases]
        state = _states({phase: entry["state"][phase] for phase in phases})
        name = f"{dot(_colour(entry['id']))}{escape(entry['name'])}"
        lines.append(f"<tr><td>{name}{''.join(f'<td>{cell}' for cell in cells)}<td>{escape(state)}</tr>")
    words = (
        "Volumes count each structure alone: a liver without its tumours. Mean HU is that of the scan on which the "
        "labels lie. Confidence is the mean of the model's own map over what it found itself, before any correction; "
        "it is no probability."
    )
    return f"<table><tr><th>structure{head}<th>state</tr>{''.join(lines)}</table><p class=faint>{words}</p>"


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _states(states: Mapping[str, str]) -> str:
    if len(set(states.values())) == 1:
        return next(iter(states.values()))
    return ", ".join(f"{state} ({phase})" for phase, state in states.items())


def _colour(label: int) -> str:
    structure = STRUCTURES.get(label)
    return "#{:02x}{:02x}{:02x}".format(*structure.colour) if structure else "#ff00ff"


# --- pictures --------------------------------------------------------------------------------------------------------


def _pictures(
    shared: Shared, tables: Mapping[Phase, Mapping[int, StructureRow]], on_share: Callable[[float], object]
) -> str:
    """Each structure at the slice through its middle, in both phases at the same anatomy."""
    study = shared.study
    bodies = {phase: find_body(volume.data, volume.grid) for phase, volume in study.volumes.items()}
    colours, figures, ids = palette(), [], ids_of(shared)
    for number, label in enumerate(ids):
        on_share(number / len(ids))
        home = next((p for p in (Phase.VENOUS, Phase.ARTERIAL) if label in tables.get(p, {})), None)
        if home is None:
            continue
        middles = _middles(study, home, tables, label)
        panels = [_panel(shared, bodies[phase], phase, z, label) for phase, z in middles.items()]
        words = ", ".join(f"{_title(study, phase)} slice {z + 1}" for phase, z in middles.items())
        figures.append(figure(png_of_palette(_beside(panels), colours), name_of(label), f"{name_of(label)}: {words}"))
    note = (
        "Axial slices through the middle of each structure, its outline thick, all others thin; soft-tissue window "
        "(-160 to 240 HU); the patient's left is on the right."
    )
    if len(study.phases) > 1:
        how = f"through the transform ({study.transform.method})" if study.transform else "by the scanner's positions"
        note += f" Both phases show the same level, found {how}."
    return f"<p class=faint>{note}</p><div class=figures>{''.join(figures)}</div>" if figures else ""


def _middles(
    study: Study, home: Phase, tables: Mapping[Phase, Mapping[int, StructureRow]], label: int
) -> dict[Phase, int]:
    """The slice to show of each scan, arterial first."""
    centre = tables[home][label].centre_vox
    found = {home: centre[0]}
    if home.other in study.volumes:
        point = (study.volumes[home].affine_mm @ np.array([*centre, 1.0]))[:3]
        there = (study.transform or PhaseTransform.identity()).map(point[None], home.other)[0]
        grid = study.volumes[home.other].grid
        z = round((float(there[2]) - grid.origin_mm[0]) / grid.spacing_mm[0])
        if 0 <= z < grid.shape[0]:
            found[home.other] = z
    return {phase: found[phase] for phase in Phase if phase in found}


def _panel(shared: Shared, body: Body, phase: Phase, z: int, label: int) -> NDArray[np.uint8]:
    volume = shared.study.volumes[phase]
    labels = shared.phases[phase].labels[z] if phase in shared.phases else np.zeros(volume.shape[1:], np.uint8)
    inside = body.on(volume.grid, slice(z, z + 1))[0]
    spacing = volume.spacing_mm[1:]
    box = (_reach(inside.any(1), spacing[0]), _reach(inside.any(0), spacing[1]))
    return outlined(np.asarray(volume.data[z]), np.asarray(labels), spacing, box, label, PANEL_PX)


def _reach(inside: NDArray[np.bool_], spacing_mm: float) -> slice:
    """From the first to the last True, with a margin; everything where there is none."""
    at = np.flatnonzero(inside)
    if not len(at):
        return slice(0, len(inside))
    margin = round(_MARGIN_MM / spacing_mm)
    return slice(max(0, int(at[0]) - margin), min(len(inside), int(at[-1]) + margin + 1))


def _beside(panels: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    height = max(map(len, panels))
    panels = [np.pad(panel, ((0, height - len(panel)), (0, 0))) for panel in panels]
    gap = np.full((height, _GAP_PX), _WHITE, np.uint8)
    return np.concatenate([part for panel in panels for part in (gap, panel)][1:], axis=1)


def _title(study: Study, phase: Phase) -> str:
    return f"{'SYNTHETIC ' if is_synthetic(study.volumes[phase].source) else ''}{phase}"


# --- how the phases lie ----------------------------------------------------------------------------------------------


def _findings(study: Study) -> str:
    return "".join(f"<p>{dot(_LEVELS[finding.level])}{escape(finding.text)}</p>" for finding in study.findings)


def _registration(transform: PhaseTransform | None) -> str:
    if transform is None:
        return "<p>The phases are not registered: each lies where its scanner put it.</p>"
    quality = transform.quality
    rows = [
        f"<tr><td>{title}<td>{_number(quality[f'{key}_before'])}<td>{_number(quality[f'{key}_after'])}</tr>"
        for key, title in _COMPARED
        if f"{key}_before" in quality and f"{key}_after" in quality
    ]
    rows += [f"<tr><td>{title}<td><td>{_number(quality[key])}</tr>" for key, title in _ALONE if key in quality]
    table = f"<table><tr><th>figure<th>before<th>after</tr>{''.join(rows)}</table>" if rows else ""
    return f"<p>{escape(str(quality.get('sentence') or f'Method: {transform.method}.'))}</p>{table}"


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) else escape(str(value))


def _sentences(texts: tuple[str, ...]) -> str:
    return "".join(f"<p>{escape(text[:1].upper() + text[1:])}</p>" for text in texts)
