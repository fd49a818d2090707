"""The main job in a real window: ``python -m napari_multiphase.gui.demo [--screenshots FOLDER]``.

Opens the sample pair, runs Segment, and leaves the window to the user; or writes pictures and ends.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from napari_multiphase.gui.session import Session, get_session
from napari_multiphase.gui.workbench import bring_forward, open_workbench

if TYPE_CHECKING:
    import napari

    from napari_multiphase.gui.compare_dock import CompareDock
    from napari_multiphase.gui.correct_dock import CorrectDock
    from napari_multiphase.gui.segment_dock import SegmentDock
    from napari_multiphase.gui.study_dock import StudyDock
    from napari_multiphase.gui.train_dock import TrainDock
    from napari_multiphase.gui.translate_dock import TranslateDock

SIZE = (1280, 800)
_PATIENCE_S = 600.0


class Demo:
    """The first five minutes, without a hand on the mouse: each step waits for the one before it."""

    def __init__(self, viewer: napari.Viewer, *, model: Path | None = None) -> None:
        self.viewer = viewer
        docks = open_workbench(viewer)
        self.study_dock: StudyDock = docks["Study"]  # type: ignore[assignment]
        self.segment_dock: SegmentDock = docks["Segment"]  # type: ignore[assignment]
        self.translate_dock: TranslateDock = docks["Translate"]  # type: ignore[assignment]
        self.compare_dock: CompareDock = docks["Compare"]  # type: ignore[assignment]
        self.correct_dock: CorrectDock = docks["Correct"]  # type: ignore[assignment]
        self.train_dock: TrainDock = docks["Train"]  # type: ignore[assignment]
        self.session: Session = get_session(viewer)
        self.failures: list[str] = []
        self._shown = 0
        self.session.bridge.failed.connect(lambda _task, sentence, _log: self.failures.append(sentence))
        self.session.bridge.changed.connect(self._count)
        if model is not None:
            self.segment_dock.picker.add_folder(model)

    def _count(self, topic: str) -> None:
        self._shown += topic == "shown"

    def open_sample(self) -> None:
        """Click *Open the sample* and wait for the layers."""
        before = self._shown
        self.study_dock.open_sample.click()
        self.wait(lambda: self._shown > before, "the sample")

    def open_pair(self, path: Path) -> None:
        """Open scans of one's own and wait for the layers."""
        before = self._shown
        self.session.open_paths([path])
        self.wait(lambda: self._shown > before, path.name)

    def compare(self) -> None:
        """Click *Compare*, with four panes."""
        bring_forward(self.compare_dock)
        self.compare_dock.count.setCurrentIndex(self.compare_dock.count.findData(4))
        self.compare_dock.count.activated.emit(self.compare_dock.count.currentIndex())
        self.compare_dock.compare.click()
        self.rest(0.5)

    def register(self) -> None:
        """Click *Register* and *After*, and wait for both scans laid over each other."""
        box = self.study_dock.register
        box.register.click()
        self.wait(box.compare.isVisible, "the registered scan")
        box.after.click()
        self.rest(0.5)

    def segment(self) -> None:
        """Click *Segment* and wait for the layers."""
        bring_forward(self.segment_dock)
        self.wait(lambda: self.session.model is not None and self.session.plan is not None, "a model and a plan")
        before = self._shown
        self.segment_dock.segment.click()
        self.wait(lambda: self._shown > before, "the labels")
        self.rest(0.5)

    def translate(self) -> None:
        """Click *Translate volume* and wait for the figures, the S-score being the last."""
        dock = self.translate_dock
        bring_forward(dock)
        self.wait(lambda: dock.model is not None and dock.preview.feed.shown is not None, "a preview")
        dock.translate.click()
        made = dock.translating.results
        self.wait(lambda: dock.to in made and "s_score" in (made[dock.to].figures or {}), "figures and S-score")
        self.wait(lambda: self.session.job is None, "the end of the job")
        self.rest(0.5)

    def correct(self) -> None:
        """Click *Correct* and go to the first uncertain region."""
        bring_forward(self.correct_dock)
        self.correct_dock.begin.click()
        self.wait(lambda: bool(self.correct_dock.correcting.regions), "uncertain regions")
        self.correct_dock.next.click()
        self.rest(1.0)

    def train(self) -> None:
        """Show the Train dock with the study in its list."""
        bring_forward(self.train_dock)
        self.rest(5.0)

    def wait(self, done: Callable[[], bool], what: str) -> None:
        """Keep the window alive until `done`; SystemExit with the reason where that does not happen."""
        end = time.monotonic() + _PATIENCE_S
        while not done():
            if self.failures:
                raise SystemExit(f"the demo stopped: {self.failures[0]}")
            if time.monotonic() > end:
                raise SystemExit(f"the demo stopped: {what} did not come within {_PATIENCE_S:.0f} s")
            _turn()

    def rest(self, seconds: float) -> None:
        """Let the window draw for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            _turn()

    def picture(self, path: Path) -> None:
        """The whole window as it is, into a PNG."""
        self.rest(0.4)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.viewer.window.screenshot(str(path), canvas_only=False, flash=False)
        print(f"wrote {path}")


def _turn() -> None:
    from qtpy.QtWidgets import QApplication

    QApplication.processEvents()
    time.sleep(0.005)


def main(arguments: list[str] | None = None) -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(description="Open the sample pair and segment it, in a real window.")
    parser.add_argument("--screenshots", type=Path, help="write pictures into this folder and end")
    parser.add_argument("--model", type=Path, help="folder of the model to use instead of the one that was used last")
    options = parser.parse_args(arguments)
    import napari

    viewer = napari.Viewer(title="Multiphase demo")
    viewer.window.resize(*SIZE)
    demo = Demo(viewer, model=options.model)
    demo.open_sample()
    if options.screenshots:
        demo.picture(options.screenshots / "1-study.png")
    demo.segment()
    if options.screenshots:
        demo.picture(options.screenshots / "2-segmented.png")
        print(f"No display was found or pictures were asked for: they are in {options.screenshots}.")
        viewer.close()
        return 0
    napari.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
