"""SIGKILL of the window while a scripted person paints: what was painted 5 s before the kill must be there again.

    python benchmarks/annotation_kills.py --kills 40 --window 0 --seed 1
    tools/with-display.sh python benchmarks/annotation_kills.py --kills 12 --window 12 --children 0 --seed 2

Every trial opens the study that the last one left behind, as the window does, and goes on painting on the real napari
layer with the window's own `Annotating` and autosave. Trials without the window run the same session over napari's
viewer model, without OpenGL; `--window` says how many have the whole window with all docks. Both are forks of one
process, with the parser's jobs on threads of their own, so that a trial takes seconds; `--children` says how many of
those with the window start anew and have child processes, as a user's does. What else goes on at the moment of the
kill takes turns: nothing, a prediction that is being kept, snapshots one after the other, the case list being read. The
kill takes the whole process group, at a moment drawn from the seed.

The person writes each stroke to a log (fsync) before and after it is painted. Afterwards, without a window: the study,
its predictions, snapshots and the annotation are opened and checked, and every voxel must have a value that it had at
some time in the last 5 s; the reported loss is how much older than the kill the oldest stroke is that is not all there.
Writes benchmarks/results/annotation_kills.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESULT = Path(__file__).parent / "results" / "annotation_kills.json"
MODES = ("painting", "prediction", "snapshots", "cases")
MOST_LOST_S = 5.0
START_LIMIT_S = 900.0
GO, PAINTS = "go", '"done": 2'
_DOCKS = ("compare_dock", "segment_dock", "study_dock", "translate_dock", "workbench")
_AHEAD = ("napari.components", "napari.layers", "napari.qt", "napari_multiphase.studies.open")
_AHEAD += tuple(f"napari_multiphase.gui.{dock}" for dock in _DOCKS)
"""What a fork finds imported."""

Stroke = dict[str, Any]


# --- the person, in a process of its own -----------------------------------------------------------------------------


def person(study: Path, scratch: Path, mode: str, seed: int, window: bool, children: bool) -> None:
    """Open `study`, begin correcting, paint until killed."""
    chance, inside = random.Random(seed), Inside(scratch)
    if window:
        import napari
        from qtpy.QtWidgets import QApplication

        from napari_multiphase.gui import session as sessions
        from napari_multiphase.gui.workbench import open_workbench

        viewer = napari.Viewer(show=True)
        if not children:
            sessions.Session.client = property(lambda _self: inside)  # type: ignore[assignment,method-assign]
        open_workbench(viewer)
        session, app = sessions.get_session(viewer), QApplication.instance()
    else:
        from napari.components import ViewerModel
        from qtpy.QtCore import QCoreApplication

        from napari_multiphase.gui.session import Session

        app = QCoreApplication([])
        session = Session(ViewerModel())  # type: ignore[arg-type]
        session._client = inside  # type: ignore[assignment]
    session.bridge.failed.connect(lambda task, words, log: print(task, words, log, file=sys.stderr, flush=True))
    session.client.start(warm=False)
    while not (scratch / GO).exists():  # started ahead, while the one before still paints
        app.processEvents()
        time.sleep(0.02)
    _open(session, study, children)
    annotating, log = session.annotating, (scratch / "log.jsonl").open("a")

    def say(**entry: Any) -> None:
        log.write(json.dumps({"t": time.time(), **entry}) + "\n")
        log.flush()
        os.fsync(log.fileno())

    def stroke(number: int) -> None:
        layer = annotating.layer
        z, y, x = (chance.randrange(n) for n in layer.data.shape)
        step = (chance.randint(-4, 4), chance.randint(-4, 4))
        label, size, points = chance.randint(0, 23), chance.randint(3, 14), chance.randint(1, 6)
        path = [(z, y + n * step[0], x + n * step[1]) for n in range(points)]
        path = [p for p in path if all(0 <= q < n for q, n in zip(p, layer.data.shape, strict=True))]
        say(stroke=number, path=path, label=label, size=size)
        layer.brush_size = size
        with layer.block_history():
            for point in path:
                layer.paint(point, label)
        say(done=number)
        session.bridge.later(chance.randint(20, 250), lambda: stroke(number + 1))

    def also() -> None:
        if mode == "snapshots":
            annotating.snapshot("again")
        elif mode == "prediction" and session.run is not None:
            session.run.kept = False
            session.keeping._on_change("prediction")
        elif mode == "cases":
            session.client.submit("cases", {}, where="parser")
        session.bridge.later({"snapshots": 60, "prediction": 4000, "cases": 1500}.get(mode, 10_000), also)

    def begin() -> None:
        if annotating.layer is None or annotating.edits is None:
            session.bridge.later(50, begin)
            return
        np.save(scratch / "start.npy", annotating.layer.data)
        say(began=True)
        stroke(0)
        also()

    begin()
    app.exec()


class Inside:
    """Answers the session's jobs as its client does, on threads of this process."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch

    def start(self, *, warm: bool = True) -> None:
        """Nothing to start."""

    def submit(self, task: str, params: dict[str, Any], *, on_event: Any = None, **_options: Any) -> Any:
        """Run a job function; `on_event` hears how it ended."""
        from napari_multiphase.events import Cancel, Event
        from napari_multiphase.jobs.keeping import KEEPING_TASKS
        from napari_multiphase.jobs.server import Context

        handle = SimpleNamespace(result=None)

        def work() -> None:
            try:
                handle.result = KEEPING_TASKS[task](Context(lambda _event: None, Cancel(), self.scratch), **params)
                event = Event("done", task)
            except Exception as error:
                event = Event("failed", f"{type(error).__name__}: {error}", data={})
            if on_event is not None:
                on_event(event)

        threading.Thread(target=work, daemon=True).start()
        return handle


