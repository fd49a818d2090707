"""PCN: its oracles (1.7 of the specification), who gets whose gradient, both forms, one labelled phase, presets."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from napari_multiphase.config import PRESETS, PcnConfig, RunConfig, UNet3DConfig, method_config, preset
from napari_multiphase.config.files import read_run
from napari_multiphase.errors import UserError
from napari_multiphase.io.models import find_model, write_model
from napari_multiphase.methods import METHODS
from napari_multiphase.methods.base import Batch, Stage, Turn, stored_state
from napari_multiphase.methods.pcn.network import PcnNets, PcnSegmentor, PcnTranslator, unit
from napari_multiphase.methods.pcn.objective import PcnObjective, objective
from napari_multiphase.methods.pcn.rstn import Box, Mode, Rstn, Saliency, box_of
from napari_multiphase.training.card import card_of, model_tensors
from napari_multiphase.training.optimise import only, parameter_groups, turn_parameters
from napari_multiphase.volume import Phase

A, V = Phase.ARTERIAL, Phase.VENOUS
EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments" / "pcn"
NET = {"width_mult": 0.02, "dropout": 0.0}
SMALL = {
    "rstn": {
        "form": "rstn",
        "rstn": {"net": NET, "margin_vox": 2, "random_margin_vox": [0, 4], "separate_steps": 4, "joined_steps": 2},
        "translation": {
            "resnet": {"width": 2, "blocks": 1},
            "judge": {"width": 2, "halvings": 1},
            "pool": 2,
            "steps": 2,
            "joint_steps": 2,
        },
    },
    "unet3d": {
        "segmentor": {"widths": [3, 4]},
        "shared_steps": 1,
        "phase_steps": 1,
        "translation": {
            "unet": {"widths": [2, 3]},
            "judge": {"width": 2, "halvings": 1},
            "pool": 2,
            "steps": 2,
            "joint_steps": 2,
        },
    },
}
PATCH = {"rstn": (4, 16, 20), "unet3d": (8, 8, 12)}
FORMS = pytest.mark.parametrize("form", SMALL)


def changed(form: str, **translation) -> PcnConfig:
    own = SMALL[form]
    return PcnConfig.model_validate(own | {"translation": own["translation"] | translation})


def made(form: str, config: PcnConfig | None = None) -> PcnObjective:
    """In float64, with score weights that are not 0."""
    torch.manual_seed(0)
    out = PcnObjective(config or changed(form), 2, PATCH[form]).double()
    for net in out.nets.modules():
        if isinstance(net, Rstn):
            for head in (*(net.coarse.score, net.fine.score), *(net.coarse.score_pool3, net.fine.score_pool3)):
                nn.init.normal_(head.weight, std=0.3)
            nn.init.normal_(net.saliency.last.weight, std=0.1)
    return out


def batch_of(form: str, items: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(3)
    depth = 3 if form == "rstn" else PATCH[form][0]
    shape = (items, depth, *PATCH[form][1:])
    x = {p: torch.rand(shape, generator=generator, dtype=torch.float64)[:, None] * 2 - 1 for p in Phase}
    y = {p: (torch.rand(shape, generator=generator) > 0.7).long() for p in Phase}
    return Batch(x, y, torch.ones(items, 2, dtype=torch.bool), 7, 0, items)


def stage_of(own: PcnObjective, name: str) -> Stage:
    return next(stage for stage in own.stages() if stage.name == name)


def turn_of(stage: Stage, name: str) -> Turn:
    return next(turn for turn in stage.turns if turn.name == name)


def loss(own: PcnObjective, stage: str, turn: str, batch: Batch) -> Tensor:
    """Of a turn, its share of a fresh step."""
    at = stage_of(own, stage)
    own.before_step(at, 0)
    return sum(own.terms(at, turn_of(at, turn), batch).values())  # type: ignore[return-value]


def gradients(own: PcnObjective, stage: str, turn: str, batch: Batch, module: str) -> list[Tensor]:
    """Of a module's parameters in a turn that freezes what it freezes; zeros where there is none."""
    at = stage_of(own, stage)
    own.before_step(at, 0)
    own.zero_grad(set_to_none=True)
    with only(own, turn_parameters(own, turn_of(at, turn))):
        sum(own.terms(at, turn_of(at, turn), batch).values()).backward()
    parameters = [p for name, p in own.named_parameters() if name.startswith(f"{module}.")]
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]


