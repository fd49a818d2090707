"""Which verbs there are. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import os

import typer

from napari_multiphase.cli import children, models
from napari_multiphase.cli.cases import cases
from napari_multiphase.cli.doctor import doctor
from napari_multiphase.cli.evaluate import evaluate
from napari_multiphase.cli.info import info
from napari_multiphase.cli.plan import plan
from napari_multiphase.cli.register import carry, register
from napari_multiphase.cli.sample import sample
from napari_multiphase.cli.segment import segment
from napari_multiphase.cli.share import share
from napari_multiphase.cli.train import export, train
from napari_multiphase.cli.translate import translate

app = typer.Typer(
    name="multiphase",
    help="Two-phase abdominal CT: both scans as one study: register, segment, translate, evaluate, train.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(sample)
app.command()(info)
app.command()(register)
app.command()(carry)
app.command()(segment)
app.command()(translate)
app.command()(evaluate)
app.command()(share)
app.add_typer(models.app, name="models")
app.command()(cases)
app.command()(plan)
app.command()(train)
app.command()(export)
app.command()(doctor)
app.command(hidden=True)(children.worker)
app.command(hidden=True)(children.parser)


WAIT_ASLEEP = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""Threads of torch sleep while they wait for each other. Awake they take the cores from the very thread they wait for
as soon as something else runs (a training, say): a segmentation then took 24 s instead of several minutes."""


def main() -> None:
    """Run the verb on the command line."""
    for name, value in WAIT_ASLEEP.items():
        os.environ.setdefault(name, value)
    app()
