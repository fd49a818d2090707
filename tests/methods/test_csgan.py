"""csgan: closed-form losses, who learns in which turn, what permutations do to cycles and shapes (PAPER 003)."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from napari_multiphase.config import CsganConfig, RunConfig, method_config, preset
from napari_multiphase.config.files import read_run
from napari_multiphase.errors import UserError
from napari_multiphase.losses.segmentation import mean_cross_entropy
from napari_multiphase.methods import csgan
from napari_multiphase.methods.base import Batch
from napari_multiphase.training.optimise import make_optimiser, only, turn_parameters
from napari_multiphase.volume import Phase

A, V = Phase
K = 6
SMALL = {
    "segmentor": {"widths": [3, 4]},
    "generator": {"widths": [3, 4]},
    "discriminator": {"width": 2, "halvings": 1},
    "pool": 2,
}
CROP = (15, 16, 18)
EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


def objective(**changes) -> csgan.CsganObjective:
    torch.manual_seed(0)
    run = RunConfig(method="csgan", method_config={**SMALL, "crop_vox": CROP, **changes}, labels=tuple(range(K)))
    return csgan.objective(run).double()


def batch(seed: int = 0, size: int = 1) -> Batch:
    """Independent random images and labels of both phases."""
    generator = torch.Generator().manual_seed(seed)
    x = {p: torch.rand(size, 1, *CROP, generator=generator, dtype=torch.float64) * 2 - 1 for p in Phase}
    y = {p: torch.randint(0, K, (size, *CROP), generator=generator) for p in Phase}
    return Batch(x, y, torch.ones(size, K, dtype=torch.bool), seed, 0, size)


def last(o: csgan.CsganObjective):
    """The last stage and its turns by name."""
    stage = o.stages()[-1]
    return stage, {turn.name: turn for turn in stage.turns}


def cross_entropy(o: csgan.CsganObjective, phase: Phase, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return mean_cross_entropy(o.segmented(phase, x), y)


# --- losses --------------------------------------------------------------------------------------------------------


def test_identity_generators_close_the_cycle_and_cost_what_the_segmentors_cost_on_the_sources():
    o, b = objective(generator={"widths": [3, 4], "residual": True}), batch()
    terms = o.generator_terms(b, o.translated(b), shape_weight=1.0)
    assert terms["cycle"].item() == 0
    expected = cross_entropy(o, A, b.x[V], b.y[V]) + cross_entropy(o, V, b.x[A], b.y[A])
    assert terms["shape"].item() == pytest.approx(expected.item(), abs=1e-12)


def test_segmentors_that_know_nothing_cost_two_ln_6():
    o, b = objective(), batch()
    for phase in Phase:
        nn.init.zeros_(o.nets[phase.value].head.weight)
    assert o.shape_loss(b, o.translated(b)).item() == pytest.approx(2 * math.log(6), abs=1e-6)


def test_eq_3_weighs_its_terms_and_gamma_is_0_before_the_last_stage():
    o, b = objective(cycle_weight=7.0, shape_weight=0.5), batch()
    made = o.translated(b)
    cycles = sum((made.reconstructed[p] - b.x[p]).abs().mean() for p in Phase)
    scores = {p: o.discriminators[p.value](made.synthetic[p]) for p in Phase}
    stage, turns = last(o)
    terms = o.terms(stage, turns["generators"], b)
    assert terms["cycle"].item() == pytest.approx(7 * cycles.item(), abs=1e-9)
    assert terms["shape"].item() == pytest.approx(0.5 * o.shape_loss(b, made).item(), abs=1e-9)
    for p in Phase:
        assert terms[f"adversarial_{p}"].item() == pytest.approx((scores[p] - 1).square().mean().item(), abs=1e-9)
    before = o.stages()[1]
    assert before.name == "generators" and "shape" not in o.terms(before, before.turns[0], b)
    assert "shape" not in objective(shape_weight=0.0).terms(stage, turns["generators"], b)


@pytest.mark.parametrize(("fraction", "weights"), [(None, (1 / 3, 1 / 3, 1 / 3)), (0.5, (0.5, 0.25, 0.25))])
def test_segmentors_learn_from_real_synthetic_and_reconstructed_images_by_their_weights(fraction, weights):
    o, b = objective(real_fraction=fraction), batch()
    made = o.translated(b)
    expected = [
        sum(cross_entropy(o, p, b.x[p], b.y[p]) for p in Phase),
        sum(cross_entropy(o, p, made.synthetic[p], b.y[A if p == V else V]) for p in Phase),
        sum(cross_entropy(o, p, made.reconstructed[p], b.y[p]) for p in Phase),
    ]
    terms = o.segmentor_terms(b)
    assert list(terms) == ["real", "synthetic", "reconstructed"]
    for found, weight, value in zip(terms.values(), weights, expected, strict=True):
        assert found.item() == pytest.approx(weight * value.item(), abs=1e-9)


def test_where_real_data_are_few_they_and_their_reconstructions_come_from_the_further_draw():
    o = objective(real_share={"venous": 0.14})
    draw = last(o)[0].draw
    assert draw.shares == {A: 1.0, V: 1.0} and draw.also.shares == {A: 1.0, V: 0.14} and draw.also.also is None
    assert o.stages()[0].draw.shares == draw.also.shares and o.stages()[0].draw.also is None
    assert last(objective(real_share={"venous": 0.14}, source_share={"venous": 0.14}))[0].draw.also is None
    b, few = batch(0), batch(1)
    both, alone = o.segmentor_terms(replace(b, also=few)), o.segmentor_terms(b)
    of_few = o.segmentor_terms(few)
    assert torch.equal(both["synthetic"], alone["synthetic"])
    assert torch.equal(both["real"], of_few["real"]) and torch.equal(both["reconstructed"], of_few["reconstructed"])


def test_a_soft_dice_is_beside_the_cross_entropy_only_where_it_has_a_weight():
    b, plain = batch(), objective()
    weighted = objective(dice_weight=2.0)
    logits = plain.segmented(A, b.x[A])
    dice = plain.dice_cross_entropy(logits, b.y[A])["dice"].item()
    assert plain.seg_loss(A, b.x[A], b.y[A]).item() == pytest.approx(mean_cross_entropy(logits, b.y[A]).item())
    difference = weighted.seg_loss(A, b.x[A], b.y[A]) - plain.seg_loss(A, b.x[A], b.y[A])
    assert difference.item() == pytest.approx(2 * dice, abs=1e-9)


# --- networks ------------------------------------------------------------------------------------------------------


def test_segmentors_have_no_normalisation_and_nobody_transposes_a_convolution():
    with torch.device("meta"):
        nets = csgan.CsganNets(CsganConfig(), K)
    names = {key: [type(m).__name__ for m in nets[key].modules()] for key in nets}
    assert set(names) == {"arterial", "venous", "to_arterial", "to_venous"}
    for phase in Phase:
        assert not any("Norm" in name for name in names[phase.value])
        assert names[phase.value].count("TwoConvs") == 7  # two at each of four resolutions, and three on the way up
        assert any("InstanceNorm" in name for name in names[f"to_{phase.value}"])
    assert not any("Transpose" in name for of_net in names.values() for name in of_net)
    x = torch.empty(1, 1, 86, 112, 112, device="meta")
    assert csgan.padded(nets["arterial"], x, 8).shape == (1, K, 86, 112, 112)
    assert csgan.padded(nets["to_venous"], x, 8).shape == x.shape


def test_padding_repeats_the_last_voxels_and_is_cut_off_again():
    x = torch.randn(2, 1, 15, 16, 18, dtype=torch.float64)
    seen = []
    out = csgan.padded(lambda wide: seen.append(wide) or wide, x, 8)
    assert torch.equal(out, x) and seen[0].shape == (2, 1, 16, 16, 24)
    assert torch.equal(seen[0][:, :, -1, :, 3:21], x[:, :, -1])
    assert torch.equal(seen[0][:, :, :15, :, :3], x[..., :1].expand(-1, -1, -1, -1, 3))
    whole = torch.randn(1, 1, 8, 16, 8)
    assert csgan.padded(lambda wide: wide, whole, 8) is whole


def test_losses_see_the_crop_alone():
    """Judged on the padded crop, the cycle of a constant shift would not be the shift, and D would score padding."""
    o, b = objective(), batch()
    o.generated = lambda to, x: csgan.padded(lambda wide: wide + 0.25, x, 8)
    made = o.translated(b)
    assert all(x.shape == (1, 1, *CROP) for of in (made.synthetic, made.reconstructed) for x in of.values())
    assert o.generator_terms(b, made, 1.0)["cycle"].item() == pytest.approx(10 * 2 * 0.5, abs=1e-9)
    assert o.segmented(A, b.x[A]).shape == (1, K, *CROP)


# --- permutations --------------------------------------------------------------------------------------------------


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def in_bands(x: torch.Tensor) -> torch.Tensor:
    """A segmentor that tells classes by brightness."""
    centres = torch.linspace(-1, 1, K, dtype=x.dtype)[None, :, None, None, None]
    return -((x - centres) ** 2) * 100


CUBE = (8, 8, 8)
RAMP = (
    torch.linspace(-0.3, 0.3, 8, dtype=torch.float64)[:, None, None] + torch.linspace(0, 0.2, 8)[None, :, None].double()
)


def to_v(x):
    return 0.5 * x + RAMP


def to_a(x):
    return (x - RAMP) / 0.5


TURNS = {
    "flip": (lambda x: x.flip(2), lambda x: x.flip(2)),
    "rotation": (lambda x: x.rot90(1, (2, 3)), lambda x: x.rot90(-1, (2, 3))),
    "mirrored rotation": (lambda x: x.flip(4).rot90(1, (3, 4)), lambda x: x.rot90(-1, (3, 4)).flip(4)),
}


def with_generators(make_a, make_v) -> csgan.CsganObjective:
    o = objective()
    for phase, make in ((A, make_a), (V, make_v)):
        o.nets[f"to_{phase.value}"] = Apply(make)
        o.nets[phase.value] = Apply(in_bands)
    return o


@pytest.mark.parametrize("turn", TURNS)
def test_a_permutation_after_one_generator_and_before_the_other_closes_every_cycle_but_spoils_shapes(turn):
    """G'_A = G_A T with G'_V = T^-1 G_V; with T^-1 on the other side, as printed, only where T commutes with G."""
    t, back = TURNS[turn]
    generator = torch.Generator().manual_seed(3)
    x = {p: torch.rand(1, 1, *CUBE, generator=generator, dtype=torch.float64) - 0.5 for p in Phase}
    y = {A: in_bands(to_v(x[A])).argmax(1), V: in_bands(to_a(x[V])).argmax(1)}
    b = Batch(x, y, torch.ones(1, K, dtype=torch.bool), 0)

    def losses(make_a, make_v) -> tuple[float, float, float]:
        o = with_generators(make_a, make_v)
        made = o.translated(b)
        judge, translator = csgan.CsganSegmentor(o.config, o.nets), csgan.CsganTranslator(o.config, o.nets)
        score = csgan.s_score(judge, translator, V, x[A], y[A])
        cycle = sum((made.reconstructed[p] - x[p]).abs().mean().item() for p in Phase)
        return cycle, o.shape_loss(b, made).item(), score

    cycle, shape, score = losses(to_a, to_v)
    assert cycle < 1e-12 and score == 1
    turned = losses(lambda z: to_a(t(z)), lambda z: back(to_v(z)))
    assert turned[0] < 1e-12 and turned[1] > 2 * shape and turned[2] < 0.7
    printed = losses(lambda z: to_a(t(z)), lambda z: to_v(back(z)))
    assert printed[0] > 0.05


def test_the_s_score_of_one_modality_and_identity_generators_is_the_dice_of_s_on_the_source():
    o = objective(generator={"widths": [3, 4], "residual": True})
    b = batch(4)
    b.y[A][:, :2] = 255
    judge, translator = csgan.CsganSegmentor(o.config, o.nets), csgan.CsganTranslator(o.config, o.nets)
    found, y = judge.logits(V, b.x[A]).argmax(1), b.y[A]
    dices = []
    for c in range(1, K):
        p, g = (found == c) & (y < 254), y == c
        dices.append((2 * (p & g).sum() / (p.sum() + g.sum())).item())
    assert csgan.s_score(judge, translator, V, b.x[A], y) == pytest.approx(sum(dices) / len(dices), abs=1e-6)


# --- who learns ----------------------------------------------------------------------------------------------------


def moved_by(o: csgan.CsganObjective, name: str, b: Batch) -> set[str]:
    """The networks that a step of this turn changes; none but the turn's own may have a gradient."""
    stage, turns = last(o)
    own = turn_parameters(o, turns[name])
    before = {key: p.detach().clone() for key, p in o.named_parameters()}
    optimiser = make_optimiser(turns[name].optimiser, list(own.values()))
    o.zero_grad(set_to_none=True)
    with only(o, own):
        sum(o.terms(stage, turns[name], b).values()).backward()
    assert {key for key, p in o.named_parameters() if p.grad is not None} == set(own)
    optimiser.step()
    changed = {key for key, p in o.named_parameters() if not torch.equal(p, before[key])}
    return {".".join(key.split(".")[:2]) for key in changed}