# --- RSTN ----------------------------------------------------------------------------------------------------------


def test_the_saliency_is_the_identity_at_the_start():
    torch.manual_seed(0)
    u, p = torch.rand(2, 3, 9, 8, dtype=torch.float64), torch.rand(2, 3, 9, 8, dtype=torch.float64)
    net = Rstn(changed("rstn").rstn).double()
    assert torch.equal(net.weighted(u, p), u)
    assert torch.equal(Saliency(1.5).double()(p), torch.full_like(p, 1.5))


def test_boxes():
    mask = torch.zeros(3, 20, 30, dtype=torch.bool)
    assert box_of(mask) is None
    mask[0, 4, 7] = mask[2, 9, 25] = True
    assert box_of(mask) == Box(4, 10, 7, 26)
    assert box_of(mask).grown([2, 3, 20, 1], 20, 30) == Box(2, 13, 0, 27)


def generators(count: int, seed: int = 0) -> Iterator[torch.Generator]:
    return iter([torch.Generator().manual_seed(seed + n) for n in range(count)])


def rstn() -> Rstn:
    return made("rstn").nets.of(A)


@pytest.mark.parametrize("mode", Mode)
def test_outside_its_box_the_fine_probability_is_0_and_inside_it_is_not(mode):
    net = rstn()
    u, inside = torch.rand(1, 3, 24, 24, dtype=torch.float64), torch.zeros(1, 3, 24, 24, dtype=torch.bool)
    inside[..., 10:14, 8:12] = True
    net.config = net.config.model_copy(update={"random_share": 0.0})
    coarse, fine = net(u, inside, mode, generators(1))
    joined = box_of(coarse[0] >= 0) if mode is Mode.JOINED else None  # the coarse result's, which is another one
    found = joined or box_of(inside[0])
    box = found.grown([2] * 4, 24, 24)
    p = fine.sigmoid()
    within = torch.zeros_like(p, dtype=torch.bool)
    within[0, :, box.y0 : box.y1, box.x0 : box.x1] = True
    assert not p[~within].any() and (p[within] > 0).all()


def test_modes_differ_in_what_the_fine_network_sees():
    net, u = rstn(), torch.rand(1, 3, 16, 16, dtype=torch.float64)
    inside = torch.ones(1, 3, 16, 16, dtype=torch.bool)
    raw, weighted = (net(u, inside, mode, generators(1)) for mode in (Mode.RAW, Mode.WEIGHTED))
    assert torch.equal(raw.fine, net.fine(u))
    assert torch.equal(weighted.fine, net.fine(u * net.saliency(raw.coarse.sigmoid())))
    assert not torch.equal(raw.fine, weighted.fine)


def test_the_fine_loss_reaches_the_coarse_network_through_the_saliency_alone():
    net, u = rstn(), torch.rand(1, 3, 16, 16, dtype=torch.float64)
    inside = torch.zeros(1, 3, 16, 16, dtype=torch.bool)
    inside[..., 4:12, 4:12] = True
    for mode, saliency_moves in ((Mode.RAW, None), (Mode.JOINED, True), (Mode.JOINED, False)):
        if saliency_moves is False:
            nn.init.zeros_(net.saliency.last.weight)  # a constant g: nothing else may carry gradient
        net.zero_grad()
        net(u, inside, mode, generators(1)).fine.sigmoid().sum().backward()
        reached = any(p.grad is not None and p.grad.any() for p in net.coarse.parameters())
        assert reached == bool(saliency_moves)


def test_a_share_of_the_boxes_has_margins_of_its_own_on_each_side():
    net = rstn()
    inside = torch.zeros(3, 100, 100, dtype=torch.bool)
    inside[:, 50:60, 40:70] = True
    boxes = [net._training_box(inside.double(), inside, Mode.RAW, draw) for draw in generators(400, 5)]
    margins = torch.tensor([[50 - b.y0, b.y1 - 60, 40 - b.x0, b.x1 - 70] for b in boxes])
    fixed = (margins == 2).all(1).double().mean()
    assert 0.4 < fixed < 0.6
    free = margins[(margins != 2).any(1)]
    assert free.min() == 0 and free.max() == 4 and len({tuple(row) for row in free.tolist()}) > 50


