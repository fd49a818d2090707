"""What a new run is to be: what it learns from, how, and what that would take. Nothing is trained from here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_multiphase.gui.dock_parts import heading, spell_seconds, wrapped
from napari_multiphase.gui.remember import recall
from napari_multiphase.gui.run_view import split_lines
from napari_multiphase.gui.session import Session
from napari_multiphase.gui.train_form import TrainForm, run_form, start_models
from napari_multiphase.gui.training_cases import TrainingCases
from napari_multiphase.jobs import training

SETUP_TASKS = ("check_run", "prepare_run")
_HINT = (
    "Check what to learn from, then press Start training. Without cases of your own, the phantoms show how it goes in "
    "two minutes."
)
_SETTLE_MS = 500
_SAVED_MS = 50


class TrainSetup(QWidget):
    """Cases, form, plan.

    Parameters
    ----------
    changed : called when something was chosen.
    seen : gets what was found last, so that it can be scrolled to.
    """

    def __init__(self, session: Session, changed: Callable[[], object], seen: Callable[[QWidget], object]) -> None:
        super().__init__()
        self._session, self._changed, self._seen = session, changed, seen
        self._asked: dict[str, Any] = {}
        self._had_studies = bool(recall("training_form", None))
        self.hint, self.estimate, self.findings = wrapped(_HINT), wrapped(), wrapped()
        self.cases, self.form = TrainingCases(self._on_form, self.look), TrainForm(self._on_form)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for part in (self.hint, self.cases, self.form, heading("Plan"), self.estimate, self.findings):
            layout.addWidget(part)
        self.findings.hide()

    # --- what there is -------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Look for studies and models again, beside the window's thread."""
        threading.Thread(target=self._find, daemon=True, name="multiphase cases").start()

    def _find(self) -> None:
        from napari_multiphase.studies.cases import list_cases

        also = {path for entry in recall("recent", []) for path in map(Path, entry) if path.is_dir()}
        studies, models = list_cases(also=also), start_models()
        self._session.bridge.post(lambda: self._found(studies, models))

    def _found(self, studies: Any, models: Any) -> None:
        self.cases.fill(studies)
        self.form.fill(models)
        self._on_form()

    # --- what was chosen -----------------------------------------------------------------------------------------

    def reason_not(self) -> str:
        """Why nothing can be started; empty where it can."""
        if not self.form.method.count():
            return "Looking for studies and models"
        return self.cases.reason_not() or self.form.reason_not()

    def studies(self) -> list[Path]:
        """Workspaces of the studies that are learned from."""
        return [Path(source.key) for source in self.cases.checked() if source.kind == "study"]

    def params(self) -> dict[str, Any]:
        """For the jobs ``check_run`` and ``prepare_run``."""
        chosen, values = self.cases.checked(), self.form.values()
        dataset = chosen[0].key if chosen and chosen[0].kind == "dataset" else "phantoms"
        return {
            "form": run_form(values, dataset),
            "studies": self.studies(),
            "unreviewed": values["unreviewed"],
        }

    def anew(self) -> None:
        """The form of the next run: look again, plan again."""
        self._asked = {}
        self.look()

    def _on_form(self) -> None:
        studies = self.studies()
        self.form.show_studies(bool(studies))
        if studies and not self._had_studies:  # corrections are learned by the model that was corrected
            self._had_studies = True
            self.form.start_with(self._session.model.card.name if self._session.model else "")
        self._had_studies = bool(studies)
        self._changed()
        asked = self.params()
        if asked == self._asked:
            return
        self._asked = asked
        self.findings.hide()
        self._session.bridge.later(_SETTLE_MS, lambda: self._ask_plan(asked))

    # --- what it would take --------------------------------------------------------------------------------------

    def _ask_plan(self, asked: dict[str, Any]) -> None:
        if asked is not self._asked or self.isHidden():
            return
        if self._session.job is not None and self._session.job.task in SETUP_TASKS:
            return  # which plans as well
        if self.cases.reason_not() or asked["studies"]:
            words = "Check data tells time and memory." if asked["studies"] else f"{self.cases.reason_not()}."
            self.estimate.setText(words)
            return
        self.estimate.setText("Working out time and memory...")
        self._session.quietly("plan_run", {"form": asked["form"]}, lambda facts: self._planned(asked, facts))

    def _planned(self, asked: dict[str, Any], facts: Any) -> None:
        if asked is self._asked and self.findings.isHidden():
            self.estimate.setText(_plan_words(facts) if facts else "No plan could be made; Check data says why.")

    def check(self) -> None:
        """Read every case, and say what is wrong with it and what the run would take."""
        asked = self.params()
        self._when_saved("check_run", "Checking the data", asked, lambda found: self._checked(asked, found))

    def _checked(self, asked: dict[str, Any], found: Any) -> None:
        if asked != self.params():  # another form by now
            return
        self.estimate.setText(_plan_words(found))
        bad = [p for p in found["problems"] if p["level"] == "bad"]
        marks = [f"{'Cannot be used' if p in bad else 'Note'}: {p['case']}: {p['text']}" for p in found["problems"]]
        cases = f"{found['checked']} case{'' if found['checked'] == 1 else 's'} read"
        faults = f"{len(bad)} fault{'' if len(bad) == 1 else 's'}; repair the files or leave the cases out."
        head = f"{cases}: {faults}" if bad else f"{cases}, none of them with a fault."
        self.findings.setText("\n".join([head, *marks]))
        self.findings.show()
        self._seen(self.findings)

    def prepare(self, then: Callable[[Path], object]) -> None:
        """Make the run's folder, with copies of what was corrected; `then` gets it.

        A snapshot of what is being corrected is taken, and the last stroke is saved before it is copied.
        """
        self._session.annotating.snapshot("train")
        folder = training.new_run_folder(self.form.values()["name"])
        self._when_saved("prepare_run", "Preparing the run", {**self.params(), "folder": folder}, then)

    def _when_saved(self, task: str, title: str, params: dict[str, Any], then: Callable[[Any], object]) -> None:
        """Ask once everything that was corrected is in its file: training must not learn from less."""
        state = self._session.annotating.save_state
        if state.kind in ("unsaved", "saving"):
            self._session.bridge.later(_SAVED_MS, lambda: self._when_saved(task, title, params, then))
        elif state.kind == "failed":
            words = f"what you corrected is not saved yet ({state.why}): nothing was started, try again once it is"
            self._session.tell_error(task, words, "")
        else:
            self._session.ask(task, title, params, then)


def _plan_words(facts: Any) -> str:
    """Steps, time, memory and the split of a plan."""
    seconds, memory = spell_seconds(facts["seconds"]), facts["memory_mb"] / 1024
    lines = [
        f"{facts['steps']:,} steps, {seconds} (to a factor of two, looks at held-out cases apart), {memory:.1f} GB on "
        f"{facts['device']}.",
        split_lines(facts["train"], facts["validation"], facts["notes"]),
    ]
    return "<br>".join(lines)
