"""Corrected labels: any sequence of edits, saves and reopenings equals plain arrays, and damage is told in words."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from napari_multiphase.errors import UserError
from napari_multiphase.studies import annotation_file
from napari_multiphase.studies.annotation import Annotation, peek
from napari_multiphase.studies.chunks import box_of, counts, pack, touched, unpack
from napari_multiphase.studies.snapshots import MOST_KEPT, recover, restore, snapshots, take
from napari_multiphase.volume import Grid

GRID = Grid((70, 66, 130), (2.5, 0.8, 0.8), (-100.0, 20.0, 3.5))


def some_labels(seed: int = 0, shape: tuple[int, int, int] = GRID.shape) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    rng = np.random.default_rng(seed)
    for label in (1, 2, 6):
        corner = [int(rng.integers(0, n // 2)) for n in shape]
        labels[tuple(slice(c, c + n // 3) for c, n in zip(corner, shape, strict=True))] = label
    return labels


@pytest.fixture
def made(tmp_path: Path) -> Annotation:
    annotation = Annotation.create(tmp_path / "annotations" / "venous.sqlite", some_labels(), GRID, model="pcn")
    yield annotation
    annotation.close()


def reopened(annotation: Annotation, write: bool = True) -> Annotation:
    annotation.close()
    return Annotation.open(annotation.path, write=write)


# --- chunks ----------------------------------------------------------------------------------------------------------

shapes = st.tuples(*[st.integers(1, 200)] * 3)


@given(shape=shapes)
@settings(deadline=None)
def test_chunks_cover_every_voxel_once(shape: tuple[int, int, int]) -> None:
    seen = np.zeros(shape, np.uint8)
    for number in range(int(np.prod(counts(shape)))):
        seen[box_of(number, shape)] += 1
    assert (seen == 1).all()


@given(shape=shapes, data=st.data())
@settings(deadline=None)
def test_a_box_touches_the_chunks_that_hold_its_voxels(shape: tuple[int, int, int], data: st.DataObject) -> None:
    box = tuple(slice(*sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n))))) for n in shape)
    marked = np.zeros(shape, bool)
    marked[box] = True
    held = [n for n in range(int(np.prod(counts(shape)))) if marked[box_of(n, shape)].any()]
    assert touched([box], shape) == held


@given(content=st.binary(max_size=5000), more=st.integers(1, 50))
@settings(deadline=None)
def test_what_is_packed_comes_back_and_never_grows(content: bytes, more: int) -> None:
    values = np.frombuffer(content, np.uint8)
    packed = pack(values)
    assert np.array_equal(unpack(packed, len(content)), values)
    for wrong in (len(content) + more, len(content) - more):
        with pytest.raises(ValueError, match=r"instead of|\w"):
            unpack(packed, max(wrong, -1))


# --- round trips -----------------------------------------------------------------------------------------------------


def test_it_starts_from_a_prediction(made: Annotation) -> None:
    again = reopened(made, write=False)
    assert np.array_equal(again.labels(), some_labels())
    assert not again.reviewed().any()
    assert again.states == {1: "predicted", 2: "predicted", 6: "predicted"}
    assert again.grid == GRID and again.model == "pcn" and again.revision == 0
    again.labels()[0] = 9  # an array of the caller's own
    again.close()


def test_a_save_finds_every_change_marks_it_and_writes_only_that(made: Annotation) -> None:
    labels, reviewed = made.labels(), made.reviewed()
    assert made.save(labels, reviewed).chunks == 0
    labels[3, 4, 5] = 8
    where = labels[60:68, 60:66, 60:70] != 21
    labels[60:68, 60:66, 60:70] = 21
    reviewed[0, 0, 129] = True
    done = made.save(labels, reviewed)
    assert done.chunks == 9  # of 12: 2 x 2 x 2 for the box and the voxel, one for the mark
    assert {8, 21} <= done.structures
    assert reviewed[3, 4, 5] and reviewed[60:68, 60:66, 60:70][where].all() and reviewed.sum() == where.sum() + 2
    again = reopened(made)
    assert np.array_equal(again.labels(), labels) and np.array_equal(again.reviewed(), reviewed)
    assert again.states[21] == again.states[8] == "corrected"
    assert again.states[6] == ("corrected" if 6 in done.structures else "predicted")
    assert peek(again.path) == (again.states, again.saved)
    again.close()


def test_a_complete_structure_stays_complete_and_boxes_limit_the_look(made: Annotation) -> None:
    labels, reviewed = made.labels(), made.reviewed()
    labels[0, 0, 0], labels[69, 65, 129] = 1, 2
    made.save(labels, reviewed, {**made.states, 1: "complete"}, [(slice(0, 3), slice(0, 3), slice(0, 3))])
    assert made.labels()[0, 0, 0] == 1 and made.labels()[69, 65, 129] == 0
    assert made.states == {1: "complete", 2: "predicted", 6: "predicted"}
    made.save(labels, reviewed)
    assert made.labels()[69, 65, 129] == 2 and made.states[2] == "corrected"


def test_a_stroke_on_a_large_scan_writes_little(tmp_path: Path) -> None:
    shape = (300, 512, 512)
    made = Annotation.create(tmp_path / "big.sqlite", some_labels(1, shape), Grid(shape, (1.0, 0.7, 0.7)))
    labels, reviewed = made.labels(), made.reviewed()
    size = made.path.stat().st_size
    y, x = np.ogrid[:512, :512]
    for step in range(40):  # a stroke of a 40-voxel brush across the slice
        labels[150][(y - 250 - step) ** 2 + (x - 100 - 7 * step) ** 2 < 400] = 6
    done = made.save(labels, reviewed)
    wal = made.path.with_name("big.sqlite-wal").stat().st_size
    made.close()
    assert 0 < done.bytes < 300_000
    assert wal < 1_000_000 and made.path.stat().st_size - size < 1_000_000


class AgainstArrays(RuleBasedStateMachine):
    """Any sequence of edits, saves, reopenings, snapshots and restores, beside plain arrays."""

    @initialize(seed=st.integers(0, 5))
    def start(self, seed: int) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.grid = Grid((5, 70, 66), (5.0, 1.0, 1.0))
        self.labels = some_labels(seed, self.grid.shape)
        self.reviewed = np.zeros(self.grid.shape, bool)
        self.file = Annotation.create(Path(self.folder.name) / "a.sqlite", self.labels, self.grid)
        self.saved = (self.labels.copy(), self.reviewed.copy(), dict(self.file.states))
        self.states = dict(self.file.states)
        self.kept: dict[int, tuple] = {}

    @rule(
        z=st.integers(0, 4),
        y=st.integers(0, 69),
        x=st.integers(0, 65),
        size=st.integers(1, 30),
        label=st.integers(0, 23),
    )
    def paint(self, z: int, y: int, x: int, size: int, label: int) -> None:
        self.labels[z : z + 2, y : y + size, x : x + size] = label

    @rule(y=st.integers(0, 69), size=st.integers(1, 30))
    def review(self, y: int, size: int) -> None:
        self.reviewed[:, y : y + size] = True

    @rule(label=st.integers(1, 23), state=st.sampled_from(["complete", "not annotated", "predicted"]))
    def settle(self, label: int, state: str) -> None:
        self.states[label] = state

    @rule()
    def save(self) -> None:
        changed = self.saved[0] != self.labels
        touched_ids = set(np.unique(self.saved[0][changed])) | set(np.unique(self.labels[changed]))
        self.file.save(self.labels, self.reviewed, self.states)
        assert self.reviewed[changed].all()
        for label in touched_ids - {0}:
            if self.states.get(label) != "complete":
                self.states[int(label)] = "corrected"
        self.saved = (self.labels.copy(), self.reviewed.copy(), dict(self.states))

    @rule()
    def killed_and_reopened(self) -> None:
        self.file.close()
        self.file = Annotation.open(self.file.path, write=True)
        self.labels, self.reviewed, self.states = self.file.labels(), self.file.reviewed(), dict(self.file.states)

    @rule()
    def snapshot(self) -> None:
        self.kept[take(self.file, "Before segment!").number] = self.saved

    @rule(data=st.data())
    def go_back(self, data: st.DataObject) -> None:
        found = [kept for kept in snapshots(self.file.path) if kept.number in self.kept]
        if not found:
            return
        chosen = data.draw(st.sampled_from(found))
        self.kept[restore(self.file, chosen).number] = self.saved
        self.saved = self.kept[chosen.number]
        self.labels, self.reviewed, self.states = self.saved[0].copy(), self.saved[1].copy(), dict(self.saved[2])

    @invariant()
    def holds_what_was_saved(self) -> None:
        with Annotation.open(self.file.path) as other:
            assert np.array_equal(other.labels(), self.saved[0])
            assert np.array_equal(other.reviewed(), self.saved[1])
            assert other.states == self.saved[2]

    def teardown(self) -> None:
        if hasattr(self, "file"):
            self.file.close()
            self.folder.cleanup()


TestAgainstArrays = AgainstArrays.TestCase
TestAgainstArrays.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)


# --- what goes wrong -------------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
import numpy as np
from napari_multiphase.studies.annotation import Annotation
made = Annotation.open(Path(sys.argv[1]), write=True)
labels, reviewed = made.labels(), made.reviewed()
for n in range(10_000):
    labels[n % 70, n % 66, :] = n % 23 + 1
    made.save(labels, reviewed)
    print(n, flush=True)
"""


