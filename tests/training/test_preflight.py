"""Cases on disk: each kind of bad case is named before any training, and a changed file is prepared anew."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from dataset_files import SHAPE, body, drawn, good, make_run, save

from napari_multiphase.config import RunConfig, Traits
from napari_multiphase.errors import UserError
from napari_multiphase.events import Cancel, Event
from napari_multiphase.io.transforms import FORWARD_FILE, write_transform
from napari_multiphase.study import PhaseTransform
from napari_multiphase.training import preflight
from napari_multiphase.training.cache import case_sources, prepare_cases
from napari_multiphase.training.preflight import Problem, check_case, check_phases
from napari_multiphase.volume import Phase


def prepare(run: RunConfig, cache: Path, traits: Traits | None = None, told: list[Event] | None = None):
    hear = (told if told is not None else []).append
    return prepare_cases(run, traits or Traits(), processes=1, on_event=hear, cancel=Cancel(), cache=cache)


def change(folder: Path, what: str, data: np.ndarray, **place) -> dict:
    """A good case of which one file is another."""
    case = good(folder, what)
    phase, key = ("venous", "labels" if what.endswith("labels") else "image")
    case[phase][key] = save(folder / f"{what}_bad.nii.gz", data, **place)
    return case


def bad_cases(folder: Path) -> dict[str, tuple[dict, str]]:
    nan = body().astype(np.float32)
    nan[4, 4, 4] = np.nan
    dense = np.where(body() > 0, 9000, -1000).astype(np.int16)
    foreign = drawn()
    foreign[0, 0, 0] = 77
    gone, twin, folded = good(folder, "gone"), good(folder, "twin"), good(folder, "folded")
    Path(gone["venous"]["labels"]).unlink()
    twin["venous"]["image"] = twin["arterial"]["image"]
    write_transform(folder, PhaseTransform(np.diag([1.0, 1.0, -1.0, 1.0])))
    folded["transform"] = FORWARD_FILE
    thin = np.repeat(body()[:, :, 8:12], 1, axis=2)
    return {
        "gone": (gone, "there is no such file"),
        "twin": (twin, "both phases are the same image"),
        "folded": (folded, "its transform is not one"),
        "nan": (change(folder, "nan", nan), "not numbers"),
        "dense": (change(folder, "dense", dense), "denser than any tissue"),
        "bright": (change(folder, "bright", body() + 1024), "fat and air lie below 0"),
        "scaled": (change(folder, "scaled", (body() / 1000).astype(np.float32)), "it was scaled or is empty"),
        "foreign labels": (change(folder, "foreign labels", foreign), "the venous labels hold 77"),
        "shape labels": (change(folder, "shape labels", drawn()[:-1]), "16 x 18 x 19 voxels for 16 x 18 x 20"),
        "place labels": (change(folder, "place labels", drawn(), shift=9.0), "at another place or spacing"),
        "fraction labels": (change(folder, "fraction labels", drawn() * np.float32(0.4)), "not a label map"),
        "thin": (change(folder, "thin", thin), "too thin to learn from"),
        "nothing": ({"id": "nothing"}, "neither phase has an image"),
    }


def problems_of(run) -> list[Problem]:
    return [problem for s in case_sources(run) for problem in check_phases(run, s) + check_case(run, s)[0]]


def test_every_kind_of_bad_case_is_named_at_once_and_nothing_is_trained(tmp_path):
    bad = bad_cases(tmp_path)
    run = make_run(tmp_path, [good(tmp_path, "fine"), *(case for case, _ in bad.values())])
    problems = problems_of(run)
    said = {problem.case: [p.text for p in problems if p.case == problem.case] for problem in problems}
    assert said.keys() == bad.keys()
    for name, (_, sentence) in bad.items():
        assert any(sentence in text for text in said[name]), (name, said[name])
    with pytest.raises(UserError) as caught:
        prepare(run, tmp_path / "cache")
    text = str(caught.value)
    assert text.startswith(f"{len(bad)} cases cannot be trained on") and all(f"{name}: " in text for name in bad)


def test_what_is_doubtful_is_told_and_the_run_goes_on(tmp_path):
    lone, bare, empty = good(tmp_path, "lone"), good(tmp_path, "bare", 3), good(tmp_path, "empty", 5)
    del lone["arterial"], bare["arterial"]["labels"]
    for phase in ("arterial", "venous"):
        save(Path(empty[phase]["labels"]), np.zeros(SHAPE, np.uint8))
    run = make_run(tmp_path, [lone, bare, empty], method="pcn")
    told: list[Event] = []
    cases = prepare(run, tmp_path / "cache", told=told)
    warnings = [event.message for event in told if event.kind == "warning"]
    assert any("bare: has no arterial labels" in text for text in warnings)
    assert any("empty: its labels hold none of what was annotated (liver, spleen)" in text for text in warnings)
    assert list(cases[0].scans) == [Phase.VENOUS] and cases[0].pair is None
    assert (cases[1].scans[Phase.ARTERIAL].channels == 255).all()


def test_a_method_of_pairs_says_which_case_has_none(tmp_path, monkeypatch):
    class Pairs:
        traits = Traits(reads="pair")

    monkeypatch.setattr(preflight, "method_config", lambda *_: Pairs)
    lone = good(tmp_path, "lone")
    del lone["arterial"]
    run = make_run(tmp_path, [lone])
    (problem,) = problems_of(run)
    assert problem.level == "warning" and "has no arterial scan" in problem.text


def test_a_case_left_out_is_told_by_later_runs_too(tmp_path, monkeypatch):
    class Pairs:
        traits = Traits(reads="pair")

    monkeypatch.setattr(preflight, "method_config", lambda *_: Pairs)
    lone, bare = good(tmp_path, "lone"), good(tmp_path, "bare", 3)
    del lone["arterial"], bare["arterial"]["labels"], bare["venous"]["labels"]
    told: list[list[Event]] = [[], []]
    for events in told:
        prepare(make_run(tmp_path, [lone, bare]), tmp_path / "cache", Pairs.traits, events)
    first, again = ([event.message for event in events if event.kind == "warning"] for events in told)
    assert first == again and len(first) == 2
    assert "lone: has no arterial scan" in first[0] and "bare: has no labels" in first[1]


def test_a_file_that_breaks_its_reader_is_named_with_the_others(tmp_path, monkeypatch):
    def breaks(_self):
        raise MemoryError

    monkeypatch.setattr("napari_multiphase.training.sources.DatasetSource.read", breaks)
    run = make_run(tmp_path, [good(tmp_path, "one"), good(tmp_path, "two", 3)])
    with pytest.raises(UserError, match=r"2 cases cannot.*\n  one: cannot be read or prepared \(not enough memory\)"):
        prepare(run, tmp_path / "cache")


def test_labels_become_channels_and_what_nobody_drew_is_unknown(tmp_path):
    part = {**good(tmp_path, "part"), "annotated": ["liver"]}
    labels = drawn()
    labels[0, 0, 0] = 255
    save(Path(part["venous"]["labels"]), labels)
    run = make_run(tmp_path, [good(tmp_path, "full", 8), part])
    full, partly = prepare(run, tmp_path / "cache")
    assert full.complete and not partly.complete
    venous = partly.scans[Phase.VENOUS].channels
    assert (venous == 1).sum() == 125 and (venous == 255).sum() == 1 and set(np.unique(venous)) == {1, 254, 255}
    assert set(np.unique(full.scans[Phase.VENOUS].channels)) == {0, 1, 2}


def test_a_transform_carries_the_arterial_scan_onto_the_venous_grid(tmp_path):
    one = good(tmp_path, "one")
    matrix = np.eye(4)
    matrix[0, 3] = -6.0  # LPS: the arterial scan lies 6 mm to the right, two voxels up the file's first axis
    write_transform(tmp_path, PhaseTransform(matrix))
    one["transform"] = FORWARD_FILE
    (case,) = prepare(make_run(tmp_path, [one]), tmp_path / "cache", Traits(reads="pair"))
    carried, own = case.pair[Phase.ARTERIAL], case.scans[Phase.ARTERIAL]
    shifts = [
        np.array_equal(
            np.roll(own.channels, n, axis=2)[carried.channels < 255], carried.channels[carried.channels < 255]
        )
        for n in (2, -2)
    ]
    assert sum(shifts) == 1
    assert (carried.channels == 255).mean() == pytest.approx(2 / 20)
    assert (carried.hu[carried.channels == 255] == -1024).all()


def test_a_changed_file_is_prepared_anew(tmp_path):
    one = good(tmp_path, "one")
    run, cache = make_run(tmp_path, [one]), tmp_path / "cache"
    before = prepare(run, cache)[0]
    assert prepare(run, cache)[0].key == before.key
    labels = Path(one["venous"]["labels"])
    old = labels.stat()
    save(labels, np.where(drawn() == 2, 1, drawn()).astype(np.uint8))
    os.utime(labels, ns=(old.st_atime_ns, old.st_mtime_ns + 1))
    after = prepare(run, cache)[0]
    assert after.key != before.key and len(after.scans[Phase.VENOUS].anchors[2]) == 0
