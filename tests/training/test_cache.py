"""Prepared cases: what they hold, that they are kept, and that they are made again when anything changes."""

from __future__ import annotations

import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_multiphase.config import RunConfig, Traits
from napari_multiphase.errors import Cancelled, UserError
from napari_multiphase.events import Cancel, ignore
from napari_multiphase.imaging.windows import normalise
from napari_multiphase.phantom import make_phantom
from napari_multiphase.training import cache as cache_module
from napari_multiphase.training.cache import _Job, case_sources, find_anchors, mean_and_std, prepare_cases
from napari_multiphase.training.phantoms import phantom_sources
from napari_multiphase.training.sources import annotated_channels, channel_table
from napari_multiphase.volume import Phase

DATA = {"kind": "phantom", "cases": 2, "case_vox": (48, 48, 48), "first_seed": 40}
RUN = RunConfig(data=DATA, labels=(0, 1, 5, 18), spacing_mm=(8.0, 8.0, 8.0))


def prepare(run, cache, traits=None, **options):
    options = {"processes": 1, "on_event": ignore, "cancel": Cancel(), **options}
    return prepare_cases(run, traits or Traits(), cache=cache, **options)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    return prepare(RUN, folder), folder


def test_a_phantom_arrives_as_it_was_made(prepared):
    cases, _ = prepared
    assert [case.id for case in cases] == ["phantom-40", "phantom-41"]
    source = phantom_sources(RUN, RUN.data)[1]
    study = make_phantom(source.spec)
    assert source.spec.pathology == "liver"
    for phase in Phase:
        scan = cases[1].scans[phase]
        assert scan.hu.dtype == np.int16 and isinstance(scan.hu, np.memmap) and isinstance(scan.channels, np.memmap)
        assert np.array_equal(scan.hu, study.volumes[phase].data)
        assert set(np.unique(study.labels[phase][scan.channels == 1])) == {
            1,
            21,
        }  # a tumour is liver where not told apart
        assert set(np.unique(scan.channels)) <= {0, 1, 2, 3}
        expected = normalise(study.volumes[phase].data, RUN.window_hu)
        assert np.allclose([scan.mean, scan.std], [expected.mean(), expected.std()], atol=1e-5)
        for channel, points in enumerate(scan.anchors):
            assert len(points) == min(512, np.count_nonzero(scan.channels == channel))
            assert (scan.channels[tuple(points.T)] == channel).all()
    assert cases[0].complete and cases[0].pair == {} and cases[0].spacing_mm == RUN.spacing_mm


def test_what_is_there_is_used_again(prepared, monkeypatch):
    cases, folder = prepared
    monkeypatch.setattr(cache_module, "_make", lambda job: pytest.fail("made again"))
    again = prepare(RUN, folder)
    assert np.array_equal(again[0].scans[Phase.VENOUS].channels, cases[0].scans[Phase.VENOUS].channels)


