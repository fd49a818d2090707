"""A run while it is being decided: from the preset, through what the data say, to what memory allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from napari_multiphase.bounds import LEAST_TILE_VOX
from napari_multiphase.config import PcnConfig, PhantomConfig, RunConfig, Traits, method_config, traits_of
from napari_multiphase.errors import UserError
from napari_multiphase.inference.device import device_words
from napari_multiphase.labels import name_of
from napari_multiphase.methods import method
from napari_multiphase.methods.base import Objective
from napari_multiphase.model import Model
from napari_multiphase.training.cases import PhaseArrays, TrainingCase
from napari_multiphase.training.estimate import Cost, cost_of
from napari_multiphase.training.sampling import check_draws
from napari_multiphase.training.sources import CaseSource, annotated_channels
from napari_multiphase.training.splits import split_cases
from napari_multiphase.training.survey import Survey
from napari_multiphase.volume import Phase

PHANTOMS = "phantoms"
FIELDS = (
    "method", "name", "licence", "data", "labels", "window_hu", "spacing_mm", "patch_vox", "overlap",
    "further_sizes", "in_one_piece", "batch", "accumulate", "validation", "start_from", "seed", "method_config",
)  # fmt: skip
"""Of a run, those that a plan decides, in the file's order."""
_OPTIONAL = ("licence", "further_sizes", "in_one_piece", "start_from", "seed", "method_config")
_SMOKE = "smoke"
_SHARE_OF_FREE = 0.8
_TUNING = 0.1
"""Share of a model's own steps and learning rates in a run that starts from it."""
_NOT_KEPT = {"keep_start", "held"}
"""What a model's own training kept of its start says nothing about a run that starts from it."""
_WINDOW_STEP_HU = 10
CORRECTION_RECIPE = {"phase_steps": 100, "reviewed_weight": 4.0, "phase_lr_factor": 1.0, "keep_start": 0.15}
CORRECTION_LR = 6e-4
"""Of PCN where cases are corrected predictions: chosen on phantoms (benchmarks/fine_tune.py)."""
HARDLY_CHANGED = 0.01
"""A structure of whose predicted voxels people changed less, on average over the cases, is held."""


