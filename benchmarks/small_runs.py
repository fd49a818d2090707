"""What one difference in training is worth: small nets with it and without it, on a person neither has seen.

    a=abdomen-share-alike; b=abdomen-share-alike-without; export MULTIPHASE_ATLASES=~/atlases
    for seed in 1 2 3; do for run in $a $b; do
        multiphase train experiments/$run.yaml --seed $seed --out runs/$run-s$seed
    done; done
    python benchmarks/small_runs.py $a $b --name share_alike

Per structure the mean Dice of each over the training seeds, and second minus first, seed by seed: on phantoms of that
person (exact labels) and on that person's CT (labels of another program). Writes benchmarks/results/NAME.json.
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

RESULTS = Path(__file__).parent / "results"


def on_the_scan(model: Path) -> dict[str, float]:
    """Dice per structure on the CT with a reference."""
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "out"
        row = run_study(REFERENCE_STUDY, DATA / STUDIES[REFERENCE_STUDY], str(model), out, fast=True)
        if row["exit"]:
            raise SystemExit(row["sentence"])
        return reference_dice(DATA, out)


def compared(scores: dict[str, list[dict[str, float]]]) -> dict[str, dict]:
    """Of scores per run and seed: per structure and over all, each run's mean, its seeds, and their differences."""
    rows = {}
    first, second = scores
    for name in (*REFERENCE_IDS, "mean"):
        of = {
            run: np.array([np.mean(list(s.values())) if name == "mean" else s[name] for s in seeds])
            for run, seeds in scores.items()
        }
        rows[name] = {run: round(float(values.mean()), 3) for run, values in of.items()}
        by_seed = of | {"difference": of[second] - of[first]}
        rows[name]["by_seed"] = {run: [round(float(v), 3) for v in values] for run, values in by_seed.items()}
    return rows


def main() -> None:
    """All models, a table on each kind of scan, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs=2, help="Names of runs: RUN-sSEED lies in the folder runs.")
    parser.add_argument("--name", required=True, help="Of the result.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--cases", type=int, default=10)
    given = parser.parse_args()
    first, second = given.runs
    folders = {run: [HERE / "runs" / f"{run}-s{seed}" / "model" for seed in given.seeds] for run in given.runs}
    ways = [Way(find_model(str(folder)), ()) for each in folders.values() for folder in each]
    told = [mean_dice(scores) for scores in judge(ways, given.cases)]
    kinds = {
        "phantoms": {first: told[: len(given.seeds)], second: told[len(given.seeds) :]},
        "scan": {run: [on_the_scan(folder) for folder in each] for run, each in folders.items()},
    }
    result = {"seeds": given.seeds, "cases": given.cases} | {kind: compared(s) for kind, s in kinds.items()}
    for kind in kinds:
        print(kind)
        for name, row in result[kind].items():
            print(f"  {name:26}", row[first], row[second], row["by_seed"]["difference"])
    (RESULTS / f"{given.name}.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
