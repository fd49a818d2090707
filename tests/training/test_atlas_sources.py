"""Phantoms of label maps as training cases."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from napari_multiphase.config import RunConfig
from napari_multiphase.errors import UserError
from napari_multiphase.io.models import find_model
from napari_multiphase.phantom import AtlasSpec
from napari_multiphase.training.phantoms import phantom_sources


def _run(cases: int = 40, **data: object) -> RunConfig:
    maps = [
        {"labels": f"{name}/map.nii.gz", "names": f"{name}/names.json", "share": share}
        for name, share in (("a", 3), ("b", 1))
    ]
    return RunConfig.model_validate({"data": {"kind": "phantom", "cases": cases, "atlases": maps, **data}})


@pytest.fixture
def maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders with files of the right names, and MULTIPHASE_ATLASES that leads to them."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "map.nii.gz").write_bytes(name.encode())
        (tmp_path / name / "names.json").write_text(json.dumps({"1": "liver"}))
    monkeypatch.setenv("MULTIPHASE_ATLASES", str(tmp_path))
    return tmp_path


def test_maps_and_parametric_phantoms_are_mixed_by_their_shares(maps: Path) -> None:
    run = _run(200, parametric_share=0.25)
    specs = [source.spec for source in phantom_sources(run, run.data)]
    of = [spec.atlas.parent.name if isinstance(spec, AtlasSpec) else "parametric" for spec in specs]
    shares = {name: of.count(name) / len(of) for name in ("parametric", "a", "b")}
    assert shares == pytest.approx({"parametric": 0.25, "a": 0.5625, "b": 0.1875}, abs=0.1)
    again = [source.spec for source in phantom_sources(run, run.data)]
    assert specs == again
    assert all(spec.wide for spec in specs if isinstance(spec, AtlasSpec))


def test_a_case_keeps_its_name_in_the_cache_until_its_map_changes(maps: Path) -> None:
    run = _run(parametric_share=0.0)
    sources = phantom_sources(run, run.data)
    first = next(s for s in sources if s.spec.atlas.parent.name == "a")
    before = first.fingerprint()
    assert json.dumps(before) == json.dumps(first.fingerprint()) and str(maps) not in json.dumps(before)
    (maps / "a" / "map.nii.gz").write_bytes(b"another person")
    assert first.fingerprint() != before


def test_without_atlases_nothing_changes() -> None:
    run = RunConfig.model_validate({"data": {"kind": "phantom", "cases": 3}})
    sources = phantom_sources(run, run.data)
    assert not any(isinstance(source.spec, AtlasSpec) for source in sources)
    assert sources[0].fingerprint() == {"phantom": {**vars(sources[0].spec)}, "version": 1}


def test_missing_maps_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTIPHASE_ATLASES", str(tmp_path))
    run = _run(parametric_share=0.0)
    with pytest.raises(UserError, match="MULTIPHASE_ATLASES"):
        phantom_sources(run, run.data)


STARTS = {
    "abdomen-first": None,
    "abdomen-four": "abdomen-first-s1",
    "abdomen-five": "abdomen-four-s1",
    "abdomen-still-five": "abdomen-five-s1",
    "abdomen-next-five": "abdomen-still-five-s1",
    "abdomen-large-five": "abdomen-next-five-s1",
    "abdomen-oral-five": "abdomen-large-five-s1",
    "abdomen": "abdomen-oral-five-s1",
    "abdomen-still-four": "abdomen-four-s1",
    "abdomen-next-four": "abdomen-still-four-s1",
    "abdomen-last-four": "abdomen-next-four-s1",
    "abdomen-wide-four": "abdomen-last-four-s1",
}


@pytest.mark.parametrize("name", STARTS)
def test_the_models_that_are_measured_on_a_person_left_that_person_out(name: str) -> None:
    from napari_multiphase.config import method_config
    from napari_multiphase.config.files import read_run

    run = read_run(Path(__file__).parents[2] / "experiments" / f"{name}.yaml")
    assert run.name == name and run.labels == tuple(range(24))
    assert ("totalsegmentator" in str(run.data)) == (name == "abdomen" or name.endswith("five"))
    assert (None if run.start_from is None else Path(run.start_from).parent.name) == STARTS[name]
    config = method_config(run.method, run.method_config)
    assert config.mixed and all(np.array(run.patch_vox) % config.segmentor.divisor == 0)


@pytest.mark.parametrize(
    "names",
    [
        ("abdomen-five", "abdomen-still-four"),
        ("abdomen-still-five", "abdomen-next-four"),
        ("abdomen-next-five", "abdomen-last-four"),
        ("abdomen-large-five", "abdomen-wide-four"),
    ],
)
def test_the_twin_that_left_the_person_out_is_trained_as_the_default(names: tuple[str, str]) -> None:
    from napari_multiphase.config.files import read_run

    folder = Path(__file__).parents[2] / "experiments"
    default, twin = (read_run(folder / f"{name}.yaml") for name in names)
    without = [atlas for atlas in default.data.atlases if "totalsegmentator" not in str(atlas)]
    assert len(without) == len(default.data.atlases) - 1
    data = default.data.model_copy(update={"atlases": twin.data.atlases})
    assert twin == default.model_copy(update={"name": twin.name, "data": data, "start_from": twin.start_from})
    assert [*twin.data.atlases] == without


def test_the_default_shows_the_dice_of_its_twin_that_left_the_person_out() -> None:
    results, twin = Path(__file__).parents[2] / "benchmarks" / "results", "abdomen-wide-four"
    told = {name: json.loads((results / f"real_ct-{name}.json").read_text()) for name in ("abdomen", twin)}
    card = find_model("abdomen").card
    measured = {row["model"]["weights_sha256"] for row in told["abdomen"]["studies"] if "model" in row}
    assert measured == {card.weights_sha256}
    assert "totalsegmentator" in card.training_data and "totalsegmentator" not in told[twin]["training_data"]
    four = re.findall(r"'abdomen-four' \(weights \w+", card.training_data)
    assert four and four == re.findall(r"'abdomen-four' \(weights \w+", told[twin]["training_data"])
    assert not any("dice_against_label_map" in row for row in told["abdomen"]["studies"])
    (dice,) = (row["dice_against_label_map"] for row in told[twin]["studies"] if "dice_against_label_map" in row)
    assert card.metrics["real_ct_dice_per_structure"] == dice and twin in card.metrics["real_ct_note"]
