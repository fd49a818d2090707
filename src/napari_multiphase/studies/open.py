"""From paths to a study: find the scans, recognise the phases, choose the pair, report the fit."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from napari_multiphase.errors import UserError
from napari_multiphase.events import Cancel, Event, OnEvent, ignore
from napari_multiphase.studies.fit import LEAST_OVERLAP_MM, report
from napari_multiphase.studies.phases import arterial_share, is_delayed, is_unenhanced, recognise
from napari_multiphase.studies.scans import Loader, Scan, as_named, find_scans, with_guess
from napari_multiphase.studies.study_file import STUDY_FILE
from napari_multiphase.studies.workspace import Workspace
from napari_multiphase.study import Finding, PhaseGuess, PhaseTransform, Study
from napari_multiphase.volume import Phase, Volume

MOST_CANDIDATES = 12


def open_study(
    inputs: Sequence[Path] = (),
    *,
    arterial: Path | None = None,
    venous: Path | None = None,
    on_event: OnEvent = ignore,
    cancel: Cancel | None = None,
) -> Study:
    """One patient's scans as a study.

    `inputs` are a workspace, DICOM folders or zips, folders of images, or files; the phases are then recognised.
    `arterial` and `venous` name a scan outright (file, DICOM folder or zip with one scan) and win over any guess.
    One phase alone makes a study too; what is missing stands in its findings.

    Raises
    ------
    UserError : nothing usable is there, several patients are, the scans do not belong together, or a file is damaged.
    Cancelled : `cancel` was set.
    """
    inputs = [Path(path) for path in inputs]
    if len(inputs) == 1 and arterial is None and venous is None and (inputs[0] / STUDY_FILE).is_file():
        return Workspace.open(inputs[0]).study(on_event=on_event, cancel=cancel)
    if not inputs and arterial is None and venous is None:
        raise UserError("no scan was given: name a DICOM folder, a zip, or image files")
    loader = Loader()
    named: dict[Phase, Path] = {}
    if arterial is not None:
        named[Phase.ARTERIAL] = arterial
    if venous is not None:
        named[Phase.VENOUS] = venous
    chosen = {phase: _only_scan(path, phase, loader, on_event) for phase, path in named.items()}
    others: list[Scan] = []
    if inputs and len(chosen) < 2:
        taken = {scan.key for scan in chosen.values()}
        others = find_scans(inputs, loader=loader, on_event=on_event, cancel=cancel)
        _refuse_nothing([scan for scan in others if scan.key not in taken], inputs, bool(chosen))
        others = [scan for scan in others if scan.key not in taken]
    return _from_scans(chosen, others, loader, on_event, cancel)


def recognise_scans(
    scans: Sequence[Scan],
    *,
    loader: Loader | None = None,
    on_event: OnEvent = ignore,
    cancel: Cancel | None = None,
) -> list[Scan]:
    """The same scans, each usable one read and its phase recognised; one that cannot be read says so in `problems`."""
    loader = loader or Loader()
    out = []
    for number, scan in enumerate(scans):
        if cancel is not None:
            cancel.check()
        if not scan.usable:
            out.append(scan)
            continue
        on_event(Event("progress", f"reading {scan.title}", number / max(len(scans), 1)))
        try:
            volume = loader.load(scan)
            out.append(with_guess(scan, recognise(volume), volume))
        except UserError as error:
            out.append(replace(scan, problems=(*scan.problems, str(error))))
    return out


def build_study(
    volumes: Mapping[Phase, Volume],
    guesses: Mapping[Phase, PhaseGuess] | None = None,
    *,
    transform: PhaseTransform | None = None,
    findings: Sequence[Finding] = (),
) -> Study:
    """A study from volumes whose roles are settled; phases without a guess are recognised for the fit report only.

    `findings` are put after the warnings of the fit report. Raises UserError as `fit.report`.
    """
    if not volumes:
        raise UserError("a study needs at least one scan")
    given = dict(guesses or {})
    seen = {phase: given.get(phase) or recognise(volume) for phase, volume in volumes.items()}
    fit = report(volumes, seen)
    order = ("bad", "warning", "note", "good")
    merged = tuple(sorted((*fit, *findings), key=lambda finding: order.index(finding.level)))
    ordered = {phase: volumes[phase] for phase in Phase if phase in volumes}
    return Study(study_id(ordered), ordered, given, transform, merged)


def study_id(volumes: Mapping[Phase, Volume]) -> str:
    """Ten characters that are the same for the same scans in the same roles, wherever they lie."""
    digest = hashlib.sha256()
    for phase in Phase:
        if phase in volumes:
            volume = volumes[phase]
            content = volume.source.sha256 or hashlib.sha256(volume.data.tobytes()).hexdigest()
            digest.update(f"{phase.value}:{content};".encode())
    return digest.hexdigest()[:10]


def _only_scan(path: Path, phase: Phase, loader: Loader, on_event: OnEvent) -> Scan:
    """The one scan behind a path that the user named for a phase."""
    scans = find_scans([path], loader=loader, on_event=on_event)
    if len(scans) == 1:
        scans = [as_named(scans[0])]
    usable = [scan for scan in scans if scan.usable]
    if len(usable) == 1:
        return usable[0]
    if not usable:
        _refuse_nothing(scans, [path], False)
    titles = "; ".join(scan.title for scan in usable[:6])
    raise UserError(
        f"{path} holds {len(usable)} scans ({titles}), so it cannot stand for the {phase.value} one alone: give the "
        f"folder without --{phase.value} to have the phases recognised, or name a folder with one scan"
    )


def _refuse_nothing(scans: Sequence[Scan], inputs: Sequence[Path], rest_is_optional: bool) -> None:
    """A UserError where no usable scan is left, saying why each was passed over."""
    if rest_is_optional or any(scan.usable for scan in scans):
        return
    where = ", ".join(str(path) for path in inputs)
    reasons = [problem for scan in scans for problem in scan.problems]
    if len(reasons) == 1:
        raise UserError(reasons[0])
    why = f": {'; '.join(reasons[:4])}" if reasons else ""
    more = f"; and {len(reasons) - 4} more" if len(reasons) > 4 else ""
    raise UserError(f"no CT scan was found in {where}{why}{more}. Give a DICOM folder or zip, NIfTI, NRRD or MetaImage")


def _from_scans(
    chosen: dict[Phase, Scan], others: list[Scan], loader: Loader, on_event: OnEvent, cancel: Cancel | None
) -> Study:
    candidates = [scan for scan in others if scan.usable]
    if len(candidates) > MOST_CANDIDATES:
        raise UserError(
            f"there are {len(candidates)} scans: give the folder of one patient, or name the two with --arterial "
            "and --venous"
        )
    if len(chosen) < 2:
        _one_patient([*chosen.values(), *candidates])
    looked = recognise_scans(candidates, loader=loader, on_event=on_event, cancel=cancel) if len(chosen) < 2 else []
    usable = [scan for scan in looked if scan.usable and scan.guess is not None]
    if not chosen and not usable:
        _refuse_nothing(looked, [scan.path for scan in others], False)
    roles = _choose(chosen, usable)
    scans = {**roles, **chosen}
    volumes = {phase: loader.load(scans[phase]) for phase in Phase if phase in scans}
    guesses = {phase: scan.guess for phase, scan in roles.items() if scan.guess is not None}
    on_event(Event("progress", "checking how the scans fit"))
    return build_study(volumes, guesses, findings=_passed_over(scans, others, looked))


def _choose(chosen: Mapping[Phase, Scan], usable: Sequence[Scan]) -> dict[Phase, Scan]:
    """Roles for the scans that nobody named a role for."""
    if len(chosen) == 2 or not usable:
        return {}
    if not chosen:
        return best_pair(usable)
    (named,) = chosen
    return {named.other: max(usable, key=lambda scan: role_fitness(scan, named.other))}


def best_pair(scans: Sequence[Scan]) -> dict[Phase, Scan]:
    """The two of one patient's recognised scans that make the best study; one scan takes the role it looks like.

    The phases decide first: clearly arterial against clearly not, enhanced before native, portal before delayed. Among
    several reconstructions of them, those that cover the same stretch, with slices alike and not thick. A place that
    only a scan of the wrong phase or one without contrast could fill stays empty.
    """
    if len(scans) == 1:
        (scan,) = scans
        return {scan.guess.phase if scan.guess else Phase.VENOUS: scan}
    pairs = [(first, second) for first in scans for second in scans if first is not second]
    arterial, venous = max(pairs, key=lambda pair: pair_fitness(*pair))
    if _misfit(venous, Phase.VENOUS, beside=arterial):
        return {Phase.ARTERIAL: arterial}
    if _misfit(arterial, Phase.ARTERIAL, beside=venous):
        return {Phase.VENOUS: venous}
    return {Phase.ARTERIAL: arterial, Phase.VENOUS: venous}


def _misfit(scan: Scan, phase: Phase, *, beside: Scan) -> bool:
    """Whether a scan clearly shows another phase, or no contrast beside one that does."""
    if scan.guess is None or beside.guess is None:
        return False
    share = arterial_share(scan.guess)
    native = is_unenhanced(scan.guess) and scan.guess.confidence <= 0.5 and not is_unenhanced(beside.guess)
    return native or (share < 0.1 if phase is Phase.ARTERIAL else share > 0.9)


def role_fitness(scan: Scan, phase: Phase) -> float:
    """How well a recognised scan fills a role; the phase weighs most, then thin slices."""
    if scan.guess is None:
        return -10.0
    share = arterial_share(scan.guess)
    thickness = 0.01 * max(scan.spacing_mm) if scan.spacing_mm is not None else 0.0
    if phase is Phase.ARTERIAL:
        return share - 0.5 * is_unenhanced(scan.guess) - thickness
    return -share - 0.4 * is_unenhanced(scan.guess) - 0.2 * is_delayed(scan.guess) - thickness


def pair_fitness(arterial: Scan, venous: Scan) -> float:
    """How well two recognised scans make a pair in these roles: each for its own, and both together."""
    fitness = role_fitness(arterial, Phase.ARTERIAL) + role_fitness(venous, Phase.VENOUS)
    if arterial.reach_mm is not None and venous.reach_mm is not None:
        shared = min(arterial.reach_mm[1], venous.reach_mm[1]) - max(arterial.reach_mm[0], venous.reach_mm[0])
        longest = max(reach[1] - reach[0] for reach in (arterial.reach_mm, venous.reach_mm))
        fitness += 0.2 * max(0.0, shared / longest) - (1.0 if shared < LEAST_OVERLAP_MM else 0.0)
    if arterial.spacing_mm is not None and venous.spacing_mm is not None:
        fitness -= 0.05 * abs(math.log2(max(arterial.spacing_mm) / max(venous.spacing_mm)))
    return fitness


def _one_patient(scans: Sequence[Scan]) -> None:
    patients = sorted({scan.patient_id for scan in scans if scan.patient_id})
    if len(patients) > 1:
        raise UserError(
            f"these are scans of {len(patients)} patients ({', '.join(patients[:5])}): open one patient at a time"
        )


def _passed_over(scans: Mapping[Phase, Scan], others: Sequence[Scan], looked: Sequence[Scan]) -> list[Finding]:
    """What was found and not used, and which of several scans was taken."""
    used = {scan.key for scan in scans.values()}
    findings = [Finding("note", note) for scan in scans.values() for note in scan.notes if scan.kind == "image"]
    spare = [scan for scan in looked if scan.usable and scan.key not in used]
    if spare:
        taken = ", ".join(f"{phase.value}: {scan.title}" for phase, scan in scans.items())
        rest = ", ".join(f"{s.title} ({s.guess.reason})" if s.guess else s.title for s in spare)
        empty = "; none of them fits the empty place" if len(scans) == 1 else ""
        text = f"{len(spare) + len(scans)} scans were found; taken were {taken}. Left: {rest}{empty}."
        findings.append(Finding("warning", text))
    checked = {scan.key: scan for scan in looked}
    for scan in others:
        problems = checked.get(scan.key, scan).problems
        if problems and scan.key not in used:
            findings.append(Finding("note", f"Not used: {problems[0]}"))
    return findings
