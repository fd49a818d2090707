"""Register, look at it before and after, keep it or undo it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QButtonGroup, QComboBox, QLabel, QVBoxLayout, QWidget

from napari_multiphase.gui.dock_parts import allow, button, row, toggle, wrapped
from napari_multiphase.gui.layers import image_arguments, insert_hidden, layers_of
from napari_multiphase.gui.private import apart
from napari_multiphase.gui.remember import recall, remember
from napari_multiphase.gui.session import Session
from napari_multiphase.gui.show import TURN_MS
from napari_multiphase.gui.window_presets import current_window
from napari_multiphase.study import PhaseTransform
from napari_multiphase.volume import Phase

if TYPE_CHECKING:
    from napari.layers import Layer

_TIP = "Find how the arterial scan lies to the venous one, so that both phases can be fused (Ctrl+Shift+R)"
METHODS = {
    "mind": ("Deformable", "A rigid movement, then each organ its own way; follows breathing. About 20 s"),
    "rigid": ("Rigid", "One movement of the whole scan; organs that breathing moved do not match. About 3 s"),
    "demons": ("Demons (HPN)", "A rigid movement, then diffeomorphic demons, as published with HPN. About 40 s"),
}
"""By name in `RegisterOptions`: what the window calls it, and what it does."""


def in_words(transform: PhaseTransform | None, kept: bool = True) -> str:
    """How the phases were brought together; figures and the whole sentence lie elsewhere."""
    if transform is None:
        return "Not registered yet: Segment finds a rigid movement first."
    if transform.method == "identity":
        return str(transform.quality.get("warning") or "The scans lie as the scanner placed them.")
    name = METHODS.get(transform.method, (transform.method, ""))[0]
    state = f"{name} registration in use" + ("." if kept else ", not kept yet.")
    return f"{transform.quality['warning']} {state}" if "warning" in transform.quality else state


class RegisterBox(QWidget):
    """The footer of the Study dock."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.state = wrapped(faint=True)
        self.method = QComboBox()
        for line, (key, (name, tip)) in enumerate(METHODS.items()):
            self.method.addItem(name, key)
            self.method.setItemData(line, tip, Qt.ItemDataRole.ToolTipRole)
        self.method.setCurrentIndex(max(0, self.method.findData(recall("register_method", "mind"))))
        self.method.currentIndexChanged.connect(self._method_chosen)
        self.register = button("Register", self._register, _TIP)
        self.register.setShortcut("Ctrl+Shift+R")
        self.keep = button("Keep", session.keep_transform, "Keep this registration with the study, for the next time")
        self.undo = button("Undo", session.undo_transform, "Go back to how the scans lay before")
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
        layout.addLayout(row(self.register, self.method, stretch=0))
        self.verdict = QWidget()
        self.verdict.setLayout(row(self.keep, self.undo))
        layout.addWidget(self.verdict)
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

    def _register(self) -> None:
        self._session.register(self.method.currentData())

    def _method_chosen(self) -> None:
        self.method.setToolTip(METHODS[self.method.currentData()][1])
        remember("register_method", self.method.currentData())

    def _update(self) -> None:
        session = self._session
        study, job = session.study, session.job
        self.setVisible(study is not None)
        transform = study.transform if study else None
        self.state.setText(in_words(transform, session.transform_kept) if study and len(study.phases) == 2 else "")
        self.state.setToolTip(str(transform.quality.get("sentence") or "") if transform else "")
        self.state.setVisible(bool(self.state.text()))
        reason = f"'{job.title}' is running" if job else ""
        if study is not None and len(study.phases) < 2:
            reason = "Needs both phases"
        allow(self.register, reason, _TIP)
        self.method.setEnabled(job is None)
        self.keep.setVisible(not session.transform_kept)
        self.undo.setVisible(session.transform_before is not None)
        self.verdict.setVisible(not session.transform_kept or session.transform_before is not None)
        allow(self.undo, reason if job else "", "Go back to how the scans lay before")
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
        arguments = image_arguments(volume, name, current_window(session), **mine)

        def settle() -> None:
            self._update()
            if not self.off.isChecked():  # asked for before it was there
                self._compare()

        steps = apart(session.viewer, lambda: insert_hidden(session.viewer, volume.data, arguments))
        session.bridge.in_turns([*steps, settle], TURN_MS)

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
        for layer in venous:  # it may lie over the arterial one or under it
            layer.visible = True
            layer.colormap = "gray" if self.off.isChecked() else "green"
            layer.blending = "translucent_no_depth" if self.off.isChecked() else "additive"