def test_sigkill_loses_nothing_that_was_saved(made: Annotation) -> None:
    made.close()
    for strokes in (1, 7, 20):
        labels = Annotation.open(made.path).labels()
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(made.path)], stdout=subprocess.PIPE, text=True)
        last = -1
        while last < strokes:
            last = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        said = [int(line) for line in process.stdout.read().split()]
        process.wait()
        last = max([last, *said])
        with Annotation.open(made.path, write=True) as found:
            now = found.labels()
        for n in range(last + 1):
            labels[n % 70, n % 66, :] = n % 23 + 1
        after = labels.copy()
        n = last + 1
        after[n % 70, n % 66, :] = n % 23 + 1  # committed, but the word of it did not get out
        assert np.array_equal(now, labels) or np.array_equal(now, after)


def test_one_window_corrects_and_others_look(made: Annotation) -> None:
    with pytest.raises(UserError, match=f"another window \\(process {os.getpid()} "):
        Annotation.open(made.path, write=True)
    with Annotation.open(made.path) as other:
        assert np.array_equal(other.labels(), made.labels())
        with pytest.raises(UserError, match="reading only"):
            other.save(other.labels(), other.reviewed())


def test_a_save_onto_what_another_process_changed_is_refused(made: Annotation) -> None:
    other = sqlite3.connect(made.path)
    other.execute("UPDATE about SET value = '5' WHERE name = 'revision'")
    other.commit()
    other.close()
    labels = made.labels()
    labels[0] = 3
    with pytest.raises(UserError, match="changed by another window"):
        made.save(labels, made.reviewed())


