"""One suite that every method passes: shapes, flow, fitting one batch, saving, wrong weights."""

import numpy as np
import pytest
import torch

from napari_multiphase.config import RunConfig
from napari_multiphase.errors import UserError
from napari_multiphase.io.models import write_model
from napari_multiphase.methods import METHODS, method
from napari_multiphase.training.train import card_of, float16_tensors
from napari_multiphase.volume import Phase

SMALL = {"pcn": {"segmentor": {"widths": (6, 8, 12)}}}
LABELS = (0, 1, 3, 6)


def run_of(name: str, **changes) -> RunConfig:
    return RunConfig(method=name, method_config=SMALL[name], labels=LABELS, patch_vox=(16, 16, 16), **changes)


def batch(seed: int = 0):
    """An image whose brightness tells the class: (1, 1, 16, 16, 16) and (1, 16, 16, 16)."""
    rng = np.random.default_rng(seed)
    y = np.zeros((16, 16, 16), np.int64)
    y[:8, 2:14, 2:14], y[8:, :8], y[8:, 8:, 8:] = 1, 2, 3
    x = y / 2.0 - 0.7 + rng.normal(0, 0.05, y.shape)
    return torch.from_numpy(x.astype(np.float32))[None, None], torch.from_numpy(y)[None]


@pytest.mark.parametrize("name", METHODS)
def test_each_stage_trains_what_it_names_and_nothing_else(name):
    run = run_of(name)
    objective = method(name).build(run)
    x, y = batch()
    for stage in method(name).stages(run):
        objective.begin(stage)
        objective.nets.zero_grad(set_to_none=True)
        for phase in stage.phases:
            sum(objective.terms(stage, phase, x, y).values()).backward()
        own = {id(p) for p in objective.trainable(stage)}
        for key, p in objective.nets.named_parameters():
            assert (p.grad is not None) == (id(p) in own), f"{stage.name}: {key}"


@pytest.mark.parametrize("name", METHODS)
def test_one_batch_can_be_overfitted_and_mixed_precision_stays_finite(name):
    torch.manual_seed(0)
    run = run_of(name)
    objective = method(name).build(run)
    stage = next(iter(method(name).stages(run)))
    optimiser = torch.optim.AdamW(objective.trainable(stage), lr=2e-2)
    x, y = batch()
    first = last = 0.0
    for step in range(40):
        with torch.autocast("cpu", torch.bfloat16):
            loss = sum(objective.terms(stage, Phase.ARTERIAL, x, y).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        first, last = (loss.item() if step == 0 else first), loss.item()
    assert np.isfinite(last)
    assert last < 0.15 * first


@pytest.mark.parametrize("name", METHODS)
def test_a_saved_model_says_the_same_and_refuses_other_shapes(name, tmp_path):
    torch.manual_seed(1)
    run = run_of(name)
    objective = method(name).build(run)
    model = write_model(tmp_path / "model", card_of(run), float16_tensors(objective))
    segmentor = method(name).load(model, torch.device("cpu"))
    x = torch.randn(1, 1, segmentor.divisor * 2, segmentor.divisor * 2, segmentor.divisor * 4)
    stored = {key: torch.from_numpy(w).float() for key, w in float16_tensors(objective).items()}
    objective.nets.load_state_dict(stored)
    for phase in Phase:
        logits = segmentor.logits(phase, x)
        assert logits.shape == (1, len(LABELS), *x.shape[2:])
        stage = next(s for s in method(name).stages(run) if s.module == phase.value)
        assert torch.equal(logits, objective.nets[stage.module](x))
    wider = card_of(run_of(name)) | {"config": {"segmentor": {"widths": (6, 8, 16)}}}
    other = write_model(tmp_path / "other", wider, float16_tensors(objective))
    with pytest.raises(UserError, match="the card"):
        method(name).load(other, torch.device("cpu"))


def test_an_unknown_method_is_refused_with_the_names_there_are():
    with pytest.raises(UserError, match="pcn"):
        method("nonesuch")
