"""A method beside its own baselines, on ten phantoms that none of them saw: Dice, and paired differences.

    python benchmarks/methods.py --family hpn --seeds 1 2 3
    python benchmarks/methods.py --family pann --commands     # what has to be trained first; trains nothing

Reads the finished runs ``runs/<configuration>-s<seed>`` of a method's configuration and of its baselines: same steps,
data and seeds. Every model segments every phantom as the program does (`inference.segment` after rigid registration).
Phantoms have seeds 0 to 9, training uses 1000 and up. Dice of a structure counts where the structure is present; an
organ with its lesions is scored as well. A method that gives one map is scored on the venous grid, the others on both
phases (mean; of PCN, which claims a gain in each phase from that phase's scan alone, each by itself). PCN's runs with
one labelled phase differ as their configurations say: `-one-phase` of every seed takes the translators of the bundled
pcn-phantom-translate, which learned beside labels of both phases. Differences are paired by case and training seed; the
95 % interval is a bootstrap over cases and seeds (both drawn with replacement, 10,000 times, percentiles widened for
few cases).
Writes benchmarks/results/methods-<family>.json.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from phantom_dice import dice_by_label, mean_hu_table, nearest_mean_hu, reduced, spec
from scipy import stats

from napari_multiphase.inference.segment import segment
from napari_multiphase.io.models import read_model
from napari_multiphase.labels import ids_of_group, name_of
from napari_multiphase.model import Model
from napari_multiphase.phantom import make_phantom
from napari_multiphase.phantom.spec import Pathology, PhantomStudy
from napari_multiphase.registration import register_rigid
from napari_multiphase.study import Study
from napari_multiphase.training.report import machine
from napari_multiphase.volume import Phase

RESULTS = Path(__file__).parent / "results"
REFERENCE = "nearest mean HU"
MEAN = "mean"
RESAMPLES = 10_000

Scores = dict[str, float]
"""Dice by structure, and their mean."""


@dataclass(frozen=True)
class Family:
    """A method's configuration, what it is compared with (the simplest first), and what its phantoms suffer from."""

    config: str
    baselines: tuple[str, ...]
    pathologies: tuple[Pathology, ...]
    by_phase: bool = False
    beside: tuple[tuple[str, str], ...] = ()
    """Baselines that are compared with each other too."""


FAMILIES = {
    "pcn": Family(
        "pcn-phantom-translate",
        (
            "pcn-phantom-translate-alone",
            "pcn-phantom-translate-apart",
            "pcn-phantom-translate-one-phase",
            "pcn-phantom-translate-one-phase-plain",
        ),
        ("none", "liver", "pancreas"),
        by_phase=True,
        beside=(("pcn-phantom-translate-one-phase", "pcn-phantom-translate-one-phase-plain"),),
    ),
    "hpn": Family("hpn-phantom", ("hpn-phantom-fusion", "hpn-phantom-hypernet"), ("pancreas",)),
    "urim": Family("urim-phantom", ("urim-phantom-ilf", "urim-phantom-sam"), ("liver",)),
    "pann": Family("pann-phantom", ("pann-phantom-partial", "pann-phantom-full"), ("none", "liver", "pancreas")),
    "csgan": Family(
        "csgan-phantom",
        ("csgan-phantom-real", "csgan-phantom-ada", "csgan-phantom-noshape"),
        ("none", "liver", "pancreas"),
    ),
}


# --- scores ----------------------------------------------------------------------------------------------------------


def score(
    maps: dict[Phase, np.ndarray], phantom: PhantomStudy, wanted: tuple[int, ...], by_phase: bool = False
) -> Scores:
    """Dice of each structure present, mean over the phases of `maps`; `by_phase`: and each phase by itself."""
    each = {phase: _of_phase(labels, reduced(phantom.labels[phase], wanted), wanted) for phase, labels in maps.items()}
    groups = [("", list(each.values()))]
    if by_phase:
        groups = [*((f"{phase} ", [scores]) for phase, scores in each.items()), *groups]
    result: Scores = {}
    for prefix, of_phases in groups:
        names = dict.fromkeys(name for scores in of_phases for name in scores)
        means = {name: float(np.mean([s[name] for s in of_phases if name in s])) for name in names}
        single = [value for name, value in means.items() if name not in _wholes(wanted)]
        result |= {prefix + name: value for name, value in (means | {MEAN: float(np.mean(single))}).items()}
    return result


def _of_phase(labels: np.ndarray, truth: np.ndarray, wanted: tuple[int, ...]) -> Scores:
    """Dice of each structure, and of organs with their lesions, where present."""
    found = {name_of(i): dice for i, dice in dice_by_label(labels, truth).items()}
    for name, ids in _wholes(wanted).items():
        inside = np.isin(truth, ids).astype(np.uint8)
        if inside.any():
            found[name] = dice_by_label(np.isin(labels, ids).astype(np.uint8), inside)[1]
    return found


