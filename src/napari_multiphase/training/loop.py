"""The loop: stages, turns, mixed precision, checkpoints. It knows no loss and no network.

Everything random is derived from (seed, stage, step, item), rates are functions of the step, and the objective keeps
its own state: so (weights, optimiser state, step) is all there is to a run, and a resumed one equals an uninterrupted
one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from napari_multiphase.config import RunConfig, Traits
from napari_multiphase.errors import Cancelled, UserError
from napari_multiphase.events import Cancel, Event, OnEvent
from napari_multiphase.methods.base import Batch, Objective, Stage, Turn
from napari_multiphase.training.checkpoint import Checkpoint
from napari_multiphase.training.loader import Loader
from napari_multiphase.training.optimise import (
    learning_rate,
    load_optimiser,
    make_optimiser,
    only,
    optimiser_tensors,
    parameter_groups,
    set_rate,
    turn_parameters,
)
from napari_multiphase.training.processes import Processes

REPORT_EVERY = 25

DrawItems = Callable[[Stage, int, int, range | None], Batch]
"""(stage, index of the stage, step, items or None for all) -> a batch on the CPU."""
OnMetrics = Callable[[str, Stage, int, Mapping[str, float]], None]
"""("train", stage, step of the whole run, values)."""


@dataclass
class Means:
    """Running means of the named terms since the last report; kept on the device, in float64."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """One micro-batch."""
        for name, term in terms.items():
            value = term.detach().double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self, processes: Processes) -> dict[str, float]:
        """The means over micro-batches and processes; starts anew."""
        if not self.sums:
            return {}
        total = processes.total(torch.stack(list(self.sums.values())))
        shares = [self.counts[name] * processes.count for name in self.sums]
        values = {name: float(v) / share for name, v, share in zip(self.sums, total, shares, strict=True)}
        self.sums, self.counts = {}, {}
        return values


class Mover:
    """A turn with its parameters and optimiser."""

    def __init__(self, objective: Objective, turn: Turn, steps: int) -> None:
        self.turn, self._steps = turn, steps
        self.parameters = turn_parameters(objective, turn)
        self.optimiser = make_optimiser(turn.optimiser, parameter_groups(turn, self.parameters))

    def rate(self, step: int) -> None:
        """Set the learning rate of `step`."""
        set_rate(self.optimiser, learning_rate(self.turn.optimiser, step, self._steps))


class Loop:
    """One run of an objective, from wherever it stands to its end.

    Parameters
    ----------
    draw : gives batches.
    save : writes a checkpoint for the number of steps done.
    look : called with (stage, steps done) when it is time to look at the held-out cases. It may take long, so what was
        done is saved first; a run that goes on from there looks again, and records what an uninterrupted one does.
    """

    def __init__(
        self,
        run: RunConfig,
        traits: Traits,
        objective: Objective,
        processes: Processes,
        draw: DrawItems,
        *,
        on_metrics: OnMetrics,
        on_event: OnEvent,
        cancel: Cancel,
        save: Callable[[int, Checkpoint], None],
        look: Callable[[Stage, int], None],
    ) -> None:
        self.run, self.traits, self.objective, self.processes = run, traits, objective, processes
        self._draw, self._save, self._look = draw, save, look
        self._on_metrics, self._on_event, self._cancel = on_metrics, on_event, cancel
        self.stages = [stage for stage in objective.stages() if stage.steps]
        self._scaler = torch.amp.GradScaler(processes.device.type, enabled=processes.precision == torch.float16)
        self._means = Means()
        self._clock = time.monotonic()

    def finish(self, start: Checkpoint | None = None) -> None:
        """Train from `start`, or from the beginning, to the end.

        Raises
        ------
        Cancelled : after the current step, with a checkpoint saved.
        UserError : where a loss or a weight is no longer a number.
        """
        first_stage, first_step = self._restore_place(start)
        before = sum(stage.steps for stage in self.stages[:first_stage])
        for index in range(first_stage, len(self.stages)):
            stage = self.stages[index]
            begun = first_step if index == first_stage else 0
            if begun == 0:
                self.objective.begin(stage, lambda step, s=stage, i=index: self._whole(s, i, step))  # type: ignore[misc]
            movers = [Mover(self.objective, turn, stage.steps) for turn in stage.turns]
            if begun and start is not None:
                self._restore_optimisers(movers, start)
            if begun and start is not None and start.meta.get("look"):
                self._look(stage, before + begun)
            if begun < stage.steps:
                self._train(stage, index, begun, before, movers)
            before += stage.steps

    # --- one stage ---

    def _train(self, stage: Stage, index: int, begun: int, before: int, movers: list[Mover]) -> None:
        run, size = self.run, range(self.run.accumulate)
        parts = [self.processes.items(run, micro) for micro in size]
        began, first = time.monotonic(), begun
        self._on_event(Event("started", f"stage {stage.name}: {stage.steps} steps", data={"stage": stage.name}))
        with Loader(lambda step: [self._draw(stage, index, step, items) for items in parts], run.loaders) as loader:
            for step, batches in loader.steps(begun, stage.steps):
                torch.manual_seed(_seed(run.seed, index, step, self.processes.rank))
                self.objective.before_step(stage, step)
                moved = [batch.to(self.processes.device) for batch in batches]
                for mover in movers:
                    if step % mover.turn.every == 0:
                        self._move(stage, mover, step, moved)
                done, total = step + 1, before + step + 1
                last = done == stage.steps
                if last:
                    self.objective.end(stage)
                if done % REPORT_EVERY == 0 or last:
                    self._report(stage, done, total, (time.monotonic() - began) / (done - first))
                look = done % run.validation.every == 0 or last
                stop = self.processes.any(self._cancel.requested)
                if look or stop or total % run.checkpoint_every == 0:
                    self._save_whole(stage, index, done, total, movers, look)
                if look and not stop:
                    paused = time.monotonic()
                    self._look(stage, total)
                    began += time.monotonic() - paused
                    stop = self.processes.any(self._cancel.requested)
                if stop:
                    raise Cancelled

    def _move(self, stage: Stage, mover: Mover, step: int, batches: list[Batch]) -> None:
        """One optimiser step of one turn over the micro-batches."""
        mover.rate(step)
        mover.optimiser.zero_grad(set_to_none=True)
        parameters = list(mover.parameters.values())
        with only(self.objective, mover.parameters):
            for batch in batches:
                with self._autocast():
                    terms = self.objective.terms(stage, mover.turn, batch)
                loss = torch.stack([term.float() for term in terms.values()]).sum() / len(batches)
                self._scaler.scale(loss).backward()
                self._means.add(terms)
        self.processes.mean_gradients(parameters)
        if mover.turn.optimiser.clip_norm:
            self._scaler.unscale_(mover.optimiser)
            torch.nn.utils.clip_grad_norm_(parameters, mover.turn.optimiser.clip_norm)
        self._scaler.step(mover.optimiser)
        self._scaler.update()

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        precision = self.processes.precision
        with torch.autocast(self.processes.device.type, precision, enabled=precision != torch.float32):
            yield

    def _whole(self, stage: Stage, index: int, step: int) -> Batch:
        return self._draw(stage, index, step, None).to(self.processes.device)

    def _report(self, stage: Stage, done: int, total: int, each_s: float) -> None:
        values = self._means.take(self.processes) | dict(self.objective.watched())
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise _diverged(f"the loss '{wrong[0]}' is", stage, done)
        self._on_metrics("train", stage, total, values)
        text = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
        all_steps = sum(s.steps for s in self.stages)
        data = {"stage": stage.name, "step": total, "seconds_per_step": round(each_s, 4), **values}
        message = f"{stage.name} {done} of {stage.steps}: {text}"
        self._on_event(Event("metric", message, total / all_steps, each_s * (all_steps - total), data))

    # --- state ---

    def _save_whole(self, stage: Stage, index: int, done: int, total: int, movers: list[Mover], look: bool) -> None:
        """Save, unless something is no number: that would take the place of a good checkpoint."""
        checkpoint = self._checkpoint(index, done, movers, look)
        losses = [name for name, value in checkpoint.meta["means"].items() if not math.isfinite(value)]
        whole = all(bool(t.isfinite().all()) for t in checkpoint.tensors.values() if t.is_floating_point())
        if self.processes.any(bool(losses) or not whole):
            raise _diverged(f"the loss '{losses[0]}' is" if losses else "a weight is", stage, done)
        self._save(total, checkpoint)

    def _checkpoint(self, index: int, done: int, movers: list[Mover], look: bool) -> Checkpoint:
        tensors = {f"objective.{name}": t for name, t in self.objective.state_dict().items()}
        for mover in movers:
            tensors |= optimiser_tensors(mover.optimiser, list(mover.parameters), f"optimiser.{mover.turn.name}")
        means = {name: float(value) for name, value in self._means.sums.items()}
        meta = {"stage": index, "done": done, "look": look, "means": means, "counts": dict(self._means.counts)}
        return Checkpoint(tensors, meta | {"scaler": self._scaler.state_dict()})

    def _restore_place(self, start: Checkpoint | None) -> tuple[int, int]:
        """Load the objective; (stage, steps done in it)."""
        if start is None:
            return 0, 0
        state = {n.removeprefix("objective."): t for n, t in start.tensors.items() if n.startswith("objective.")}
        self.objective.load_state_dict(state)
        sums = {name: torch.tensor(v, dtype=torch.float64) for name, v in start.meta["means"].items()}
        self._means = Means({n: t.to(self.processes.device) for n, t in sums.items()}, start.meta["counts"])
        if start.meta["scaler"]:
            self._scaler.load_state_dict(start.meta["scaler"])
        return start.meta["stage"], start.meta["done"]

    def _restore_optimisers(self, movers: list[Mover], start: Checkpoint) -> None:
        for mover in movers:
            prefix = f"optimiser.{mover.turn.name}"
            load_optimiser(mover.optimiser, list(mover.parameters), prefix, start.tensors)


def _diverged(what: str, stage: Stage, done: int) -> UserError:
    return UserError(
        f"{what} no longer a number at step {done} of stage {stage.name}; train with a lower learning rate or in "
        "float32 (the last checkpoint is whole)"
    )


def _seed(*numbers: int) -> int:
    """One number from several, for torch's generator (dropout)."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 6364136223846793005 + number + 1442695040888963407) % (1 << 63)
    return mixed
