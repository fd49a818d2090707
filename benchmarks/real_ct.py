"""What the default model does on real scans: phases found, time, memory, volumes, and Dice where a reference exists.

    python benchmarks/real_ct.py [--data FOLDER] [--model NAME] [--fast] [--pictures FOLDER]

FOLDER holds the public scans of docs/real_ct.md (default: MULTIPHASE_REAL_DATA, or shared/data beside the
checkout). The one reference is another program's label map, not an expert's; of a model that learnt from it no Dice is
taken. Where the aorta is full of contrast medium, its blood is a reference too: what is brighter than halfway to soft
tissue. Each study is its own process, so that its peak memory is its own. With --fast it is segmented as `segment
--fast` does, in one size. Writes benchmarks/results/real_ct-<model>.json (with --fast: -fast.json), and with --pictures
a PNG per label map: outlines on an axial slice through the liver and on coronal slices through liver and kidneys.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from napari_multiphase.study import Study

RESULTS = Path(__file__).parent / "results"
HERE = Path(__file__).parents[1]
DATA = Path(os.environ.get("MULTIPHASE_REAL_DATA", HERE.parent / "shared/data"))
"""The public scans of docs/real_ct.md."""

REFERENCE_STUDY = "totalsegmentator_example"
"""The scan with a reference; its map has the same name among the maps that a model may have learnt from."""
STUDIES = {
    "hcc_015": "hcc_015_dicom.zip",
    "hcc_002": "hcc_002_dicom.zip",
    REFERENCE_STUDY: "totalsegmentator_example/totalseg_example_ct.nii.gz",
    "dicom_jpeg2000": "totalsegmentator_example/dicom_jpeg2000",
    "ge_head_tilt": "ge_head_tilt_dicom.zip",
}
REFERENCE = "totalsegmentator_example/totalseg_example_seg_fast_force_split.nii.gz"
REFERENCE_IDS = {
    "liver": (5,),
    "spleen": (1,),
    "right kidney": (2,),
    "left kidney": (3,),
    "aorta": (52,),
    "pancreas": (7,),
    "stomach": (6,),
    "gallbladder": (4,),
    "inferior vena cava": (63,),
    "portal and splenic vein": (64,),
    "right adrenal": (8,),
    "left adrenal": (9,),
    "duodenum": (19,),
    "small bowel": (18,),
    "colon": (20,),
}
PLAUSIBLE_ML = {"liver": (800, 2500), "spleen": (80, 600), "right kidney": (90, 300), "left kidney": (90, 300)}
"""Where the organ lies whole in the scan; a liver with its tumours."""
PANEL_PX = 420
BRIGHT_HU, SOFT_TISSUE_HU = 250.0, 40.0
BRANCH_MM = 4.5
"""Half the width of the widest branch of the aorta: what is narrower is none of it."""


def run_study(name: str, path: Path, model: str | None, out: Path, *, fast: bool) -> dict:
    """One study through the command line; what it wrote, or the sentence it ended with."""
    command = [sys.executable, "-m", "napari_multiphase", "segment", str(path), "--out", str(out)]
    command += (["--model", model] if model else []) + ["--fast"] * fast
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    row = {"study": name, "exit": done.returncode, "wall_seconds": round(time.perf_counter() - began, 1)}
    if done.returncode:
        return row | {"sentence": done.stderr.strip().splitlines()[-1].replace(str(path.parent) + os.sep, "")}
    report = json.loads((out / "report.json").read_text())
    kept = ("transform", "model", "plan", "device", "seconds", "peak_memory_mb", "warnings")
    volumes = {s["name"]: s["group_ml"] for s in report["structures"]}
    phases = {phase: {"format": i["format"], "shape": i["shape"]} for phase, i in report["inputs"].items()}
    return row | {"phases": phases, "group_ml": volumes} | {key: report.get(key) for key in kept}


def reference_dice(data: Path, out: Path) -> dict[str, float]:
    """Dice against the public label map of the one scan that has one."""
    from napari_multiphase.io.images import read_labels
    from napari_multiphase.labels import IDS_BY_NAME, ids_of_group

    reference = np.asarray(read_labels(data / REFERENCE).data)
    files = sorted(out.glob("*_labels.nii.gz"))
    predicted = np.asarray(read_labels(next(f for f in files if not f.name.startswith("fused"))).data)
    scores = {}
    for name, ids in REFERENCE_IDS.items():
        p, g = np.isin(predicted, ids_of_group(IDS_BY_NAME[name])), np.isin(reference, ids)
        scores[name] = round(float(2 * (p & g).sum() / max(p.sum() + g.sum(), 1)), 4)
    return scores


def aorta_dice(study: Study, out: Path) -> float | None:
    """Dice of the arterial aorta against its bright blood; None where that is not bright.

    Blood: HU over the mean of the aorta's (`studies.landmarks` finds it, without a network) and soft tissue's, without
    what is narrower than twice `BRANCH_MM`. Of several such parts (the heart is one) the one that the model's aorta
    lies in.
    """
    import edt

    from napari_multiphase.imaging.components import components
    from napari_multiphase.io.images import read_labels
    from napari_multiphase.labels import IDS_BY_NAME
    from napari_multiphase.metrics.overlap import Overlap
    from napari_multiphase.studies.landmarks import find_landmarks
    from napari_multiphase.volume import Phase

    volume = study.volumes.get(Phase.ARTERIAL)
    hu = None if volume is None else find_landmarks(volume).aorta_hu
    if volume is None or hu is None or hu < BRIGHT_HU:
        return None
    found = np.asarray(read_labels(out / "arterial_labels.nii.gz").data) == IDS_BY_NAME["aorta"]
    smooth = ndimage.gaussian_filter(np.asarray(volume.data, np.float32), (0, 0.7, 0.7))
    bright = smooth > (hu + SOFT_TISSUE_HU) / 2
    core, count = components(edt.edt(bright, anisotropy=volume.spacing_mm) > BRANCH_MM, 6)
    inside = np.bincount(core[found], minlength=count + 1)
    inside[0] = 0
    if not inside.any():
        return 0.0
    reach = BRANCH_MM + min(volume.spacing_mm)
    blood = bright & (edt.edt(core != inside.argmax(), anisotropy=volume.spacing_mm) <= reach)
    return round(Overlap.of(found, blood).dice, 3)


def training_data(model: str | None) -> str:
    """What the model's card says it learnt from; names the maps."""
    from napari_multiphase.io.models import find_model

    return find_model(model).card.training_data