def _wholes(wanted: tuple[int, ...]) -> dict[str, list[int]]:
    """Organs with the lesions in them that the model tells apart."""
    groups = {i: [j for j in ids_of_group(i) if j in wanted] for i in wanted if i}
    return {f"whole {name_of(i)}": ids for i, ids in groups.items() if len(ids) > 1}


def maps_of(study: Study, model: Model) -> dict[Phase, np.ndarray]:
    """What is scored of a prediction."""
    prediction = segment(study, model)
    if prediction.one_map:
        return {Phase.VENOUS: np.asarray(prediction.fused_labels)}
    return {phase: np.asarray(found.labels) for phase, found in prediction.phases.items()}


def evaluate(
    models: dict[str, dict[int, Model]], kinds: Sequence[Pathology], cases: int, by_phase: bool = False
) -> dict[str, Any]:
    """``{configuration: {training seed: [scores by case]}}``, and the reference classifier's under seed -1."""
    table = mean_hu_table(kinds)
    found: dict[str, Any] = {name: {seed: [] for seed in by_seed} for name, by_seed in models.items()}
    found[REFERENCE] = {-1: []}
    wanted = next(iter(next(iter(models.values())).values())).card.labels
    for case in range(cases):
        phantom = make_phantom(spec(case, kinds))
        transform = register_rigid(phantom.volumes[Phase.VENOUS], phantom.volumes[Phase.ARTERIAL])
        study, phases = Study(f"phantom-{case}", phantom.volumes, transform=transform), list(Phase)
        for name, by_seed in models.items():
            for seed, model in by_seed.items():
                maps = maps_of(study, model)
                phases = list(maps)
                found[name][seed].append(score(maps, phantom, wanted, by_phase))
        guesses = {phase: reduced(nearest_mean_hu(phantom, phase, table), wanted) for phase in phases}
        found[REFERENCE][-1].append(score(guesses, phantom, wanted, by_phase))
        means = {name: np.mean([by[-1][MEAN] for by in each.values()]) for name, each in found.items()}
        print(f"phantom {case}: " + ", ".join(f"{n} {m:.3f}" for n, m in means.items()), flush=True)
    return found


# --- comparison ------------------------------------------------------------------------------------------------------


def matrix(by_seed: dict[int, list[Scores]], structure: str) -> np.ndarray:
    """(seeds, cases) Dice, NaN where the structure is absent."""
    return np.array([[scores.get(structure, math.nan) for scores in by_seed[seed]] for seed in sorted(by_seed)])


def interval(differences: np.ndarray, resamples: int = RESAMPLES) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of (seeds, cases), both drawn with replacement; NaN is left out.

    Percentiles are widened for few cases (Hesterberg 2015, The American Statistician 69:371, expanded percentiles):
    plain ones hold the truth in about 87 of 100 experiments with ten cases.
    """
    rng = np.random.default_rng(0)
    seeds, cases = differences.shape
    rows = rng.integers(seeds, size=(resamples, seeds, 1))
    columns = rng.integers(cases, size=(resamples, 1, cases))
    drawn = differences[rows, columns].reshape(resamples, -1)
    there = np.isfinite(drawn)
    counts = there.sum(1)
    means = np.where(there, drawn, 0.0).sum(1)[counts > 0] / counts[counts > 0]
    n = max(2, int(np.isfinite(differences).any(0).sum()))
    tail = stats.norm.cdf(-math.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def compare(found: dict[str, Any], family: Family) -> dict[str, Any]:
    """Mean Dice of every configuration and structure, and the method's gain over each baseline."""
    first = found[family.config]
    named = dict.fromkeys(name for by_case in first.values() for scores in by_case for name in scores)
    structures = [*(name for name in named if name != MEAN), MEAN]
    means = {n: {s: round(float(np.nanmean(matrix(by, s))), 4) for s in structures} for n, by in found.items()}
    gains = {name: _gains(first, found[name], structures) for name in family.baselines}
    beside = {f"{a} over {b}": _gains(found[a], found[b], structures) for a, b in family.beside if {a, b} <= set(found)}
    return {"dice": means, "gain_over": gains} | ({"gain_of": beside} if beside else {})


def _gains(better: Any, worse: Any, structures: Sequence[str]) -> dict[str, Any]:
    """What one configuration is better than another by, for each structure."""
    out = {}
    for structure in structures:
        difference = matrix(better, structure) - matrix(worse, structure)
        each = [round(float(value), 4) for value in np.nanmean(difference, axis=1)]
        out[structure] = gain(difference) | {"by_training_seed": each}
    return out


