"""A training run from its configuration to a model folder, and on from wherever it stopped.

A run folder holds ``run.yaml`` (the configuration, every field), ``split.json`` (who is held out), ``data.json``
(hashes of the cases), ``events.jsonl`` (everything the run said), ``metrics.csv`` (losses and Dice), ``previews/``,
``checkpoints/`` (the last two), ``report.html``, and at the end ``model/``. A file ``stop`` in it ends the run after
the current step, as Ctrl+C does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from napari_multiphase.config import AugmentConfig, OptimiserConfig, PhantomConfig, RunConfig, Settings, method_config
from napari_multiphase.config.files import read_run, write_run
from napari_multiphase.errors import Cancelled, UserError
from napari_multiphase.events import Cancel, Event, OnEvent, ignore
from napari_multiphase.io.atomic import atomic_path
from napari_multiphase.io.models import find_model, read_model, tensor_shapes, write_model
from napari_multiphase.io.weights import read_weights
from napari_multiphase.methods import method
from napari_multiphase.methods.base import Objective, Stage, stored_state
from napari_multiphase.model import CARD_FILE, Model
from napari_multiphase.training.cache import prepare_cases
from napari_multiphase.training.card import card_of, model_tensors
from napari_multiphase.training.cases import TrainingCase
from napari_multiphase.training.checkpoint import FOLDER as CHECKPOINTS
from napari_multiphase.training.checkpoint import Checkpoint, has_checkpoints, load_checkpoint, save_checkpoint
from napari_multiphase.training.lock import locked
from napari_multiphase.training.loop import Loop
from napari_multiphase.training.preview import PREVIEW_FOLDER, write_preview
from napari_multiphase.training.processes import Processes
from napari_multiphase.training.record import Recorder, read_metrics
from napari_multiphase.training.report import REPORT_FILE, machine, write_report
from napari_multiphase.training.run_folder import METRICS_FILE, MODEL_FOLDER, RUN_FILE, CancelOrStop
from napari_multiphase.training.sampling import check_draws, draw_batch
from napari_multiphase.training.splits import Split, read_split, split_cases, write_split
from napari_multiphase.training.validate import validate

DATA_FILE = "data.json"


def train(
    run: RunConfig, folder: Path, *, processes: int = 2, on_event: OnEvent = ignore, cancel: Cancel | None = None
) -> Model:
    """Train `run` in `folder`, which must not hold a run yet, and return the model written to ``folder/model``.

    Parameters
    ----------
    processes : how many prepare cases at the same time.

    Raises
    ------
    UserError : the folder holds a run, the data or the settings are wrong, or a loss is no longer a number.
    Cancelled : after the current step; ``resume`` goes on from there.
    """
    notes = check_start(find_model(run.start_from), run) if run.start_from else []
    team = Processes(run)
    with _alone(folder, team, on_event):
        if team.main:
            _claim(run, folder)
            for note in notes:
                on_event(Event("warning", note))
        team.wait()
        return _Run(run, folder, team, on_event, CancelOrStop(folder, cancel or Cancel())).go(processes, resumed=False)


def resume(folder: Path, *, processes: int = 2, on_event: OnEvent = ignore, cancel: Cancel | None = None) -> Model:
    """Go on with the run in `folder` from its last checkpoint. A finished run is left as it is.

    What comes out equals an uninterrupted run bit for bit, on one kind of processor with the same number of threads.

    Raises
    ------
    UserError : there is no run or it is at work, its data changed, or its checkpoints are damaged or gone.
    """
    if not (folder / RUN_FILE).is_file():
        raise UserError(f"{folder}: holds no run ({RUN_FILE} is missing); name the folder that `multiphase train` made")
    if (folder / MODEL_FOLDER / CARD_FILE).is_file():
        on_event(Event("done", f"this run is finished: its model is in {folder / MODEL_FOLDER}", 1.0))
        return read_model(folder / MODEL_FOLDER)
    run = read_run(folder / RUN_FILE)
    team = Processes(run)
    with _alone(folder, team, on_event):
        team.wait()
        return _Run(run, folder, team, on_event, CancelOrStop(folder, cancel or Cancel())).go(processes, resumed=True)


def _alone(folder: Path, team: Processes, on_event: OnEvent) -> AbstractContextManager[None]:
    """The folder's lock, held by the process that writes."""
    return locked(folder, on_event) if team.main else nullcontext()


def _claim(run: RunConfig, folder: Path) -> None:
    if (folder / RUN_FILE).exists():
        raise UserError(
            f"{folder}: holds a run already; go on with it by `multiphase train --resume {folder}`, or choose another "
            "folder with --out"
        )
    if has_checkpoints(folder):
        raise UserError(
            f"{folder / CHECKPOINTS}: holds checkpoints of a run whose {RUN_FILE} is gone; put that file back to "
            "resume, or choose another folder with --out"
        )
    with atomic_path(folder / RUN_FILE) as part:
        write_run(run, part)


