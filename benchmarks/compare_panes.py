"""How fast the Compare dock follows: from a step of one slice to the last pane drawn, on a real 512 x 512 pair.

    ./tools/with-display.sh python benchmarks/compare_panes.py [--data FOLDER] [--steps 60]

FOLDER holds the public scans of docs/real_ct.md (default: MULTIPHASE_REAL_DATA, or shared/data beside the checkout).
The pair is registered rigidly and segmented first, so that one of the scans is resampled at every step and contours
are drawn. Times are by the clock and in CPU time of the window's thread (what an idle machine would need at most);
composing is the NumPy work alone, with nothing kept from before. Writes benchmarks/results/compare_panes.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

RESULT = Path(__file__).parent / "results" / "compare_panes.json"
HERE = Path(__file__).parents[1]
PAIR = "hcc_015_dicom.zip"
SIZE = (1920, 1080)


def choose(box, key) -> None:  # type: ignore[no-untyped-def]
    """What a click on an entry of a combo box does."""
    box.setCurrentIndex(box.findData(key))
    box.activated.emit(box.currentIndex())


def figures(times_ms: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    return {"median_ms": round(float(np.median(times_ms)), 1), "p95_ms": round(float(np.percentile(times_ms, 95)), 1)}


def stepped(dock, steps: int) -> dict:  # type: ignore[no-untyped-def]
    """Ten slices up and ten down, until `steps`: each from the step to the last pane drawn."""
    from qtpy.QtWidgets import QApplication

    wall, cpu = [], []
    for number in range(steps + 3):
        before = [(pane, pane.draws) for pane in dock.panes.in_use]
        began, began_cpu = time.perf_counter(), time.thread_time()
        dock.comparison.slices.forget()
        dock.comparison.step(dock.comparison.views[0], 1 if number // 10 % 2 == 0 else -1)
        while any(pane.draws == draws for pane, draws in before):
            QApplication.processEvents()
        wall.append(1000 * (time.perf_counter() - began))
        cpu.append(1000 * (time.thread_time() - began_cpu))
    return {"clock": figures(wall[3:]), "cpu": figures(cpu[3:])}


def composed(dock, steps: int) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """CPU time of composing one picture of two images."""
    from napari_multiphase.gui.one_view import mixed

    pane, spent = dock.panes.panes[0], []
    for _ in range(steps):
        dock.comparison.slices.forget()
        began = time.thread_time()
        mixed(dock.comparison, dock.mix, (pane.height(), pane.width()))
        spent.append(1000 * (time.thread_time() - began))
    return figures(spent)


def measure(path: Path, steps: int) -> dict:
    """All figures, in one window."""
    import napari

    from napari_multiphase.gui.demo import Demo
    from napari_multiphase.gui.workbench import bring_forward, open_workbench

    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    demo = Demo(viewer)
    demo.open_pair(path)
    demo.segment()
    dock = open_workbench(viewer)["Compare"]
    bring_forward(dock)
    dock.compare.click()
    demo.rest(1.0)
    shape = demo.session.study.volumes["venous"].shape
    row: dict = {"pair": PAIR, "shape": shape, "window_px": SIZE, "load_before": round(os.getloadavg()[0], 1)}
    for count in (2, 4):
        choose(dock.count, count)
        for orientation, button in dock.orientations.items():
            button.click()
            demo.rest(0.3)
            row[f"{count} panes, {orientation}"] = stepped(dock, steps)
    dock.orientations["axial"].click()
    dock.looks.confidence.click()
    demo.rest(0.3)
    row["4 panes, axial, with confidence"] = stepped(dock, steps)
    dock.looks.confidence.click()
    for mode in ("fade", "swipe", "checkerboard", "flicker"):
        choose(dock.mode, mode)
        demo.rest(0.3)
        row[mode] = {**stepped(dock, steps), "composing_cpu": composed(dock, steps)}
    demo.session.close()
    viewer.close()
    return row


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MULTIPHASE_REAL_DATA", HERE / "shared/data")))
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    if not (options.data / PAIR).is_file():
        raise SystemExit(f"{PAIR} is not in {options.data}: see docs/real_ct.md")
    with tempfile.TemporaryDirectory() as kept:
        os.environ |= {"MULTIPHASE_DATA_DIR": kept, "XDG_CONFIG_HOME": kept}
        row = measure(options.data / PAIR, options.steps)
    RESULT.write_text(json.dumps(row, indent=1) + "\n")
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
