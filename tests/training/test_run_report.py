"""The report explains a run by itself: every figure in it, nothing fetched, readable from half a run as well."""

import base64
import json
import re
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest

from napari_multiphase.events import Event
from napari_multiphase.io.png import png
from napari_multiphase.labels import IGNORE, STRUCTURES, UNKNOWN
from napari_multiphase.training.curves import MOST_POINTS, Curve, chart, smoothed, thinned, ticks
from napari_multiphase.training.preview import write_preview
from napari_multiphase.training.record import Recorder
from napari_multiphase.training.report import write_report


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run folder of two stages, killed once."""
    folder = tmp_path_factory.mktemp("run")
    recorder = Recorder(folder)
    recorder.tell(Event("started", "stage shared", data={"machine": {"processor": "A & B"}}, time_s=1000.0))
    for step in range(1, 121):
        stage = "shared" if step <= 80 else "arterial"
        recorder.metrics("train", stage, step, {"cross_entropy": 3 / step, "L_corr <2>": 0.5})
        if step % 40 == 0:
            recorder.metrics("validation", stage, step, {"cross_entropy": 3.5 / step, "dice liver": step / 160})
            recorder.metrics("validation", stage, step, {"dice aorta": float("nan"), "loss ratio": 1.0})
    recorder.tell(Event("progress", "x", time_s=1090.0))
    recorder.tell(Event("started", "again", data={"machine": {"processor": "A & B"}}, time_s=9000.0))
    recorder.tell(Event("warning", "case <7> has no venous scan", time_s=9001.0))
    recorder.tell(Event("done", "model written", time_s=9030.0))
    (folder / "run.yaml").write_text("name: tiny <run>\nmethod: hpn\n")
    (folder / "split.json").write_text(json.dumps({"fold": 0, "train": ["a", "b"], "validation": [{"id": "c"}]}))
    hu = np.zeros((4, 20, 30), np.int16)
    labels = np.zeros((4, 20, 30), np.uint8)
    labels[2, 5:9, 5:9] = 1
    write_preview(folder, "case c, step 120", hu, labels, labels)
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return write_report(folder).read_text()


def test_nothing_is_fetched_from_elsewhere(page):
    for address in re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^">)]+)', page):
        assert address.startswith("data:image/png;base64,")
    assert "<script" not in page and "@import" not in page


@pytest.mark.parametrize(
    "words",
    [
        "tiny &lt;run&gt;",
        "L_corr &lt;2&gt;",
        "case &lt;7&gt; has no venous scan",
        "A &amp; B",
        "<b>train</b> (2)",
        "<code>c</code>",
        "mean Dice, best",
        "0.750 at step 120",
        "2 min 00 s",
        "method: hpn",
        "finished",
        "loss ratio",
    ],
)
def test_everything_is_in_it(page, words):
    assert words in page


def test_every_chart_is_valid_svg(page):
    charts = re.findall(r"<svg viewBox.*?</svg>", page)
    assert len(charts) == 2 + 2 + 1
    for text in charts:
        for path in ET.fromstring(text).iter("{http://www.w3.org/2000/svg}path"):
            assert "nan" not in path.get("d")


def test_structures_have_the_colours_of_the_label_table(page):
    assert "#{:02x}{:02x}{:02x}".format(*STRUCTURES[1].colour) in page


def test_an_empty_folder_gets_a_report_too(tmp_path):
    assert "not finished" in write_report(tmp_path).read_text()


def test_a_failed_run_that_goes_on_is_not_failed(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.tell(Event("started", "training", data={"machine": {}}))
    recorder.tell(Event("failed", "no number"))
    assert "failed: no number" in write_report(tmp_path).read_text()
    recorder.tell(Event("started", "going on", data={"machine": {}}))
    recorder.tell(Event("progress", "x"))
    assert "not finished" in write_report(tmp_path).read_text()


def decoded(block):
    """(H, W, 3) of a PNG of one IDAT chunk."""
    width, height = (int.from_bytes(block[i : i + 4], "big") for i in (16, 20))
    at = block.index(b"IDAT")
    size = int.from_bytes(block[at - 4 : at], "big")
    rows = np.frombuffer(zlib.decompress(block[at + 4 : at + 4 + size]), np.uint8).reshape(height, 1 + 3 * width)
    return rows[:, 1:].reshape(height, width, 3)


def test_a_picture_is_written_as_it_is():
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    np.testing.assert_array_equal(decoded(png(picture)), picture)


def test_other_programs_read_the_picture():
    from io import BytesIO

    image = pytest.importorskip("PIL.Image")
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(image.open(BytesIO(png(picture)))), picture)


def test_a_preview_shows_scan_reference_and_prediction_of_the_fullest_slice(tmp_path):
    hu = np.full((3, 300, 300), -1000, np.int16)
    hu[1] = 240
    reference = np.zeros(hu.shape, np.uint8)
    reference[1, 10:20, 10:20], reference[1, 30:40, 30:40], reference[1, 50:60, 50:60] = 1, UNKNOWN, IGNORE
    reference[2, :, :] = 5
    reference[1, 100:110, 100:110] = 5
    prediction = np.zeros(hu.shape, np.uint8)
    prediction[1, 10:20, 10:20] = 2
    picture = decoded(write_preview(tmp_path, "x", hu, reference, prediction).read_bytes())
    assert picture.shape == (300, 3 * 300 + 8, 3)
    assert (picture[:, :300] == 255).all()
    liver, spleen = (np.array(STRUCTURES[i].colour) for i in (1, 2))
    np.testing.assert_allclose(picture[15, 304 + 15], (255 + liver) / 2, atol=1)
    np.testing.assert_allclose(picture[15, 608 + 15], (255 + spleen) / 2, atol=1)
    np.testing.assert_allclose(picture[35, 304 + 35], picture[55, 304 + 55])
    np.testing.assert_array_equal(picture[200, 304 + 200], 255)


def test_the_report_embeds_the_previews(folder, page):
    block = (folder / "previews" / "case c, step 120.png").read_bytes()
    assert base64.b64encode(block).decode() in page


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-3, 3, [-2, 0, 2]),
        (0, 3700, [0, 1000, 2000, 3000]),
    ],
)
def test_ticks_are_round(low, high, expected):
    np.testing.assert_allclose(ticks(low, high, 5), expected, atol=1e-12)


def test_long_curves_are_thinned_to_means():
    points = [(i, i % 2) for i in range(10 * MOST_POINTS)]
    thin = thinned(points)
    assert len(thin) == MOST_POINTS and {value for _, value in thin} == {0.5}


def test_a_constant_stays_constant_when_smoothed():
    assert {round(v, 12) for _, v in smoothed([(i, 3.0) for i in range(100)])} == {3.0}


@pytest.mark.parametrize("values", [[], [1.0], [0.0, 0.0], [float("nan")], [1e-9, 1e9], [-1.0, float("inf")]])
def test_odd_values_still_make_a_chart(values):
    ET.fromstring(chart("odd", [Curve("train", list(enumerate(values)), "#000")]))