def test_an_empty_coarse_result_takes_the_labels_box_and_an_empty_label_everything():
    net = rstn()
    nothing, inside = torch.zeros(3, 30, 30), torch.zeros(3, 30, 30, dtype=torch.bool)
    inside[:, 10:12, 10:12] = True
    net.config = net.config.model_copy(update={"random_share": 0.0})
    (draw,) = generators(1)
    assert net._training_box(nothing, inside, Mode.JOINED, draw) == Box(8, 14, 8, 14)
    assert net._training_box(nothing, inside & False, Mode.JOINED, draw) == Box(0, 30, 0, 30)


def test_a_slice_is_the_mean_of_the_three_stacks_it_lies_in():
    own = made("rstn")
    segmentor, x = PcnSegmentor(own.config, own.nets), torch.rand(1, 1, 9, 12, 16, dtype=torch.float64) * 2 - 1
    p = segmentor.coarse_logits(V, x).softmax(1)[0, 1]
    assert p.shape == (5, 12, 16)
    coarse = own.nets.of(V).coarse
    stacks = [coarse(unit(x[:, 0, z : z + 3]))[0].float().sigmoid() for z in range(7)]
    for z in range(5):  # slice z + 2 of x
        mean = (stacks[z][2] + stacks[z + 1][1] + stacks[z + 2][0]) / 3
        assert torch.allclose(p[z], mean, atol=1e-6)


def test_fine_testing_sees_the_last_rounds_box_and_says_nothing_without_one():
    own = made("rstn")
    segmentor, x = PcnSegmentor(own.config, own.nets), torch.rand(1, 3, 7, 24, 24, dtype=torch.float64)
    x[:, 2] = 0
    assert segmentor.logits(A, x).softmax(1)[:, 1].max() < 1e-6
    x[0, 2, 3, 10, 12] = 1  # its box, 2 voxels wider, in the stacks of the slices around
    p = segmentor.logits(A, x).softmax(1)[0, 1]
    assert (p[:, 8:13, 10:15] > 1e-4).all()
    assert (p > 1e-6).sum() == 3 * 25


# --- Eq. 4 ---------------------------------------------------------------------------------------------------------


@FORMS
def test_at_lambda_1_no_segmentation_reaches_the_translators_and_no_fake_the_segmentors(form):
    batch = batch_of(form)
    own = made(form, changed(form, joint_lambda=1.0))
    at = stage_of(own, "joint")
    own.before_step(at, 0)
    names = set(own.terms(at, turn_of(at, "translators"), batch))
    assert names == {f"{kind} {phase}" for kind in ("adversarial", "cycle") for phase in Phase}
    assert not any(name.startswith("synthetic") for name in own.terms(at, turn_of(at, "segmentors"), batch))
    alone = gradients(own, "joint", "translators", batch, "nets.to_venous")
    other = made(form, changed(form, joint_lambda=1.0, gen_seg_sign=0))
    for a, b in zip(alone, gradients(other, "joint", "translators", batch, "nets.to_venous"), strict=True):
        assert torch.equal(a, b)


@FORMS
def test_gen_seg_sign_flips_the_gradient_of_segmentation_in_the_translators(form):
    batch, found = batch_of(form), {}
    for sign in (-1, 0, 1):
        own = made(form, changed(form, gen_seg_sign=sign))
        found[sign] = gradients(own, "joint", "translators", batch, "nets.to_arterial")
    apart = 0.0
    for minus, none, plus in zip(found[-1], found[0], found[1], strict=True):
        assert torch.allclose(plus - none, none - minus, atol=1e-9)
        apart = max(apart, float((plus - none).abs().max()))
    assert apart > 1e-8


@FORMS
def test_swapping_the_phases_of_inputs_and_modules_leaves_eq_4_unchanged(form):
    """The printed Eq. 4, whose last term is f_V's, fails this."""
    own, other, batch = made(form), made(form), batch_of(form)
    state = own.state_dict()

    def swapped(name: str) -> str:
        return name.replace("arterial", "?").replace("venous", "arterial").replace("?", "venous")

    other.load_state_dict({swapped(name): value for name, value in state.items()})
    for one in (own, other):  # margins are drawn per item and phase: none here
        for net in one.nets.modules():
            if isinstance(net, Rstn):
                net.config = net.config.model_copy(update={"random_share": 0.0})
    mirrored = Batch({p: batch.x[p.other] for p in Phase}, {p: batch.y[p.other] for p in Phase}, batch.annotated, 7)
    for turn in ("translators", "discriminators", "segmentors"):
        a, b = loss(own, "joint", turn, batch), loss(other, "joint", turn, mirrored)
        assert abs(a.item() - b.item()) < 1e-9 and a.item() > 0.01


