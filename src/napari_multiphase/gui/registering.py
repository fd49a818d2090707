"""Register, look at it before and after, and undo it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QButtonGroup, QLabel, QVBoxLayout, QWidget

from napari_multiphase.gui.dock_parts import allow, button, row, toggle, wrapped
from napari_multiphase.gui.layers import add_image, layers_of
from napari_multiphase.gui.session import Session
from napari_multiphase.gui.window_presets import current_window
from napari_multiphase.study import PhaseTransform
from napari_multiphase.volume import Phase

if TYPE_CHECKING:
    from napari.layers import Layer

_TIP = "Find the rigid movement between the scans, so that both phases can be fused (Ctrl+Shift+R)"


def in_words(transform: PhaseTransform | None) -> str:
    """What a transform does, with its quality figures."""
    if transform is None:
        return "Not registered yet: Segment does so first."
    sentence = str(transform.quality.get("sentence") or "")
    return sentence or f"Registered ({transform.method})."


class RegisterBox(QWidget):
    """The footer of the Study dock."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.state = wrapped(faint=True)
        self.register = button("Register", session.register, _TIP)
        self.register.setShortcut("Ctrl+Shift+R")
        self.undo = button("Undo", self._undo, "Go back to how the scans lay before")
        self.off = toggle("Off", "Show the venous scan alone")
        self.before = toggle("Before", "Lay the arterial scan, as stored, over the venous one")
        self.after = toggle("After", "Lay the arterial scan, as registered, over the venous one")
        self._group = QButtonGroup(self)
        for choice in (self.off, self.before, self.after):
            self._group.addButton(choice)
        self._group.buttonClicked.connect(lambda _button: self._compare())
        self.compare = QWidget()
        self.compare.setLayout(row(QLabel("Overlay"), self.off, self.before, self.after, stretch=0))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.state)
        layout.addWidget(self.compare)
        layout.addLayout(row(self.register, self.undo, stretch=0))
        session.bridge.changed.connect(self._on_change)
        self._update()

    def _on_change(self, topic: str) -> None:
        if topic in ("study", "transform"):
            self.off.setChecked(True)
            self._remove_aligned()
        if topic == "registered":
            self._ask_aligned()
        if topic == "prediction" and not self.off.isChecked():
            self.off.setChecked(True)
            self._compare()
        self._update()

    def _undo(self) -> None:
        if self._session.kept_transform is not None:
            kept, self._session.kept_transform = self._session.kept_transform, None
            self._session.set_transform(kept)

    def _update(self) -> None:
        session = self._session
        study, job = session.study, session.job
        self.setVisible(study is not None)
        self.state.setText(in_words(study.transform) if study and len(study.phases) == 2 else "")
        self.state.setVisible(bool(self.state.text()))
        reason = f"'{job.title}' is running" if job else ""
        if study is not None and len(study.phases) < 2:
            reason = "Needs both phases"
        allow(self.register, reason, _TIP)
        self.undo.setVisible(session.kept_transform is not None)
        self.undo.setEnabled(job is None)
        self.compare.setVisible(bool(self._aligned()))

    # --- before and after ----------------------------------------------------------------------------------------

    def _aligned(self) -> list[Layer]:
        return layers_of(self._session.viewer, kind="aligned")

    def _remove_aligned(self) -> None:
        for layer in self._aligned():
            self._session.viewer.layers.remove(layer)

    def _ask_aligned(self) -> None:
        session = self._session
        study, revision = session.study, session.revision
        if study is None or study.transform is None or study.transform.method == "identity":
            return
        session.quietly("aligned", {"study": study}, lambda data: self._show_aligned(data, revision))

    def _show_aligned(self, data: Any, revision: int) -> None:
        session = self._session
        if data is None or session.study is None or revision != session.revision:
            return
        volume = session.study.volumes[Phase.VENOUS].with_data(data)
        mine = {"kind": "aligned", "phase": "arterial", "study": session.study.id}
        name = f"{session.title} arterial registered"
        layer = add_image(session.viewer, volume, name, current_window(session), **mine)
        layer.visible = False
        # Under the results, over the scans.
        session.viewer.layers.move(session.viewer.layers.index(layer), len(layers_of(session.viewer, kind="ct")))
        self._update()

    def _compare(self) -> None:
        """Lay one arterial layer in magenta over the venous one in green (grey where they agree), or none."""
        session = self._session
        assert session.study is not None
        stored = layers_of(session.viewer, kind="ct", phase="arterial", study=session.study.id)
        venous = layers_of(session.viewer, kind="ct", phase="venous", study=session.study.id)
        for layers, choice in ((stored, self.before), (self._aligned(), self.after)):
            for layer in layers:
                layer.visible = choice.isChecked()
                layer.colormap = "magenta" if choice.isChecked() else "gray"
                layer.blending = "additive" if choice.isChecked() else "translucent_no_depth"
        for layer in venous:
            layer.visible = True
            layer.colormap = "gray" if self.off.isChecked() else "green"
