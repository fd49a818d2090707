"""How long the Correct dock's tools take: on a 512 x 512 slice and on a 300 x 512 x 512 volume.

    python benchmarks/correct_tools.py [--repeats 5]

The labels are those of a phantom's organs in size and number: ellipsoids, with an unsure shell around each and unsure
places besides. A slice tool is timed on the window's own arrays, as the dock calls it (target 150 ms); a volume tool as
the worker calls it (target 2 s), without passing the labels to it, which is timed by itself. Undo is one tool's, over
the volume. Each by the clock, and in CPU time (what an idle machine with one core needs at most). Writes
benchmarks/results/correct_tools.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from napari_multiphase.events import Cancel, ignore
from napari_multiphase.gui.edits import Edits
from napari_multiphase.imaging import editing
from napari_multiphase.imaging.fusion import encode_confidence
from napari_multiphase.imaging.uncertain import uncertain_regions
from napari_multiphase.jobs.codec import encode
from napari_multiphase.jobs.correcting import take_structure
from napari_multiphase.jobs.server import Context
from napari_multiphase.study import PhaseTransform, Study
from napari_multiphase.volume import Phase, Volume

RESULT = Path(__file__).parent / "results" / "correct_tools.json"
SHAPE, SPACING = (300, 512, 512), (1.5, 0.8, 0.8)
LIVER, SPLEEN = 1, 2
ORGANS = {
    LIVER: ((150, 220, 160), (60, 90, 110)),
    SPLEEN: ((160, 300, 380), (35, 45, 40)),
    3: ((120, 320, 170), (40, 35, 35)),
    4: ((120, 320, 340), (40, 35, 35)),
    5: ((150, 300, 256), (150, 14, 14)),
    6: ((140, 240, 270), (15, 25, 60)),
}


def made() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, encoded confidence, HU."""
    rng = np.random.default_rng(1)
    labels = np.zeros(SHAPE, np.uint8)
    hu = np.tile(rng.normal(40, 12, (30, *SHAPE[1:])).astype(np.int16), (SHAPE[0] // 30, 1, 1))
    sure, unsure = encode_confidence(np.array([600.0, 1.8]))
    confidence = np.full(SHAPE, sure, np.uint8)
    for label, (centre, radii) in ORGANS.items():
        box = tuple(slice(max(0, c - r - 3), c + r + 4) for c, r in zip(centre, radii, strict=True))
        axes = [
            ((np.arange(n, dtype=np.float32)[part] - c) / r) ** 2
            for n, part, c, r in zip(SHAPE, box, centre, radii, strict=True)
        ]
        apart = np.sqrt(axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :])
        confidence[box][np.abs(apart - 1) * min(radii) < 1.2] = unsure
        labels[box][apart <= 1] = label
        hu[box][apart <= 1] += 70
    for _ in range(150):
        z, y, x = (int(v) for v in rng.integers((60, 140, 100), (240, 380, 420)))
        confidence[z : z + 5, y : y + 12, x : x + 12] = unsure
        labels[z : z + 2, y : y + 2, x : x + 2] = LIVER
    return labels, confidence, hu


def timed(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Median of the clock and of CPU time in ms, and the slowest."""
    wall, cpu = [], []
    for _ in range(repeats):
        began, began_cpu = time.perf_counter(), time.process_time()
        work()
        wall.append(1000 * (time.perf_counter() - began))
        cpu.append(1000 * (time.process_time() - began_cpu))
    return {
        "median_ms": round(statistics.median(wall), 1), "slowest_ms": round(max(wall), 1),
        "cpu_median_ms": round(statistics.median(cpu), 1),
    }  # fmt: skip


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    labels, confidence, hu = made()
    plane = (slice(150, 151), slice(0, 512), slice(0, 512))
    seed, voxel_ml = (150, 220, 160), float(np.prod(SPACING)) / 1000
    stroke = [(150, 220, x) for x in range(120, 136, 4)]
    over = [2, 3, 4, 5, 6]
    low, high = editing.learn_range(hu, seed, SPACING, axis=0)
    edits, shrunk = Edits(labels), editing.grow(labels, LIVER, -4.0, SPACING)
    half = labels.copy()
    half[np.arange(SHAPE[0]) % 4 != 0] = 0
    row: dict = {"shape": SHAPE, "spacing_mm": SPACING, "load_before": os.getloadavg(), "repeats": repeats}
    in_slice: dict[str, Callable[[], object]] = {
        "HU brush, one move of 16 voxels, radius 6 mm": lambda: editing.brush(
            labels, hu, stroke, 6.0, SPACING, 6, range_hu=(80, 160), axis=0, connected=True, over=over
        ),
        "grow from here, within 100 mm": lambda: editing.grow_from(
            labels, hu, seed, SPACING, LIVER, editing.learn_range(hu, seed, SPACING, axis=0), most_mm=100, axis=0
        ),
        "grow 4 mm": lambda: editing.grow(labels, LIVER, 4.0, SPACING, within=plane),
        "shrink 4 mm": lambda: editing.grow(labels, LIVER, -4.0, SPACING, within=plane),
        "smooth 2 mm": lambda: editing.smooth(labels, LIVER, 2.0, SPACING, within=plane),
        "keep largest": lambda: editing.keep_largest(labels, LIVER, within=plane),
        "remove islands": lambda: editing.remove_small(labels, LIVER, 0.5, voxel_ml, within=plane),
    }
    row["slice"] = {name: timed(work, repeats) for name, work in in_slice.items()}

    venous = Volume.from_array(hu, SPACING)
    transform = PhaseTransform(np.array([[1, 0, 0, 5.0], [0, 1, 0, -3], [0, 0, 1, 4], [0, 0, 0, 1.0]]), "rigid")
    study = Study("bench", dict.fromkeys(Phase, venous), transform=transform)
    with tempfile.TemporaryDirectory() as scratch:
        context = Context(ignore, Cancel(), Path(scratch))
        in_volume: dict[str, Callable[[], object]] = {
            "uncertain regions": lambda: uncertain_regions(labels, confidence, SPACING),
            "fill between, every fourth slice": lambda: editing.fill_between(half, LIVER, SPACING),
            "grow from here, within 30 mm (in the window)": lambda: editing.grow_from(
                labels, hu, seed, SPACING, LIVER, (low, high), most_mm=30
            ),
            "grow 4 mm": lambda: editing.grow(labels, LIVER, 4.0, SPACING),
            "shrink 4 mm": lambda: editing.grow(labels, LIVER, -4.0, SPACING),
            "smooth 2 mm": lambda: editing.smooth(labels, LIVER, 2.0, SPACING),
            "keep largest": lambda: editing.keep_largest(labels, LIVER),
            "remove islands": lambda: editing.remove_small(labels, LIVER, 0.5, voxel_ml),
            "take from another prediction": lambda: editing.take(labels, half, LIVER),
            "take from the other phase": lambda: take_structure(
                context, study, Phase.VENOUS, labels, LIVER, half, Phase.ARTERIAL
            ),
            "passing the labels to the worker": lambda: encode(labels, _store(Path(scratch))),
            "apply and undo of shrink 4 mm (in the window)": lambda: _undone(edits, shrunk),
        }
        row["volume"] = {name: timed(work, repeats) for name, work in in_volume.items()}
    row["load_after"] = os.getloadavg()
    RESULT.write_text(json.dumps(row, indent=1) + "\n")
    print(json.dumps(row, indent=1))


def _store(folder: Path):  # type: ignore[no-untyped-def]
    from napari_multiphase.jobs.leases import Store

    return Store(folder, folder, "bench")


def _undone(edits: Edits, change: editing.Change) -> None:
    assert change is not None
    edits.apply(*change, "shrink")
    edits.undo()


if __name__ == "__main__":
    main()
