"""The labels that are being corrected: one editable layer per session, saved as it changes, never a prediction's own.

Everything that takes time happens elsewhere: the parser child makes the file, the autosave's thread opens and saves it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.errors import UserError
from napari_multiphase.events import Event
from napari_multiphase.gui.autosave import Autosave, Opened, SaveState
from napari_multiphase.gui.edits import Box, Edit, Edits, follow
from napari_multiphase.gui.layers import LABELS_OPACITY, add_labels, layers_of, ours
from napari_multiphase.gui.strokes import Strokes
from napari_multiphase.volume import Grid, Phase, Volume

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_multiphase.gui.session import Session
    from napari_multiphase.jobs import Handle
    from napari_multiphase.studies.annotation import StructureState

KIND = "annotation"
MODEL_ACTIONS = {"segment": "segment", "register": "register", "translate": "translate"}
"""Jobs before which a snapshot is taken, and its name."""


class Annotating:
    """What the Correct dock works on. `bridge.changed` says "annotation" when it begins or ends, "preparing" when
    `preparing` changes, "edited" when labels or marks change, "states" when a structure's state does, and "saved" when
    `save_state` does.

    Attributes
    ----------
    preparing : what is being done between `begin` and "annotation", in words; "" when nothing is.
    layer : the editable layer; None while nothing is being corrected.
    phase, volume, grid : the scan whose labels these are.
    states : `StructureState` by label id.
    confidence : (D, H, W) uint8 of the prediction that it started from, where that is kept; else None.
    reviewed : (D, H, W) bool, the voxels that a person changed or marked as looked at.
    edits : the undo stack of labels and marks.
    reading : why nothing can be changed (another window has it), or "".
    damaged : the file that cannot be opened, for `recover`; else None.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._bridge = session.bridge
        self._autosave: Autosave | None = None
        self._folder: Path | None = None
        self._asked: object = None
        self._recalling = False
        self._wanted: Phase | None = None
        self._making: Handle | None = None
        self.preparing = ""
        self._clear()
        self._told_why: dict[Autosave, str] = {}
        self._old: dict[Autosave, Labels] = {}
        session.bridge.changed.connect(self._on_change)

    def _clear(self) -> None:
        self.layer: Labels | None = None
        self.phase = Phase.VENOUS
        self.volume: Volume | None = None
        self.states: dict[int, StructureState] = {}
        self.confidence: NDArray[np.uint8] | None = None
        self.reviewed: NDArray[np.bool_] = np.zeros((0, 0, 0), bool)
        self.edits: Edits | None = None
        self._strokes: Strokes | None = None
        self.reading = ""
        self.damaged: Path | None = None
        self.model = ""

    @property
    def grid(self) -> Grid:
        """The grid of the scan whose labels these are."""
        assert self.volume is not None
        return self.volume.grid

    @property
    def folder(self) -> Path | None:
        """The study's workspace where it is not the default one."""
        return self._folder

    # --- beginning and ending ------------------------------------------------------------------------------------

    def begin(self, phase: Phase) -> None:
        """Correct the labels of `phase`: what the study keeps, else a copy of its newest prediction, else from nothing.

        Returns at once; "annotation" follows.
        """
        session, study = self._session, self._session.study
        if study is None or phase not in study.volumes:
            return
        if self.layer is not None and self.phase is phase and self._of(study.id):
            return
        if self._recalling:  # where the study keeps its labels is not known before
            self._wanted = phase
            self._prepare(f"Preparing the {phase} labels")
            return
        self.end()
        params: dict[str, Any] = {"study": study, "phase": phase, "folder": self._folder}
        result = session.run.prediction.phases.get(phase) if session.run is not None else None
        if session.run is not None and result is not None:
            params |= {"labels": result.labels, "model": session.run.prediction.model_name}
        self._asked = token = object()
        own = result.confidence if result is not None else None
        self._prepare(f"Preparing the {phase} labels")

        def on_event(event: Event) -> None:
            if event.kind == "done":
                told = making.result
                self._bridge.post(lambda: self._made(token, phase, told, own))
            elif event.kind == "failed" and not event.data.get("cancelled"):
                details = str(event.data.get("details", ""))
                self._bridge.post(lambda: self._failed(token, event.message, details))

        self._making = making = session.client.submit(
            "begin_annotation", params, study_id=study.id, revision=session.revision, where="parser", on_event=on_event
        )

    def cancel(self) -> None:
        """Do not begin after all; a file that is complete by now stays, for the next time."""
        self._asked = self._wanted = None
        if self._making is not None:
            self._making.cancel()
        self._prepare("")

    def _prepare(self, words: str) -> None:
        if words != self.preparing:
            self.preparing = words
            self._bridge.changed.emit("preparing")

    def end(self) -> None:
        """Save what is left and put the layer away; returns at once."""
        self.cancel()
        layer, autosave = self.layer, self._autosave
        self._autosave = None
        self._clear()
        if autosave is not None:
            autosave.close()
        if layer is not None:
            layer.editable = False
            if autosave is None or autosave.state.kind in ("saved", "reading"):
                self._remove(layer)
            else:
                self._old[autosave] = layer
            self._bridge.changed.emit("annotation")

    def recover(self) -> None:
        """Put the newest snapshot in the place of a damaged file and go on with it."""
        from napari_multiphase.studies.snapshots import recover

        if self.damaged is None:
            return
        try:
            snapshot = recover(self.damaged)
        except UserError as error:
            self._session.tell_error("annotation", str(error), "")
            return
        phase, self.damaged = self.phase, None
        from napari.utils.notifications import show_info

        when = time.strftime("%d %b %H:%M", time.localtime(snapshot.created))
        show_info(f"Back to the snapshot of {when} (before {snapshot.name}); the damaged file is kept beside it.")
        self.begin(phase)

    def close(self, wait_s: float = 5.0) -> None:
        """The window closes: save what is left."""
        autosave, self._autosave = self._autosave, None
        if autosave is not None:
            autosave.close()
        until = time.monotonic() + wait_s
        for left in (autosave, *self._old):
            if left is not None and left.is_alive():
                left.join(max(0.0, until - time.monotonic()))

    def _made(self, token: object, phase: Phase, told: Mapping[str, Any], own: NDArray[np.uint8] | None) -> None:
        study = self._session.study
        if token is not self._asked or study is None:
            return
        confidence = own if told["fresh"] and own is not None else told["confidence"]
        fresh = bool(told["fresh"])
        holder: list[Autosave] = []

        def opened(found: Opened | UserError) -> None:
            if isinstance(found, Opened) and not fresh and not found.reading:
                holder[0].snapshot("opened")
            self._bridge.post(lambda: self._opened(token, holder[0], phase, confidence, found))

        def saved(state: SaveState) -> None:
            self._bridge.post(lambda: self._hear(holder[0], state))

        self._prepare(f"Reading the {phase} labels")
        holder.append(Autosave(Path(told["file"]), opened, saved))
        holder[0].start()

    def _opened(
        self,
        token: object,
        autosave: Autosave,
        phase: Phase,
        confidence: NDArray[np.uint8] | None,
        found: Opened | UserError,
    ) -> None:
        study = self._session.study
        if token is not self._asked or study is None:
            autosave.close()
            return
        self._asked = None
        self._prepare("")
        self.phase, self.volume = phase, study.volumes[phase]
        if isinstance(found, UserError):
            self.damaged = autosave.path
            self._session.tell_error("annotation", str(found), "")
            self._bridge.changed.emit("annotation")
            return
        if found.annotation.grid != self.grid:
            autosave.close()
            text = f"{autosave.path} belongs to another scan than the {phase} one that is open: open its own study"
            self._session.tell_error("annotation", text, "")
            return
        self._autosave, self.reading = autosave, found.reading
        self.states, self.confidence, self.reviewed = dict(found.annotation.states), confidence, found.reviewed
        self.model = found.annotation.model
        self._show(found)
        if found.reading:
            self._session.tell_error("annotation", found.reading, "")
        self._bridge.changed.emit("annotation")
        self._bridge.changed.emit("states")
        self._bridge.changed.emit("saved")

    def _show(self, found: Opened) -> None:
        session, study = self._session, self._session.study
        assert study is not None and self._autosave is not None
        source = study.volumes[self.phase].source.to_dict()
        mine = {"kind": KIND, "phase": str(self.phase), "study": study.id, "source": source}
        name = f"{session.title} {self.phase} annotation"
        layer = add_labels(session.viewer, found.labels, self.grid, name, **mine)
        self.layer = layer
        layer.opacity, layer.visible, layer.editable = LABELS_OPACITY, True, not found.reading
        for old in layers_of(session.viewer, study=study.id):  # what is corrected is seen on its own scan, a real one
            kind, own = ours(old).get("kind"), ours(old).get("phase") == str(self.phase)
            if kind == "ct":
                old.visible = own
            elif old is not layer and (kind != "confidence" or not own):
                old.visible = False
        session.viewer.layers.selection.active = layer
        if found.reading:
            return
        autosave = self._autosave

        def touch(box: Box | None) -> None:
            if autosave is self._autosave:
                autosave.touch(box)

        self._strokes = Strokes(session.viewer, layer, touch)
        self.edits = Edits(layer.data, self.reviewed, self._edited)
        follow(layer, self.edits)
        session.viewer.layers.events.removed.connect(self._on_removed)
        autosave.watch(lambda: (np.asarray(layer.data), found.reviewed))

    # --- changing ------------------------------------------------------------------------------------------------

    def apply(self, box: Box, after: NDArray[np.uint8], what: str) -> None:
        """Put `after` into `box` of the labels, as one step of undo called `what`."""
        if self.edits is not None:
            self.edits.apply(box, after, what)

    def mark_reviewed(self, box: Box, mask: NDArray[np.bool_]) -> None:
        """The voxels of `mask`, which has the box's shape, were looked at and are right."""
        if self.edits is not None:
            self.edits.mark(box, mask)

    def set_state(self, structure: int, state: StructureState) -> None:
        """Say how far a structure is: saved at once, not undoable."""
        if self._autosave is not None and not self.reading:
            self.states[structure] = state
            self._autosave.set_state(structure, state)
            self._bridge.changed.emit("states")

    def undo(self) -> None:
        """Take back the last tool, stroke or mark."""
        if self.edits is not None:
            self.edits.undo()

    def redo(self) -> None:
        """Do again what was undone last."""
        if self.edits is not None:
            self.edits.redo()

    def snapshot(self, name: str) -> None:
        """Save, then keep a snapshot, in the background: call it before a model changes anything."""
        if self._autosave is not None and not self.reading:
            self._autosave.snapshot(name)

    def _edited(self, edit: Edit) -> None:
        if self._strokes is not None:
            self._strokes.edited(edit)
        self._bridge.changed.emit("edited")

    def _on_removed(self, event: Any) -> None:
        if event.value is self.layer:
            self.end()

    # --- what the session and the autosave say -------------------------------------------------------------------

    def _hear(self, autosave: Autosave, state: SaveState) -> None:
        loud = state.kind == "failed" and self._told_why.get(autosave) != state.why
        if state.kind == "failed":
            self._told_why[autosave] = state.why
        elif state.kind in ("saved", "closed"):
            self._told_why.pop(autosave, None)
        if autosave is not self._autosave:
            self._hear_old(autosave, state, loud)
            return
        if state.states is not None and state.kind == "saved" and state.states != self.states:
            self.states = dict(state.states)
            self._bridge.changed.emit("states")
        if loud:
            self._session.tell_error("annotation", f"Your corrections are not saved: {state.why}", "")
        self._bridge.changed.emit("saved")

    def _hear_old(self, autosave: Autosave, state: SaveState, loud: bool) -> None:
        """One that was put away: its layer stays until what it shows is safe."""
        layer = self._old.get(autosave)
        if state.kind == "closed" and layer is not None:
            self._remove(self._old.pop(autosave))
        elif state.kind == "failed" and layer is not None and not layer.name.startswith("NOT SAVED"):
            layer.name = f"NOT SAVED {layer.name}"
        if loud:
            self._session.tell_error("annotation", f"Corrections of the last study are not saved: {state.why}", "")

    def _remove(self, layer: Labels) -> None:
        if layer in self._session.viewer.layers:
            self._session.viewer.layers.remove(layer)

    @property
    def save_state(self) -> SaveState:
        """How it stands right now."""
        return SaveState("saved") if self._autosave is None else self._autosave.state

    @property
    def saved(self) -> str:
        """How safe the work is, in words; empty while nothing is being corrected."""
        if self.layer is None:
            return ""
        return "Open in another window: look, not change" if self.reading else self.save_state.words(time.time())

    def _of(self, study_id: str) -> bool:
        return self.layer is not None and ours(self.layer).get("study") == study_id

    def _on_change(self, topic: str) -> None:
        session, study = self._session, self._session.study
        if topic == "busy" and session.job is not None and session.job.task in MODEL_ACTIONS:
            self.snapshot(MODEL_ACTIONS[session.job.task])
        elif topic == "study" and study is not None:
            if not self._of(study.id):
                self.end()
            self._folder = None
            params = {"study": study, "inputs": session.inputs}
            self._recalling = True
            session.quietly("recall", params, lambda told: self._recalled(study.id, told), where="parser")

    def _recalled(self, study_id: str, told: Mapping[str, Any] | None) -> None:
        """Bring back what was done with these scans before: the last prediction, and what was being corrected.

        `told` is None where that could not be read.
        """
        session = self._session
        if session.study is None or session.study.id != study_id:
            return
        self._recalling = False
        wanted, self._wanted = self._wanted, None
        if told is not None:
            self._folder = Path(told["folder"])
            shown = layers_of(session.viewer, kind="labels", study=study_id)
            if told["prediction"] is not None and session.run is None and not shown:
                session.keeping.recalled(told["prediction"])
            if wanted is None and told["annotations"] and self.layer is None and self._asked is None:
                wanted = Phase(told["annotations"][0])
        if wanted is not None:
            self.begin(wanted)
        if told is not None:
            self._bridge.changed.emit("recalled")

    def _failed(self, token: object, sentence: str, details: str) -> None:
        if token is self._asked:
            self._asked = None
            self._prepare("")
        self._session.tell_error("annotation", sentence, details)