@dataclass
class _Run:
    """One process's share of a run."""

    run: RunConfig
    folder: Path
    team: Processes
    on_event: OnEvent
    cancel: CancelOrStop
    recorder: Recorder = field(init=False)

    def __post_init__(self) -> None:
        self.recorder = Recorder(self.folder, self._hear)

    def go(self, processes: int, *, resumed: bool) -> Model:
        """Train from the last checkpoint, or from the beginning, to the end."""
        try:
            return self._go(processes, resumed)
        except Cancelled:
            if self.team.count == 1:  # others might not have seen it yet
                self.cancel.forget()
            words = f"stopped; `multiphase train --resume {self.folder}` goes on"
            self.tell(Event("warning", words, data={"stopped": True}))
            self._report()
            raise
        except Exception as error:
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            self.tell(Event("failed", f"{kind}{error}"))
            self._report()
            raise

    def _go(self, processes: int, resumed: bool) -> Model:
        run, team = self.run, self.team
        self.tell(Event("started", _run_words(run, resumed), data={"machine": machine()}))
        start = self._start() if resumed else None
        if team.main:
            self.recorder.rewind({"metrics_bytes": 0} if start is None else start.meta["records"])
            self._report()
        chosen = method(run.method)
        traits = method_config(run.method, run.method_config).traits
        cases = prepare_cases(run, traits, processes=processes, on_event=self.tell, cancel=self.cancel)
        split = self._split(cases, resumed=start is not None)
        by_id = {case.id: case for case in cases}
        learn = [by_id[i] for i in split.train]
        held = [by_id[i] for i in split.validation if by_id[i].shows(traits.reads)][: run.validation.cases]
        torch.manual_seed(run.seed)
        objective = chosen.objective(run)
        check_draws(run, (stage.draw for stage in objective.stages() if stage.steps), learn)
        if start is None and run.start_from:
            load_start(objective, find_model(run.start_from))
        objective.to(team.device).train()
        stages = [stage for stage in objective.stages() if stage.steps]
        steps = sum(stage.steps for stage in stages)

        def look(stage: Stage, step: int) -> None:
            # A process without cases takes part all the same: the sums are over all of them.
            show = partial(self._show, step) if team.main else None
            if held:
                words = f"looking at {len(held)} held-out case{'' if len(held) == 1 else 's'}"
                self.tell(Event("progress", words, step / steps, data={"validation": True, "step": step}))
            values = validate(run, chosen, objective.nets, held, team, show)
            if team.main and values:
                self.recorder.metrics("validation", stage.name, step, values)
                self.tell(Event("metric", _dice_words(values), data={"validation": True, "step": step, **values}))
                self._report()

        if start is None and run.start_from and stages:
            look(stages[0], 0)  # what the model knew before
        Loop(
            run,
            traits,
            objective,
            team,
            lambda stage, index, step, items: draw_batch(run, traits, stage.draw, learn, index, step, items),
            on_metrics=self._metrics,
            on_event=self.tell,
            cancel=self.cancel,
            save=self._save,
            look=look,
        ).finish(start)
        return self._finish(objective)

    def _start(self) -> Checkpoint | None:
        """Where to go on; None where the run stopped before its first checkpoint."""
        start = load_checkpoint(self.folder, self.tell)
        if start is not None:
            return start
        reached = max((row.step for row in read_metrics(self.folder)), default=0)
        if reached > self.run.checkpoint_every:
            raise UserError(
                f"{self.folder / CHECKPOINTS}: no checkpoint is left of a run that reached step {reached}; put the "
                f"folder back, or remove {METRICS_FILE} to begin again at step 0"
            )
        self.tell(Event("warning", f"{self.folder / CHECKPOINTS}: no checkpoint; the run begins again at step 0"))
        return None

    def _known(self) -> dict[str, str] | None:
        """The cases of a run that is resumed: id -> key; None where the file is gone."""
        path = self.folder / DATA_FILE
        try:
            return {str(case): str(key) for case, key in json.loads(path.read_text(encoding="utf-8")).items()}
        except FileNotFoundError:
            self.tell(Event("warning", f"{path} is gone: whether the cases are what they were cannot be told"))
            return None
        except (OSError, ValueError, AttributeError) as error:
            text = f"{path} is damaged; put it back, or remove it to go on without comparing the cases"
            raise UserError(text) from error

    def _split(self, cases: Sequence[TrainingCase], resumed: bool) -> Split:
        """The split of this run, kept in its folder; a resumed run's data must be what it was."""
        keys = {case.id: case.key for case in cases}
        if resumed:
            split, known = read_split(self.folder), self._known()
            if known is None:  # at least nobody may be missing
                known = {case: keys.get(case, "") for case in (*split.train, *split.validation)} | keys
            changed = sorted(set(known.items()) ^ set(keys.items()))
            if changed:
                raise UserError(
                    f"case '{changed[0][0]}' is not what it was when this run began; put the old files back, or train "
                    "anew in another folder"
                )
            return split
        reads = method_config(self.run.method, self.run.method_config).traits.reads
        split = split_cases(cases, self.run.validation, reads)
        if self.team.main:
            write_split(split, self.run.validation, self.folder)
            with atomic_path(self.folder / DATA_FILE) as part:
                part.write_text(json.dumps(keys, indent=1) + "\n", encoding="utf-8")
            for note in split.notes:
                self.tell(Event("warning", note))
            held = ", ".join(split.validation) or "none"
            self.tell(Event("progress", f"{len(split.train)} cases to learn from; held out: {held}"))
        self.team.wait()
        return split

    def _metrics(self, which: Any, stage: Stage, step: int, values: Any) -> None:
        if self.team.main:
            self.recorder.metrics(which, stage.name, step, values)

    def _show(self, step: int, *picture: NDArray[Any]) -> None:
        self.recorder.attempt(PREVIEW_FOLDER, lambda: write_preview(self.folder, f"{step:06d}", *picture))

    def _save(self, step: int, checkpoint: Checkpoint) -> None:
        """A disk that refuses costs this checkpoint, not the run: the ones before stay."""
        if self.team.main:
            meta = {**checkpoint.meta, "records": self.recorder.position()}
            try:
                save_checkpoint(self.folder, step, Checkpoint(checkpoint.tensors, meta))
            except UserError as error:
                self.tell(Event("warning", f"no checkpoint at step {step}: {error}"))

    def _finish(self, objective: Objective) -> Model:
        model = None
        if self.team.main:
            model = write_model(self.folder / MODEL_FOLDER, card_of(self.run), model_tensors(objective))
            self.tell(Event("done", f"model written to {model.folder}", 1.0))
            self._report()
        self.team.wait()
        return model or read_model(self.folder / MODEL_FOLDER)

    # --- events ---

    def _report(self) -> None:
        if self.team.main:
            self.recorder.attempt(REPORT_FILE, lambda: write_report(self.folder))

    def tell(self, event: Event) -> None:
        """To the run's records and to the caller, from one process."""
        if self.team.main:
            self.recorder.tell(event)
            self.on_event(event)

    def _hear(self, event: Event) -> None:
        """A warning of the recorder itself: it cannot write this down."""
        self.on_event(event)