@FORMS
def test_eq_4_is_what_its_terms_say(form):
    """lambda real, 1 - lambda synthetic, by the segmentor of the image's own phase and the labels it was made with."""
    own, batch = made(form, changed(form, joint_lambda=0.3)), batch_of(form)
    at = stage_of(own, "joint")
    own.before_step(at, 0)
    terms = own.terms(at, turn_of(at, "segmentors"), batch)
    seen: dict[Phase, Tensor] = {p: own._image(batch, p) for p in Phase}
    for phase in Phase:
        for net, image, weight, name in (
            (own.nets.of(phase), seen[phase], 0.3, f"{phase}"),
            (own.nets.of(phase.other), own.nets.translated(phase.other, seen[phase]), 0.7, f"synthetic {phase.other}"),
        ):
            expected = own._seg(at, batch, phase, net, image)
            for part, value in expected.items():
                assert terms[f"{name} {part}"].item() == pytest.approx(weight * value.item(), abs=1e-9)
    assert len(terms) == 8


def test_rstn_s_loss_weighs_coarse_and_fine_1_to_2():
    own, batch = made("rstn"), batch_of("rstn")
    net = own.nets.of(V)
    draws = {salt: list(batch.draws(salt)) for salt in range(2)}
    terms = own.segmentation(net, batch.x[V][:, 0], batch.y[V], batch.annotated, Mode.WEIGHTED, iter(draws[1]))
    found = net(unit(batch.x[V][:, 0]), batch.y[V] == 1, Mode.WEIGHTED, batch.draws(1))
    for logits, weight, name in zip(found, (1 / 3, 2 / 3), ("coarse", "fine"), strict=True):
        p, y = logits.sigmoid(), (batch.y[V] == 1).double()
        dice = [(2 * (a * b).sum() + 1e-6) / ((a + b).sum() + 1e-6) for a, b in zip(p, y, strict=True)]
        assert terms[name].item() == pytest.approx(weight * (1 - sum(dice) / 2).item(), abs=1e-6)


def test_rstn_reads_0_to_1_whether_real_or_made(monkeypatch):
    own, batch, seen = made("rstn"), batch_of("rstn"), []
    for phase in Phase:
        own.nets.of(phase).register_forward_pre_hook(lambda _, args: seen.append((args[0].min(), args[0].max())))
    loss(own, "joint", "segmentors", batch)
    assert len(seen) == 4 and all(low >= 0 and high <= 1 and high > 0.2 for low, high in seen)
    assert torch.equal(unit(torch.tensor([-1.0, 0.0, 1.0])), torch.tensor([0.0, 0.5, 1.0]))


# --- who moves, and what flows --------------------------------------------------------------------------------------


@FORMS
def test_through_frozen_segmentors_the_gradient_reaches_the_translators_and_nothing_else(form):
    own, batch = made(form), batch_of(form)
    for stage in own.stages():
        own.before_step(stage, 0)
        for turn in stage.turns:
            moved = turn_parameters(own, turn)
            own.zero_grad(set_to_none=True)
            one = batch
            if stage.draw.pairing == "single":
                one = Batch({stage.draw.phases[0]: batch.x[stage.draw.phases[0]]}, batch.y, batch.annotated, 7, 0, 2)
            with only(own, moved):
                sum(own.terms(stage, turn, one).values()).backward()
            assert {n for n, p in own.named_parameters() if p.grad is not None} == set(moved), (stage.name, turn.name)
    assert all(p.requires_grad for p in own.parameters())


@FORMS
def test_a_step_s_synthetic_images_are_made_once_and_forgotten_after_it(form):
    own, batch = made(form), batch_of(form)
    at = stage_of(own, "joint")
    own.before_step(at, 0)
    own.terms(at, turn_of(at, "translators"), batch)
    first = own._synthetic(batch, V)
    assert not first.requires_grad and torch.equal(first, own.nets.translated(V, own._image(batch, A)))
    with torch.no_grad():
        for p in own.nets.translator(V).parameters():
            p.add_(0.1)
    assert own._synthetic(batch, V) is first
    own.before_step(at, 1)
    assert not torch.equal(own._synthetic(batch, V), first)