def phase_agreement(study: Study, out: Path, aligned: dict | None) -> dict[str, dict[str, float]]:
    """Dice between the arterial labels, carried onto the venous grid, and the venous ones.

    "rigid" : carried as `segment` `aligned` the phases; "deformed" : by `register`, each organ its own way, which looks
    at the images alone.
    """
    from napari_multiphase.imaging.resample import resample
    from napari_multiphase.io.images import read_labels
    from napari_multiphase.labels import STRUCTURES
    from napari_multiphase.metrics.overlap import Overlap
    from napari_multiphase.registration.register import register
    from napari_multiphase.study import PhaseTransform
    from napari_multiphase.volume import Phase

    if not aligned or not (out / "arterial_labels.nii.gz").exists():
        return {}
    arterial, venous = (read_labels(out / f"{phase}_labels.nii.gz") for phase in Phase)
    scans = (study.volumes[Phase.VENOUS], study.volumes[Phase.ARTERIAL])
    ways = {"rigid": PhaseTransform.from_dict(aligned), "deformed": register(*scans)}
    v, found = np.asarray(venous.data), {}
    for way, transform in ways.items():
        a = resample(arterial.data, arterial.grid, venous.grid, 0, transform.into(Phase.ARTERIAL), background=0)
        found[way] = {
            STRUCTURES[i].name: round(Overlap.of(a == i, v == i).dice, 3)
            for i in range(1, 10)
            if (a == i).any() or (v == i).any()
        }
    return found


def plausibility(out: Path) -> dict[str, dict]:
    """Per label map: organs cut by the scan's first or last slice, volumes out of range, sides swapped."""
    from napari_multiphase.io.images import read_labels
    from napari_multiphase.labels import IDS_BY_NAME, ids_of_group

    rows = {}
    for file in sorted(out.glob("*_labels.nii.gz")):
        volume = read_labels(file)
        labels, row = np.asarray(volume.data), {"ml": {}, "cut": [], "out_of_range": []}
        middle = {}
        for name, (least, most) in PLAUSIBLE_ML.items():
            mask = np.isin(labels, ids_of_group(IDS_BY_NAME[name]))
            ml = float(mask.sum()) * volume.grid.voxel_ml
            row["ml"][name] = round(ml, 1)
            if mask[0].any() or mask[-1].any():
                row["cut"].append(name)
            elif not least <= ml <= most:
                row["out_of_range"].append(name)
            middle[name] = float(np.average(np.arange(mask.shape[2]), weights=mask.sum((0, 1)))) if ml else None
        sides = [("liver", "spleen"), ("right kidney", "left kidney")]
        known = [(middle[r], middle[f]) for r, f in sides if middle[r] is not None and middle[f] is not None]
        row["sides_swapped"] = any(right >= left for right, left in known)  # index x grows towards the left
        rows[file.name.removesuffix("_labels.nii.gz")] = row
    return rows