def test_a_file_that_is_gone_is_not_written_into(made: Annotation) -> None:
    labels = made.labels()
    labels[0] = 3
    made.path.rename(made.path.with_name("elsewhere.sqlite"))
    with pytest.raises(UserError, match="moved, removed or replaced"):
        made.save(labels, made.reviewed())


def test_a_full_disk_is_told_and_the_next_save_catches_up(made: Annotation, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, reviewed = made.labels(), made.reviewed()
    labels[:] = np.random.default_rng(0).integers(0, 24, labels.shape)
    pages = made._connection.execute("PRAGMA page_count").fetchone()[0]
    made._connection.execute(f"PRAGMA max_page_count = {pages + 2}")  # what SQLite calls a full disk
    with pytest.raises(UserError, match="the disk is full"):
        made.save(labels, reviewed)
    assert np.array_equal(made.labels(), some_labels())
    made._connection.execute("PRAGMA max_page_count = 1000000")
    made.save(labels, reviewed)
    again = reopened(made)
    assert np.array_equal(again.labels(), labels) and again.reviewed().sum() == (labels != some_labels()).sum()
    again.close()


def test_an_existing_file_is_not_written_over(made: Annotation) -> None:
    with pytest.raises(UserError, match="exists already"):
        Annotation.create(made.path, some_labels(), GRID)


def test_wrong_arrays_are_refused(made: Annotation) -> None:
    for labels in (made.labels()[1:], made.labels().astype(np.int16)):
        with pytest.raises(UserError, match="labels are uint8"):
            made.save(labels, made.reviewed())


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_flipped_bytes_are_noticed_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("damage") / "a.sqlite"
    grid = Grid((5, 70, 66), (5.0, 1.0, 1.0))
    labels = some_labels(0, grid.shape)
    Annotation.create(path, labels, grid).close()
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2, 100, 0]))])
    try:
        with Annotation.open(path) as found:
            assert found.shape == grid.shape  # only the free text of the file may differ
            assert np.array_equal(found.labels(), labels)
    except UserError:
        return