def test_stages_are_the_papers_in_order():
    names = {form: [(s.name, [t.name for t in s.turns]) for s in made(form).stages()] for form in SMALL}
    together = ("joint", ["translators", "discriminators", "segmentors"])
    alone = ("translators", ["translators", "discriminators"])
    middle = [(name, ["segmentors"]) for name in ("raw", "weighted", "joined")]
    assert names["rstn"] == [alone, *middle, together]
    assert names["unet3d"] == [alone, *((name, ["segmentor"]) for name in ("shared", "arterial", "venous")), together]
    paper = objective_of(preset("pcn", "paper"))
    assert {s.name: s.steps for s in paper.stages()} == {
        "translators": 200_000, "raw": 20_000, "weighted": 60_000, "joined": 10_000, "joint": 30_000
    }  # fmt: skip
    for stage in paper.stages():
        assert paper.lam(stage) == (0.5 if stage.name == "joint" else 1.0)


def objective_of(run: RunConfig) -> PcnObjective:
    with torch.device("meta"):
        return objective(run)


def test_rstn_s_fine_half_learns_ten_times_as_fast_and_biases_twice_without_decay():
    own = objective_of(preset("pcn", "paper"))
    stage = stage_of(own, "weighted")
    named = turn_parameters(own, stage.turns[0])
    groups = dict(zip(named, parameter_groups(stage.turns[0], named), strict=True))
    for name, group in groups.items():
        fast = 10 if ".fine." in name or ".saliency." in name else 1
        assert group["factor"] == fast * (2 if name.endswith("bias") else 1)
        assert group.get("weight_decay") == (0.0 if name.endswith("bias") else None)
    assert stage.turns[0].optimiser.weight_decay == 5e-4 and stage.turns[0].optimiser.momentum == 0.99
    assert not any(".saliency." in name for name in turn_parameters(own, stage_of(own, "raw").turns[0]))


def test_the_venous_segmentor_starts_from_where_the_shared_stage_ended_and_only_then():
    own = made("unet3d")
    for name in ("translators", "shared"):
        own.begin(stage_of(own, name), lambda step: batch_of("unet3d"))
        assert not all(torch.equal(a, b) for a, b in zip(*(own.nets.of(p).parameters() for p in Phase), strict=True))
    own.begin(stage_of(own, "arterial"), lambda step: batch_of("unet3d"))
    assert all(torch.equal(a, b) for a, b in zip(*(own.nets.of(p).parameters() for p in Phase), strict=True))
    nn.init.ones_(own.nets.of(A).head.bias)
    own.begin(stage_of(own, "venous"), lambda step: batch_of("unet3d"))
    assert not torch.equal(own.nets.of(A).head.bias, own.nets.of(V).head.bias)


def test_a_segmentor_keeps_its_share_of_what_it_was_before_its_stage():
    config = PcnConfig.model_validate({**changed("unet3d").model_dump(), "keep_start": 0.25})
    own = made("unet3d", config)
    stage = stage_of(own, "venous")
    own.begin(stage, lambda step: batch_of("unet3d"))
    was = {name: t.clone() for name, t in own.nets.state_dict().items()}
    with torch.no_grad():
        for parameter in own.nets.parameters():
            parameter += 1.0
    own.load_state_dict(own.state_dict())  # a resumed run knows what it was
    own.end(stage)
    for name, now in own.nets.state_dict().items():
        moved = 0.75 if name.startswith("venous.") else 1.0
        assert torch.allclose(now, was[name] + moved, atol=1e-6), name
    assert made("unet3d").before is None
    own.end(stage_of(own, "joint"))


def test_what_is_held_is_compared_with_what_the_segmentor_said_before_its_stage():
    config = PcnConfig.model_validate({**changed("unet3d").model_dump(), "held": [1]})
    plain, own = made("unet3d", config), PcnObjective(config, 2, PATCH["unet3d"], held=[1]).double()
    own.nets.load_state_dict(plain.nets.state_dict())
    assert plain.before is None and not any(p.requires_grad for p in own.before.parameters())
    stage, both = stage_of(own, "venous"), batch_of("unet3d")
    batch = replace(both, x={V: both.x[V]}, y={V: torch.full_like(both.y[V], 255)})
    own.begin(stage, lambda step: batch)
    (turn,) = stage.turns
    assert own.terms(stage, turn, batch)["hold"].item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        own.nets.of(V).head.bias[1] += 2.0
    held = own.terms(stage, turn, batch)["hold"]
    held.backward()
    assert held > 0.01 and own.nets.of(V).head.bias.grad[1] > 0, "it is pulled back"
    assert "hold" not in plain.terms(stage, turn, batch)


