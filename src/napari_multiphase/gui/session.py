"""One plain object per viewer: what is open, what was predicted, what runs. The docks share it; it draws nothing.

Every job goes through `jobs.client`; answers come on a reader thread and are handed to the window's thread by the
bridge. An answer for an older revision of the study is not shown as the new one's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_multiphase.events import Event
from napari_multiphase.gui.annotating import Annotating
from napari_multiphase.gui.bridge import Bridge
from napari_multiphase.gui.keeping import Keeping
from napari_multiphase.gui.private import ListedTask
from napari_multiphase.gui.remember import add_recent, preference
from napari_multiphase.gui.roles import FoundScan, found_scan
from napari_multiphase.study import PhaseTransform, Prediction, Study, title_of
from napari_multiphase.volume import Phase

if TYPE_CHECKING:
    import napari

    from napari_multiphase.jobs import Client, Handle
    from napari_multiphase.model import Model

_SETTLE_MS = 80
"""Paths that arrive within this time (two files dropped at once) are opened together."""


@dataclass
class Job:
    """The one job the user waits for."""

    task: str
    title: str
    listed: ListedTask
    on_result: Callable[[Any], object]
    handle: Handle | None = None
    result: Any = None


@dataclass
class Run:
    """One prediction and what the user does with it."""

    number: int
    prediction: Prediction
    model: Model | None
    outputs: frozenset[str]
    centres: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """A voxel in the middle of each structure, by id as text; filled in a moment after the prediction."""
    kept: bool = False
    """Whether the study's workspace has it, or is about to."""


