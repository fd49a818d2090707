"""Write the measured figures of a model into its card, from benchmarks/results.

    python benchmarks/write_card.py src/napari_multiphase/models/pcn-phantom

Reads ``phantom_dice-<model>.json`` and ``real_ct-<model>.json``; the gains over the method's baselines in
``methods-<family>.json``; of models that translate ``synthetic_hu-<model>.json`` and ``s_score.json``.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from napari_multiphase.io.models import read_model, write_model
from napari_multiphase.model import ModelCard

RESULTS = Path(__file__).parent / "results"


def phantom_metrics(result: dict[str, Any]) -> dict[str, Any]:
    """Mean Dice over structures present, lesions apart, and what nearest-mean-HU reaches on the same cases."""
    scores = result["scores"]
    return {
        "phantom_command": result["command"],
        "phantom_cases": result["cases"],
        **{f"phantom_dice_{name}": scores[name]["mean_dice"] for name in ("arterial", "venous", "fused")},
        "phantom_dice_lowest": {name: scores[name]["lowest"] for name in ("arterial", "venous")},
        "phantom_dice_lesions": {name: scores[name]["mean_dice_lesions"] for name in ("arterial", "venous")},
        "phantom_dice_nearest_mean_hu": {
            phase: scores[f"nearest mean HU, {phase}"]["mean_dice"] for phase in ("arterial", "venous")
        },
        "phantom_dice_per_structure": {name: scores[name]["per_structure"] for name in ("arterial", "venous")},
        "phantom_seconds_per_pair": result["seconds_per_pair"]["median"],
    }


def real_metrics(result: dict[str, Any], judged: dict[str, Any], of: str = "") -> dict[str, Any]:
    """Dice against the one public label map (a model's output, scan without contrast medium), and phase agreement.

    judged : the result that the Dice is taken from; `of` names its model where it is another one.
    """
    studies = {row["study"]: row for row in result["studies"]}
    dice = next(row["dice_against_label_map"] for row in judged["studies"] if "dice_against_label_map" in row)
    whose = (
        f"; Dice is that of '{of}', which left that person's map out and stopped before this one's last two parts"
        if of
        else ""
    )
    return {
        "real_ct_command": result["command"],
        "real_ct_dice": round(sum(dice.values()) / len(dice), 4),
        "real_ct_dice_per_structure": dice,
        "real_ct_note": f"one scan without contrast medium; the reference is another model's output{whose}",
        "real_ct_agreement_of_phases": {
            name: row["agreement_of_phases"] for name, row in studies.items() if row.get("agreement_of_phases")
        },
        "real_ct_aorta_against_its_blood": {
            name: row["aorta_against_its_blood"] for name, row in studies.items() if row.get("aorta_against_its_blood")
        },
    }


def gains(result: dict[str, Any]) -> dict[str, Any]:
    """What the method gains over its baselines: mean Dice over structures, with the 95 % interval."""
    found = {
        f"{name} {structure.removesuffix('mean')}".rstrip(): gain
        for name, by_structure in result["gain_over"].items()
        for structure, gain in by_structure.items()
        if structure.endswith("mean")
    }
    return {
        "compared_command": result["command"],
        "gain_in_mean_dice_over": {
            n: f"{g['mean']:+.3f} [{g['low']:+.3f}, {g['high']:+.3f}]" for n, g in found.items()
        },
    }


def synthetic_metrics(result: dict[str, Any]) -> dict[str, Any]:
    """How far the structures' mean HU lie from the real ones, by synthetic phase, beside the untranslated scan's."""
    phases = result["by_synthetic_phase"]
    return {
        "synthetic_hu_command": result["command"],
        "synthetic_hu_error": {phase: of["mean_absolute_error"] for phase, of in phases.items()},
        "synthetic_hu_error_untranslated": {phase: of["untranslated"] for phase, of in phases.items()},
        "synthetic_hu_within_15": {phase: of["within_15_hu"] for phase, of in phases.items()},
    }


def s_scores(result: dict[str, Any], card: ModelCard) -> dict[str, Any]:
    """S-score by synthetic phase, of runs whose weights these are, beside real scans and untranslated ones."""
    rows = result.get("by synthetic phase", {})
    shown = [name for name, sha in result.get("weights_sha256", {}).items() if sha == card.weights_sha256]
    if not shown:
        return {}
    named = {"this model": shown[0], "real": "real", "untranslated": "untranslated"}
    scores = {name: {phase: of["mean"] for phase, of in rows[key].items()} for name, key in named.items()}
    return {"s_score_command": result["command"], "s_score": scores}


def metrics_of(card: ModelCard) -> dict[str, Any]:
    """Everything that was measured of a model; figures of other weights under its name are refused."""
    metrics: dict[str, Any] = {}
    name = card.name
    phantom, real = _result(f"phantom_dice-{name}"), _result(f"real_ct-{name}")
    compared = _result(f"methods-{name.split('-')[0]}")
    if phantom:
        if phantom["weights_sha256"] != card.weights_sha256:
            raise SystemExit(
                f"phantom_dice-{name}.json was measured with other weights: run {phantom['command']} again"
            )
        metrics |= phantom_metrics(phantom)
    if real:
        if any(
            row.get("model", {"weights_sha256": card.weights_sha256})["weights_sha256"] != card.weights_sha256
            for row in real["studies"]
        ):
            raise SystemExit(f"real_ct-{name}.json was measured with other weights: run {real['command']} again")
        twin = "" if _judged(real) else f"{name}-wide-four"
        metrics |= real_metrics(real, _of_twin(twin, card) if twin else real, twin)
    if compared and name in compared["dice"]:
        if card.weights_sha256 not in compared["weights_sha256"][name].values():
            raise SystemExit(f"{name} is none of the models compared: run {compared['command']} again")
        metrics |= gains(compared)
    synthetic = _result(f"synthetic_hu-{name}")
    if synthetic:
        if synthetic["weights_sha256"] != card.weights_sha256:
            raise SystemExit(f"synthetic_hu-{name}.json is of other weights: run {synthetic['command']} again")
        metrics |= synthetic_metrics(synthetic)
    return metrics | s_scores(_result("s_score"), card)


def _judged(real: dict[str, Any]) -> bool:
    return any("dice_against_label_map" in row for row in real["studies"])


def _of_twin(name: str, card: ModelCard) -> dict[str, Any]:
    """real_ct of the model that left the reference's person out; both go back to the same weights."""
    result = _result(f"real_ct-{name}")
    if not result or not starts_of(card.training_data) & starts_of(result["training_data"]):
        raise SystemExit(f"real_ct-{name}.json is not of a model that began as {card.name} did: measure it again")
    return result


def starts_of(training_data: str) -> set[tuple[str, str]]:
    """Name and weights of the models that a card says its model goes back to."""
    return set(re.findall(r"starting from '([^']+)' \(weights (\w+)", training_data))


def _result(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def main(folder: Path) -> None:
    """Rewrite the card of the model in `folder`."""
    model = read_model(folder)
    card = model.card.model_dump(mode="json", exclude={"weights_sha256"}) | {"metrics": metrics_of(model.card)}
    write_model(folder, card, load_file(model.weights))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