def test_each_step_changes_its_own_networks_alone():
    o, b = objective(), batch()
    o.before_step(last(o)[0], 0)
    assert moved_by(o, "generators", b) == {"nets.to_arterial", "nets.to_venous"}
    assert moved_by(o, "discriminators", b) == {"discriminators.arterial", "discriminators.venous"}
    assert moved_by(o, "segmentors", b) == {"nets.arterial", "nets.venous"}


def test_through_the_frozen_segmentor_the_shape_loss_reaches_the_generator_and_nothing_else():
    o, b = objective(), batch()
    stage, turns = last(o)
    own = turn_parameters(o, turns["generators"])
    with only(o, own):
        o.terms(stage, turns["generators"], b)["shape"].backward()
    assert all(p.grad is not None for p in own.values())
    assert sum(p.grad.abs().sum() for p in own.values()) > 0
    assert all(p.grad is None for key, p in o.named_parameters() if key not in own)


def test_without_gamma_nothing_of_the_segmentors_reaches_a_generator():
    b = batch()
    grads = []
    for seed in (1, 2):
        o = objective(shape_weight=0.0)
        torch.manual_seed(seed)
        for phase in Phase:
            nn.init.normal_(o.nets[phase.value].head.weight)
        stage, turns = last(o)
        with only(o, turn_parameters(o, turns["generators"])):
            sum(o.terms(stage, turns["generators"], b).values()).backward()
        grads.append([p.grad for p in turn_parameters(o, turns["generators"]).values()])
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


