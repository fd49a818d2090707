"""Dice of a model on ten phantoms it never saw, beside a nearest-mean-HU classifier on the same voxels.

    python benchmarks/phantom_dice.py --model pcn-phantom
    python benchmarks/phantom_dice.py --model hpn-phantom --pathologies pancreas
    python benchmarks/phantom_dice.py --model pcn-phantom --registration mind     # -> phantom_dice-<model>-mind.json

Seeds 0 to 9 (training uses 1000 and up), pathologies in turn, 96 x 192 x 192. Lesions (ids 21 to 23) are scored apart.
The reference is reduced to the model's labels, as in training. Dice of a structure is the mean over the cases in which
it is present. Writes benchmarks/results/phantom_dice-<model>.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from scipy import ndimage

from napari_multiphase.config import PhantomConfig, RegisterOptions, Registration, SegmentOptions
from napari_multiphase.imaging.body import body_mask
from napari_multiphase.inference.segment import segment
from napari_multiphase.io.models import find_model
from napari_multiphase.labels import STRUCTURES
from napari_multiphase.phantom import PhantomSpec, make_phantom
from napari_multiphase.phantom.spec import Pathology
from napari_multiphase.registration.register import register
from napari_multiphase.study import Study
from napari_multiphase.training.sources import channel_table
from napari_multiphase.volume import Phase

RESULTS = Path(__file__).parent / "results"
TRAINING = PhantomConfig()
LESIONS = {i for i, s in STRUCTURES.items() if s.kind == "lesion"}


def spec(seed: int, pathologies: Sequence[Pathology]) -> PhantomSpec:
    """The phantom of a seed."""
    return PhantomSpec(seed=seed, pathology=pathologies[seed % len(pathologies)])


def reduced(labels: np.ndarray, wanted: tuple[int, ...]) -> np.ndarray:
    """A full reference in the labels `wanted`: lesions that are not told apart are their organ, the rest background."""
    return np.array(wanted, np.uint8)[channel_table(wanted, frozenset(STRUCTURES))[labels]]


def dice_by_label(prediction: np.ndarray, reference: np.ndarray) -> dict[int, float]:
    """Dice of every label present in `reference`."""
    size = 256
    both = np.bincount(reference.ravel()[prediction.ravel() == reference.ravel()], minlength=size)
    total = np.bincount(prediction.ravel(), minlength=size) + np.bincount(reference.ravel(), minlength=size)
    return {int(i): float(2 * both[i] / total[i]) for i in np.unique(reference) if i}


def mean_hu_table(pathologies: Sequence[Pathology]) -> dict[Phase, tuple[np.ndarray, np.ndarray]]:
    """Labels and their mean HU in each phase, over six training phantoms; 0 is the body's remaining tissue."""
    table = {}
    studies = [make_phantom(spec(TRAINING.first_seed + i, pathologies)) for i in range(6)]
    for phase in Phase:
        values = defaultdict(list)
        for study in studies:
            hu, labels = study.volumes[phase].data, study.labels[phase]
            inside = body_mask(hu, study.volumes[phase].grid)
            for i in np.unique(labels):
                values[int(i)].append(float(hu[(labels == i) & inside].mean()))
        table[phase] = (np.array(list(values), np.uint8), np.array([np.mean(v) for v in values.values()]))
    return table


def nearest_mean_hu(study, phase: Phase, table) -> np.ndarray:
    """Every body voxel gets the label whose mean HU is nearest to its own, smoothed over 3 x 3 x 3 voxels."""
    ids, means = table[phase]
    hu = ndimage.uniform_filter(study.volumes[phase].data.astype(np.float32), 3)
    order = np.argsort(means)
    borders = (means[order][1:] + means[order][:-1]) / 2
    labels = ids[order][np.searchsorted(borders, hu)]
    return np.where(body_mask(study.volumes[phase].data, study.volumes[phase].grid), labels, 0)


def summary(scores: dict[int, list[float]]) -> dict:
    """Mean per structure, over organs, and the lowest organ; lesions apart."""
    per = {STRUCTURES[i].name: round(float(np.mean(v)), 4) for i, v in sorted(scores.items())}
    organs = {i: float(np.mean(v)) for i, v in scores.items() if i not in LESIONS}
    lowest = min(organs, key=lambda i: organs[i])
    lesions = [float(np.mean(v)) for i, v in scores.items() if i in LESIONS]
    return {
        "mean_dice": round(float(np.mean(list(organs.values()))), 4),
        "lowest": [STRUCTURES[lowest].name, round(organs[lowest], 4)],
        "mean_dice_lesions": round(float(np.mean(lesions)), 4) if lesions else None,
        "per_structure": per,
    }


def _command(name: str, kinds: Sequence[str], registration: str) -> str:
    usual = list(kinds) == list(TRAINING.pathologies)
    words = f"python benchmarks/phantom_dice.py --model {name}" + ("" if usual else f" --pathologies {' '.join(kinds)}")
    return words if registration == "rigid" else f"{words} --registration {registration}"


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--pathologies", nargs="+", default=list(TRAINING.pathologies), choices=get_args(Pathology))
    parser.add_argument("--registration", default="rigid", choices=get_args(Registration))
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    model = find_model(arguments.model)
    wanted, kinds = model.card.labels, arguments.pathologies
    options = RegisterOptions(method=arguments.registration)
    table = mean_hu_table(kinds)
    scores: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    seconds = []
    for seed in range(arguments.cases):
        phantom = make_phantom(spec(seed, kinds))
        venous, arterial = phantom.volumes[Phase.VENOUS], phantom.volumes[Phase.ARTERIAL]
        study = Study(f"phantom-{seed}", phantom.volumes, transform=register(venous, arterial, options))
        began = time.perf_counter()
        prediction = segment(study, model, SegmentOptions())
        seconds.append(time.perf_counter() - began)
        truth = {phase: reduced(phantom.labels[phase], wanted) for phase in Phase}
        maps = {phase.value: (prediction.phases[phase].labels, phase) for phase in Phase}
        maps["fused"] = (prediction.fused_labels, Phase.VENOUS)
        for name, (labels, phase) in maps.items():
            for i, dice in dice_by_label(np.asarray(labels), truth[phase]).items():
                scores[name][i].append(dice)
        for phase in Phase:
            guess = reduced(nearest_mean_hu(phantom, phase, table), wanted)
            for i, dice in dice_by_label(guess, truth[phase]).items():
                scores[f"nearest mean HU, {phase.value}"][i].append(dice)
        print(f"seed {seed}: {seconds[-1]:.1f} s", flush=True)
    result = {
        "command": _command(model.card.name, kinds, arguments.registration),
        "model": model.card.name,
        "weights_sha256": model.card.weights_sha256,
        "cases": arguments.cases,
        "transform": f"{arguments.registration}; its time is not in seconds_per_pair",
        "seconds_per_pair": {"median": round(float(np.median(seconds)), 2), "max": round(max(seconds), 2)},
        "scores": {name: summary(values) for name, values in scores.items()},
    }
    kind = "" if arguments.registration == "rigid" else f"-{arguments.registration}"
    out = arguments.out or RESULTS / f"phantom_dice-{model.card.name}{kind}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    for name, values in result["scores"].items():
        print(f"{name}: mean {values['mean_dice']}, lowest {values['lowest']}, lesions {values['mean_dice_lesions']}")


if __name__ == "__main__":
    main()