def told(**translation) -> PcnConfig:
    """Form unet3d, its discriminators seeing labels."""
    return changed("unet3d", judge={"width": 2, "halvings": 1, "structures": True}, **translation)


def test_discriminators_may_see_labels_which_are_the_sources_for_synthetic_images():
    own, batch = made("unet3d", told()), batch_of("unet3d")
    assert not stage_of(own, "translators").draw.unlabelled  # which reads them
    at = stage_of(own, "joint")
    own.before_step(at, 0)
    fooled = own.terms(at, turn_of(at, "translators"), batch)
    judged = own.terms(at, turn_of(at, "discriminators"), batch)
    for to in Phase:
        synthetic = own.nets.translated(to, batch.x[to.other])
        fake = own.discriminators[to.value](torch.cat([synthetic, batch.y[to.other][:, None]], dim=1))
        real = own.discriminators[to.value](torch.cat([batch.x[to], batch.y[to][:, None]], dim=1))
        assert fooled[f"adversarial {to}"].item() == pytest.approx((fake - 1).square().mean().item())
        expected = ((real - 1).square().mean() + fake.square().mean()) / 2
        assert judged[f"discriminator {to}"].item() == pytest.approx(expected.item())


def test_discriminators_may_move_more_often_than_everything_else():
    own = made("unet3d", changed("unet3d", judge_moves=3))
    every = {stage.name: {turn.name: turn.every for turn in stage.turns} for stage in own.stages()}
    assert every["translators"] == {"translators": 3, "discriminators": 1}
    assert every["joint"] == {"translators": 3, "discriminators": 1, "segmentors": 3}
    assert every["shared"] == {"segmentor": 1}  # nothing competes there


# --- one labelled phase, mixing, translators of another model --------------------------------------------------------


@FORMS
def test_with_one_labelled_phase_the_other_segmentor_learns_from_synthetic_images(form):
    """1.5 of the specification: f_V on X_V and f_A on G_VA(X_V), both with Y_V, G frozen."""
    values = SMALL[form] | {"labelled": ["venous"]}
    values["translation"] = values["translation"] | {"joint_steps": 0}
    own, batch = made(form, PcnConfig.model_validate(values)), batch_of(form)
    stages = [stage for stage in own.stages() if stage.steps and stage.name not in ("translators", "shared")]
    assert stages
    alone = Batch({V: batch.x[V]}, {V: batch.y[V]}, batch.annotated, 7, 0, 2)
    for stage in stages:
        assert stage.draw.pairing == "single" and stage.draw.phases == (V,)
        terms = own.terms(stage, stage.turns[0], alone)
        assert {name.rpartition(" ")[0] for name in terms} == {"venous", "synthetic arterial"}
        made_image = own.nets.translated(A, own._image(alone, V))
        expected = own._seg(stage, alone, V, own.nets.of(A), made_image)
        for part, value in expected.items():
            assert terms[f"synthetic arterial {part}"].item() == pytest.approx(0.5 * value.item(), abs=1e-9)
        assert not any(name.startswith("nets.to_") for name in turn_parameters(own, stage.turns[0]))
    translators = stage_of(own, "translators")
    assert set(translators.draw.unlabelled) == set(Phase)  # their labels are not read


@FORMS
def test_one_labelled_phase_can_also_train_everything_together(form):
    own, batch = made(form, PcnConfig.model_validate(SMALL[form] | {"labelled": ["venous"]})), batch_of(form)
    at = stage_of(own, "joint")
    assert at.draw.unlabelled == (A,) and at.draw.pairing == "unpaired"
    own.before_step(at, 0)
    names = [name for name in own.terms(at, turn_of(at, "translators"), batch) if name.startswith("through")]
    assert names and all(name.startswith("through arterial") for name in names)


def test_mixed_phases_train_one_segmentor_for_both():
    config = PcnConfig.model_validate({"mixed": True, "segmentor": {"widths": [3, 4]}, "shares": {"venous": 0.5}})
    own = PcnObjective(config, 2, (8, 8, 8))
    (stage,) = own.stages()
    assert list(own.nets) == ["both"] and own.nets.of(A) is own.nets.of(V)
    assert stage.draw.phases == tuple(Phase) and stage.draw.shares == {V: 0.5}
    assert set(turn_parameters(own, stage.turns[0])) == {n for n, _ in own.named_parameters()}


