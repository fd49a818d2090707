"""How much of a model's mistakes the list of uncertain regions shows, and how often what it shows is wrong.

    python benchmarks/uncertain_list.py --work /tmp/list    # -> results/uncertain_list.json
    python benchmarks/uncertain_list.py --work /tmp/list --real runs/abdomen-last-four-s1/model    # and on real CT

The scans are those of fine_tune.py that a person corrects, of the draws that its recipe is chosen on (-20, -19) and of
those that it reports (0, 1). `--real` adds the CT with a reference (docs/real_ct.md): a mistake is a voxel that one of
the reference's structures has in one map alone. MODEL must not have seen that person.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from fine_tune import MODEL, SHARE, hand_seeds, predicted, scan
from real_ct import DATA, REFERENCE, REFERENCE_IDS, REFERENCE_STUDY, STUDIES

from napari_multiphase.imaging.uncertain import uncertain_regions
from napari_multiphase.io.images import read_image, read_labels
from napari_multiphase.io.models import find_model
from napari_multiphase.labels import IDS_BY_NAME, ids_of_group
from napari_multiphase.model import Model
from napari_multiphase.study import PhasePrediction, Study
from napari_multiphase.volume import Phase, Volume

RESULT = Path(__file__).parent / "results" / "uncertain_list.json"
DRAWS = (-20, -19, 0, 1)


def told(found: PhasePrediction, wrong: np.ndarray, volume: Volume) -> dict:
    """Of the list: its regions, the share of the mistakes in it, the share of its voxels that are wrong; the same of
    the first regions that hold a tenth of the mistakes, where the list does."""
    regions = uncertain_regions(np.asarray(found.labels), np.asarray(found.confidence), volume.spacing_mm)
    hits = np.cumsum([np.count_nonzero(wrong[region.box] & region.mask) for region in regions])
    looked = np.cumsum([np.count_nonzero(region.mask) for region in regions])
    count = int(np.count_nonzero(wrong))
    tenth = int(np.searchsorted(hits, SHARE * count))
    figures = {"mistakes": count, "regions": len(regions), "share_of_mistakes": round(hits[-1] / count, 3)}
    figures["wrong_share"] = round(hits[-1] / looked[-1], 3)
    if tenth < len(regions):
        figures |= {"regions_to_a_tenth": tenth + 1, "wrong_share_to_a_tenth": round(hits[tenth] / looked[tenth], 3)}
    return figures


def real(model: Model, data: Path) -> dict:
    """The same of the CT with a reference."""
    volume = read_image(data / STUDIES[REFERENCE_STUDY])
    reference = np.asarray(read_labels(data / REFERENCE).data)
    found = predicted(Study(REFERENCE_STUDY, {Phase.VENOUS: volume}), model).phases[Phase.VENOUS]
    wrong = np.zeros(reference.shape, bool)
    for name, ids in REFERENCE_IDS.items():
        wrong |= np.isin(found.labels, ids_of_group(IDS_BY_NAME[name])) != np.isin(reference, ids)
    return told(found, wrong, volume)


def main() -> None:
    """Print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the phantoms")
    parser.add_argument("--real", metavar="MODEL", help="name or folder of a model that did not see the person")
    parser.add_argument("--data", type=Path, default=DATA)
    given = parser.parse_args()
    model, result = find_model(MODEL), {}
    for draw in DRAWS:
        for seed in hand_seeds(draw):
            volume, truth = scan(seed, given.work)
            found = predicted(Study(f"{seed:06x}", {Phase.VENOUS: volume}), model).phases[Phase.VENOUS]
            result[f"draw {draw}, {seed}"] = told(found, found.labels != truth, volume)
    if given.real:
        chosen = find_model(given.real)
        result[f"{REFERENCE_STUDY}, {chosen.card.name}"] = real(chosen, given.data)
    text = json.dumps(result, indent=1)
    RESULT.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
