"""What a few corrections are worth: three cases corrected in part, the bundled model fine-tuned on them.

    python benchmarks/fine_tune.py --work /tmp/fine-tune            # -> results/fine_tune.json and .md
    python benchmarks/fine_tune.py --work /tmp/fine-tune --seed 1   # a second draw of patients, beside the first

Phantoms as the bundled model never saw them: no contrast medium, a fatty liver (60 HU darker), noise of 60 HU, voxels
of 4 x 1.7 x 1.7 mm; the venous scans alone. In three cases a person corrects what the model predicts: the true label
put in, region by region in the order of the confidence list (`imaging.uncertain`), until 10 % of the wrong voxels are
right (or the list ends). The cases are written as `multiphase cases` writes them, the run is what `multiphase plan
--from` proposes, trained on one CPU thread. Beside it, each held as its own case list says: as many regions of that
list, drawn at random ("drawn"); the same in random order, until as much is right ("shuffled"); as much looking anywhere
(the same regions laid over voxels in or near organs, drawn at random, until as many voxels were looked at); as many
corrections at wrong places (the same regions, each laid over a wrong voxel that is drawn at random, as nobody could who
does not know what is wrong: "random"); the same cases with no correction (the model learns from what it is sure of);
and, at the other end, 20 complete cases trained with the same settings. Judged on six cases that nobody learned from.
The recipe was chosen on other seeds (2000 to 2300) than those here (from 4000).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from scipy import ndimage

from napari_multiphase.config import RunConfig, SegmentOptions
from napari_multiphase.events import Event
from napari_multiphase.imaging.training_labels import training_labels
from napari_multiphase.imaging.uncertain import uncertain_regions
from napari_multiphase.inference.segment import segment
from napari_multiphase.io.images import read_image, write_on_source
from napari_multiphase.io.models import find_model, read_model
from napari_multiphase.labels import STRUCTURES, name_of
from napari_multiphase.model import Model
from napari_multiphase.phantom import PhantomSpec, make_phantom
from napari_multiphase.phantom.kinetics import TISSUES
from napari_multiphase.studies.annotation import Annotation
from napari_multiphase.studies.corrections import write_cases
from napari_multiphase.studies.predictions import keep_prediction
from napari_multiphase.studies.workspace import Workspace
from napari_multiphase.study import Prediction, Study
from napari_multiphase.training.plan import plan_training
from napari_multiphase.training.train import train
from napari_multiphase.volume import Phase, Volume

RESULTS = Path(__file__).parent / "results"
MODEL = "pcn-phantom"
SHAPE, SPACING_MM, NOISE_HU = (48, 176, 176), (4.0, 1.7, 1.7), 60.0
FATTY_LIVER_HU = -60.0
ENHANCING = {
    1: "liver", 2: "spleen", 3: "renal_cortex", 4: "renal_cortex", 5: "aorta", 6: "pancreas", 7: "stomach_wall",
    8: "gallbladder", 9: "cava", 10: "portal", 11: "aorta", 12: "adrenal", 13: "adrenal", 14: "oesophagus",
    15: "gut_wall", 16: "gut_wall", 17: "gut_wall", 18: "marrow", 20: "myocardium", 21: "metastasis",
    22: "pancreatic_mass", 23: "duct",
}  # fmt: skip
"""Whose mean venous enhancement is taken away from each structure."""
LESIONS = {i for i, s in STRUCTURES.items() if s.kind == "lesion"}
CORRECTED, COMPLETE, UNSEEN = 3, 20, 6
SHARE = 0.1
"""Of the wrong voxels, those that are corrected."""
BY_HAND = ("corrected", "drawn", "shuffled", "anywhere", "random")
RUNS = ("corrected", "complete", "drawn", "shuffled", "anywhere", "random", "uncorrected")


# --- cases -------------------------------------------------------------------------------------------------------


def hand_seeds(draw: int) -> list[int]:
    """Of the cases that a person corrects; a draw's others follow within its hundred."""
    return [4000 + 100 * draw + i for i in range(CORRECTED)]


def scan(seed: int, folder: Path) -> tuple[Volume, np.ndarray]:
    """The venous scan of a phantom without contrast medium, read from its file, and its labels."""
    path = folder / f"{seed}.nii.gz"
    pathology = ("none", "liver", "pancreas")[seed % 3]
    made = make_phantom(PhantomSpec(SHAPE, SPACING_MM, seed, pathology, 0.0, NOISE_HU))
    labels, volume = made.labels[Phase.VENOUS], made.volumes[Phase.VENOUS]
    if not path.exists():
        change = np.zeros(256, np.float32)
        for label, tissue in ENHANCING.items():
            change[label] = -TISSUES[tissue].venous
        change[1] += FATTY_LIVER_HU
        hu = volume.data + ndimage.gaussian_filter(change[labels], (0.3, 0.8, 0.8))  # partial volume at the surfaces
        folder.mkdir(parents=True, exist_ok=True)
        write_on_source(path, np.clip(np.rint(hu), -1024, 3071).astype(np.int16), volume, kind="image")
    return read_image(path), labels


