"""Batches drawn ahead: the same whoever draws them, and a system that cannot fork workers says so."""

import sys

import pytest
from tiny_runs import tiny_run

from napari_multiphase.errors import UserError
from napari_multiphase.training.loader import Loader
from napari_multiphase.training.train import train


@pytest.mark.skipif(sys.platform != "linux", reason="forks workers, which is for Linux")
def test_workers_draw_what_the_thread_draws():
    factor = 10  # a function that cannot be pickled: the workers are forked whatever Python's default is
    for workers in (0, 2):
        with Loader(lambda step: factor * step, workers) as loader:
            assert list(loader.steps(3, 8)) == [(step, factor * step) for step in range(3, 8)]


def test_workers_are_refused_where_they_cannot_be_forked(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UserError, match="loaders is 2, which needs Linux"):
        train(tiny_run("pcn", loaders=2), tmp_path / "run")
    assert not (tmp_path / "run").exists()
