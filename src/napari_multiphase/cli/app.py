"""Which verbs there are. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import typer

from napari_multiphase.cli import children

app = typer.Typer(
    name="multiphase",
    help="Two-phase abdominal CT: open the arterial and venous scan as one study, segment, fuse, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(hidden=True)(children.worker)
app.command(hidden=True)(children.parser)


def main() -> None:
    """Run the verb on the command line."""
    app()