def _run_words(run: RunConfig, resumed: bool) -> str:
    data = f"{run.data.cases} phantoms" if isinstance(run.data, PhantomConfig) else f"the cases of {run.data.path}"
    start = f"from {run.start_from}" if run.start_from else "from scratch"
    done = "going on with" if resumed else "training"
    return f"{done} '{run.name}': {run.method} {start}, on {data}, seed {run.seed}"


def _dice_words(values: dict[str, float]) -> str:
    mean = values.get("dice mean", float("nan"))
    each = ", ".join(f"{n.removeprefix('dice ')} {v:.2f}" for n, v in values.items() if n != "dice mean")
    return f"held-out cases: mean Dice {mean:.3f} ({each})"


def check_start(model: Model, run: RunConfig) -> list[str]:
    """Whether `run` can start from `model`, asked before any data are prepared; what the person should know.

    Raises
    ------
    UserError : another method, other labels, or settings that make another network.
    """
    card, name = model.card, f"model '{model.card.name}'"
    remedy = f"; `multiphase plan DATASET --method {card.method} --from` with this model writes a run that fits"
    if card.method != run.method:
        raise UserError(f"{name} is a {card.method} model, and this run trains {run.method}{remedy}")
    if card.labels != run.labels:
        raise UserError(f"{name} has other labels than this run ({list(card.labels)}, not {list(run.labels)}){remedy}")
    with torch.device("meta"):
        state = stored_state(method(run.method).objective(run).nets)
    if {key: tuple(t.shape) for key, t in state.items()} != tensor_shapes(model):
        theirs, ours = (_leaves(method_config(run.method, c)) for c in (card.config, run.method_config))
        differing = [f"{key} {theirs.get(key)}, not {ours.get(key)}" for key in ours if ours[key] != theirs.get(key)]
        raise UserError(f"{name} is another network than this run's ({'; '.join(differing)}){remedy}")
    notes = []
    for what in ("spacing_mm", "window_hu"):
        known, given = getattr(card, what), getattr(run, what)
        if known != given:
            notes.append(f"{name} has {what} {list(known)}, this run {list(given)}: it has more to learn anew")
    return notes


def _leaves(config: Settings) -> dict[str, Any]:
    """Settings by dotted name, those of training left out."""
    flat: dict[str, Any] = {}
    for name, value in config.model_dump(mode="json").items():
        part = getattr(config, name)
        if isinstance(part, OptimiserConfig | AugmentConfig) or name.endswith("steps"):
            continue
        flat |= {f"{name}.{k}": v for k, v in _leaves(part).items()} if isinstance(part, Settings) else {name: value}
    return flat


def load_start(objective: Objective, model: Model) -> None:
    """Give `objective` the weights of `model`, which `check_start` has passed."""
    wanted = {name: tuple(t.shape) for name, t in stored_state(objective.nets).items()}
    weights = read_weights(model, wanted)
    objective.nets.load_state_dict({n: torch.from_numpy(w).float() for n, w in weights.items()}, strict=False)
