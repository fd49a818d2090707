"""What the one share-alike map is worth: nets that learnt with it and without it, on a person neither has seen.

    for seed in 1 2 3; do for run in abdomen-share-alike abdomen-share-alike-without; do
        MULTIPHASE_ATLASES=~/atlases multiphase train experiments/$run.yaml --seed $seed --out runs/$run-s$seed
    done; done
    MULTIPHASE_ATLASES=~/atlases python benchmarks/share_alike.py

Per structure the mean Dice of each over the training seeds, and without minus with, seed by seed: on phantoms of that
person (exact labels) and on that person's CT (labels of another program). Writes benchmarks/results/share_alike.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from real_ct import DATA, HERE, REFERENCE_IDS, REFERENCE_STUDY, STUDIES, reference_dice, run_study
from unseen_person import Way, judge, mean_dice

from napari_multiphase.io.models import find_model

RESULT = Path(__file__).parent / "results" / "share_alike.json"
ARMS = {"with": "abdomen-share-alike", "without": "abdomen-share-alike-without"}


def on_the_scan(model: Path) -> dict[str, float]:
    """Dice per structure on the CT with a reference."""
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "out"
        row = run_study(REFERENCE_STUDY, DATA / STUDIES[REFERENCE_STUDY], str(model), out, fast=True)
        if row["exit"]:
            raise SystemExit(row["sentence"])
        return reference_dice(DATA, out)


def compared(scores: dict[str, list[dict[str, float]]]) -> dict[str, dict]:
    """Of scores per arm and seed: per structure and over all, each arm's mean, its seeds, and their differences."""
    rows = {}
    for name in (*REFERENCE_IDS, "mean"):
        of = {
            arm: np.array([np.mean(list(s.values())) if name == "mean" else s[name] for s in seeds])
            for arm, seeds in scores.items()
        }
        rows[name] = {arm: round(float(values.mean()), 3) for arm, values in of.items()}
        by_seed = of | {"without minus with": of["without"] - of["with"]}
        rows[name]["by_seed"] = {arm: [round(float(v), 3) for v in values] for arm, values in by_seed.items()}
    return rows


def main() -> None:
    """All six models, a table on each kind of scan, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--cases", type=int, default=10)
    given = parser.parse_args()
    folders = {arm: [HERE / "runs" / f"{run}-s{seed}" / "model" for seed in given.seeds] for arm, run in ARMS.items()}
    ways = [Way(find_model(str(folder)), ()) for each in folders.values() for folder in each]
    told = [mean_dice(scores) for scores in judge(ways, given.cases)]
    kinds = {
        "phantoms": {"with": told[: len(given.seeds)], "without": told[len(given.seeds) :]},
        "scan": {arm: [on_the_scan(folder) for folder in each] for arm, each in folders.items()},
    }
    result = {"seeds": given.seeds, "cases": given.cases} | {kind: compared(s) for kind, s in kinds.items()}
    for kind in kinds:
        print(kind)
        for name, row in result[kind].items():
            print(f"  {name:26}", row["with"], row["without"], row["by_seed"]["without minus with"])
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
