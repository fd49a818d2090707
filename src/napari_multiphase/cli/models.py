"""``multiphase models list|info|add|export``: what there is to segment with, and what it learned from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_multiphase.cli.console import say, say_json, table, verb
from napari_multiphase.errors import UserError

if TYPE_CHECKING:
    from napari_multiphase.model import Model

app = typer.Typer(help="The models there are, and their cards.", no_args_is_help=True, rich_markup_mode=None)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
@verb
def list_models(as_json: Json = False) -> None:
    """List the models there are: yours, newest first, then those that come with the program."""
    from napari_multiphase.io.models import default_model, installed, translates

    models = _readable(installed())
    if as_json:
        say_json([_facts(model) for model in models])
        return
    if not models:
        say("no model comes with this installation: name a model folder with --model")
        return
    default, rows = default_model(), []
    for model in models:
        card = model.card
        phases = " and ".join(card.phases)
        note = "trained on phantoms only" if card.phantoms_only else "trained on real scans"
        mark = " (default)" if default is not None and model.folder == default.resolve() else ""
        makes = "yes" if translates(card) else "no"
        rows.append((card.name, card.method, phases, len(card.labels) - 1, makes, note + mark))
    table(("model", "method", "phases", "structures", "translates", "note"), rows)


def _facts(model: Model) -> dict[str, Any]:
    from napari_multiphase.io.models import translates

    card = model.card.model_dump(mode="json")
    return {"folder": str(model.folder), **card, "translates": translates(model.card)}


def _readable(folders: list[Path]) -> list[Model]:
    """The models that verify; a warning for each of the others."""
    from napari_multiphase.io.models import read_model

    models = []
    for folder in folders:
        try:
            models.append(read_model(folder))
        except UserError as error:
            typer.echo(f"warning: {error}", err=True)
    return models


@app.command()
@verb
def add(
    source: Annotated[Path, typer.Argument(metavar="MODEL_DIR|ZIP", help="Folder or zip of a model.")],
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of a model of that name.")] = False,
) -> None:
    """Verify a model and copy it to yours: every window and every command then knows it by name."""
    from napari_multiphase.io.model_add import add_model

    model = add_model(source, replace)
    say(f"model '{model.card.name}' is in {model.folder}")
    if model.card.phantoms_only:
        say("note: it was trained on phantoms only")


@app.command()
@verb
def export(
    model: Annotated[str, typer.Argument(help="Name or folder of a model.")],
    out: Annotated[Path, typer.Argument(metavar="ZIP", help="The zip to write.")],
) -> None:
    """Write a model as one zip (card, weights, checksums) that `models add` takes."""
    from napari_multiphase.io.model_zip import export_model
    from napari_multiphase.io.models import find_model

    found = find_model(model)
    path = export_model(found, out)
    say(f"model '{found.card.name}' is in {path}, {path.stat().st_size / 1e6:.1f} MB; `multiphase models add` takes it")


@app.command()
@verb
def info(
    model: Annotated[
        str | None, typer.Argument(help="Name, folder or zip of a model; the default one without.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the card of a model, one that was not added too; its weights are verified first."""
    from napari_multiphase.io.model_add import shown_model
    from napari_multiphase.io.models import find_model

    if model is not None and Path(model).suffix.lower() == ".zip" and Path(model).is_file():
        with shown_model(Path(model)) as found:
            _show(found, as_json, Path(model))
    else:
        found = find_model(model)
        _show(found, as_json, found.folder)


def _show(found: Model, as_json: bool, place: Path) -> None:
    from napari_multiphase.io.models import translates
    from napari_multiphase.labels import name_of

    card = found.card
    if as_json:
        say_json({**_facts(found), "folder": str(place)})
        return
    low, high = card.window_hu
    facts = {
        "name": card.name,
        "summary": card.summary,
        "method": card.method,
        "phases": ", ".join(card.phases),
        "structures": ", ".join(name_of(i) for i in card.labels[1:]),
        "translates": "each phase into the other" if translates(card) else "no",
        "trained on": card.training_data + (" (phantoms only)" if card.phantoms_only else ""),
        "window": f"{low:g} to {high:g} HU",
        "works at": " x ".join(f"{s:g}" for s in card.spacing_mm) + " mm, tiles of "
        + " x ".join(str(n) for n in card.tile_vox) + f" voxels, {card.overlap:.0%} overlap",
        "licence": card.licence,
        "weights": f"{found.weights.stat().st_size / 1e6:.1f} MB, sha256 {card.weights_sha256[:16]}..., verified",
        "zip" if place.is_file() else "folder": place,
    }  # fmt: skip
    width = max(map(len, facts))
    for name, value in facts.items():
        say(f"{name.ljust(width)}  {value}")
    for name, value in card.metrics.items():
        say(f"{name.ljust(width)}  {value}")
