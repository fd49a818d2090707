"""The form of a run: where it starts, how it learns, for how long, and under which name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFormLayout, QLineEdit, QSpinBox, QWidget

from napari_multiphase.gui.dock_parts import allow, row
from napari_multiphase.gui.remember import known_models, recall, remember

_PRESETS = {
    "smoke": "try it, 2 min",
    "workstation": "workstation (hours, a GPU)",
    "paper": "paper (as published)",
}
_PRESETS_FROM = {"smoke": "try it, 2 min", "workstation": "in full", "paper": "in full, folds as published"}
"""The same where a model goes on: network and patches are its own."""
_LENGTHS = {"preset": "by preset", "minutes": "minutes", "steps": "steps"}
_UNREVIEWED = {
    "sure": "as predicted where sure",
    "unknown": "unknown: the method fills them in",
    "ignore": "leave them out",
}
_MOST_NAME = 80
_FIELDS = ("start_from", "method", "preset", "length", "amount", "seed", "name", "unreviewed")


@dataclass(frozen=True)
class StartModel:
    """A model to start from: what `find_model` takes, its name and method."""

    key: str
    name: str
    method: str


def start_models() -> list[StartModel]:
    """Every model that the Segment dock offers, the user's newest first; reads the cards alone."""
    from napari_multiphase.errors import UserError
    from napari_multiphase.io.models import bundled, read_card
    from napari_multiphase.model import CARD_FILE

    found, ours = [], {folder.resolve() for folder in bundled()}
    for folder in known_models():
        try:
            card = read_card((folder / CARD_FILE).read_bytes(), str(folder))
        except (OSError, UserError):
            continue
        found.append(StartModel(card.name if folder in ours else str(folder), card.name, card.method))
    return found