def test_discriminators_and_segmentors_of_a_step_see_what_the_generators_made_before_they_moved():
    o, b = objective(pool=50), batch()
    stage, turns = last(o)
    o.before_step(stage, 0)
    before = o.translated(b)
    expected = o.segmentor_terms(b)["synthetic"].item()
    o.terms(stage, turns["generators"], b)
    for phase in Phase:
        nn.init.normal_(o.nets[f"to_{phase.value}"].last.weight)
    assert o.terms(stage, turns["segmentors"], b)["synthetic"].item() == pytest.approx(expected, abs=1e-9)
    o.terms(stage, turns["discriminators"], b)
    assert torch.equal(o.pools["venous"].images[0], before.synthetic[V][0])
    o.before_step(stage, 1)
    assert o.terms(stage, turns["segmentors"], b)["synthetic"].item() != pytest.approx(expected, abs=1e-4)


def test_discriminators_judge_the_history_once_it_is_full():
    o, stage = objective(pool=2), None
    stage, turns = last(o)
    for step in range(2):
        o.terms(stage, turns["discriminators"], batch(step))
    assert int(o.pools["arterial"].count) == int(o.pools["venous"].count) == 2
    older = 0
    for step in range(2, 12):
        b = batch(step)
        kept = o.pools["venous"].images.clone()
        found = o.terms(stage, turns["discriminators"], b)["discriminator_venous"].item()
        real, new = o.discriminators[V.value](b.x[V]), o.discriminators[V.value](o.generated(V, b.x[A]))
        olds = [(((real - 1) ** 2).mean() + (o.discriminators[V.value](k[None]) ** 2).mean()).item() / 2 for k in kept]
        fresh = (((real - 1) ** 2).mean() + (new**2).mean()).item() / 2
        assert min(abs(found - value) for value in (*olds, fresh)) < 1e-9
        older += abs(found - fresh) > 1e-9
    assert 0 < older < 10


