"""Cases on the network's grid, kept on disk as memory-mapped arrays and made again whenever their inputs change.

A case lies in a folder named by a hash of everything that matters: inputs, spacing, window, labels, pairing, and the
version of this code. A folder appears whole or not at all, so two runs may start at once; the first to finish a case
wins. Deleting the whole cache costs nothing but time.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.config import PhantomConfig, RunConfig, Traits
from napari_multiphase.errors import UserError
from napari_multiphase.events import Cancel, Event, OnEvent
from napari_multiphase.imaging.resample import resample
from napari_multiphase.imaging.windows import mean_and_std
from napari_multiphase.inference.grids import network_grid
from napari_multiphase.io.atomic import atomic_new_folder, atomic_path
from napari_multiphase.io.datasets import read_dataset
from napari_multiphase.io.places import data_folder
from napari_multiphase.labels import IGNORE, UNKNOWN
from napari_multiphase.registration.rigid import register_rigid
from napari_multiphase.training.cases import PhaseArrays, TrainingCase
from napari_multiphase.training.phantoms import phantom_sources
from napari_multiphase.training.preflight import Problem, check_case, check_phases, failure, refuse
from napari_multiphase.training.sources import CaseSource, DatasetSource, RawCase, annotated_channels, channel_table
from napari_multiphase.volume import Grid, Phase

CACHE_VERSION = 1
"""Grows when the same inputs give other arrays."""
FILE_FORMAT = 2
"""Grows when the same arrays are kept in another way; runs that go on find their cases unchanged."""
ANCHORS = 512
_SLAB_VOX = 8_000_000
_META = "case.json"


def default_cache() -> Path:
    """Where prepared cases are kept unless said otherwise."""
    return data_folder() / "training-cache"


def case_sources(run: RunConfig) -> list[CaseSource]:
    """The run's cases, not read yet; a UserError where the data cannot be found or understood."""
    if isinstance(run.data, PhantomConfig):
        return list(phantom_sources(run, run.data))
    return [DatasetSource(case) for case in read_dataset(run.data)]


def prepare_cases(
    run: RunConfig,
    traits: Traits,
    *,
    processes: int,
    on_event: OnEvent,
    cancel: Cancel,
    cache: Path | None = None,
) -> list[TrainingCase]:
    """The run's cases, `processes` at a time; what lies in `cache` (`default_cache` unless given) is used again.

    Raises
    ------
    UserError : the data set cannot be read; or some cases are bad: all of them are named, and nothing is trained.
    Cancelled : between two cases; what is done stays in the cache.
    """
    cache, pair = cache or default_cache(), traits.reads == "pair"
    jobs = [_Job(run, source, pair, cache) for source in case_sources(run)]
    missing, problems = [], []
    for job in jobs:
        if job.is_there():
            _tell(job.problems(), on_event)
        else:
            missing.append(job)
    for done, found in enumerate(_made(missing, processes, cancel), start=1):
        problems += found
        _tell(found, on_event)
        on_event(Event("progress", f"preparing cases, {done} of {len(missing)}", done / len(missing)))
    refuse(problems)
    return [job.load() for job in jobs]


def _tell(problems: Sequence[Problem], on_event: OnEvent) -> None:
    for problem in problems:
        on_event(Event("warning", str(problem)))


@dataclass(frozen=True)
class _Job:
    """One case to prepare, and where it goes."""

    run: RunConfig
    source: CaseSource
    pair: bool
    cache: Path

    @property
    def key(self) -> str:
        """The same key, the same arrays."""
        run = self.run
        return _hash(
            {
                "version": CACHE_VERSION,
                "source": self.source.fingerprint(),
                "annotated": sorted(self.source.told),
                "spacing_mm": run.spacing_mm,
                "window_hu": run.window_hu,
                "labels": run.labels,
                "pair": self.pair,
            }
        )

    @property
    def folder(self) -> Path:
        return self.cache / f"{self.key}-{FILE_FORMAT}"

    def is_there(self) -> bool:
        """Whether the case can be loaded; a damaged one is removed."""
        if not self.folder.is_dir():
            return False
        try:
            self.load()
            self.problems()
        except (OSError, ValueError, KeyError, TypeError):
            shutil.rmtree(self.folder, ignore_errors=True)
            return False
        return True

    def load(self) -> TrainingCase:
        """The case, its arrays memory-mapped."""
        folder, known = self.folder, annotated_channels(self.run.labels, self.source.annotated)
        arrays = {name: _load(folder, name, figures) for name, figures in self._meta()["arrays"].items()}
        scans = {phase: arrays[phase.value] for phase in Phase if phase.value in arrays}
        pair: dict[Phase, PhaseArrays] | None = None
        if len(scans) == len(Phase):
            pair = {Phase.ARTERIAL: arrays["carried"], Phase.VENOUS: scans[Phase.VENOUS]} if self.pair else {}
        return TrainingCase(self.source.id, self.source.patient, scans, pair, known, self.run.spacing_mm, self.key)

    def problems(self) -> list[Problem]:
        """What was doubtful when the case was prepared, for whichever method reads it now."""
        kept = [Problem(self.source.id, str(text), "warning") for text in self._meta()["warnings"]]
        return check_phases(self.run, self.source) + kept

    def _meta(self) -> Any:
        return json.loads((self.folder / _META).read_text(encoding="utf-8"))