def pictures(study: Study, out: Path, folder: Path) -> None:
    """Outlines of each phase's labels: the axial slice with most of the liver, coronal ones of liver and kidneys."""
    from napari_multiphase.imaging.picture import outlined, palette
    from napari_multiphase.io.images import read_labels
    from napari_multiphase.io.png import png_of_palette
    from napari_multiphase.labels import IDS_BY_NAME

    for phase, volume in study.volumes.items():
        hu, ids = np.asarray(volume.data), np.asarray(read_labels(out / f"{phase}_labels.nii.gz").data)
        dz, dy, dx = volume.spacing_mm
        liver, right, left = (ids == IDS_BY_NAME[name] for name in ("liver", "right kidney", "left kidney"))
        z, y, k = (
            int(np.argmax(mask.sum(axes))) for mask, axes in ((liver, (1, 2)), (liver, (0, 2)), (right | left, (0, 2)))
        )
        panels = [(hu[z], ids[z], (dy, dx)), *((hu[::-1, at], ids[::-1, at], (dz, dx)) for at in (y, k))]
        drawn = [outlined(h, i, mm, (slice(0, h.shape[0]), slice(0, h.shape[1])), 0, PANEL_PX) for h, i, mm in panels]
        sheet = np.zeros((max(map(len, drawn)), PANEL_PX * len(drawn)), np.uint8)
        for number, panel in enumerate(drawn):
            sheet[: len(panel), PANEL_PX * number : PANEL_PX * (number + 1)] = panel
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{out.name}-{phase}.png").write_bytes(png_of_palette(sheet, palette()))


def main() -> None:
    """Run every study, print a line each, save."""
    from napari_multiphase.studies.open import open_study

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--model", default=None)
    parser.add_argument("--fast", action="store_true", help="As `segment --fast`.")
    parser.add_argument("--keep", type=Path, help="Keep what segment writes in this folder.")
    parser.add_argument("--pictures", type=Path, help="Draw what segment found into this folder.")
    parser.add_argument("--result", type=Path, help="JSON to write, instead of results/real_ct-<model>.json.")
    arguments = parser.parse_args()
    rows, learnt_from = [], training_data(arguments.model)
    with tempfile.TemporaryDirectory() as temporary:
        for name, relative in STUDIES.items():
            out = (arguments.keep or Path(temporary)) / name
            row = run_study(name, arguments.data / relative, arguments.model, out, fast=arguments.fast)
            if row["exit"] == 0 and name == REFERENCE_STUDY and name not in learnt_from:
                row["dice_against_label_map"] = reference_dice(arguments.data, out)
            if row["exit"] == 0:
                study = open_study([arguments.data / relative])
                row["agreement_of_phases"] = phase_agreement(study, out, row["transform"])
                row["aorta_against_its_blood"] = aorta_dice(study, out)
                row["plausibility"] = plausibility(out)
                if arguments.pictures:
                    pictures(study, out, arguments.pictures)
            rows.append(row)
            print(name, row["exit"], row["wall_seconds"], "s", row.get("sentence", ""), flush=True)
            told = ("dice_against_label_map", "agreement_of_phases", "aorta_against_its_blood", "plausibility")
            print("   ", {key: row[key] for key in told if row.get(key)}, flush=True)
    name = next(row["model"]["name"] for row in rows if row["exit"] == 0)
    result = arguments.result or RESULTS / f"real_ct-{name}{'-fast' * arguments.fast}.json"
    result.parent.mkdir(exist_ok=True)
    shown = name if arguments.model is None or Path(arguments.model).is_absolute() else arguments.model
    command = f"python benchmarks/real_ct.py --model {shown}" + " --fast" * arguments.fast
    told = {"command": command, "training_data": learnt_from, "studies": rows}
    result.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