def predicted(study: Study, model: Model) -> Prediction:
    """What Segment gives."""
    return segment(study, model, SegmentOptions(device="cpu"))


def corrected(
    prediction: Prediction, truth: np.ndarray, volume: Volume, how: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, dict]:
    """Labels with the true ones put in, what was reviewed, and what that took.

    `how` : "corrected", regions in the list's order; "drawn", as many of them at random; "shuffled", in random order
        until as much is right; else the regions of the list's order, each laid over a voxel that is drawn: "random", a
        wrong one, until as many wrong ones are right as the list led to; "anywhere", one at most three voxels from a
        labelled one, until as many were looked at.
    """
    found = prediction.phases[Phase.VENOUS]
    labels, reviewed = np.array(found.labels), np.zeros(truth.shape, bool)
    wrong = labels != truth
    regions = uncertain_regions(labels, np.asarray(found.confidence), volume.spacing_mm)
    if how == "shuffled":
        rng.shuffle(regions)
    taken, structures = 0, set()
    while taken < len(regions) and np.count_nonzero(wrong & reviewed) < SHARE * np.count_nonzero(wrong):
        region = regions[taken]
        reviewed[region.box] |= region.mask
        structures.add(region.structure)
        taken += 1
    if how == "drawn":
        some = [regions[int(n)] for n in rng.choice(len(regions), taken, replace=False)]
        reviewed[:], structures = False, {region.structure for region in some}
        for region in some:
            reviewed[region.box] |= region.mask
    if how in ("random", "anywhere"):
        there = wrong if how == "random" else ndimage.binary_dilation(labels > 0, iterations=3)
        counts = wrong if how == "random" else np.ones_like(wrong)
        goal, listed_regions, taken, structures = np.count_nonzero(counts & reviewed), regions[:taken], 0, set()
        reviewed[:] = False
        while np.count_nonzero(counts & reviewed) < goal:
            left = there & ~reviewed
            z, y, x = np.argwhere(left)[rng.integers(np.count_nonzero(left))]
            mask = listed_regions[taken % len(listed_regions)].mask
            at = np.argwhere(mask) - np.array(mask.shape) // 2 + (z, y, x)
            at = at[((at >= 0) & (at < truth.shape)).all(1)]
            reviewed[tuple(at.T)] = True
            reviewed[z, y, x] = True
            taken += 1
    labels[reviewed] = truth[reviewed]
    changed = wrong & reviewed
    touched = np.union1d(truth[changed], np.asarray(found.labels)[changed])
    took = {
        "regions_in_list": len(regions),
        "regions_corrected": taken,
        "voxels_reviewed": int(reviewed.sum()),
        "voxels_wrong": int(wrong.sum()),
        "voxels_corrected": int(changed.sum()),
        "regions_concern": sorted(structures - {0}),
        "labels_changed": {int(i): int(((truth == i) & changed).sum()) for i in touched},
    }
    return labels, reviewed, took


def correct_by_hand(work: Path, seeds: list[int], model: Model, how: str) -> tuple[Path, list[dict]]:
    """Three studies opened, segmented, corrected and written as cases, as a person would; (case list, what it took)."""
    folder, workspaces, took = work / how, [], []
    for seed in seeds:
        volume, truth = scan(seed, work / "scans")
        study = Study(f"{seed:06x}", {Phase.VENOUS: volume})
        workspace = Workspace.create(folder / "studies" / f"study-{seed}", study)
        prediction = predicted(study, model)
        keep_prediction(workspace, study, prediction)
        labels, reviewed, figures = corrected(prediction, truth, volume, how, np.random.default_rng(seed))
        file = workspace.annotation_file(Phase.VENOUS)
        file.parent.mkdir(parents=True, exist_ok=True)
        before = np.array(prediction.phases[Phase.VENOUS].labels)
        with Annotation.create(file, before, volume.grid, model=MODEL) as annotation:
            annotation.save(labels, reviewed)
        workspace.set_annotation(Phase.VENOUS, file)
        workspaces.append(workspace)
        took.append(figures)
    return write_cases(workspaces, folder / "cases"), took


def listed(work: Path, name: str, labels_of: Callable[[int], tuple[Volume, np.ndarray]], seeds: list[int]) -> Path:
    """A case list of cases whose labels are `labels_of` a seed and count everywhere (255 apart)."""
    folder, entries = work / name / "cases", []
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        volume, labels = labels_of(seed)
        path = folder / f"{seed}_labels.nii.gz"
        write_on_source(path, labels, volume, kind="labels")
        entries.append({"id": f"case-{seed}", "venous": {"image": str(volume.source.path), "labels": str(path)}})
    text = yaml.safe_dump({"annotated": [s.name for s in STRUCTURES.values()], "cases": entries}, sort_keys=False)
    (folder / "cases.yaml").write_text(text, encoding="utf-8")
    return folder / "cases.yaml"


