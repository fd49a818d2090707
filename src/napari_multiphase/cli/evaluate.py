"""``multiphase evaluate PREDICTION REFERENCE``: how good label maps are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_multiphase.cli.console import in_process, say, say_json, table, verb

_COLUMNS = (
    ("DSC", "dsc", "{:.3f}"),
    ("VOE", "voe", "{:.3f}"),
    ("RVD", "rvd", "{:+.3f}"),
    ("ASSD mm", "assd_mm", "{:.2f}"),
    ("RMSD mm", "rmsd_mm", "{:.2f}"),
    ("HD mm", "hd_mm", "{:.1f}"),
    ("ml", "prediction_ml", "{:.1f}"),
    ("reference ml", "reference_ml", "{:.1f}"),
)


@verb
def evaluate(
    prediction: Annotated[Path, typer.Argument(help="Label map, or a folder of them.")],
    reference: Annotated[Path, typer.Argument(help="Reference label map, or a folder with files of the same names.")],
    resample: Annotated[bool, typer.Option("--resample", help="Put other grids onto the reference's.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare label maps: Dice, overlap and volume errors, surface distances, per structure."""
    from napari_multiphase.jobs.tasks import evaluate as run

    pairs = matching(prediction, reference)
    with in_process("evaluating", quiet=as_json) as context:
        cases = {name: run(context, a, b, resample) for name, (a, b) in pairs.items()}
    if as_json:
        single = len(cases) == 1 and prediction.is_file()
        say_json(next(iter(cases.values())) if single else cases)
        return
    for name, rows in cases.items():
        if len(cases) > 1:
            say(f"\n{name}")
        show(rows)


def matching(prediction: Path, reference: Path) -> dict[str, tuple[Path, Path]]:
    """Which file is compared with which, by name. Raises UserError where nothing matches."""
    from napari_multiphase.errors import UserError
    from napari_multiphase.io.images import format_of

    for path in (prediction, reference):
        if not path.exists():
            raise UserError(f"{path}: there is no such file or folder; check the name")
    if prediction.is_dir() != reference.is_dir():
        raise UserError(f"{prediction} and {reference}: give two label maps or two folders")
    if prediction.is_file():
        return {prediction.name: (prediction, reference)}
    pairs = {
        file.name: (file, reference / file.name)
        for file in sorted(prediction.iterdir())
        if "labels" in file.name and format_of(file) and (reference / file.name).is_file()
    }
    if not pairs:
        raise UserError(f"{prediction}: holds no label map (*labels*.nii.gz) of a name that {reference} holds too")
    return pairs


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """The figures as a table."""
    cells = [[row["name"], *(_figure(form, row[key]) for _, key, form in _COLUMNS)] for row in rows]
    table(["structure", *(title for title, _, _ in _COLUMNS)], cells)
    dice = [row["dsc"] for row in rows if row["reference_ml"]]
    if dice:
        say(f"mean DSC {sum(dice) / len(dice):.3f} over {len(dice)} structures of the reference")


def _figure(form: str, value: float | None) -> str:
    return "-" if value is None else form.format(value)
