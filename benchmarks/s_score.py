"""S-scores of finished runs, and how much of the gap to real data they close (PAPER 003, Table 1 and Figure 8).

    python benchmarks/s_score.py --judge runs/csgan-phantom-real-s1 runs/csgan-phantom-s1 runs/csgan-phantom-noshape-s1
    python benchmarks/s_score.py --gap runs/csgan-gap-real-14 runs/csgan-gap-ada-14 runs/csgan-gap-ours-14

S-score: each run's generators translate whole scans that nobody learned from; an independent segmentor, trained on
real images of the synthetic phase alone (`--judge`), reads them; its labels are compared with those of the *source*:
mean Dice over the structures present, named by the synthetic phase. Beside it "real", the judge on real scans of the
phase, and "untranslated", the judge on the source as it is. Each run is compared with the one named after it. Gap: Dice
of three runs' own segmentors on real scans: more real data, synthetic data by generators trained apart (ADA), synthetic
data by generators trained with the segmentors.

The scans: of runs on phantoms, `--phantoms` new ones (seeds from 0 on; training uses 1000 and up); of others, the cases
that all runs held out. Everything is measured on the networks' grid, in one pass over each whole scan. Writes
benchmarks/results/s_score.json or gap.json, with every case's figure.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from methods import gain
from napari_multiphase.config import PhantomConfig, RunConfig, method_config
from napari_multiphase.config.files import read_run
from napari_multiphase.errors import UserError
from napari_multiphase.events import Cancel
from napari_multiphase.imaging.windows import normalise
from napari_multiphase.io.models import read_model, translates
from napari_multiphase.methods import method
from napari_multiphase.methods.base import Segmentor, Translator
from napari_multiphase.methods.csgan import s_score
from napari_multiphase.metrics.gap import gap_reduction
from napari_multiphase.training.cache import prepare_cases
from napari_multiphase.training.cases import TrainingCase
from napari_multiphase.training.report import machine
from napari_multiphase.training.splits import read_split
from napari_multiphase.training.train import MODEL_FOLDER, RUN_FILE
from napari_multiphase.volume import Phase

RESULTS = Path(__file__).parent / "results"
CPU = torch.device("cpu")
COMMON = ("data", "labels", "spacing_mm", "window_hu", "validation")


@dataclass(frozen=True)
class Untranslated:
    """The generator that changes nothing."""

    def translate(self, to: Phase, x: torch.Tensor) -> torch.Tensor:
        return x


def scans_of(folders: Sequence[Path], phantoms: int) -> tuple[RunConfig, list[TrainingCase]]:
    """What the runs have in common, and cases that none of them learned from."""
    runs = [read_run(folder / RUN_FILE) for folder in folders]
    first = runs[0]
    for folder, run in zip(folders, runs, strict=True):
        differing = [name for name in COMMON if getattr(run, name) != getattr(first, name)]
        if differing:
            raise UserError(
                f"{folder}: its {', '.join(differing)} differ from those of {folders[0]}; compare like runs"
            )
    data = first.data
    if isinstance(data, PhantomConfig):
        new = data.model_copy(update={"cases": phantoms, "first_seed": 0, "partly": ()})
        first = first.model_copy(update={"data": new})
    traits = method_config(first.method, first.method_config).traits
    cases = prepare_cases(first, traits, processes=2, on_event=lambda event: print(event.message), cancel=Cancel())
    if isinstance(data, PhantomConfig):
        return first, cases
    held = set.intersection(*(set(read_split(folder).validation) for folder in folders))
    return first, [case for case in cases if case.id in held]


def scored(
    run: RunConfig, cases: Sequence[TrainingCase], judge: Segmentor, translator: Any, other: bool
) -> Mapping[Phase, list[float]]:
    """S-score of each case by synthetic phase, made from the `other` phase's scan, or from the phase's own."""
    found: dict[Phase, list[float]] = {phase: [] for phase in Phase}
    for case in cases:
        for to in Phase:
            scan = case.scans.get(to.other if other else to)
            if scan is None:
                continue
            x = torch.from_numpy(normalise(scan.hu, run.window_hu))[None, None]
            y = torch.from_numpy(scan.channels.astype(np.int64))[None]
            found[to].append(s_score(judge, translator, to, x, y))
    return found


def words(name: str, scores: Mapping[Phase, list[float]]) -> str:
    """A line for a person."""
    each = (f"{phase} {np.nanmean(of):.3f} (sd {np.nanstd(of):.3f}, n {len(of)})" for phase, of in scores.items())
    return f"{name}: {', '.join(each)}"


def plain(scores: Mapping[Phase, list[float]]) -> dict[str, Any]:
    """For JSON."""
    return {
        p.value: {"mean": round(float(np.nanmean(s)), 4), "cases": [round(v, 4) for v in s]} for p, s in scores.items()
    }


def weights_of(folder: Path) -> str:
    """SHA-256 of a finished run's weights."""
    return read_model(folder / MODEL_FOLDER).card.weights_sha256