def test_settings_that_do_not_go_together_are_refused():
    for values, words in (
        ({"labelled": ["venous"]}, "needs translation"),
        ({"labelled": []}, "labelled"),
        ({"mixed": True, "translation": {}}, "mixed"),
        ({"translators_from": "x"}, "needs translation"),
        ({"imagenet_weights": "x"}, "form rstn"),
        ({"form": "rstn", "translation": {"resnet": {"out_channels": 1}}}, "in_channels"),
        ({"form": "rstn", "translation": {"judge": {"structures": True}}}, "form unet3d"),
        ({"labelled": ["venous"], "translation": {"judge": {"structures": True}}}, "both phases"),
    ):
        with pytest.raises(ValueError, match=words):
            PcnConfig.model_validate(values)
    frozen = {"judge": {"structures": True}, "steps": 0, "joint_steps": 0}
    PcnConfig.model_validate({"labelled": ["venous"], "translation": frozen})  # nobody judges
    run = preset("pcn", "smoke")
    for config, words in (
        ({"translation": {"steps": 0, "joint_steps": 0}}, "nothing trains PCN's translators"),
        ({"form": "rstn"}, "one target"),
        ({"translation": {"judge": {"halvings": 3}, "steps": 1}}, None),
    ):
        with torch.device("meta"):
            if words is None:
                with pytest.raises(UserError, match="too small for PCN's discriminators"):
                    objective(run.model_copy(update={"method_config": config, "patch_vox": (16, 32, 32)}))
            else:
                with pytest.raises(UserError, match=words):
                    objective(run.model_copy(update={"method_config": config}))


def model_of(form: str, tmp_path: Path, seed: int):
    values = SMALL[form]
    run = preset("pcn", "smoke", labels=[0, 1], method_config=values, patch_vox=(8, 16, 16))
    torch.manual_seed(seed)
    own = objective(run)
    return run, own, write_model(tmp_path / f"{form}-{seed}", card_of(run), model_tensors(own))


@FORMS
def test_translators_of_another_model_are_taken_and_nothing_else(form, tmp_path):
    run, source, model = model_of(form, tmp_path, 1)
    translation = SMALL[form]["translation"] | {"steps": 0, "joint_steps": 0}
    values = SMALL[form] | {"translators_from": str(model.folder), "translation": translation, "labelled": ["venous"]}
    torch.manual_seed(2)
    own = objective(run.model_copy(update={"method_config": values}))
    stored = model_tensors(source)
    for name, tensor in stored_state(own.nets).items():
        same = torch.allclose(tensor, torch.from_numpy(stored[name]).float(), atol=1e-3)
        assert same or not name.startswith("to_"), name
    assert any(
        not torch.allclose(t, torch.from_numpy(stored[n]).float(), atol=1e-3)
        for n, t in stored_state(own.nets).items()
        if n.startswith("arterial")
    )
    assert not [stage.name for stage in own.stages() if stage.steps and stage.name in ("translators", "joint")]
    assert card_of(run.model_copy(update={"method_config": values}))["config"]["translators_from"] is None
    with pytest.raises(UserError, match="has no translators of these settings"):
        objective(run.model_copy(update={"method_config": values | {"translators_from": "pcn-phantom"}}))


# --- segmenting and translating ------------------------------------------------------------------------------------


@FORMS
def test_with_identity_translators_and_equal_segmentors_both_branches_say_the_same(form):
    own = made(form)
    own.nets.of(V).load_state_dict(own.nets.of(A).state_dict())
    own.nets.translated = lambda to, x: x  # type: ignore[method-assign]
    segmentor = PcnSegmentor(own.config, own.nets)
    x = torch.rand(1, 3 if form == "rstn" else 1, 8, 16, 16, dtype=torch.float64)
    real, synthetic = (segmentor.logits(A, x, member).softmax(1)[0] for member in range(2))
    assert torch.equal(real, synthetic) and torch.equal(segmentor.combine([real, synthetic]), real)


