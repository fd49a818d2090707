"""A synthetic image beside the real scan of its phase: figures, HU of each structure, the difference; and the S-score.

The real scan is brought onto the grid of the scan that the image was made from, through the study's transform. What the
transform leaves misaligned counts as error; the same figures for the scan that nobody translated say how much that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.config import SegmentOptions, traits_of
from napari_multiphase.errors import UserError
from napari_multiphase.events import Cancel, Event, OnEvent, ignore
from napari_multiphase.imaging.body import find_body
from napari_multiphase.imaging.resample import resample
from napari_multiphase.inference.inputs import aligned_words, transform_of
from napari_multiphase.inference.results import open_results
from napari_multiphase.inference.room import in_words
from napari_multiphase.inference.segment import segment
from napari_multiphase.io.images import read_labels
from napari_multiphase.labels import IGNORE, name_of
from napari_multiphase.metrics.image import Comparing, StructureHu, s_score, structure_hu
from napari_multiphase.model import Model
from napari_multiphase.study import Study, Translation
from napari_multiphase.volume import Phase, Volume

NO_SCAN_HU = -3000.0
"""Where the real scan saw nothing, before the difference is taken; `SEEN_HU` and above are HU."""
SEEN_HU = -2000.0
BIN_HU = 10.0
_MISALIGNED = "what the alignment leaves adds to the error"


def compare_translation(
    study: Study,
    translation: Translation,
    labels: Mapping[Phase, NDArray[np.uint8]] | None = None,
    *,
    on_event: OnEvent = ignore,
    cancel: Cancel | None = None,
    scratch: Path | None = None,
) -> tuple[dict[str, Any], NDArray[np.int16]]:
    """Figures of `translation` against the real scan of its phase (JSON types), and the difference.

    Figures (MAE in HU, PSNR in dB and SSIM, see `metrics.image.Comparing`) are of voxels inside the body and inside the
    real scan's field of view: of the synthetic image, and of the scan it was made from as it is ("untranslated").
    The data range of PSNR and SSIM is the model's HU window.

    Parameters
    ----------
    labels : by phase, (D, H, W) on that scan's grid; with those of the source, HU of every structure are told. Where
        there are none of the real scan, the source's are laid over it.
    scratch : folder for the difference, which is then memory-mapped.

    Returns
    -------
    The figures, and (D, H, W) int16 HU on the source's grid: real minus synthetic, 0 where voxels do not count.

    Raises
    ------
    UserError : the translation is of another study, or the real scan is missing or does not meet the other one.
    Cancelled : between two slices.
    """
    cancel, source, to = cancel or Cancel(), translation.source, translation.to
    _check(study, translation)
    ours, real = study.volumes[source], study.volumes[to]
    on_event(Event("progress", f"bringing the {to} scan onto the {source} grid", 0.0))
    with in_words():
        moved = resample(
            real.data, real.grid, ours.grid, 1, transform_of(study).into(to), background=NO_SCAN_HU
        )  # fmt: skip
        cancel.check()
        low, high = (float(hu) for hu in translation.report["window_hu"])
        body = find_body(ours.data, ours.grid)
        made, plain = Comparing((low, high)), Comparing((low, high))
        depth = ours.shape[0]
        with open_results(ours.shape, scratch, "difference", ("hu",), np.int16) as results:
            for z in range(depth):
                cancel.check()
                seen, inside = moved[z] > SEEN_HU, body.on(ours.grid, slice(z, z + 1))[0]
                counts, image = inside & seen, np.asarray(translation.image[z])
                there = np.where(seen, moved[z], image)
                made.add(there, image, counts, seen)
                plain.add(np.where(seen, moved[z], ours.data[z]), ours.data[z], counts, seen)
                apart = np.clip(np.rint(there - image.astype(np.float32)), -32768, 32767)
                results.append(np.where(counts, apart, 0).astype(np.int16)[None])
                on_event(Event("progress", f"comparing, slice {z + 1} of {depth}", 0.1 + 0.8 * (z + 1) / depth))
            (difference,) = results.complete()
    if not made.result.voxels:
        raise UserError(
            f"the {to} scan does not reach the body in the {source} scan: register them, or check that both are of "
            "one patient"
        )
    figures = {
        "real": str(real.source.path),
        "on_grid_of": source.value,
        "aligned": {"method": transform_of(study).method, "sentence": f"{aligned_words(study)}; {_MISALIGNED}"},
        "window_hu": [low, high],
        "data_range_hu": high - low,
        "synthetic": made.result.to_dict(),
        "untranslated": plain.result.to_dict(),
    }
    if labels:
        on_event(Event("progress", "measuring the structures", 0.9))
        figures["structures"] = _structures(study, translation, moved, labels, (low, high))
    return figures, difference


def _check(study: Study, translation: Translation) -> None:
    if translation.study_id != study.id:
        raise UserError(f"this image belongs to study {translation.study_id}, not {study.id}; translate this one first")
    if translation.to not in study.volumes:
        raise UserError(
            f"there is no real {translation.to} scan to compare with: open it as well, in the Study dock or with "
            f"--{translation.to}"
        )


def _structures(
    study: Study,
    translation: Translation,
    moved: NDArray[Any],
    labels: Mapping[Phase, NDArray[np.uint8]],
    window_hu: tuple[float, float],
) -> dict[str, Any]:
    """Histogram, mean and deviation of every structure in each image, for JSON."""
    source, to = translation.source, translation.to
    edges = np.linspace(*window_hu, max(2, round((window_hu[1] - window_hu[0]) / BIN_HU)) + 1)
    found: dict[str, dict[int, StructureHu]] = {}
    if source in labels:
        found[f"real {source}"] = structure_hu(study.volumes[source].data, labels[source], edges)
        found[f"synthetic {to}"] = structure_hu(translation.image, labels[source], edges)
        if to not in labels:
            seen = (plane > SEEN_HU for plane in moved)
            found[f"real {to}"] = structure_hu(moved, labels[source], edges, seen)
    if to in labels:
        found[f"real {to}"] = structure_hu(study.volumes[to].data, labels[to], edges)
    ids = sorted({label for table in found.values() for label in table})
    return {
        "edges_hu": [round(float(edge), 3) for edge in edges],
        "labels_of": sorted(phase.value for phase in labels),
        "rows": [
            {"id": i, "name": name_of(i), "hu": {key: t[i].to_dict() for key, t in found.items() if i in t}}
            for i in ids
        ],
    }


def labels_for(study: Study, phase: Phase, labels: Path | Volume) -> NDArray[np.uint8]:
    """A label map of `phase`'s scan, (D, H, W) uint8 on its grid.

    Raises
    ------
    UserError : the file holds no labels, or lies on another grid.
    """
    volume = labels if isinstance(labels, Volume) else read_labels(Path(labels))
    scan = study.volumes[phase]
    if not volume.grid.matches(scan.grid, 0.01):
        raise UserError(
            f"{volume.source.path.name}: does not lie on the grid of the {phase} scan "
            f"({scan.source.path.name}); give labels that were drawn on that scan"
        )
    if int(volume.data.max(initial=0)) > IGNORE:
        raise UserError(
            f"{volume.source.path.name}: holds label numbers above {IGNORE}, which the label table does not have; map "
            "them to its numbers first"
        )
    return np.asarray(volume.data).astype(np.uint8, copy=False)


def judge_translation(
    study: Study,
    translation: Translation,
    judge: Model,
    labels: NDArray[np.uint8],
    options: SegmentOptions | None = None,
    *,
    on_event: OnEvent = ignore,
    cancel: Cancel | None = None,
) -> dict[str, Any]:
    """The S-score (PAPER 003, Table 1): what `judge` finds in the synthetic image against `labels` of its source.

    The judge reads the image as a scan of the phase that it shows, without a synthetic branch of its own. The paper's
    was trained on real scans of that phase alone; "independent" says whether it is another model than the translator.

    Returns
    -------
    JSON types: "s_score" (mean Dice over the structures in `labels` that the judge knows; None where there is none),
    "judge", "independent", "structures" with the Dice of each.

    Raises
    ------
    UserError : the judge does not segment that phase by itself; and as `segment`. Cancelled : between two tiles.
    """
    traits, to = traits_of(judge.card.method, judge.card.config), translation.to
    if traits.reads == "pair" or to not in judge.card.phases:
        raise UserError(
            f"the model '{judge.card.name}' does not segment a {to} scan by itself, so it cannot judge a synthetic "
            "one: choose another model in the Segment dock"
        )
    options = options or SegmentOptions()
    if traits.synthetic:
        options = options.model_copy(update={"branch_weight": 1.0})
    alone = Study(study.id, {to: study.volumes[translation.source].with_data(np.asarray(translation.image))})

    def without_notes(event: Event) -> None:
        if event.kind != "warning":  # what is to be said of a scan that comes alone is not to be said of this image
            on_event(event)

    found = segment(alone, judge, options, on_event=without_notes, cancel=cancel).phases[to].labels
    score, dice = s_score(found, labels, judge.card.labels)
    return {
        "s_score": round(score, 4) if np.isfinite(score) else None,
        "judge": judge.card.name,
        "independent": judge.card.name != translation.model_name,
        "structures": [{"id": i, "name": name_of(i), "dice": round(value, 4)} for i, value in dice.items()],
    }


def in_words_of(figures: Mapping[str, Any], to: str, source: str) -> list[str]:
    """The figures as sentences for a person."""
    made, plain, (low, high) = figures["synthetic"], figures["untranslated"], figures["window_hu"]
    lines = [
        f"against the real {to} scan, inside the body: MAE {_number(made['mae_hu'], 1)} HU, PSNR "
        f"{_number(made['psnr_db'], 1)} dB, SSIM {_number(made['ssim'], 3)} "
        f"(PSNR and SSIM from {low:g} to {high:g} HU, range {figures['data_range_hu']:g} HU)",
        f"the {source} scan itself, untranslated: MAE {_number(plain['mae_hu'], 1)} HU, PSNR "
        f"{_number(plain['psnr_db'], 1)} dB, SSIM {_number(plain['ssim'], 3)}",
        figures["aligned"]["sentence"],
    ]
    judged = figures.get("s_score")
    if judged is not None:
        own = "" if judged["independent"] else ", the model that translated"
        lines.append(f"S-score {_number(judged['s_score'], 3)}, judged by {judged['judge']}{own}")
    return lines


def _number(value: float | None, digits: int) -> str:
    return "not defined" if value is None else f"{value:.{digits}f}"