def loaded(folder: Path) -> tuple[Segmentor, Translator | None]:
    """The networks of a finished run."""
    model = read_model(folder / MODEL_FOLDER)
    chosen = method(model.card.method)
    return chosen.load(model, CPU), chosen.load_translator(model, CPU) if translates(model.card) else None


def s_scores(judge: Path, folders: Sequence[Path], phantoms: int) -> dict[str, Any]:
    """The S-scores of each run, and what the judge makes of real and of untranslated scans."""
    run, cases = scans_of([judge, *folders], phantoms)
    segmentor, result = loaded(judge)[0], {}
    rows: list[tuple[str, Any, bool]] = [("real", Untranslated(), False), ("untranslated", Untranslated(), True)]
    for folder in folders:
        translator = loaded(folder)[1]
        if translator is None:
            raise UserError(f"{folder}: its model does not translate; name runs that have generators")
        rows.append((str(folder), translator, True))
    for name, translator, other in rows:
        scores = scored(run, cases, segmentor, translator, other)
        print(words(name, scores), flush=True)
        result[name] = plain(scores)
    return {
        "command": f"python benchmarks/s_score.py --judge {judge} {' '.join(map(str, folders))}",
        "weights_sha256": {str(folder): weights_of(folder) for folder in folders},
        "by synthetic phase": result,
        "gains": gains(result, list(map(str, folders))),
    }


def gains(rows: Mapping[str, Any], folders: Sequence[str]) -> dict[str, Any]:
    """What each run has over the one named after it, paired by case: mean and 95 % interval."""
    found: dict[str, Any] = {}
    for first, second in itertools.pairwise(folders):
        for phase in (p.value for p in Phase):
            each = np.array(rows[first][phase]["cases"]) - np.array(rows[second][phase]["cases"])
            found.setdefault(f"{first} over {second}", {})[phase] = gain(each[None])
    return found


def gap(folders: Sequence[Path], phantoms: int) -> dict[str, Any]:
    """Dice of three runs' segmentors on real scans, and the share of the gap that the last closes."""
    run, cases = scans_of(folders, phantoms)
    all_scores = {str(folder): scored(run, cases, loaded(folder)[0], Untranslated(), False) for folder in folders}
    for name, scores in all_scores.items():
        print(words(name, scores))
    reductions = {}
    for phase in Phase:
        real, offline, joint = (float(np.nanmean(all_scores[str(folder)][phase])) for folder in folders)
        reduction = gap_reduction(real, offline, joint)
        reductions[phase.value] = reduction
        said = "generators trained apart leave no gap" if reduction is None else f"{reduction:.1%} of the gap closed"
        print(f"{phase}: {said}")
    return {"dice": {name: plain(scores) for name, scores in all_scores.items()}, "reduction": reductions}


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--judge", type=Path, help="a finished run whose segmentors learned from real images alone")
    what.add_argument("--gap", type=Path, nargs=3, metavar=("REAL", "ADA", "OURS"), help="three finished runs")
    parser.add_argument("runs", type=Path, nargs="*", help="finished runs with generators, for --judge")
    parser.add_argument("--phantoms", type=int, default=10, help="new phantoms to measure on")
    parser.add_argument("--out", type=Path, help="where to write instead of benchmarks/results")
    args = parser.parse_args()
    if args.judge and not args.runs:
        parser.error("name the runs whose generators are judged")
    try:
        result = s_scores(args.judge, args.runs, args.phantoms) if args.judge else gap(args.gap, args.phantoms)
    except UserError as error:
        raise SystemExit(str(error)) from error
    path = args.out or RESULTS / ("s_score.json" if args.judge else "gap.json")
    path.write_text(json.dumps(result | {"machine": machine()}, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