def _made(jobs: Sequence[_Job], processes: int, cancel: Cancel) -> Iterator[list[Problem]]:
    """What is wrong with each case, as they are finished."""
    if processes == 1 or len(jobs) < 2:
        for job in jobs:
            cancel.check()
            yield _make(job)
        return
    with ProcessPoolExecutor(min(processes, len(jobs)), mp_context=get_context("spawn")) as pool:
        of = {pool.submit(_make, job): job for job in jobs}
        waiting = set(of)
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                cancel.check()
                for task in done:
                    yield task.result()
        except BrokenProcessPool:
            # Jobs are taken in their order, so it is one of the first that did not come back.
            lost = [job.source.id for task, job in of.items() if isinstance(task.exception(), BrokenProcessPool)]
            raise UserError(
                "a process that prepared cases was killed, most likely for lack of memory, at "
                f"{_one_of(lost[:processes])}; prepare one at a time (--processes 1), or leave the case out"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _one_of(cases: Sequence[str]) -> str:
    return f"case '{cases[0]}'" if len(cases) == 1 else f"one of the cases {', '.join(cases)}"


def _make(job: _Job) -> list[Problem]:
    """What is wrong with one case, which is read, checked and written; a bad one is not written."""
    try:
        return _prepared(job)
    except UserError:  # of the cache's disk
        raise
    except Exception as error:
        return [failure(job.source, error)]


def _prepared(job: _Job) -> list[Problem]:
    run, source = job.run, job.source
    problems, raw = check_case(run, source)
    if raw is None or any(problem.level == "bad" for problem in problems):
        return problems
    table = channel_table(run.labels, job.source.told)
    with atomic_new_folder(job.folder) as part:
        arrays = {}
        for phase, volume in raw.volumes.items():
            grid = network_grid(volume.grid, run.spacing_mm)
            hu = _int16(resample(volume.data, volume.grid, grid))
            arrays[phase.value] = _save(
                part, phase.value, hu, _channels(raw, phase, grid, table), run, _reviewed(raw, phase, grid)
            )
        if job.pair and len(raw.volumes) == len(Phase):
            matrix, warning = _transform(job, raw)
            problems += [Problem(source.id, warning, "warning")] if warning else []
            arrays["carried"] = _save(part, "carried", *_carried(raw, matrix, table, run), run)
        meta = {"case": source.id, "arrays": arrays, "warnings": [problem.text for problem in problems]}
        (part / _META).write_text(json.dumps(meta), encoding="utf-8")
    return check_phases(run, source) + problems


def _int16(hu: NDArray[Any]) -> NDArray[np.int16]:
    return hu if hu.dtype == np.int16 else np.clip(np.rint(hu), -32768, 32767).astype(np.int16)


def _channels(
    raw: RawCase, phase: Phase, grid: Grid, table: NDArray[np.uint8], matrix: NDArray[np.float64] | None = None
) -> NDArray[np.uint8]:
    """The phase's labels on `grid` as channels; 255 where nobody drew in this phase, 254 where nobody drew at all."""
    if phase not in raw.labels:
        return np.full(grid.shape, IGNORE if raw.labels else UNKNOWN, np.uint8)
    labels = raw.labels[phase]
    outside = 0 if matrix is None else IGNORE
    return table[resample(labels.data, labels.grid, grid, 0, matrix, background=outside)]


def _reviewed(raw: RawCase, phase: Phase, grid: Grid) -> NDArray[np.bool_] | None:
    """Where a person looked at the phase's labels, on `grid`; None: everywhere."""
    if phase not in raw.reviewed:
        return None
    seen = raw.reviewed[phase]
    return resample((seen.data != 0).astype(np.uint8), seen.grid, grid, 0, background=0).astype(bool)


def _carried(
    raw: RawCase, matrix: NDArray[np.float64], table: NDArray[np.uint8], run: RunConfig
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """The arterial scan and its labels on the venous network grid; 255 where the arterial scan does not reach."""
    arterial = raw.volumes[Phase.ARTERIAL]
    grid = network_grid(raw.volumes[Phase.VENOUS].grid, run.spacing_mm)
    hu = _int16(resample(arterial.data, arterial.grid, grid, 1, matrix))
    return hu, _channels(raw, Phase.ARTERIAL, grid, table, matrix)


def _transform(job: _Job, raw: RawCase) -> tuple[NDArray[np.float64], str]:
    """The case's own transform, or the rigid one that is found once and kept."""
    if raw.transform is not None:
        return raw.transform, ""
    kept = job.cache / "transforms" / f"{_hash(job.source.fingerprint())}.json"
    try:
        return np.array(json.loads(kept.read_text(encoding="utf-8")), float).reshape(4, 4), ""
    except (OSError, ValueError):
        pass
    try:
        found = register_rigid(raw.volumes[Phase.VENOUS], raw.volumes[Phase.ARTERIAL]).venous_to_arterial_mm
    except UserError as error:
        return np.eye(4), f"{error}; the scanner's own positions are used"
    with atomic_path(kept) as temporary:
        temporary.write_text(json.dumps(np.asarray(found).tolist()), encoding="utf-8")
    return found, ""


def _save(
    folder: Path,
    name: str,
    hu: NDArray[np.int16],
    channels: NDArray[np.uint8],
    run: RunConfig,
    reviewed: NDArray[np.bool_] | None = None,
) -> Mapping[str, float]:
    np.save(folder / f"{name}_hu.npy", hu, allow_pickle=False)
    np.save(folder / f"{name}_channels.npy", channels, allow_pickle=False)
    shown = channels if reviewed is None else np.where(reviewed, channels, np.uint8(IGNORE))
    points = find_anchors(shown, len(run.labels))
    np.save(folder / f"{name}_anchors.npy", np.concatenate(points), allow_pickle=False)
    np.save(folder / f"{name}_counts.npy", np.array([len(p) for p in points]), allow_pickle=False)
    if reviewed is not None:
        np.save(folder / f"{name}_reviewed.npy", reviewed, allow_pickle=False)
    mean, std = mean_and_std(hu, run.window_hu)
    return {"mean": mean, "std": std, "reviewed": reviewed is not None}


def _load(folder: Path, name: str, figures: Mapping[str, float]) -> PhaseArrays:
    def get(kind: str, mapped: bool = False) -> NDArray[Any]:
        return np.load(folder / f"{name}_{kind}.npy", mmap_mode="r" if mapped else None, allow_pickle=False)

    points = np.split(get("anchors"), np.cumsum(get("counts"))[:-1])
    reviewed = get("reviewed", True) if figures.get("reviewed") else None
    return PhaseArrays(get("hu", True), get("channels", True), tuple(points), figures["mean"], figures["std"], reviewed)


def find_anchors(channels: NDArray[np.uint8], classes: int) -> tuple[NDArray[np.int32], ...]:
    """Per channel up to 512 voxel indices (n, 3), chosen at random once; empty where it is absent."""
    counts = sum(np.bincount(slab.ravel(), minlength=256) for slab in _slabs(channels))
    rng = np.random.default_rng([classes, channels.size])
    chosen = [np.sort(rng.choice(n, min(n, ANCHORS), replace=False)) for n in np.asarray(counts)[:classes]]
    found: list[list[NDArray[np.intp]]] = [[] for _ in range(classes)]
    seen, before = np.zeros(classes, int), 0
    for slab in _slabs(channels):
        flat = slab.ravel()
        for c in np.flatnonzero(np.bincount(flat, minlength=256)[:classes]):
            where = np.flatnonzero(flat == c)
            ranks = chosen[c] - seen[c]
            found[c].append(where[ranks[(ranks >= 0) & (ranks < len(where))]] + before)
            seen[c] += len(where)
        before += flat.size
    flat_of = [np.concatenate(parts) if parts else np.empty(0, np.intp) for parts in found]
    return tuple(np.stack(np.unravel_index(at, channels.shape), axis=1).astype(np.int32) for at in flat_of)


def _slabs(data: NDArray[Any]) -> Iterator[NDArray[Any]]:
    step = max(1, _SLAB_VOX // max(1, data[0].size))
    for start in range(0, len(data), step):
        yield data[start : start + step]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