def gain(differences: np.ndarray) -> dict[str, float]:
    """The mean of (seeds, cases) and its `interval`."""
    low, high = interval(differences)
    return {"mean": round(float(np.nanmean(differences)), 4), "low": round(low, 4), "high": round(high, 4)}


def table(result: dict[str, Any], family: Family) -> str:
    """The result as Markdown."""
    dice, gains = result["dice"], result["gain_over"]
    names = [family.config, *family.baselines, REFERENCE]
    lines = [
        f"Dice on {result['cases']} phantoms (seeds below 1000), training seeds {result['training_seeds']}; gain: mean "
        "paired difference [95 % bootstrap interval over cases and seeds].",
        "",
        f"| | {' | '.join(names)} | {' | '.join(f'gain over {b}' for b in family.baselines)} |",
        "| --- |" + " --- |" * (len(names) + len(family.baselines)),
    ]
    for structure in dice[family.config]:
        gain = [gains[b][structure] for b in family.baselines]
        cells = [f"{dice[name][structure]:.3f}" for name in names]
        cells += [f"{g['mean']:+.3f} [{g['low']:+.3f}, {g['high']:+.3f}]" for g in gain]
        lines.append(f"| {structure} | {' | '.join(cells)} |")
    for pair, by in result.get("gain_of", {}).items():
        means = {name: by[name] for name in by if name.split()[-1] == MEAN}
        lines += ["", f"{pair}: "]
        lines[-1] += ", ".join(f"{n} {g['mean']:+.3f} [{g['low']:+.3f}, {g['high']:+.3f}]" for n, g in means.items())
    return "\n".join(lines) + "\n"


# --- command line ----------------------------------------------------------------------------------------------------


def run_folder(runs: Path, config: str, seed: int) -> Path:
    """Where a configuration's run with a training seed lies."""
    return runs / f"{config}-s{seed}"


def commands(family: Family, seeds: Sequence[int], runs: Path) -> list[str]:
    """What trains the runs that are not finished."""
    out = []
    for seed in seeds:
        for config in (family.config, *family.baselines):
            folder = run_folder(runs, config, seed)
            if (folder / "model" / "model.json").is_file():
                continue
            begin = f"experiments/{config}.yaml --seed {seed} --out {folder}"
            out.append(f"multiphase train {f'--resume {folder}' if (folder / 'run.yaml').is_file() else begin}")
    return out


def main() -> None:
    """Read, measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=list(FAMILIES), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="training seeds")
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--simplest", action="store_true", help="compare with the simplest baseline alone")
    parser.add_argument("--without", nargs="+", default=[], metavar="BASELINE", help="leave these baselines out")
    parser.add_argument("--again", action="store_true", help="take the scores from the result file: compare anew alone")
    parser.add_argument("--commands", action="store_true", help="print what has to be trained first, and stop")
    args = parser.parse_args()
    family = FAMILIES[args.family]
    if args.simplest:
        family = replace(family, baselines=family.baselines[:1])
    if unknown := set(args.without) - set(family.baselines):
        parser.error(f"no baselines of {args.family}: {', '.join(sorted(unknown))}")
    family = replace(family, baselines=tuple(name for name in family.baselines if name not in args.without))
    out = args.out or RESULTS / f"methods-{args.family}.json"
    if args.again:
        result = json.loads(out.read_text(encoding="utf-8"))
        kept = {name: {int(seed): by for seed, by in each.items()} for name, each in result["each"].items()}
        family = replace(family, baselines=tuple(name for name in family.baselines if name in kept))
        _finish({**result, **compare(kept, family)}, family, out)
        return
    missing = commands(family, args.seeds, args.runs)
    if args.commands:
        print("\n".join(missing))
        return
    if missing:
        raise SystemExit("these runs are not finished:\n  " + "\n  ".join(missing))
    models = {
        config: {seed: read_model(run_folder(args.runs, config, seed) / "model") for seed in args.seeds}
        for config in (family.config, *family.baselines)
    }
    found = evaluate(models, family.pathologies, args.cases, family.by_phase)
    result = {
        "command": f"python benchmarks/methods.py --family {args.family} --seeds {' '.join(map(str, args.seeds))}"
        + (" --simplest" if args.simplest else "")
        + (f" --without {' '.join(args.without)}" if args.without else ""),
        "machine": machine(),
        "cases": args.cases,
        "training_seeds": args.seeds,
        "pathologies": list(family.pathologies),
        "weights_sha256": {n: {s: m.card.weights_sha256 for s, m in by.items()} for n, by in models.items()},
        **compare(found, family),
        "each": found,
    }
    _finish(result, family, out)


def _finish(result: dict[str, Any], family: Family, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result, family))


if __name__ == "__main__":
    main()
