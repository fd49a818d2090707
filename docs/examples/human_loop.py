"""The whole loop without the window: segment a study, correct where the model is unsure, learn from it, use the result.

    python docs/examples/human_loop.py loop       # a phantom, the bundled model, some minutes on a processor

A person would correct in napari (docks *Correct* and *Train*); here the phantom's own labels play the person. Each step
names a command that does much the same. Everything stays in the folder that is named.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

from napari_multiphase.config import RegisterOptions, RunConfig, SegmentOptions
from napari_multiphase.imaging.uncertain import uncertain_regions
from napari_multiphase.inference.segment import segment
from napari_multiphase.io.images import read_labels
from napari_multiphase.io.model_add import add_model
from napari_multiphase.io.model_zip import export_model
from napari_multiphase.io.models import find_model, read_model
from napari_multiphase.labels import name_of
from napari_multiphase.model import Model
from napari_multiphase.phantom import PhantomSpec, make_phantom, write_sample
from napari_multiphase.registration.register import register
from napari_multiphase.studies import Annotation, Workspace, open_study
from napari_multiphase.studies.corrections import write_cases
from napari_multiphase.studies.predictions import keep_prediction
from napari_multiphase.studies.share import share_study
from napari_multiphase.studies.shared import gather
from napari_multiphase.study import Study
from napari_multiphase.training.plan import plan_training
from napari_multiphase.training.train import train
from napari_multiphase.volume import Phase

VENOUS = Phase.VENOUS
CPU = SegmentOptions(device="cpu")


def main(out: Path, start: str, spec: PhantomSpec, most_regions: int, steps: int | None) -> dict[str, float]:
    """Run the loop in the new folder `out`; returns the mean Dice before and after, on the corrected study."""
    # 1. A study: two phases of one patient.   multiphase sample loop/scans
    truth = sample(out / "scans", spec)
    study = open_study([out / "scans"])
    rigid = RegisterOptions(method="rigid")
    study = study.with_transform(register(study.volumes[VENOUS], study.volumes[VENOUS.other], rigid))
    workspace = Workspace.create(out / "study", study)

    # 2. What the model says, kept in the workspace. multiphase segment loop/study --out loop/results
    model = find_model(start)
    prediction = segment(study, model, CPU)
    keep_prediction(workspace, study, prediction)

    # 3. Where it is unsure, the most telling region first.
    found, spacing_mm = prediction.phases[VENOUS], study.volumes[VENOUS].spacing_mm
    regions = uncertain_regions(np.asarray(found.labels), np.asarray(found.confidence), spacing_mm)
    for region in regions[:5]:
        where = name_of(region.structure) if region.structure else "no structure"
        print(f"look at {where}: {region.ml:.1f} ml, confidence {region.confidence:.2f}, slice {region.centre[0] + 1}")

    # 4. Correct those regions, and save: what was looked at is remembered with the labels.
    labels, reviewed = np.array(found.labels), np.zeros(truth.shape, bool)
    for region in regions[:most_regions]:
        reviewed[region.box] |= region.mask
    labels[reviewed] = truth[reviewed]
    file = workspace.annotation_file(VENOUS)
    file.parent.mkdir(parents=True, exist_ok=True)
    before = np.array(found.labels)
    with Annotation.create(file, before, study.volumes[VENOUS].grid, model=model.card.name) as annotation:
        annotation.save(labels, reviewed)
    workspace.set_annotation(VENOUS, file)
    print(f"{np.count_nonzero(labels != before):,} voxels corrected in {min(most_regions, len(regions))} regions")

    # 5. Cases to learn from.   multiphase cases loop/study --out loop/cases
    cases = write_cases([workspace], out / "cases")

    # 6. Fine-tune.            multiphase plan loop/cases/cases.yaml --method pcn --from MODEL > tune.yaml
    #                          multiphase train tune.yaml --out loop/run
    planned = plan_training(cases, model.card.method, start_from=start).run.model_dump()
    planned |= {"name": "human-loop", "device": "cpu"}
    if steps is not None:
        planned["method_config"] |= {"phase_steps": steps}
    train(RunConfig.model_validate(planned), out / "run", processes=1)

    # 7. Hand the model on as one zip, and use it.   multiphase models export loop/run/model loop/human-loop.zip
    #                                                multiphase models add loop/human-loop.zip
    tuned = add_model(export_model(read_model(out / "run" / "model"), out / "human-loop.zip"), replace=True)
    dice = {"before": mean_dice(before, truth), "after": mean_dice(segmented(study, tuned), truth)}
    print(f"mean Dice of the venous labels: {dice['before']:.3f} before, {dice['after']:.3f} after")

    # 8. Hand the study on, without the patient.   multiphase share loop/study --out loop/study.zip
    share_study(gather(workspace.folder), out / "study.zip")
    return dice


def sample(folder: Path, spec: PhantomSpec) -> np.ndarray:
    """Write a phantom's scans into `folder`; its true venous labels, which no step but the correcting sees."""
    write_sample(make_phantom(spec), folder, motion=False)
    truth = folder / "venous_labels.nii.gz"
    return np.asarray(read_labels(truth).data)


def segmented(study: Study, model: Model) -> np.ndarray:
    """The venous labels of a model."""
    return np.asarray(segment(study, model, CPU).phases[VENOUS].labels)


def mean_dice(labels: np.ndarray, truth: np.ndarray) -> float:
    """Over the structures that the truth has."""
    both = np.bincount(truth[truth == labels], minlength=256)
    sizes = np.bincount(truth.ravel(), minlength=256) + np.bincount(labels.ravel(), minlength=256)
    return float(np.mean([2 * both[i] / sizes[i] for i in np.unique(truth) if i]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="new folder for everything")
    parser.add_argument("--model", default="pcn-phantom", help="name or folder of the model to begin with")
    parser.add_argument("--regions", type=int, default=60, help="how many of the uncertain regions are corrected")
    parser.add_argument("--steps", type=int, default=None, help="of each phase; the plan's own without")
    given = parser.parse_args()
    os.environ.setdefault("MULTIPHASE_DATA_DIR", str(given.out.resolve() / "data"))  # your own models stay as they are
    noisy = PhantomSpec((64, 128, 128), (4.0, 2.8, 2.8), seed=71, noise_hu=40.0)  # unlike what the model learned from
    main(given.out.resolve(), given.model, noisy, given.regions, given.steps)