class TrainForm(QWidget):
    """The fields below the cases. `changed` is called when one of them changed."""

    def __init__(self, changed: Callable[[], object]) -> None:
        super().__init__()
        self._changed = changed
        self._models: list[StartModel] = []
        self._filling = False
        self.start_from = _combo("The model whose weights are the start, or from scratch")
        self.method = _combo("How it learns; a model is trained on by its own method")
        self.preset = _combo("Size of network and patches, and how long it learns")
        self.length = _combo("For how long it learns")
        self.amount = QDoubleSpinBox()
        self.amount.setDecimals(0)
        self.amount.setRange(1, 10_000_000)
        self.amount.setAccessibleName("How many minutes or steps")
        self.unreviewed = _combo("What is learned from voxels of the chosen studies that nobody looked at")
        self.name = QLineEdit()
        self.name.setMaxLength(_MOST_NAME)
        self.name.setToolTip("Name of the model that comes out")
        self.name.setAccessibleName("Name")
        self.seed = QSpinBox()
        self.seed.setRange(0, 2_147_483_647)
        self.seed.setToolTip("Everything random follows from it: the same seed and data give the same model")
        self.seed.setAccessibleName("Seed")
        self.layout_ = QFormLayout(self)
        self.layout_.setContentsMargins(0, 0, 0, 0)
        self.layout_.setSpacing(4)
        self.layout_.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.layout_.addRow("Start from", self.start_from)
        self.layout_.addRow("Method", self.method)
        self.layout_.addRow("Preset", self.preset)
        self.layout_.addRow("Length", row(self.length, self.amount, stretch=0))
        self.layout_.addRow("Unreviewed", self.unreviewed)
        self.layout_.addRow("Name", row(self.name, stretch=0))
        self.layout_.addRow("Seed", self.seed)
        for combo in (self.method, self.preset, self.length, self.unreviewed):
            combo.currentIndexChanged.connect(lambda _index: self._on_change())
        self.start_from.currentIndexChanged.connect(lambda _index: self._on_start())
        self.method.currentIndexChanged.connect(lambda _index: self._fill_presets())
        for spin in (self.amount, self.seed):
            spin.valueChanged.connect(lambda _value: self._on_change())
        self.name.textChanged.connect(lambda _text: self._on_change())

    # --- filling -------------------------------------------------------------------------------------------------

    def fill(self, models: Sequence[StartModel]) -> None:
        """Offer these models, and on the first time what was chosen the last time."""
        from napari_multiphase.config import METHOD_CONFIGS  # building all settings takes a while

        kept = self.values() if self.method.count() else recall("training_form", {})
        self._filling = True
        self._models = list(models)
        _offer(self.start_from, {"": "from scratch"} | {m.key: m.name for m in models}, kept.get("start_from", ""))
        _offer(self.method, {name: name for name in METHOD_CONFIGS}, kept.get("method", "pcn"))
        _offer(self.length, _LENGTHS, kept.get("length", "preset"))
        _offer(self.unreviewed, _UNREVIEWED, kept.get("unreviewed", "sure"))
        self._fill_presets(kept.get("preset", "smoke"))
        self.amount.setValue(float(kept.get("amount", 10)))
        self.seed.setValue(int(kept.get("seed", 0)))
        self.name.setText(str(kept.get("name", "my-model")))
        self._filling = False
        self._on_start()

    def _fill_presets(self, wanted: str = "") -> None:
        from napari_multiphase.config import PRESETS

        names = PRESETS.get(self.method.currentData() or "", {})
        wanted = wanted or self.preset.currentData() or "smoke"
        order = [name for name in _PRESETS if name in names] + [name for name in names if name not in _PRESETS]
        words = _PRESETS_FROM if self.model() else _PRESETS
        _offer(self.preset, {name: words.get(name, name) for name in order}, wanted)

    def _on_start(self) -> None:
        model = self.model()
        if model is not None:
            self.method.setCurrentIndex(self.method.findData(model.method))
        reason = f"{model.name} is a {model.method} model, and goes on as one" if model else ""
        allow(self.method, reason, "How it learns")
        self._fill_presets()
        self._on_change()

    def _on_change(self) -> None:
        if self._filling:
            return
        by_preset = self.length.currentData() == "preset"
        allow(self.amount, "The preset says it: choose minutes or steps to set it" if by_preset else "", "")
        remember("training_form", self.values())
        self._changed()

    def show_studies(self, studies: bool) -> None:
        """What is unreviewed matters for studies alone."""
        self.layout_.setRowVisible(self.unreviewed, studies)

    # --- what it says --------------------------------------------------------------------------------------------

    def model(self) -> StartModel | None:
        """The model to start from."""
        return next((m for m in self._models if m.key == self.start_from.currentData()), None)

    def values(self) -> dict[str, Any]:
        """Every field."""
        combos = ("start_from", "method", "preset", "length", "unreviewed")
        values = {name: getattr(self, name).currentData() or "" for name in combos}
        return values | {"amount": self.amount.value(), "seed": self.seed.value(), "name": self.name.text().strip()}

    def choose(self, **fields: Any) -> None:
        """Set fields by name, as a person would."""
        for name, value in fields.items():
            widget = getattr(self, name)
            if isinstance(widget, QComboBox):
                widget.setCurrentIndex(widget.findData(value))
            elif isinstance(widget, QLineEdit):
                widget.setText(str(value))
            else:
                widget.setValue(value)

    def start_with(self, name: str) -> None:
        """Start from the model of this name, or else from scratch."""
        self.start_from.setCurrentIndex(max(0, self.start_from.findText(name)))

    def reason_not(self) -> str:
        """Why no run can be made of it; empty where one can."""
        name = self.name.text().strip()
        if not name:
            return "Give the model a name first"
        if any(model.name.casefold() == name.casefold() for model in self._models):
            return f"There is a model '{name}' already: give this one another name"
        return ""


def run_form(values: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """What the worker gets: the fields of `training.form.TrainingForm`."""
    return {"dataset": dataset, **{name: values[name] for name in _FIELDS if name != "unreviewed"}}


def _combo(tip: str) -> QComboBox:
    combo = QComboBox()
    combo.setToolTip(tip)
    combo.setAccessibleName(tip)
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(10)
    return combo


def _offer(combo: QComboBox, choices: Mapping[str, str], chosen: str) -> None:
    combo.blockSignals(True)
    combo.clear()
    for key, text in choices.items():
        combo.addItem(text, key)
    combo.setCurrentIndex(max(0, combo.findData(chosen)))
    combo.blockSignals(False)
