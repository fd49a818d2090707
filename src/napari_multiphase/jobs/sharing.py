"""Jobs that hand things over: a study exported, a model exported, looked at, added."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from napari_multiphase.errors import UserError
from napari_multiphase.events import Event
from napari_multiphase.jobs.server import Context
from napari_multiphase.model import Model
from napari_multiphase.study import Prediction, Study


def share_study(
    context: Context,
    out: Path,
    *,
    folder: Path | None = None,
    study: Study | None = None,
    prediction: Prediction | None = None,
    format: Literal["nifti", "dicom-seg"] = "nifti",
    identified: bool = False,
) -> list[Path]:
    """Export what lies in `folder`, see `studies.shared.gather`; or an open study with its newest prediction and what
    was corrected in its workspace `folder`, the default one unless given."""
    from napari_multiphase.studies.share import share_study as run
    from napari_multiphase.studies.shared import Shared, gather, of_prediction, with_corrections
    from napari_multiphase.studies.study_file import STUDY_FILE
    from napari_multiphase.studies.workspace import Workspace, default_folder

    if study is None:
        if folder is None:
            raise UserError("there is nothing to export: name a study's folder")
        shared = gather(folder, on_event=context.on_event, cancel=context.cancel)
    else:
        shared = of_prediction(study, prediction) if prediction is not None else Shared(study, {})
        home = folder or default_folder(study)
        if (home / STUDY_FILE).is_file() and (workspace := Workspace.open(home)).id == study.id:
            shared = with_corrections(shared, workspace)
        if not shared.phases:
            raise UserError("this study has no labels yet: segment it first")
    context.on_event(Event("progress", "writing", 0.0))
    return run(
        shared, Path(out), format=format, identified=identified, on_event=context.on_event, cancel=context.cancel
    )  # fmt: skip


def look_at_model(context: Context, source: Path) -> dict[str, Any]:
    """The card in a folder or zip, verified, without adding it: the model (its folder is `source`), the bytes of its
    weights, and whether it would take the place of one of the user's."""
    from napari_multiphase.io.model_add import place_for, shown_model

    context.on_event(Event("progress", f"verifying {source.name}"))
    with shown_model(source) as model:
        place = place_for(model.card.name)
        size = model.weights.stat().st_size
        return {"model": Model(source, model.card), "bytes": size, "replaces": place.exists()}


def add_model(context: Context, source: Path, replace: bool = False) -> Model:
    """Copy a model to the user's, see `io.model_add`."""
    from napari_multiphase.io.model_add import add_model as run

    context.on_event(Event("progress", f"adding {source.name}"))
    return run(source, replace)


def export_model(context: Context, model: Model, out: Path) -> Path:
    """Write a model as one zip, see `io.model_zip`."""
    from napari_multiphase.io.model_zip import export_model as run

    context.on_event(Event("progress", f"writing {out.name}"))
    return run(model, out)


SHARING_TASKS: Mapping[str, Callable[..., Any]] = {
    "share_study": share_study,
    "look_at_model": look_at_model,
    "add_model": add_model,
    "export_model": export_model,
}