def forged(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE about SET value = replace(value, '130]', '100000000000]') WHERE name = 'grid'",
        "UPDATE about SET value = replace(value, '130]', '-130]') WHERE name = 'grid'",
        "UPDATE about SET value = replace(value, '2.5', 'NaN') WHERE name = 'grid'",
        "UPDATE about SET value = '[[[' WHERE name = 'grid'",
        "UPDATE chunks SET labels = zeroblob(900000) WHERE number = 3",
        "UPDATE chunks SET labels_hash = 'text' WHERE number = 3",
        "DELETE FROM chunks WHERE number = 2",
        "INSERT INTO states VALUES (77, 'perfect')",
        "INSERT INTO states VALUES (999, 'complete')",
        "CREATE VIEW more AS SELECT * FROM about",
        "CREATE TRIGGER t AFTER UPDATE ON about BEGIN DELETE FROM chunks; END",
    ],
)
def test_forged_files_are_refused(made: Annotation, statement: str) -> None:
    made.close()
    forged(made.path, statement)
    with pytest.raises(UserError, match="damaged"):
        Annotation.open(made.path)


def test_a_bomb_does_not_grow(made: Annotation) -> None:
    made.close()
    bomb = pack(np.zeros(50_000_000, np.uint8))
    assert len(bomb) < annotation_file.MOST_PACKED_BYTES
    connection = sqlite3.connect(made.path)
    connection.execute("UPDATE chunks SET labels = ? WHERE number = 0", (bomb,))
    connection.commit()
    connection.close()
    with Annotation.open(made.path) as found, pytest.raises(UserError, match="chunk 0"):
        found.labels()


def test_the_last_snapshot_takes_the_place_of_a_damaged_file(made: Annotation) -> None:
    labels, reviewed = made.labels(), made.reviewed()
    labels[0] = 5
    made.save(labels, reviewed)
    take(made, "segment")
    made.close()
    (made.path).write_bytes(made.path.read_bytes()[:3000])
    with pytest.raises(UserError, match="last snapshot"):
        Annotation.open(made.path)
    assert recover(made.path).name == "segment"
    with Annotation.open(made.path, write=True) as found:
        assert np.array_equal(found.labels(), labels)
    assert (made.path.parent / "venous.sqlite.damaged-1").stat().st_size == 3000
    made.path.write_bytes(b"")
    snapshots(made.path)[0].path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="no snapshot that can be read"):
        recover(made.path)


def test_snapshots_are_few_and_new_ones_hold_something_new(made: Annotation) -> None:
    labels, reviewed = made.labels(), made.reviewed()
    assert take(made, "a") == take(made, "b")
    for n in range(MOST_KEPT + 4):
        labels[n % 70, 1, 1] = n % 20 + 1
        made.save(labels, reviewed)
        take(made, "c")
    kept = snapshots(made.path)
    assert len(kept) == MOST_KEPT and kept[-1].number == MOST_KEPT + 5
    with Annotation.open(kept[-1].path) as found:
        assert np.array_equal(found.labels(), labels)
    assert {p.suffix for p in kept[0].path.parent.iterdir()} == {".sqlite"}
