"""Parts of the Translate dock, without a window: what is asked for, drawn and said."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from napari_multiphase.events import Event
from napari_multiphase.gui.histogram import Histogram, curves_of, ticks
from napari_multiphase.gui.marks import warning_of
from napari_multiphase.gui.preview import PreviewFeed
from napari_multiphase.gui.synthetic_layers import difference_rgba


class Asked:
    """A session whose jobs end when the test says so."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, object]] = []
        self.study, self.revision = None, 0
        self.bridge = SimpleNamespace(later=lambda _ms, work: work(), post=lambda work: work())
        self.client = SimpleNamespace(submit=self._submit)

    def _submit(self, _task, params, *, on_event, **_options):
        handle = SimpleNamespace(result={"index": params["slice"]}, release=lambda: None)
        self.sent.append((params["slice"], on_event))
        return handle

    def answer(self) -> None:
        self.sent[-1][1](Event("done"))


def test_only_the_newest_slice_is_asked_for_next():
    session, shown = Asked(), []
    feed = PreviewFeed(session, lambda found, _seconds: shown.append(found["index"]), pytest.fail)
    for index in (1, 2, 3, 4):
        feed.want(index, {"slice": index})
    assert [index for index, _ in session.sent] == [1]
    session.answer()
    assert [index for index, _ in session.sent] == [1, 4]
    feed.want(4, {"slice": 4})
    session.answer()
    assert shown == [1, 4] and not feed.busy
    feed.want(4, {"slice": 4})
    assert len(session.sent) == 2, "what is shown is not asked for again"


def test_a_slice_of_another_study_is_not_shown():
    session, shown = Asked(), []
    feed = PreviewFeed(session, lambda found, _seconds: shown.append(found), pytest.fail)
    feed.want("old", {"slice": 1})
    feed.forget()
    session.answer()
    assert shown == [] and not feed.busy


def test_a_failure_is_told_and_the_next_slice_still_comes():
    session, told = Asked(), []
    feed = PreviewFeed(session, lambda found, _seconds: told.append(found["index"]), told.append)
    feed.want(1, {"slice": 1})
    feed.want(2, {"slice": 2})
    session.sent[0][1](Event("failed", "no memory", data={"cancelled": False}))
    session.answer()
    assert told == ["no memory", 2]


def test_the_difference_is_clear_where_images_agree():
    rgba = difference_rgba()
    assert rgba[128, 3] == 0
    assert rgba[0, 2] > rgba[0, 0] and rgba[-1, 0] > rgba[-1, 2]
    np.testing.assert_allclose(rgba[:, 3], rgba[::-1, 3], atol=1e-6)


def layer(kind: str, visible: bool = True, **mine):
    return SimpleNamespace(
        visible=visible, metadata={"multiphase": {"kind": kind, **mine}}, contrast_limits=(-100, 100)
    )  # fmt: skip


def test_what_the_canvas_says():
    assert warning_of([]) == warning_of([layer("ct"), layer("synthetic", False)]) == ""
    assert warning_of([layer("synthetic", phase="venous"), layer("labels")]) == "SYNTHETIC venous"
    both = [layer("synthetic", phase="venous"), layer("synthetic", phase="arterial"), layer("difference")]
    assert warning_of(both) == "SYNTHETIC arterial venous\nREAL MINUS SYNTHETIC\nblue -100 HU, red +100 HU"


def test_curves_and_axis(qtbot):
    shares = {"synthetic venous": [0, 0, 0.5, 0.5, 0, 0], "real arterial": [0, 1.0, 0, 0, 0, 0]}
    hu = {name: {"share": share, "mean_hu": 1.0, "sd_hu": 2.0} for name, share in shares.items()}
    curves = curves_of({"hu": hu})
    assert [(c.name, c.synthetic) for c in curves] == [("real arterial", False), ("synthetic venous", True)]
    assert curves[0].colour != curves[1].colour
    plot = Histogram()
    qtbot.addWidget(plot)
    plot.show_curves(curves, np.arange(0, 70, 10))
    low, high = plot.span_hu()
    assert low <= 10 and 40 <= high <= 60
    plot.resize(300, 150)
    assert not plot.grab().isNull()
    assert ticks(-38, 212) == [0, 50, 100, 150, 200]
    assert 4 <= len(ticks(0, 70)) <= 8