@FORMS
def test_the_synthetic_branch_is_the_other_segmentor_on_the_translated_image(form):
    own, x = made(form), torch.rand(1, 1, 8, 16, 16, dtype=torch.float64) * 2 - 1
    segmentor = PcnSegmentor(changed(form, branch_weight=0.8), own.nets)
    assert segmentor.traits.members == 2 and segmentor.traits.synthetic
    run = segmentor.coarse_logits if form == "rstn" else segmentor.logits
    means = [run(V, x, member).softmax(1)[0] for member in range(2)]
    assert not torch.allclose(means[0], means[1], atol=1e-4)
    if form == "unet3d":
        expected = own.nets.of(A)(own.nets.translator(A)(x)).softmax(1)[0]
        assert torch.allclose(means[1], expected, atol=1e-9)
    assert torch.allclose(segmentor.combine(means), 0.8 * means[0] + 0.2 * means[1], atol=1e-12)
    assert (
        changed(form, branch_weight=1.0).traits.members == 1 and not changed(form, branch_weight=1.0).traits.synthetic
    )


@FORMS
def test_the_translator_gives_the_other_phase_of_the_same_shape(form):
    own, x = made(form), torch.rand(2, 1, 8, 16, 16, dtype=torch.float64) * 2 - 1
    translator = PcnTranslator(own.config, own.nets)
    out = translator.translate(V, x)
    assert out.shape == x.shape and out.abs().max() <= 1
    if form == "rstn":
        assert translator.traits.form == "slices" and not translator.norms(V)
        assert torch.allclose(out[1, 0, 4], own.nets.translator(V)(x[1:, 0, 3:6])[0, 1], atol=1e-12)
    else:
        assert torch.allclose(out, own.nets.translator(V)(x)) and len(translator.norms(V)) == 8
        assert translator.traits.divisor == (2, 2, 2)
    assert not torch.allclose(out, translator.translate(A, x))


def test_the_bundled_model_has_no_synthetic_branch_and_is_the_same_networks_as_before():
    model = find_model("pcn-phantom")
    config = method_config("pcn", model.card.config)
    assert config == PcnConfig(segmentor=UNet3DConfig()) and config.traits.members == 1 and not config.traits.synthetic
    segmentor = METHODS["pcn"].load(model, torch.device("cpu"))
    assert list(segmentor.nets) == ["arterial", "venous"] and config.translator_traits is None


def test_names_of_a_model_with_translators_are_settled():
    with torch.device("meta"):
        nets = PcnNets(changed("unet3d"), 2)
    assert list(nets) == ["arterial", "venous", "to_arterial", "to_venous"]


# --- experiments ---------------------------------------------------------------------------------------------------

NAMED = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMED)
def test_a_row_changes_only_what_its_name_says(name):
    run, base = read_run(EXPERIMENTS / f"{name}.yaml"), read_run(EXPERIMENTS / "pcn-2.yaml")
    factors = {"name", "labels", "method_config", "data", "summary", "start_from"}
    for field in set(RunConfig.model_fields) - factors:
        assert getattr(run, field) == getattr(base, field), field
    config = method_config("pcn", run.method_config)
    assert config.form == "rstn" and run.labels[0] == 0 and len(run.labels) == 2
    if config.translators_from is None:
        with torch.device("meta"):
            objective(run)


PHANTOM = sorted(path.name for path in EXPERIMENTS.parent.glob("pcn-phantom*.yaml"))


@pytest.mark.parametrize("name", PHANTOM)
def test_the_practical_configurations_are_small_and_can_begin(name):
    run = read_run(EXPERIMENTS.parent / name)
    config = method_config("pcn", run.method_config)
    with torch.device("meta"):
        nets = PcnNets(config, len(run.labels))
        if config.translators_from is None:
            objective(run)
    assert sum(t.numel() for t in stored_state(nets).values()) * 2 < 10e6
    assert run.window_hu == (-200, 600)


def test_there_is_a_row_for_each_of_the_papers_comparisons():
    assert {"pcn-2", "pcn-1", "uda-2", "uda-1", "rstn", "arterial-100", "mixed-50x2", "mixed-100x2"} <= set(NAMED)
    configs = {name: method_config("pcn", read_run(EXPERIMENTS / f"{name}.yaml").method_config) for name in NAMED}
    assert configs["rstn"].translation is None and configs["uda-2"].translation.joint_lambda == 1
    assert configs["pcn-1"].labelled == configs["uda-1"].labelled == (V,)
    assert configs["pcn-1"].translators_from and not configs["uda-1"].translators_from
    assert configs["mixed-50x2"].mixed and configs["mixed-50x2"].shares == {A: 0.3333, V: 0.3333}
    values = json.loads((EXPERIMENTS / "paper_values.json").read_text())["paper_value"]
    assert set(values) < set(NAMED) and len(values) == 50
    assert configs["pcn-2"] == method_config("pcn", PRESETS["pcn"]["paper"]["method_config"])