def _open(session: Any, study: Path, children: bool) -> None:
    """The study as the window opens it; without child processes the scans are read here."""
    if children:
        session.open_paths([study])
        return
    from napari_multiphase.studies import Workspace

    session.inputs = [study]
    session._opened(Workspace.open(study).study())


# --- the judge -------------------------------------------------------------------------------------------------------


def painter(shape: tuple[int, int, int], spacing_mm: tuple[float, ...]) -> Any:
    """A napari label layer without a window, to repeat strokes on."""
    from napari.layers import Labels

    return Labels(np.zeros(shape, np.uint8), scale=spacing_mm)


def judge(folder: Path, scratch: Path, killed: float) -> dict[str, Any]:
    """Open everything, compare with the log. Raises what is broken."""
    from napari_multiphase.studies import Workspace, list_cases
    from napari_multiphase.studies.annotation import Annotation
    from napari_multiphase.studies.predictions import read_prediction
    from napari_multiphase.studies.snapshots import snapshots
    from napari_multiphase.volume import Phase

    workspace = Workspace.open(folder)
    for entry in workspace.predictions:
        read_prediction(workspace.resolve(entry.folder))
    path = workspace.annotation_file(Phase.VENOUS)
    for snapshot in snapshots(path):
        with Annotation.open(snapshot.path) as kept:
            kept.labels()
    (row,) = [row for row in list_cases() if row.folder == workspace.folder]
    if row.problem:
        raise ValueError(row.problem)
    with Annotation.open(path, write=True) as annotation:
        found, reviewed, grid = annotation.labels(), annotation.reviewed(), annotation.grid
    entries = [json.loads(line) for line in (scratch / "log.jsonl").read_text().splitlines() if line.endswith("}")]
    ended = {entry["done"]: entry["t"] for entry in entries if "done" in entry}
    strokes = [entry for entry in entries if "stroke" in entry]
    return {
        "strokes": len(strokes),
        "predictions": len(workspace.predictions),
        "snapshots": len(snapshots(path)),
        **compare(np.load(scratch / "start.npy"), strokes, ended, found, reviewed, grid.spacing_mm, killed),
    }