def test_discriminators_may_move_more_often_than_generators_and_segmentors():
    o = objective(discriminator_moves=3)
    assert [(turn.name, turn.every) for turn in o.stages()[1].turns] == [("generators", 3), ("discriminators", 1)]
    assert {turn.name: turn.every for turn in last(o)[0].turns} == {
        "generators": 3,
        "discriminators": 1,
        "segmentors": 3,
    }
    assert all(turn.every == 1 for turn in objective(regime="ada", discriminator_moves=3).stages()[-1].turns)


def test_discriminators_may_see_labels_which_are_the_sources_for_synthetic_images_also_in_the_history():
    o, b = objective(discriminator={"width": 2, "halvings": 1, "structures": True}, pool=50), batch()
    stage, turns = last(o)
    made = o.translated(b)
    terms = o.generator_terms(b, made, shape_weight=0.0)
    for p in Phase:
        seen = torch.cat([made.synthetic[p], b.y[p.other][:, None]], dim=1)
        assert terms[f"adversarial_{p}"].item() == pytest.approx(
            (o.discriminators[p.value](seen) - 1).square().mean().item()
        )
    o.terms(stage, turns["generators"], b)
    found = o.terms(stage, turns["discriminators"], b)
    for p in Phase:
        real = o.discriminators[p.value](torch.cat([b.x[p], b.y[p][:, None]], dim=1))
        fake = o.discriminators[p.value](torch.cat([made.synthetic[p], b.y[p.other][:, None]], dim=1))
        expected = ((real - 1).square().mean() + fake.square().mean()) / 2
        assert found[f"discriminator_{p}"].item() == pytest.approx(expected.item())
        assert torch.equal(o.pools[p.value].images[0, 1], b.y[p.other][0].double())
    assert moved_by(o, "generators", b) == {"nets.to_arterial", "nets.to_venous"}


