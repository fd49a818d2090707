"""The loop: stages, optimiser, schedule, mixed precision. It knows no loss and no network."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from napari_multiphase.config import RunConfig
from napari_multiphase.events import Cancel, Event, OnEvent
from napari_multiphase.imaging.windows import normalise
from napari_multiphase.methods.base import Objective, Stage
from napari_multiphase.training.augment import augment
from napari_multiphase.training.cases import PhaseCase
from napari_multiphase.training.sampling import draw_patch
from napari_multiphase.volume import Phase

Batch = tuple[Phase, Tensor, Tensor]
REPORT_EVERY = 25


def run_stage(
    run: RunConfig,
    objective: Objective,
    stage: Stage,
    index: int,
    cases: Sequence[PhaseCase],
    on_event: OnEvent,
    cancel: Cancel,
) -> None:
    """Train `stage` from its first step to its last; metrics are told every `REPORT_EVERY` steps."""
    if stage.steps == 0:
        return
    objective.begin(stage)
    parameters = list(objective.trainable(stage))
    peak = run.learning_rate * stage.learning_rate
    optimiser = torch.optim.AdamW(parameters, lr=peak, weight_decay=run.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, total_steps=stage.steps, pct_start=0.1)
    by_phase = {phase: [c for c in cases if c.phase is phase] for phase in stage.phases}
    means: dict[str, float] = {}
    began = time.monotonic()
    with ThreadPoolExecutor(1) as loader:  # the next batch is drawn while this one trains
        coming = loader.submit(draw_batch, run, stage, index, 0, by_phase)
        for step in range(stage.steps):
            cancel.check()
            phase, x, y = coming.result()
            if step + 1 < stage.steps:
                coming = loader.submit(draw_batch, run, stage, index, step + 1, by_phase)
            with torch.autocast("cpu", torch.bfloat16):
                terms = objective.terms(stage, phase, x, y)
            loss = torch.stack(list(terms.values())).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 12.0)
            optimiser.step()
            schedule.step()
            for name, term in terms.items():
                means[name] = means.get(name, 0.0) + float(term.detach())
            if (step + 1) % REPORT_EVERY == 0 or step + 1 == stage.steps:
                n = step % REPORT_EVERY + 1
                _report(on_event, stage, step + 1, {k: v / n for k, v in means.items()}, began)
                means.clear()


def _report(on_event: OnEvent, stage: Stage, step: int, means: dict[str, float], began: float) -> None:
    each = (time.monotonic() - began) / step
    text = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
    data = {"stage": stage.name, "step": step, "seconds_per_step": round(each, 4), **means}
    left = each * (stage.steps - step)
    on_event(Event("metric", f"{stage.name} {step} of {stage.steps}: {text}", step / stage.steps, left, data))


def draw_batch(run: RunConfig, stage: Stage, index: int, step: int, by_phase: dict[Phase, list[PhaseCase]]) -> Batch:
    """The batch of one step: one phase, x (B, 1, D, H, W) in [-1, 1], y (B, D, H, W) channel indices."""
    rng = np.random.default_rng([run.seed, index, step])
    phase = stage.phases[step % len(stage.phases)]
    images, targets = [], []
    for _ in range(run.batch):
        _, hu, channels = draw_patch(by_phase[phase], run.patch_vox, rng)
        image, target = augment(
            torch.from_numpy(hu.astype(np.float32))[None, None], torch.from_numpy(channels.astype(np.int64))[None], rng
        )
        images.append(torch.from_numpy(normalise(image.numpy(), run.window_hu)))
        targets.append(target)
    return phase, torch.cat(images), torch.cat(targets)
