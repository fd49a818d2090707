"""Translate in one piece and in tiles: peak memory, time, and how far the images lie apart.

    python benchmarks/translate.py                     # 300 x 512 x 512, a generator with instance normalisation
    python benchmarks/translate.py --quick             # a small crop; nothing is written

A csgan model of random weights (4, 8, 16 channels, its last layer enlarged so that all intensities occur) translates
the sample's arterial phantom, refined to 300 x 512 x 512 voxels of 1 x 0.75 x 0.75 mm; the network works at 1.5 mm.
Every run is a process of its own. Writes ``benchmarks/results/translate.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
SAMPLE = Path(__file__).parents[1] / "sample_data" / "arterial.nii.gz"
FULL, QUICK = (300, 512, 512), (64, 160, 160)
SPACING_MM = (1.0, 0.75, 0.75)
WIDTHS = [4, 8, 16]
SCALE_LAST = 60
MEMORY_GB = {"in one piece": 1000.0, "in tiles": 1.0}
QUICK_GB = 0.03


def write_model(folder: Path) -> None:
    """A csgan model folder of random weights."""
    import torch

    from napari_multiphase.config import method_config
    from napari_multiphase.io.models import write_model
    from napari_multiphase.methods import method

    config = {"segmentor": {"widths": [2, 4]}, "generator": {"widths": WIDTHS}}
    torch.manual_seed(0)
    nets: Any = method("csgan").nets(method_config("csgan", config), 2)
    nets["to_venous"].last.weight.data *= SCALE_LAST
    card = {
        "name": "random csgan",
        "method": "csgan",
        "config": config,
        "labels": [0, 1],
        "phases": ["arterial", "venous"],
        "window_hu": [-200, 400],
        "spacing_mm": [1.5, 1.5, 1.5],
        "tile_vox": [64, 96, 96],
        "overlap": 0.25,
        "summary": "Random weights, for a benchmark.",
        "training_data": "none",
        "phantoms_only": True,
        "licence": "BSD-3-Clause",
    }
    write_model(folder, card, {name: value.numpy() for name, value in nets.state_dict().items()})


def write_scan(path: Path, shape: tuple[int, int, int]) -> None:
    """The sample's arterial scan, refined to `shape`."""
    from napari_multiphase.imaging.resample import resample
    from napari_multiphase.io.images import read_image
    from napari_multiphase.volume import Grid

    volume = read_image(SAMPLE)
    d, h, w = (e / n for e, n in zip(volume.grid.extent_mm, shape, strict=True))
    near = [o + (new - s) / 2 for o, new, s in zip(volume.grid.origin_mm, (d, h, w), volume.spacing_mm, strict=True)]
    fine = resample(volume.data, volume.grid, Grid(shape, (d, h, w), (near[0], near[1], near[2])))
    noise = np.random.default_rng(0).normal(0, 12, shape[1:])
    np.save(path, (fine + noise).astype(np.int16))


def run_one(folder: Path, memory_gb: float, out: Path) -> None:
    """In a process of its own: translate, write the image and the report."""
    from napari_multiphase.config import TranslateOptions
    from napari_multiphase.inference.translate import translate
    from napari_multiphase.io.models import read_model
    from napari_multiphase.study import Study
    from napari_multiphase.volume import Phase, Volume

    study = Study("benchmark", {Phase.ARTERIAL: Volume.from_array(np.load(folder / "scan.npy"), SPACING_MM)})
    options = TranslateOptions(device="cpu", memory_gb=memory_gb)
    made = translate(study, read_model(folder / "model"), Phase.VENOUS, options, scratch=out)
    (out / "report.json").write_text(json.dumps(made.report))


def main() -> None:
    """Both ways, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small crop; nothing is written")
    parser.add_argument("--run", nargs=3, metavar=("FOLDER", "GB", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        run_one(Path(args.run[0]), float(args.run[1]), Path(args.run[2]))
        return
    shape, rows, images = QUICK if args.quick else FULL, {}, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model")
        write_scan(folder / "scan.npy", shape)
        for index, (words, memory_gb) in enumerate(MEMORY_GB.items()):
            gb = QUICK_GB if args.quick and index else memory_gb
            out = folder / str(index)
            subprocess.run([sys.executable, __file__, "--run", folder, str(gb), out], check=True)
            report = json.loads((out / "report.json").read_text())
            plan = report["plan"]
            rows[words] = {
                "tiles": plan["tiles"],
                "tile_vox": plan["tile_vox"],
                "seen_vox": plan["seen_vox"],
                "statistics_passes": report["statistics_passes"],
                "peak_memory_mb": report["peak_memory_mb"],
                "planned_memory_mb": plan["ram_mb"],
                "seconds": report["seconds"]["total"],
                "planned_seconds": plan["seconds"],
            }
            print(words, json.dumps(rows[words]), flush=True)
            images.append(np.load(out / "synthetic venous_hu.npy", mmap_mode="r"))
        apart = [int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in zip(*images, strict=True)]
        result = {"shape": shape, "device": report["device"], "runs": rows, "largest_difference_hu": max(apart)}
        del images
    print(f"largest difference {max(apart)} HU")
    if not args.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "translate.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
