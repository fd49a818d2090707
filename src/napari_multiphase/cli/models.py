"""``multiphase models list|info``: what there is to segment with, and what it learned from."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_multiphase.cli.console import say, say_json, table, verb

app = typer.Typer(help="The models there are, and their cards.", no_args_is_help=True, rich_markup_mode=None)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
@verb
def list_models(as_json: Json = False) -> None:
    """List the models that come with the program, the default first."""
    from napari_multiphase.io.models import bundled, read_model

    models = [read_model(folder) for folder in bundled()]
    if as_json:
        say_json([{"folder": str(m.folder), **m.card.model_dump(mode="json")} for m in models])
        return
    if not models:
        say("no model comes with this installation: name a model folder with --model")
        return
    rows = []
    for i, model in enumerate(models):
        card = model.card
        phases = " and ".join(card.phases)
        note = "trained on phantoms only" if card.phantoms_only else "trained on real scans"
        rows.append((card.name, card.method, phases, len(card.labels) - 1, note + (" (default)" if i == 0 else "")))
    table(("model", "method", "phases", "structures", "note"), rows)


@app.command()
@verb
def info(
    model: Annotated[str | None, typer.Argument(help="Name or folder of a model; the default one without.")] = None,
    as_json: Json = False,
) -> None:
    """Show the card of a model; its weights are verified first."""
    from napari_multiphase.io.models import find_model
    from napari_multiphase.labels import name_of

    found = find_model(model)
    card = found.card
    if as_json:
        say_json({"folder": str(found.folder), **card.model_dump(mode="json")})
        return
    low, high = card.window_hu
    facts = {
        "name": card.name,
        "summary": card.summary,
        "method": card.method,
        "phases": ", ".join(card.phases),
        "structures": ", ".join(name_of(i) for i in card.labels[1:]),
        "trained on": card.training_data + (" (phantoms only)" if card.phantoms_only else ""),
        "window": f"{low:g} to {high:g} HU",
        "works at": " x ".join(f"{s:g}" for s in card.spacing_mm) + " mm, tiles of "
        + " x ".join(str(n) for n in card.tile_vox) + f" voxels, {card.overlap:.0%} overlap",
        "licence": card.licence,
        "weights": f"{found.weights.stat().st_size / 1e6:.1f} MB, sha256 {card.weights_sha256[:16]}..., verified",
        "folder": found.folder,
    }  # fmt: skip
    width = max(map(len, facts))
    for name, value in facts.items():
        say(f"{name.ljust(width)}  {value}")
    for name, value in card.metrics.items():
        say(f"{name.ljust(width)}  {value}")