# --- regimes -------------------------------------------------------------------------------------------------------


def test_stages_of_each_regime():
    def plan(**changes):
        return [(s.name, s.steps, [t.name for t in s.turns]) for s in objective(**changes).stages()]

    s, g = ["segmentors"], ["generators", "discriminators"]
    assert plan() == [("segmentors", 7100, s), ("generators", 4260, g), ("joint", 7100, g + s)]
    assert plan(regime="ada") == [("segmentors", 7100, s), ("generators", 4260, g), ("ada", 7100, s)]
    assert plan(regime="real") == [("segmentors", 7100, s), ("real", 7100, s)]
    assert CsganConfig().steps == CsganConfig(regime="ada").steps == 18460 and CsganConfig(regime="real").steps == 14200
    joint = objective().stages()[-1]
    assert {t.optimiser.schedule for t in joint.turns} == {"flat-linear"}
    assert all(stage.draw.pairing == "unpaired" and stage.draw.patch_vox == CROP for stage in objective().stages())
    assert [t.optimiser.betas for t in joint.turns] == [(0.5, 0.999), (0.5, 0.999), (0.9, 0.999)]
    assert {t.optimiser.lr for t in joint.turns} == {2e-4}


def test_ada_learns_from_what_frozen_generators_make_and_real_from_nothing_else():
    b = batch()
    ada = objective(regime="ada")
    assert moved_by(ada, "segmentors", b) == {"nets.arterial", "nets.venous"}
    assert set(ada.terms(*_last_turn(ada), b)) == {"real", "synthetic", "reconstructed"}
    real = objective(regime="real")
    assert set(real.terms(*_last_turn(real), b)) == {"segmentor_arterial", "segmentor_venous"}
    assert set(real.nets) == {"arterial", "venous"} and not hasattr(real, "pools")
    with pytest.raises(UserError, match="does not translate"):
        _ = csgan.CsganTranslator(real.config, real.nets).traits


