"""Segmenting with a PCN that has translators: two branches per phase, in 3-D and from coarse to fine; translating."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inference_cases import CARD
from torch import nn

from napari_multiphase.config import PcnConfig, SegmentOptions, TranslateOptions
from napari_multiphase.errors import UserError
from napari_multiphase.events import Event
from napari_multiphase.inference.plan import make_plan
from napari_multiphase.inference.segment import segment
from napari_multiphase.inference.translate import translate
from napari_multiphase.io.models import find_model, write_model
from napari_multiphase.methods.pcn.network import PcnNets
from napari_multiphase.methods.pcn.rstn import Rstn
from napari_multiphase.model import Model
from napari_multiphase.study import Study
from napari_multiphase.volume import Phase

CPU = SegmentOptions(device="cpu")
FORMS: dict[str, dict[str, Any]] = {
    "unet3d": {"segmentor": {"widths": [4, 8]}, "translation": {"unet": {"widths": [2, 3]}}},
    "rstn": {
        "form": "rstn",
        "rstn": {"net": {"width_mult": 0.02}, "margin_vox": 4, "most_rounds": 2},
        "translation": {"resnet": {"width": 2, "blocks": 1}},
    },
}
EACH = pytest.mark.parametrize("form", FORMS)


def model_of(folder: Path, form: str, **translation: Any) -> Model:
    """Random weights that find something in a trunk."""
    torch.manual_seed(3)
    values = FORMS[form] | {"translation": FORMS[form]["translation"] | translation}
    config = PcnConfig.model_validate(values)
    nets = PcnNets(config, 2)
    for net in nets.modules():
        if isinstance(net, Rstn):
            for head in (net.coarse.score_pool3, net.fine.score_pool3):
                nn.init.constant_(head.weight, 1.0)
                nn.init.constant_(head.bias, 0.2)
    card = {**CARD, "name": f"branches {form}", "config": config.model_dump(mode="json"), "labels": (0, 1)}
    return write_model(
        folder / f"{form}-{len(translation)}", card, {n: p.numpy() for n, p in nets.state_dict().items()}
    )


@EACH
def test_the_synthetic_branch_is_used_and_said(form: str, pair: Study, tmp_path: Path) -> None:
    model, events = model_of(tmp_path, form), list[Event]()
    plan = make_plan(model, pair, CPU)
    assert any("synthetic image of the other phase" in sentence for sentence in plan.sentences)
    prediction = segment(pair, model, CPU, on_event=events.append, scratch=tmp_path / "scratch")
    assert any("each scan was also segmented as a synthetic image" in note for note in prediction.notes)
    assert prediction.report["network_inputs"]["synthetic"] == {
        phase.value: f"made from the {phase.other} scan by the model" for phase in Phase
    }
    assert prediction.report["network_inputs"]["coarse_to_fine"] == (form == "rstn")
    assert prediction.fused_labels.any()
    fractions = [e.fraction for e in events if e.fraction is not None]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    passes = {e.message.partition(",")[0] for e in events if ", tile " in e.message}
    assert passes >= ({"coarse", "round 1"} if form == "rstn" else {"arterial", "venous"})


@EACH
def test_without_the_synthetic_branch_the_result_is_another_one(form: str, pair: Study, tmp_path: Path) -> None:
    both, real = model_of(tmp_path, form), model_of(tmp_path, form, branch_weight=1.0)
    found, alone = (segment(pair, model, CPU) for model in (both, real))
    assert "synthetic" not in alone.report["network_inputs"]
    assert not any("synthetic" in note for note in alone.notes)
    p, q = (one.phases[Phase.VENOUS].two_best.p_first for one in (found, alone))
    assert not np.array_equal(p, q)


@EACH
def test_the_user_may_weigh_the_branches(form: str, pair: Study, tmp_path: Path) -> None:
    model, real = model_of(tmp_path, form), model_of(tmp_path, form, branch_weight=1.0)
    weighed = segment(pair, model, CPU.model_copy(update={"branch_weight": 1.0}))
    alone = segment(pair, real, CPU)
    for phase in Phase:
        np.testing.assert_array_equal(weighed.phases[phase].labels, alone.phases[phase].labels)
    assert "branch_weight" not in weighed.report["network_inputs"]
    quarter = segment(pair, real, CPU.model_copy(update={"branch_weight": 0.25}))
    assert quarter.report["network_inputs"]["branch_weight"] == quarter.report["options"]["branch_weight"] == 0.25


def test_branches_that_are_not_there_cannot_be_weighed(pair: Study) -> None:
    for plan_or_run in (make_plan, lambda model, study, options: segment(study, model, options)):
        with pytest.raises(
            UserError, match=f"'{find_model().card.name}' makes no synthetic images to segment: leave it out"
        ):
            plan_or_run(find_model(), pair, CPU.model_copy(update={"branch_weight": 0.5}))


@EACH
def test_one_phase_alone_is_seen_by_the_other_phases_segmentor_too(form: str, pair: Study, tmp_path: Path) -> None:
    model = model_of(tmp_path, form)
    lone = Study("lone", {Phase.VENOUS: pair.volumes[Phase.VENOUS]})
    prediction = segment(lone, model, CPU)
    assert set(prediction.phases) == {Phase.VENOUS}
    words = "the arterial segmentor saw a synthetic arterial image, made from the venous scan"
    assert words in prediction.notes and words in prediction.report["warnings"]
    assert prediction.report["network_inputs"]["synthetic"] == {"arterial": "made from the venous scan by the model"}
    whole = segment(pair, model, CPU)
    np.testing.assert_array_equal(prediction.phases[Phase.VENOUS].labels, whole.phases[Phase.VENOUS].labels)


def test_where_a_phase_is_missing_the_plan_names_a_model_that_synthesises_it(
    pair: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = find_model()
    two, off = model_of(tmp_path, "unet3d"), model_of(tmp_path, "unet3d", branch_weight=1.0)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.json").write_text("{}")
    monkeypatch.setattr("napari_multiphase.io.models.bundled", lambda: [alone.folder, broken, off.folder, two.folder])
    lone = Study("lone", {Phase.VENOUS: pair.volumes[Phase.VENOUS]})
    words = "the model 'branches unet3d' would segment a synthetic arterial image as well"

    def offered(model: Model, study: Study, options: SegmentOptions = CPU) -> bool:
        return any(words in sentence for sentence in make_plan(model, study, options).sentences)

    assert offered(alone, lone)
    assert not offered(alone, pair) and not offered(two, lone)
    assert not offered(two, lone, CPU.model_copy(update={"branch_weight": 1.0}))
    monkeypatch.setattr("napari_multiphase.io.models.bundled", lambda: [alone.folder, off.folder])
    assert not offered(alone, lone)


@EACH
def test_such_a_model_translates(form: str, pair: Study, tmp_path: Path) -> None:
    image = translate(pair, model_of(tmp_path, form), Phase.VENOUS, TranslateOptions(device="cpu"))
    source = pair.volumes[Phase.ARTERIAL]
    assert image.image.shape == source.shape and image.to is Phase.VENOUS
    assert not np.array_equal(image.image, source.data)
