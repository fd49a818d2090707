"""The command line, ``multiphase VERB``: the same job functions as in the window, in this process."""

from napari_multiphase.cli.app import app, main

__all__ = ["app", "main"]