def _last_turn(o):
    stage, turns = last(o)
    return stage, turns["segmentors"]


def test_crops_that_a_discriminator_cannot_judge_are_refused_before_training():
    with pytest.raises(UserError, match="from 24 voxels a side"):
        objective(discriminator={"halvings": 3})
    objective(discriminator={"halvings": 3}, regime="real")


# --- configurations ------------------------------------------------------------------------------------------------


ROWS = sorted((EXPERIMENTS / "csgan").glob("*.yaml"))


def settings_of(path: Path) -> dict:
    run = read_run(path)
    return run.model_dump(mode="json") | {"method_config": method_config("csgan", run.method_config).model_dump()}


def named(stem: str) -> dict:
    """What the name of a row says: the settings that differ from `ours`."""
    ada = {"regime": "ada", "real_fraction": 0.5, "generator_steps": 4260 + 7100}
    kinds = {"ours": {}, "real": {"regime": "real"}, "ada": ada, "noshape": {"shape_weight": 0.0}, "synthetic": {}}
    kind, _, percent = stem.removeprefix("gap-").partition("-")
    share = int(percent) / 100 if percent else 1.0
    changes = dict(kinds[kind])
    if stem.startswith("gap-real"):
        changes["real_share"] = {"arterial": 1.0, "venous": 0.14 + share}
    elif stem.startswith("gap-"):
        changes["real_share"] = {"arterial": 1.0, "venous": 0.14}
        changes["source_share"] = {"arterial": share, "venous": 1.0}
    elif kind == "synthetic":
        changes["source_share"] = {"arterial": share, "venous": 1.0}
    elif percent:
        changes["real_share"] = {"arterial": share, "venous": share}
    return changes


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.stem)
def test_a_row_is_what_its_name_says_and_nothing_else(path):
    found, base = settings_of(path), settings_of(EXPERIMENTS / "csgan" / "ours.yaml")
    assert found.pop("name") == f"csgan-{path.stem}"
    base.pop("name")
    base["method_config"] |= named(path.stem)
    assert found == base


def test_every_row_is_another_one():
    assert len({repr(settings_of(path)["method_config"]) for path in ROWS}) == len(ROWS) == 26


def test_ours_is_the_paper_s_preset():
    run = preset("csgan", "paper")
    values = run.model_dump(mode="json") | {"method_config": method_config("csgan", run.method_config).model_dump()}
    found = settings_of(EXPERIMENTS / "csgan" / "ours.yaml")
    assert {key for key in values if values[key] != found[key]} == {"name"}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("noshape", {"shape_weight": 0.0}),
        ("ada", {"regime": "ada", "real_fraction": 0.5, "generator_steps": 1500 + 1200, "joint_steps": 1200 // 3}),
        ("real", {"regime": "real", "joint_steps": 1200 // 3}),
    ],
)
def test_the_phantom_rows_differ_in_the_named_factor_alone(name, changes):
    found, base = (settings_of(EXPERIMENTS / f"csgan-phantom{end}.yaml") for end in (f"-{name}", ""))
    found.pop("name"), base.pop("name")
    assert base["method_config"]["discriminator_moves"] == 3  # the segmentors move in each third joint step
    base["method_config"] |= changes
    assert found == base


def test_the_phantom_model_fits_ten_megabytes_in_float16():
    run = read_run(EXPERIMENTS / "csgan-phantom.yaml")
    with torch.device("meta"):
        nets = csgan.CsganNets(method_config("csgan", run.method_config), len(run.labels))
    assert 2 * sum(p.numel() for p in nets.parameters()) < 10e6


def test_the_paper_s_preset_holds_the_printed_sizes():
    run = preset("csgan", "paper")
    config = method_config("csgan", run.method_config)
    assert config.crop_vox == (86, 112, 112) and run.patch_vox == (88, 112, 112) and run.spacing_mm == (1.5, 1.5, 1.5)
    assert len(run.labels) == 6 and run.batch == 1 and run.validation.folds == 2
    assert (config.cycle_weight, config.shape_weight, config.pool) == (10, 1, 50)
    assert config.traits.divisor == (8, 8, 8) and config.translator_traits.divisor == (8, 8, 8)
