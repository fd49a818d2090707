"""Every prediction of the window is kept in the study's workspace, in the background; the last one comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_multiphase.events import Event
from napari_multiphase.study import Prediction

if TYPE_CHECKING:
    from napari_multiphase.gui.session import Session


class Keeping:
    """Follows one session. `bridge.changed` says "predictions" when one was kept."""

    def __init__(self, session: Session) -> None:
        self._session = session
        session.bridge.changed.connect(self._on_change)

    def recalled(self, prediction: Prediction) -> None:
        """Show a prediction that the study kept, as the newest one."""
        session = self._session
        session.new_run(prediction, frozenset({"labels", "fused", "confidence"}), kept=True)

    def _on_change(self, topic: str) -> None:
        session, run = self._session, self._session.run
        if topic != "prediction" or run is None or run.kept or session.study is None:
            return
        run.kept = True
        params = {"study": session.study, "prediction": run.prediction, "folder": session.annotating.folder}

        def on_event(event: Event) -> None:
            if event.kind == "done":
                session.bridge.post(lambda: session.bridge.changed.emit("predictions"))
            elif event.kind == "failed" and not event.data.get("cancelled"):
                text = f"The prediction is shown, but could not be kept in the study: {event.message}"
                session.bridge.post(lambda: session.tell_error("keep_prediction", text, ""))

        session.client.submit(
            "keep_prediction", params, study_id=session.study.id, revision=session.revision, where="parser",
            on_event=on_event,
        )  # fmt: skip