@dataclass
class Draft:
    """The run so far, and why each of its fields is what it is."""

    run: RunConfig
    given: dict[str, Any]
    preset: str
    fixed: str = ""
    reasons: dict[str, list[str]] = field(default_factory=dict)

    def because(self, name: str, sentence: str) -> None:
        self.reasons.setdefault(name, []).append(sentence)

    def change(self, **values: Any) -> None:
        self.run = RunConfig.model_validate({**self.run.model_dump(), **values})

    def values(self) -> dict[str, Any]:
        """What the file says: all that was decided, and the preset's own settings of the method."""
        plain = self.run.model_dump(mode="json")
        plain["validation"] = {k: plain["validation"][k] for k in ("folds", "fold", "cases", "every")}
        return {name: plain[name] for name in FIELDS if name not in _OPTIONAL or plain[name]}

    def take_data(self, dataset: str | Path, structures: dict[str, int | None]) -> None:
        self.because("method_config", f"of the preset '{self.preset}'; what is not named here keeps its default")
        if str(dataset) == PHANTOMS:
            if not isinstance(self.run.data, PhantomConfig):
                self.change(data=PhantomConfig().model_dump())
            self.because("data", "parametric phantoms, made when the run begins and kept")
            return
        path = str(Path(dataset).expanduser().resolve())
        self.change(data={"kind": "dataset", "path": path, "structures": structures})

    def take_model(self, model: Model, name: str) -> None:
        """All that the weights depend on, from the model's card; shorter and gentler than its own training."""
        card = model.card
        if card.method != self.run.method:
            raise UserError(f"model '{card.name}' is a {card.method} model; give --method {card.method}")
        self.fixed = f"of model '{card.name}'"
        if isinstance(self.run.data, PhantomConfig):  # as large as before, at the model's spacing
            size = zip(self.run.data.case_vox, self.run.spacing_mm, card.spacing_mm, strict=True)
            case_vox = [16 * max(3, round(n * before / (16 * now))) for n, before, now in size]
            self.change(data={**self.run.data.model_dump(), "case_vox": case_vox})
        self.change(
            start_from=str(model.folder) if Path(name).is_dir() else name,
            name=f"{card.name}-tuned",
            licence=card.licence,
            labels=card.labels,
            window_hu=card.window_hu,
            spacing_mm=card.spacing_mm,
            patch_vox=card.tile_vox,
            overlap=card.overlap,
            further_sizes=card.further_sizes,
            in_one_piece=card.in_one_piece,
            method_config=_gentler(card.config),
        )
        self.reasons["method_config"] = [f"{self.fixed}, with a tenth of its steps and of its learning rates"]

    # --- what the data say ---

    def fit(self, seen: Survey, sources: Sequence[CaseSource]) -> None:
        """Labels, window, spacing and patch; and who will be held out."""
        if not seen.looked_at:
            raise UserError(f"none of the cases can be read; the first: {seen.problems[0]}")
        if self.fixed:
            for name in ("labels", "window_hu", "spacing_mm", "patch_vox"):
                self.because(name, self.fixed)
            if self.run.method == "pcn":
                self._go_on_with_segmentors(sources)
            self._split(sources)
            return
        if isinstance(self.run.data, PhantomConfig):
            for name in ("labels", "window_hu", "spacing_mm"):
                self.because(name, f"of the preset '{self.preset}'")
        else:
            self._labels(seen)
            self._window(seen)
            self._spacing(seen)
        self._patch(seen)
        self._split(sources)

    def _go_on_with_segmentors(self, sources: Sequence[CaseSource]) -> None:
        """Each phase's 3-D segmentor goes on from where it is: a common stage would lay one over the other. Those of
        phases that nobody labelled stay as they are. Corrected cases have a recipe of their own, also where one
        segmentor serves both phases."""
        config, labelled = self.run.method_config, [p for p in Phase if any(p in s.labelled for s in sources)]
        known: PcnConfig = method_config("pcn", config)
        corrected = any(source.corrected for source in sources)
        if known.form != "unet3d" or known.translation is not None or not labelled or (known.mixed and not corrected):
            return
        steps = known.shared_steps // len(Phase) + known.phase_steps  # as many in all as with the common stage
        new = {**config, "shared_steps": 0, "phase_steps": steps, "labelled": [phase.value for phase in labelled]}
        if corrected:
            held = [label for label in _hardly_changed(sources) if label in self.run.labels]
            new |= {**CORRECTION_RECIPE, "held": held}
            new["optimiser"] = {**known.optimiser.model_dump(mode="json"), "lr": CORRECTION_LR}
            if known.mixed:
                new |= {"shared_steps": CORRECTION_RECIPE["phase_steps"] * len(labelled)}
            self.reasons["method_config"] = [
                f"{self.fixed}; short, since corrections are few: patches lie where somebody looked, and what was "
                f"reviewed counts {CORRECTION_RECIPE['reviewed_weight']:g} times what was predicted"
            ]
            if held:
                names = ", ".join(map(name_of, held))
                self.because("method_config", f"hardly anything was changed of {names}: held as the model has it")
        for phase in Phase if not known.mixed else ():
            if phase not in labelled:
                self.because("method_config", f"no {phase} scan has labels: that phase's segmentor stays as it is")
        self.change(method_config=new)

    def _split(self, sources: Sequence[CaseSource]) -> None:
        traits = self._traits()
        cases = [outline(self.run, source) for source in sources]
        split = split_cases(cases, self.run.validation, traits.reads)
        self.because(
            "validation", f"{len(split.train)} cases to learn from, {len(split.validation)} held out, by patient"
        )
        for note in split.notes:
            self.because("validation", note)
        learn = [case for case in cases if case.id in split.train]
        if self.run.method == "pann" and all(case.complete for case in learn):
            self.change(method_config={**self.run.method_config, "supervision": "full"})
            self.because("method_config", "every case is annotated in full, so there is nothing for a prior to guide")
        check_draws(self.run, (stage.draw for stage in _objective(self.run).stages() if stage.steps), learn)

    def _labels(self, seen: Survey) -> None:
        drawn = {label for label, count in seen.annotated.items() if count}
        if not drawn:
            raise UserError("no case has annotated structures; add labels, or say in the case list what was annotated")
        wanted = [label for label in self.run.labels if label]
        kept = [label for label in wanted if label in drawn]
        if "labels" not in self.given or not kept:
            kept = sorted(drawn)
        self.change(labels=(0, *kept))
        everyone = all(seen.annotated[label] == seen.cases for label in kept)
        counts = "in every case" if everyone else "in some cases only: the rest is unknown there, not background"
        self.because("labels", f"background, {', '.join(map(name_of, kept))}: annotated {counts}")
        missing = [name_of(label) for label in wanted if label not in drawn]
        if missing and "labels" in self.given:
            self.because("labels", f"nobody drew {', '.join(missing)}, which the preset asks for")

    def _window(self, seen: Survey) -> None:
        low, high = self.run.window_hu
        if not len(seen.hu):
            self.because("window_hu", "no labelled voxel was seen, so the preset's stays")
            return
        first, last = np.percentile(seen.hu, [0.5, 99.5])
        if "window_hu" in self.given:
            cut = float(np.mean((seen.hu < low) | (seen.hu > high)))
            self.because(
                "window_hu",
                f"the paper's; 99 % of annotated voxels lie in {first:.0f} to {last:.0f} HU, {cut:.0%} are clipped",
            )
            return
        step = _WINDOW_STEP_HU
        window = (step * math.floor(first / step) - 5 * step, step * math.ceil(last / step) + 5 * step)
        self.change(window_hu=window)
        self.because(
            "window_hu", f"99 % of annotated voxels lie in {first:.0f} to {last:.0f} HU, and 50 HU on each side"
        )

    def _spacing(self, seen: Survey) -> None:
        median = tuple(float(f"{mm:.3g}") for mm in seen.spacing_mm)
        words = " x ".join(f"{mm:g}" for mm in median)
        if self.preset == _SMOKE:
            self.because("spacing_mm", f"coarse, for a quick trial: the scans' median is {words} mm")
            return
        self.change(spacing_mm=median)
        self.because("spacing_mm", f"(z, y, x) median of the {len(seen.spacings_mm)} scans looked at")

    def _patch(self, seen: Survey) -> None:
        """No larger than a usual scan, in multiples that the network takes."""
        divisor, least = self._traits().divisor, self._least_patch()
        sides = [math.ceil(mm / s) for mm, s in zip(seen.extent_mm, self.run.spacing_mm, strict=True)]
        fitting = tuple(
            min(p, max(low, math.ceil(n / d) * d))
            for p, n, d, low in zip(self.run.patch_vox, sides, divisor, least, strict=True)
        )
        extent = " x ".join(f"{n:.0f}" for n in seen.extent_mm)
        if fitting != self.run.patch_vox:
            self.because("patch_vox", f"the preset's, cut to the usual scan ({extent} mm)")
        self.change(patch_vox=fitting)
        size = " x ".join(f"{p * s:.0f}" for p, s in zip(fitting, self.run.spacing_mm, strict=True))
        self.because("patch_vox", f"{size} mm of a usual scan of {extent} mm")

    def _traits(self) -> Traits:
        return traits_of(self.run.method, self.run.method_config)

    def _least_patch(self) -> tuple[int, ...]:
        """The smallest patch that a model may have and that its networks, discriminators too, take."""
        traits = self._traits()
        sides = zip(LEAST_TILE_VOX, traits.least_patch_vox, traits.divisor, strict=True)
        return tuple(math.ceil(max(tile, patch) / d) * d for tile, patch, d in sides)

    # --- what memory says ---

    def fit_memory(self, device: torch.device, memory_gb: float | None) -> Cost:
        """Cut the step into micro-batches, then the patch, until it fits."""
        free_mb, where = _room(device, memory_gb)
        cost = cost_of(self.run, device)
        asked = self.run
        while cost.memory_mb > free_mb:
            if not (self._more_micro_batches() or self._smaller_patch()):
                raise UserError(
                    f"{self.run.method} needs about {cost.memory_mb / 1024:.1f} GB even for one small patch and "
                    f"{free_mb / 1024:.1f} GB are there; choose a smaller preset, or name another machine's memory "
                    "by --memory-gb"
                )
            cost = cost_of(self.run, device)
        self.because("batch", "patches per step, over all processes")
        if self.run.accumulate != asked.accumulate:
            one = self.run.batch // self.run.accumulate
            self.because("accumulate", f"{one} at a time, so that a step fits into {where}")
        if self.run.patch_vox != asked.patch_vox:
            before = " x ".join(map(str, asked.patch_vox))
            self.because("patch_vox", f"made smaller than {before} so that a step fits into {where}")
        return cost

    def _more_micro_batches(self) -> bool:
        before = self.run
        for pieces in range(before.accumulate + 1, before.batch + 1):
            if before.batch % pieces == 0:
                self.change(accumulate=pieces)
                try:
                    _objective(self.run)
                except UserError:  # the method mixes cases within a micro-batch
                    continue
                return True
        self.run = before
        return False

    def _smaller_patch(self) -> bool:
        divisor, patch, least = self._traits().divisor, self.run.patch_vox, self._least_patch()
        most = [p / d if p > max(n, 16) else 0.0 for p, d, n in zip(patch, divisor, least, strict=True)]
        axis = int(np.argmax([m * d for m, d in zip(most, divisor, strict=True)]))
        if not most[axis]:
            return False
        smaller = list(patch)
        smaller[axis] = max(least[axis], (patch[axis] * 3 // 4) // divisor[axis] * divisor[axis])
        self.change(patch_vox=tuple(smaller))
        return True

    # --- on the whole ---

    def head(self, seen: Survey) -> list[str]:
        lines = [f"multiphase plan: {self.run.method}, preset '{self.preset}'"]
        if isinstance(self.run.data, PhantomConfig):
            lines.append(f"Data: {self.run.data.cases} phantoms, both phases, exact labels.")
            return lines
        phases = ", ".join(f"{count} {phase}" for phase, count in sorted(seen.phases.items()))
        lines.append(f"Data: {seen.cases} cases of {seen.patients} patients ({phases}, {seen.pairs} pairs).")
        if seen.looked_at < seen.cases:
            lines.append(
                f"{seen.looked_at} of the {seen.cases} cases were opened for this; training checks all of them."
            )
        lines += [f"{problem.level}: {problem}" for problem in seen.problems]
        if self._traits().reads == "pair" and seen.pairs < seen.cases:
            lines.append(
                f"{self.run.method} learns from pairs: {seen.cases - seen.pairs} cases have one phase and are left out."
            )
        return lines


def _gentler(config: Any) -> Any:
    """A method's settings with the share `_TUNING` of all steps (at least one) and learning rates; nothing of the start
    is kept or held."""
    if not isinstance(config, dict):
        return config
    new = {key: _gentler(value) for key, value in config.items() if key not in _NOT_KEPT}
    for key, value in config.items():
        if key.split("_")[-1] == "steps" and value:
            new[key] = max(1, round(_TUNING * value))
        elif key == "lr":
            new[key] = _TUNING * value
    return new


def _objective(run: RunConfig) -> Objective:
    """Without numbers; a UserError where the method refuses the run."""
    with torch.device("meta"):
        return method(run.method).objective(run)


def _hardly_changed(sources: Sequence[CaseSource]) -> list[int]:
    """Ids of the structures that corrections left as they were predicted; none where a case does not tell."""
    changed = [source.changed for source in sources if source.corrected]
    told = set.intersection(*(set(shares) for shares in changed))
    return sorted(i for i in told if float(np.mean([shares[i] for shares in changed])) < HARDLY_CHANGED)


def outline(run: RunConfig, source: CaseSource) -> TrainingCase:
    """What a case will have, as far as is known unread: its phases, and labels in each if anything was annotated."""
    annotated, told = (annotated_channels(run.labels, ids) for ids in (source.annotated, source.told))
    point, nothing = np.zeros((1, 3), np.int32), np.empty((0, 0, 0))
    reviewed = nothing.astype(bool) if source.corrected else None
    scans = {
        phase: PhaseArrays(
            nothing.astype(np.int16),
            nothing.astype(np.uint8),
            tuple(point[: int(known and phase in source.labelled)] for known in told),
            0.0,
            1.0,
            reviewed,
        )
        for phase in source.phases
    }
    pair = scans if len(scans) == len(Phase) else None
    return TrainingCase(source.id, source.patient, scans, pair, annotated, run.spacing_mm)


def _room(device: torch.device, memory_gb: float | None) -> tuple[float, str]:
    """Megabytes a step may take, and whose."""
    if memory_gb is not None:
        return memory_gb * 1024, f"{memory_gb:g} GB"
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory / (1 << 20)
        return total * 0.9, f"the {total / 1024:.0f} GB of {device_words(device)}"
    free = psutil.virtual_memory().available / (1 << 20) * _SHARE_OF_FREE
    return free, f"the {free / 1024:.1f} GB that may be used here"