class Session:
    """What the docks of one viewer share.

    Attributes
    ----------
    annotating : the labels that are being corrected; keeping : predictions in the study's workspace.
    viewer, bridge : the napari viewer, and the signals that say what changed.
    scans : what was found in the opened paths; `chosen` says which of them is which phase, by key.
    study, revision : the open study; the revision grows with everything that makes older results stale.
    transform_before : what *Undo* goes back to; `transform_kept` is False while *Keep* is still to be pressed.
    model, plan : the chosen model, and the plan for it and the study.
    run : the newest prediction of this study.
    phase_weight, hidden : weight of the arterial phase in the fused result; ids of structures not shown.
    """

    def __init__(self, viewer: napari.Viewer, tasks: str = "napari_multiphase.jobs.tasks") -> None:
        self.viewer = viewer
        self.bridge = Bridge()
        self.inputs: list[Path] = []
        self.scans: Sequence[FoundScan] = ()
        self.chosen: dict[Phase, str] = {}
        self.study: Study | None = None
        self.title = ""
        self.revision = 0
        self.transform_before: PhaseTransform | None = None
        self.transform_kept = True
        self.model: Model | None = None
        self.plan: Any = None
        self.run: Run | None = None
        self.phase_weight = float(preference("segment", "phase_weight", 0.5))
        self.hidden: frozenset[int] = frozenset()
        self.job: Job | None = None
        self.furniture: object = None
        self.annotating = Annotating(self)
        self.keeping = Keeping(self)
        self._tasks = tasks
        self._client: Client | None = None
        self._runs = 0
        self._arriving: list[Path] = []

    # --- jobs ----------------------------------------------------------------------------------------------------

    @property
    def client(self) -> Client:
        """The way to the compute processes, started when first needed."""
        if self._client is None:
            from napari_multiphase.jobs.client import Client

            grace_s = float(preference("segment", "cancel_grace_s", 0.8))
            self._client = Client(grace_s=grace_s, tasks=self._tasks)
        return self._client

    def ask(
        self, task: str, title: str, params: Mapping[str, Any], on_result: Callable[[Any], object], **options: Any
    ) -> None:
        """Start the job the user waits for; `on_result` gets its result on the window's thread."""
        if self.job is not None:
            self.tell_error(task, f"'{self.job.title}' is still running: wait for it or cancel it first.", "")
            return
        self._submit(task, title, params, on_result, options)
        self.bridge.changed.emit("busy")

    def _submit(self, task: str, title: str, params: Any, on_result: Callable[[Any], object], options: Any) -> None:
        # Before the request: listing a task lets Qt handle events, and an answer must find its job.
        job = Job(task, title, ListedTask(self.viewer, title, self.cancel), on_result)
        self.job = job

        def on_event(event: Event) -> None:
            if event.kind == "done":
                job.result = job.handle.result if job.handle else None  # decoded here, on the reader's thread
            self.bridge.post(lambda: self._hear(job, event))

        study_id = self.study.id if self.study else ""
        job.handle = self.client.submit(
            task, params, study_id=study_id, revision=self.revision, on_event=on_event, **options
        )

    def quietly(self, task: str, params: Mapping[str, Any], on_result: Callable[[Any], object], **options: Any) -> None:
        """A small job nobody waits for (a plan, a card): no progress, a failure gives None."""

        def on_event(event: Event) -> None:
            if event.kind in ("done", "failed"):
                result = handle.result
                self.bridge.post(lambda: on_result(result))

        handle = self.client.submit(
            task, params, study_id=self.study.id if self.study else "", revision=self.revision,
            on_event=on_event, **options,
        )  # fmt: skip

    def cancel(self) -> None:
        """Stop the running job."""
        if self.job is not None and self.job.handle is not None:
            self.job.handle.cancel()

    def _hear(self, job: Job, event: Event) -> None:
        if job is not self.job:
            return
        if event.kind == "done":
            self._end_job("completed")
            job.on_result(job.result)
        elif event.kind == "failed":
            cancelled = bool(event.data.get("cancelled"))
            self._end_job("cancelled" if cancelled else "failed")
            if not cancelled:
                self.tell_error(job.task, event.message, str(event.data.get("details", "")))
        elif event.kind == "warning":
            self.bridge.progressed.emit(event.message, event.fraction, event.remaining_s)
        else:
            text = event.message if event.kind == "progress" and event.message else job.title
            job.listed.step(text, event.fraction)
            self.bridge.progressed.emit(text, event.fraction, event.remaining_s)

    def _end_job(self, outcome: str) -> None:
        assert self.job is not None
        self.job.listed.close(outcome)
        self.job = None
        self.bridge.changed.emit("busy")

    def tell_error(self, task: str, sentence: str, log: str) -> None:
        """Say a failure in the dock and as a notification, without a traceback."""
        from napari.utils.notifications import show_error

        if sentence.split(" ")[0].isalpha():  # a file's name keeps its case
            sentence = sentence[:1].upper() + sentence[1:]
        show_error(sentence)
        self.bridge.failed.emit(task, sentence, log)

    # --- opening -------------------------------------------------------------------------------------------------

    def open_paths(self, paths: Sequence[Path]) -> None:
        """Open files or folders; what arrives shortly after belongs to it (napari hands dropped files one by one)."""
        self._arriving += [Path(path) for path in paths]
        self.bridge.later(_SETTLE_MS, self._open_arrived)

    def _open_arrived(self) -> None:
        if not self._arriving:
            return
        inputs = list(dict.fromkeys(self._arriving))
        self._arriving = []
        title = f"Looking into {inputs[0].name}" if len(inputs) == 1 else f"Looking into {len(inputs)} files"
        self.ask("look", title, {"inputs": inputs}, lambda seen: self._looked(inputs, seen), where="parser")

    def _looked(self, inputs: list[Path], seen: Mapping[str, Any]) -> None:
        self.inputs, self.scans = inputs, tuple(found_scan(entry) for entry in seen["scans"])
        self.chosen = {Phase(phase): key for phase, key in seen["chosen"].items()}
        add_recent(inputs)
        self.study = None
        self.bridge.changed.emit("scans")
        if seen["study"] is not None:
            self._opened(seen["study"])
        else:
            self.tell_error("pair", seen["problem"], "")

    def choose(self, phase: Phase, key: str | None) -> None:
        """Give a scan a role; the other phase loses it if it had it."""
        chosen = {p: k for p, k in self.chosen.items() if p is not phase and k != key}
        if key is not None:
            chosen[phase] = key
        self._open_chosen(chosen)

    def swap(self) -> None:
        """Arterial becomes venous and the other way round."""
        self._open_chosen({phase.other: key for phase, key in self.chosen.items()})

    def _open_chosen(self, chosen: dict[Phase, str]) -> None:
        self.chosen = chosen
        self.bridge.changed.emit("scans")
        if chosen:
            params = {"inputs": self.inputs, "keys": {str(phase): key for phase, key in chosen.items()}}
            self.ask("pair", "Reading the scans", params, self._opened, where="parser")

    def _opened(self, study: Study) -> None:
        self.study, self.run, self.plan = study, None, None
        self.transform_before, self.transform_kept = None, True
        kept = len(self.inputs) == 1 and (self.inputs[0] / "study.json").is_file()
        self.title = title_of(study, [] if kept else self.inputs)
        self.revision += 1
        self.bridge.changed.emit("study")

    # --- registering ---------------------------------------------------------------------------------------------

    @property
    def unregistered(self) -> bool:
        """Whether there are two phases and nobody has said yet how they lie to each other."""
        return self.study is not None and len(self.study.phases) == 2 and self.study.transform is None

    def register(self, method: str = "rigid", then: Callable[[], object] | None = None) -> None:
        """Bring the phases together by a method of `RegisterOptions`; with `then`, keep it and go on with that."""
        from napari_multiphase.config import RegisterOptions

        assert self.study is not None
        params: dict[str, Any] = {"study": self.study, "options": RegisterOptions(method=method)}  # type: ignore[arg-type]
        results = {} if self.run is None or self.run.prediction.one_map else self.run.prediction.phases
        if len(results) == 2:  # what was found in each phase by itself tells how well organs meet
            for phase, result in results.items():
                params[f"{phase}_labels"] = self.study.volumes[phase].with_data(result.labels)
        self.ask("register", "Registering", params, lambda transform: self._registered(transform, then))

    def _registered(self, transform: PhaseTransform, then: Callable[[], object] | None) -> None:
        assert self.study is not None
        before = self.study.transform or PhaseTransform.identity()
        self.set_transform(transform, before, kept=then is not None)
        if then is not None:
            then()
        else:
            self.bridge.changed.emit("registered")

    def set_transform(
        self, transform: PhaseTransform, before: PhaseTransform | None = None, *, kept: bool = True
    ) -> None:
        """Use `transform` from now on, and keep it in the study's workspace or wait for *Keep*."""
        assert self.study is not None
        self.study = self.study.with_transform(transform)
        self.transform_before, self.transform_kept = before, kept
        self.revision += 1
        self.bridge.changed.emit("transform")
        if kept:
            self.quietly("keep", {"study": self.study, "folder": self.annotating.folder}, self._kept)

    def keep_transform(self) -> None:
        """Keep the transform that is in use."""
        if self.study is not None and not self.transform_kept:
            self.transform_kept = True
            self.quietly("keep", {"study": self.study, "folder": self.annotating.folder}, self._kept)
            self.bridge.changed.emit("kept")

    def undo_transform(self) -> None:
        """Go back to what was in use before the last registration."""
        if self.transform_before is not None:
            self.set_transform(self.transform_before)

    def _kept(self, folder: Path | None) -> None:
        if folder is None:
            self.tell_error("register", "The registration is in use, but could not be kept for the next time.", "")

    # --- segmenting ----------------------------------------------------------------------------------------------

    def new_run(self, prediction: Prediction, outputs: frozenset[str], *, kept: bool = False) -> None:
        """A prediction arrived; `kept` where it comes from the study's workspace."""
        self._runs += 1
        self.run = Run(self._runs, prediction, self.model, outputs, kept=kept)
        self.phase_weight = prediction.phase_weight
        self.bridge.changed.emit("prediction")

    def set_weight(self, weight: float) -> None:
        """Move the slider between the phases."""
        self.phase_weight = min(max(weight, 0.0), 1.0)
        self.bridge.changed.emit("weight")

    def set_hidden(self, hidden: frozenset[int]) -> None:
        """Show all structures but these."""
        self.hidden = hidden
        self.bridge.changed.emit("hidden")

    def close(self) -> None:
        """The window closes: what is not saved is saved, nothing may arrive any more, every process ends."""
        self.annotating.close()
        self.bridge.close()
        for key in [key for key, session in _sessions.items() if session is self]:
            del _sessions[key]
        if self._client is not None:
            self._client.close()


_sessions: dict[int, Session] = {}
"""By id of the viewer; an entry lives as long as the viewer's window."""


def get_session(viewer: napari.Viewer) -> Session:
    """The session of a viewer, made when first asked for and closed with its window."""
    session = _sessions.get(id(viewer))
    if session is None:
        from napari_multiphase.gui.workbench import furnish

        session = _sessions[id(viewer)] = Session(viewer)
        session.furniture = furnish(session)
    return session