# --- learning and judging ----------------------------------------------------------------------------------------


def tuned(work: Path, name: str, cases: Path, recipe: dict | None, steps: int | None) -> tuple[Model, dict]:
    """The model that `multiphase plan --from` and `train` make of a case list, and what it took.

    `recipe` : the settings of another run, for lists that are no corrections; what is held is the list's own.
    """
    planned = plan_training(cases, "pcn", start_from=MODEL, memory_gb=8).run
    settings = {**(recipe or planned.method_config), "held": list(planned.method_config.get("held", ()))}
    if steps is not None:
        settings["phase_steps"] = steps
    # Whoever can judge last is held out: the last of the list; nobody where three are corrected.
    fold = {"folds": 200, "fold": 0, "every": 100_000}
    change = {"name": f"{MODEL}-{name}", "method_config": settings, "threads": 1, "device": "cpu", "validation": fold}
    run = RunConfig.model_validate({**planned.model_dump(), **change})
    folder, note = work / name / "run", work / name / "run.json"
    if note.exists() and json.loads(note.read_text())["method_config"] != settings:
        raise SystemExit(f"{work / name} was trained with other settings: give another --work, or remove it")
    if not note.exists():
        cpu, wall = time.process_time(), time.perf_counter()
        train(run, folder, processes=1, on_event=_say)
        took = {"cpu_seconds": round(time.process_time() - cpu), "seconds": round(time.perf_counter() - wall)}
        note.write_text(json.dumps(took | {"steps": settings["phase_steps"], "method_config": settings}))
    return read_model(folder / "model"), json.loads(note.read_text())


def _say(event: Event) -> None:
    if event.kind in ("warning", "metric", "failed"):
        print(f"   {event.message}", flush=True)


def dice(model: Model, work: Path, name: str, seeds: list[int]) -> dict[int, float]:
    """Mean Dice of each structure over the cases that have it, through Segment, on the scans' own grids; kept."""
    kept = work / name / "dice.json"
    if kept.exists():
        return json.loads(kept.read_text(), object_hook=_numbers)
    scores: dict[int, list[float]] = {}
    for seed in seeds:
        volume, truth = scan(seed, work / "scans")
        found = np.asarray(predicted(Study(f"{seed:06x}", {Phase.VENOUS: volume}), model).phases[Phase.VENOUS].labels)
        both = np.bincount(truth[truth == found], minlength=256)
        sizes = np.bincount(truth.ravel(), minlength=256) + np.bincount(found.ravel(), minlength=256)
        for label in np.unique(truth[truth > 0]):
            scores.setdefault(int(label), []).append(2 * both[label] / sizes[label])
    means = {label: float(np.mean(values)) for label, values in sorted(scores.items())}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(means))
    return means


def organs(scores: dict[int, float]) -> float:
    """The mean over structures, lesions apart."""
    return float(np.mean([value for label, value in scores.items() if label not in LESIONS]))


# --- the whole ---------------------------------------------------------------------------------------------------


def experiment(work: Path, seed: int, steps: int | None, runs: list[str]) -> dict:
    """All figures of one draw of patients."""
    hand, model = hand_seeds(seed), find_model(MODEL)
    first = hand[0]
    whole = [first + 10 + i for i in range(COMPLETE + 1)]
    unseen = [first + 40 + i for i in range(UNSEEN)]
    result: dict = {"seed": seed, "cases": {"corrected": hand, "complete": whole[:-1], "unseen": unseen}, "runs": {}}
    scores = {"before": dice(model, work, "before", unseen)}
    print(f"before: {organs(scores['before']):.4f}", flush=True)

    def sure(at: int) -> tuple[Volume, np.ndarray]:
        volume, truth = scan(at, work / "scans")
        if at == whole[-1]:  # somebody must be held out: a complete case, which no run learns from
            return volume, truth
        found = predicted(Study(f"{at:06x}", {Phase.VENOUS: volume}), model).phases[Phase.VENOUS]
        nobody = np.zeros(truth.shape, bool)
        return volume, training_labels(np.asarray(found.labels), nobody, (), np.asarray(found.confidence))

    if runs[0] != "corrected":
        raise SystemExit("--runs begins with corrected: its settings are those of all others")
    recipe = None
    for name in runs:
        if name in BY_HAND:
            kept = work / name / "took.json"
            if not kept.exists():
                _, took = correct_by_hand(work, hand, model, name)
                kept.write_text(json.dumps(took))
            cases, took = work / name / "cases" / "cases.yaml", json.loads(kept.read_text())
        else:
            labels_of = sure if name == "uncorrected" else lambda at: scan(at, work / "scans")
            cases, took = listed(work, name, labels_of, [*hand, whole[-1]] if name == "uncorrected" else whole), []
        tuned_model, effort = tuned(work, name, cases, recipe, steps)
        recipe = recipe or effort["method_config"]
        scores[name] = dice(tuned_model, work, name, unseen)
        result["runs"][name] = {**{k: v for k, v in effort.items() if k != "method_config"}, "corrections": took}
        result["runs"][name]["held"] = [name_of(label) for label in effort["method_config"]["held"]]
        print(f"{name}: {organs(scores[name]):.4f} ({effort['cpu_seconds']} s of CPU)", flush=True)
    result["dice"] = {name: {"mean": organs(s), "per_structure": s} for name, s in scores.items()}
    result["recipe"] = recipe
    return result


