"""Jobs around a training run: what it would take, what is wrong with its data, and what becomes of its model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from napari_multiphase.errors import UserError
from napari_multiphase.events import Event
from napari_multiphase.jobs.server import Context
from napari_multiphase.model import Model

Unreviewed = Literal["sure", "unknown", "ignore"]
"""What voxels that nobody looked at teach, see `studies.corrections.write_cases`."""


def stage_cases(context: Context, studies: Sequence[Path], folder: Path, unreviewed: Unreviewed = "sure") -> Path:
    """Write what was corrected in `studies` as training cases into `folder`; the case list."""
    from napari_multiphase.studies import Workspace
    from napari_multiphase.studies.corrections import write_cases

    context.on_event(Event("progress", "copying the corrected labels"))
    opened = [Workspace.open(Path(study)) for study in studies]
    return Path(write_cases(opened, Path(folder), unreviewed, on_event=context.on_event, cancel=context.cancel))


def plan_run(context: Context, form: Mapping[str, Any]) -> dict[str, Any]:
    """What the run of a filled-in form would be and take: see `training.form.PlannedRun.facts`."""
    from napari_multiphase.training.form import TrainingForm, plan_form

    planned = plan_form(TrainingForm.model_validate(form), on_event=context.on_event, cancel=context.cancel)
    return dict(planned.facts)


def check_run(
    context: Context, form: Mapping[str, Any], studies: Sequence[Path] = (), unreviewed: Unreviewed = "sure"
) -> dict[str, Any]:
    """The facts of the plan, and every problem of the cases: {"case", "text", "level"}; each case is read."""
    from napari_multiphase.training.cache import case_sources
    from napari_multiphase.training.form import TrainingForm, plan_form
    from napari_multiphase.training.preflight import check_case, check_phases

    values = dict(form)
    if studies:
        values["dataset"] = str(stage_cases(context, studies, context.scratch / "cases", unreviewed))
    planned = plan_form(TrainingForm.model_validate(values), on_event=context.on_event, cancel=context.cancel)
    run, problems = planned.plan.run, []
    sources = case_sources(run)
    for number, source in enumerate(sources):
        context.cancel.check()
        context.on_event(Event("progress", f"checking {source.id}", number / len(sources)))
        problems += check_phases(run, source) + check_case(run, source)[0]
    found = [{"case": p.case, "text": p.text, "level": p.level} for p in problems]
    return {**planned.facts, "problems": found, "checked": len(sources)}


def prepare_run(
    context: Context,
    form: Mapping[str, Any],
    folder: Path,
    studies: Sequence[Path] = (),
    unreviewed: Unreviewed = "sure",
) -> Path:
    """Make a run folder: the snapshot of the corrected studies, if any, and ``plan.yaml``. Nothing is started."""
    from napari_multiphase.training.form import TrainingForm, plan_form, write_plan

    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder}: is there already; choose another name for the run")
    values = dict(form)
    try:
        if studies:
            values["dataset"] = str(stage_cases(context, studies, folder / "cases", unreviewed))
        planned = plan_form(TrainingForm.model_validate(values), on_event=context.on_event, cancel=context.cancel)
        context.cancel.check()
        write_plan(planned, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def use_model(context: Context, folder: Path) -> Model:
    """Put a run's model among the user's, verified; one that is there already is left as it is."""
    from napari_multiphase.io import model_add
    from napari_multiphase.io.models import read_model, user_models

    context.on_event(Event("progress", "copying and verifying the model"))
    wanted = read_model(Path(folder)).card
    for place in user_models():
        try:
            there = read_model(place)
        except UserError:
            continue
        if there.card == wanted:
            return there
        if there.card.name.casefold() == wanted.name.casefold():
            raise UserError(
                f"you have another model called '{there.card.name}' in {place}: remove that folder, or train this one "
                "under another name"
            )
    return model_add.add_model(Path(folder))


def export_run(context: Context, folder: Path, out: Path) -> Path:
    """Write a run's model as one zip, see `io.model_zip`."""
    from napari_multiphase.io.model_zip import export_model
    from napari_multiphase.io.models import read_model

    context.on_event(Event("progress", f"writing {out.name}"))
    return export_model(read_model(Path(folder)), out)


TRAINING_TASKS: Mapping[str, Callable[..., Any]] = {
    "stage_cases": stage_cases,
    "plan_run": plan_run,
    "check_run": check_run,
    "prepare_run": prepare_run,
    "use_model": use_model,
    "export_run": export_run,
}