def compare(
    start: NDArray[np.uint8],
    strokes: list[Stroke],
    ended: dict[int, float],
    found: NDArray[np.uint8],
    reviewed: NDArray[np.bool_],
    spacing_mm: tuple[float, ...],
    killed: float,
) -> dict[str, Any]:
    """How many seconds before the kill the oldest stroke ended that is not all there; 0 where every one is.

    Voxel by voxel, `found` must be what some prefix of the strokes, not shorter than the one in question, left there.
    """
    layer = painter(start.shape, spacing_mm)  # type: ignore[arg-type]
    layer.data[:] = start
    states = [start.copy()]
    for one in strokes:
        layer.brush_size = one["size"]
        with layer.block_history():
            for point in one["path"]:
                layer.paint(tuple(point), one["label"], refresh=False)
        states.append(np.asarray(layer.data).copy())
    allowed = found == states[-1]
    whole = len(strokes) if allowed.all() else -1
    for number in range(len(strokes) - 1, -1, -1):
        if whole >= 0:
            break
        allowed |= found == states[number]
        whole = number if allowed.all() else -1
    if whole < 0:
        return {"lost_s": None, "lost_strokes": len(strokes), "error": "the labels are not what was painted"}
    lost = killed - ended[whole] if whole in ended else 0.0
    late = sum(ended[n] < killed - MOST_LOST_S for n in ended if n >= whole)
    changed = np.zeros(start.shape, bool)
    safe = max((n for n in range(whole) if ended.get(n, killed) < killed - MOST_LOST_S), default=-1)
    for n in range(safe + 1):
        changed |= states[n] != states[n + 1]
    return {
        "lost_s": round(max(0.0, lost), 2),
        "lost_strokes": len(strokes) - whole,
        "older_than_5_s": late,
        "marks_missing": int((changed & ~reviewed).sum()),
    }


class Forked:
    """A person in a fork of this process, which has imported what it needs; looks like a `Popen`."""

    def __init__(self, *args: Any) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                words = os.open(args[1] / "words.txt", os.O_CREAT | os.O_WRONLY)
                os.dup2(words, 1), os.dup2(words, 2)
                person(*args)
            finally:
                os._exit(1)

    def poll(self) -> int | None:
        """None while it runs."""
        found, status = os.waitpid(self.pid, os.WNOHANG)
        return status if found else None

    def wait(self) -> None:
        """Until it has ended."""
        os.waitpid(self.pid, 0)


def start(folder: Path, scratch: Path, mode: str, seed: int, window: bool, children: bool) -> Any:
    """A person who opens the study once told to go."""
    scratch.mkdir(parents=True)
    if not children:
        for module in _AHEAD:
            import_module(module)
        return Forked(folder, scratch, mode, seed, window, False)
    args = [sys.executable, __file__, "--person", str(folder), str(scratch), mode, str(seed)]
    with (scratch / "words.txt").open("wb") as words:
        return subprocess.Popen(args, stdout=words, stderr=words, start_new_session=True)


def trial(
    folder: Path, scratch: Path, process: Any, mode: str, seed: int, window: bool, children: bool
) -> dict[str, Any]:
    """One person, one kill."""
    chance = random.Random(seed)
    (scratch / GO).touch()
    log, until = scratch / "log.jsonl", time.monotonic() + START_LIMIT_S
    while not (log.exists() and PAINTS in log.read_text()):
        time.sleep(0.05)
        if process.poll() is not None or time.monotonic() > until:
            os.killpg(process.pid, signal.SIGKILL)
            raise SystemExit(f"trial {seed} did not paint:\n{(scratch / 'words.txt').read_text()[-3000:]}")
    after_s = chance.uniform(0.2, 8.0)
    time.sleep(after_s)
    killed = time.time()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    found = {"seed": seed, "mode": mode, "window": window, "children": children, "after_s": round(after_s, 2)}
    try:
        return found | judge(folder, scratch, killed)
    except Exception as error:
        return found | {"lost_s": None, "error": f"{type(error).__name__}: {error}"}