def summary(result: dict) -> dict:
    """The figures asked for: the share of the distance, and the losses of what nobody touched."""
    means = {name: value["mean"] for name, value in result["dice"].items()}
    way = means["complete"] - means["before"] if "complete" in means else 0.0
    share = {name: round((mean - means["before"]) / way, 3) for name, mean in means.items() if name != "before" and way}
    before, after = (result["dice"][n]["per_structure"] for n in ("before", "corrected"))
    concern = {i for took in result["runs"]["corrected"]["corrections"] for i in took["regions_concern"]}
    change = {label: round(after[label] - value, 4) for label, value in before.items()}
    untouched = {label: change[label] for label in change if label not in concern}
    return {
        "mean_dice": {name: round(mean, 4) for name, mean in means.items()},
        "share_of_distance": share,
        "no_region_concerns": {name_of(label): value for label, value in untouched.items()},
        "lowest_change": min(((v, name_of(i)) for i, v in change.items()), default=None),
    }


def readable(results: list[dict]) -> str:
    """The same for a person."""
    lines = ["# Fine-tuning on a few corrections", "", __doc__.split("\n\n", 2)[2].strip(), ""]
    for result in results:
        told = summary(result)
        lines += [
            f"## Draw {result['seed']}",
            "",
            "| | Dice, lesions apart | share of the way | CPU s |",
            "|---|---|---|---|",
        ]
        for name, mean in told["mean_dice"].items():
            cpu = result["runs"].get(name, {}).get("cpu_seconds", "")
            lines.append(f"| {name} | {mean:.4f} | {told['share_of_distance'].get(name, '')} | {cpu} |")
        names = list(result["dice"])
        lines += ["", f"| structure | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for label in result["dice"]["before"]["per_structure"]:
            row = " | ".join(f"{result['dice'][name]['per_structure'][int(label)]:.3f}" for name in names)
            lines.append(f"| {name_of(int(label))} | {row} |")
        for name in BY_HAND:
            for took in result["runs"].get(name, {}).get("corrections", []):
                lines.append("")
                lines.append(
                    f"{name}: {took['regions_corrected']} of {took['regions_in_list']} regions, "
                    f"{took['voxels_reviewed']} voxels looked at, {took['voxels_corrected']} of "
                    f"{took['voxels_wrong']} wrong ones put right."
                )
        for name, run in result["runs"].items():
            lines += ["", f"{name}: held {', '.join(run['held'])}."] if run.get("held") else []
        lines += ["", f"Structures that no corrected region concerns: {told['no_region_concerns'] or 'none'}.", ""]
        lines += [f"Largest loss of any structure: {told['lowest_change']}.", ""]
    return "\n".join(lines)


def main() -> None:
    """Run, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for scans, cases and runs; what is there is used"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=None, help="instead of the plan's")
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=RUNS)
    parser.add_argument("--out", type=Path, default=RESULTS / "fine_tune.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = experiment(arguments.work / f"{arguments.seed}", arguments.seed, arguments.steps, arguments.runs)
    result = json.loads(json.dumps(result), object_hook=_numbers)
    kept = json.loads(arguments.out.read_text(), object_hook=_numbers)["draws"] if arguments.out.exists() else []
    draws = sorted([*(r for r in kept if r["seed"] != result["seed"]), result], key=lambda r: r["seed"])
    whole = {"command": "python benchmarks/fine_tune.py --work WORK --seed SEED", "draws": draws}
    arguments.out.write_text(json.dumps(whole, indent=1) + "\n")
    arguments.out.with_suffix(".md").write_text(readable(draws))
    print(json.dumps(summary(result), indent=1))


def _numbers(values: dict) -> dict:
    """JSON's keys are text; labels are numbers."""
    return {int(key) if key.isdigit() else key: value for key, value in values.items()}


if __name__ == "__main__":
    main()