@pytest.mark.parametrize(
    "change",
    [
        {"window_hu": (-100.0, 240.0)},
        {"labels": (0, 1)},
        {"spacing_mm": (8.0, 8.0, 9.0)},
        {"data": {**DATA, "motion_mm": 3.0}},
        {"data": {**DATA, "partly": [{"cases": 1, "structures": [1]}]}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_matters_makes_cases_anew(change):
    other = RunConfig.model_validate({**RUN.model_dump(), **change})
    before, after = (folders(run, pair=False) for run in (RUN, other))
    assert before != after and folders(other, pair=True) != after


def folders(run, pair):
    return [_Job(run, source, pair, Path("cache")).folder for source in case_sources(run)]


def test_a_damaged_case_is_made_again(prepared):
    cases, folder = prepared
    one = next(path for path in folder.iterdir() if (path / "venous_hu.npy").is_file())
    (one / "venous_hu.npy").unlink()  # other tests map it
    (one / "venous_hu.npy").write_bytes(b"torn")
    again = prepare(RUN, folder)
    assert all(np.array_equal(a.scans[p].hu, b.scans[p].hu) for a, b in zip(again, cases, strict=True) for p in Phase)


def test_structures_that_were_not_annotated_are_unknown(tmp_path):
    data = {**DATA, "partly": [{"cases": 1, "structures": [1]}]}
    full, part = prepare(RunConfig.model_validate({**RUN.model_dump(), "data": data}), tmp_path)
    assert full.complete and not part.complete and part.annotated.tolist() == [False, True, False, False]
    assert set(np.unique(part.scans[Phase.VENOUS].channels)) == {1, 254}
    more = RunConfig.model_validate({**RUN.model_dump(), "data": {**DATA, "partly": [{"cases": 3, "structures": [1]}]}})
    with pytest.raises(UserError, match=r"partly names 3 cases"):
        case_sources(more)


def test_a_pair_lies_on_the_venous_grid_and_its_registration_is_kept(tmp_path, monkeypatch):
    cases = prepare(RUN, tmp_path, Traits(reads="pair"))
    pair = cases[0].pair
    assert pair[Phase.VENOUS] is cases[0].scans[Phase.VENOUS]
    carried, venous = pair[Phase.ARTERIAL], pair[Phase.VENOUS]
    assert carried.hu.shape == venous.hu.shape
    known = carried.channels < 254

    def liver_dice(arterial):
        a, v = (arterial == 1) & known, (venous.channels == 1) & known
        return 2 * (a & v).sum() / (a.sum() + v.sum())

    assert liver_dice(carried.channels) > max(0.8, liver_dice(cases[0].scans[Phase.ARTERIAL].channels))
    assert len(list((tmp_path / "transforms").iterdir())) == 2
    monkeypatch.setattr(cache_module, "register_rigid", lambda *a, **k: pytest.fail("registered again"))
    prepare(RUN.model_copy(update={"labels": (0, 1)}), tmp_path, Traits(reads="pair"))


def test_two_runs_may_start_at_once(tmp_path):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        sums = [pool.submit(_sum, tmp_path) for _ in range(2)]
        assert sums[0].result() == sums[1].result()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def _sum(folder):
    cases = prepare(RUN, folder)
    return sum(int(case.scans[phase].hu.sum(dtype=np.int64)) for case in cases for phase in Phase)


def test_what_is_doubtful_is_told_by_every_run_that_uses_a_case(tmp_path, monkeypatch):
    def unregistered(*_):
        raise UserError("the scans do not overlap")

    monkeypatch.setattr(cache_module, "register_rigid", unregistered)
    told = [[], []]
    for events in told:
        prepare(RUN, tmp_path, Traits(reads="pair"), on_event=events.append)
    first, again = ([event.message for event in events if event.kind == "warning"] for events in told)
    text = "the scans do not overlap; the scanner's own positions are used"
    assert first == again == [f"phantom-40: {text}", f"phantom-41: {text}"]


def test_cases_kept_in_an_older_way_are_made_again_and_left_alone(tmp_path):
    (job, _) = [_Job(RUN, source, False, tmp_path) for source in case_sources(RUN)]
    old = tmp_path / job.key  # a run of an older version may be reading it
    old.mkdir()
    (old / "case.json").write_text('{"case": "phantom-40", "arrays": {}}')
    cases = prepare(RUN, tmp_path)
    assert cases[0].key == old.name and cases[0].scans and [path.name for path in old.iterdir()] == ["case.json"]


def test_a_case_that_nobody_foresaw_is_named(tmp_path, monkeypatch):
    def odd(*_):
        raise ZeroDivisionError("float division by zero")

    monkeypatch.setattr(cache_module, "network_grid", odd)
    with pytest.raises(
        UserError, match=r"2 cases cannot.*\n  phantom-40: cannot be read or prepared \(ZeroDivisionError"
    ):
        prepare(RUN, tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_killed_helper_names_the_cases_it_may_have_had(tmp_path):
    jobs = [Killed(name) for name in ("one", "two", "three", "four")]
    with pytest.raises(UserError, match="one of the cases one, two; prepare one at a time"):
        list(cache_module._made(jobs, 2, Cancel()))


@dataclass(frozen=True)
class Killed:
    """A job whose process is killed when it touches it, as for lack of memory."""

    name: str

    @property
    def run(self):
        os.kill(os.getpid(), signal.SIGKILL)

    @property
    def source(self):
        return SimpleNamespace(id=self.name)


def test_cancel_keeps_what_is_done(tmp_path):
    cancel = Cancel()
    with pytest.raises(Cancelled):
        prepare(RUN, tmp_path, on_event=lambda event: cancel.set(), cancel=cancel)
    assert len(list(tmp_path.iterdir())) == 1


def test_lesions_count_as_their_organ_only_where_they_are_not_told_apart():
    everything = frozenset(range(1, 24))
    table = channel_table((0, 1, 6, 22), everything)
    assert table[[0, 1, 21, 6, 22, 23, 2]].tolist() == [0, 1, 1, 2, 3, 2, 0]
    assert table[[254, 255]].tolist() == [254, 255]
    part = channel_table((0, 1, 6, 22), frozenset({1, 2}))
    assert part[[0, 1, 21, 6, 22, 2]].tolist() == [254, 1, 1, 254, 254, 0]
    assert annotated_channels((0, 1, 2), frozenset({1})).tolist() == [False, True, False]


def test_anchors_and_figures_do_not_depend_on_slabs(monkeypatch):
    rng = np.random.default_rng(0)
    channels, hu = rng.integers(0, 4, (9, 20, 20)).astype(np.uint8), rng.integers(-900, 900, (9, 20, 20))
    whole, figures = find_anchors(channels, 5), mean_and_std(hu, (-200, 600))
    monkeypatch.setattr(cache_module, "_SLAB_VOX", 800)
    assert all(np.array_equal(a, b) for a, b in zip(find_anchors(channels, 5), whole, strict=True))
    assert np.allclose(mean_and_std(hu, (-200, 600)), figures) and len(whole[4]) == 0