def make_study(home: Path) -> Path:
    """A small two-phase study with a kept prediction and the venous labels begun; its workspace's folder."""
    from napari_multiphase.phantom import PhantomSpec, make_phantom, write_sample
    from napari_multiphase.studies import Workspace, default_folder, open_study
    from napari_multiphase.studies.annotation import Annotation
    from napari_multiphase.studies.predictions import keep_prediction
    from napari_multiphase.study import PhasePrediction, Prediction, TwoBest
    from napari_multiphase.volume import Phase

    made = make_phantom(PhantomSpec(seed=5, shape=(80, 128, 128), spacing_mm=(4.0, 3.0, 3.0)))
    write_sample(made, home / "scans")
    study = open_study([home / "scans"])
    workspace = Workspace.create(default_folder(study), study)
    phases = {}
    for phase, volume in study.volumes.items():
        labels = np.ascontiguousarray(made.labels[phase], np.uint8)
        sure = np.random.default_rng(0).integers(0, 255, volume.shape).astype(np.uint8)
        phases[phase] = PhasePrediction(labels, sure, TwoBest(labels, np.roll(labels, 1, 0), sure, 255 - sure))
    venous = phases[Phase.VENOUS]
    grid = study.volumes[Phase.VENOUS].grid
    prediction = Prediction(study.id, "made", phases, venous.labels, venous.confidence, grid, Phase.VENOUS)
    keep_prediction(workspace, study, prediction)
    path = workspace.annotation_file(Phase.VENOUS)
    Annotation.create(path, venous.labels, grid, model="made").close()
    workspace.set_annotation(Phase.VENOUS, path)
    return workspace.folder


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="in all")
    parser.add_argument("--window", type=int, default=12, help="of these, with the whole window")
    parser.add_argument("--children", type=int, default=2, help="of these, with child processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--person", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.person:
        folder, scratch, mode, seed = args.person
        person(Path(folder), Path(scratch), mode, int(seed), True, True)
        return
    done: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        home = Path(name)
        os.environ["MULTIPHASE_DATA_DIR"], os.environ["XDG_CONFIG_HOME"] = str(home / "data"), str(home / "config")
        os.environ["NAPARI_CONFIG"], os.environ["MULTIPHASE_SCRATCH"] = str(home / "napari.yaml"), str(home / "scratch")
        folder = make_study(home)
        plans = [
            (MODES[n % len(MODES)], 1000 * args.seed + n, n < args.window, n < args.children) for n in range(args.kills)
        ]
        following = start(folder, home / "trial-0", *plans[0])
        for number, plan in enumerate(plans):
            process, ahead = following, plans[number + 1 : number + 2]
            if ahead:
                following = start(folder, home / f"trial-{number + 1}", *ahead[0])
            try:
                found = trial(folder, home / f"trial-{number}", process, *plan)
            except BaseException:
                os.killpg(following.pid, signal.SIGKILL)
                raise
            done.append(found)
            print(json.dumps(found), flush=True)
            write(args, done)
    if any(bad(found) for found in done):
        raise SystemExit(1)


def bad(found: dict[str, Any]) -> bool:
    """Whether a trial broke the promise."""
    lost = found["lost_s"]
    return lost is None or lost > MOST_LOST_S or bool(found["marks_missing"])


def write(args: argparse.Namespace, done: list[dict[str, Any]]) -> None:
    """The result so far, with the trials of other seeds that the file holds already."""
    before = json.loads(args.out.read_text())["trials"] if args.out.exists() else []
    seeds = {found["seed"] for found in done}
    every = sorted([*(f for f in before if f["seed"] not in seeds), *done], key=lambda found: found["seed"])
    losses = [found["lost_s"] for found in every if found["lost_s"] is not None]
    result = {
        "kills": len(every),
        "kills_with_the_whole_window": sum(found["window"] for found in every),
        "kills_with_child_processes": sum(found["children"] for found in every),
        "broken_studies": sum(found["lost_s"] is None for found in every),
        "more_than_5_s_lost": sum(loss > MOST_LOST_S for loss in losses),
        "most_lost_s": max(losses, default=None),
        "median_lost_s": float(np.median(losses)) if losses else None,
        "strokes": sum(found.get("strokes", 0) for found in every),
        "cpus": os.cpu_count(),
        "load_at_the_end": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "trials": every,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
