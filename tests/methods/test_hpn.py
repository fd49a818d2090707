"""HPN: paths, exchanges, virtual pairs, the union of two models, who is trained when (PAPER 001)."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from napari_multiphase.config import HpnConfig, RunConfig, method_config, preset
from napari_multiphase.config.files import read_run
from napari_multiphase.labels import IGNORE
from napari_multiphase.methods import hpn
from napari_multiphase.methods.base import Batch
from napari_multiphase.volume import Phase

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
K = 4
BASES = ("unet", "resdsn")
CLOSE = {"rtol": 0, "atol": 1e-6}
A, V = Phase.ARTERIAL, Phase.VENOUS


def settings(**changes) -> HpnConfig:
    return HpnConfig(**{"width": 2, "levels": 3, **changes})


def net_of(**changes) -> hpn.HyperNet:
    torch.manual_seed(0)
    return hpn.HyperNet(settings(**changes), K).double()


def objective(**changes) -> hpn.HpnObjective:
    torch.manual_seed(0)
    values = settings(**changes).model_dump()
    return hpn.objective(RunConfig(method="hpn", method_config=values, labels=(0, 6, 22, 23))).train()


def images(seed: int = 0, size: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, 2, 8, 8, 16, generator=generator, dtype=torch.float64)


def batch(seed: int = 0, size: int = 2) -> Batch:
    x = images(seed, size).float()
    y = (x[:, 1] > 0).long() + 2 * (x[:, 0] > 0.5).long()
    return Batch({A: x[:, :1], V: x[:, 1:]}, {A: 0 * y, V: y}, torch.ones(size, K, dtype=torch.bool), seed, 0, size)


def terms(o: hpn.HpnObjective, b: Batch, number: int = 0) -> dict[str, torch.Tensor]:
    stage = o.stages()[number]
    return o.terms(stage, stage.turns[0], b)


def tie(net: hpn.HyperNet) -> None:
    net.paths[1].load_state_dict(net.paths[0].state_dict())


# --- paths and exchanges ---


@pytest.mark.parametrize("base", BASES)
def test_tied_paths_of_equal_images_give_equal_maps_and_full_correlation(base):
    net = net_of(base=base)
    tie(net)
    x = images()
    x[:, 0] = x[:, 1]
    first, second = net(x).last
    assert torch.allclose(first, second, **CLOSE)
    alive = [c for c in range(first.shape[1]) if (first[:, c].flatten(1).std(1) > 1e-3).all()]
    assert alive
    assert hpn.CorrelationLoss()(first[:, alive], second[:, alive]).item() == pytest.approx(-1, abs=1e-6)


@pytest.mark.parametrize("base", BASES)
def test_swapping_images_and_paths_together_swaps_the_maps(base):
    net, swapped = net_of(base=base), net_of(base=base)
    swapped.paths[0].load_state_dict(net.paths[1].state_dict())
    swapped.paths[1].load_state_dict(net.paths[0].state_dict())
    one, two = net(images()).last
    other_two, other_one = swapped(images().flip(1)).last
    assert torch.allclose(one, other_one, **CLOSE)
    assert torch.allclose(two, other_two, **CLOSE)
    assert not torch.allclose(one, two, **CLOSE)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("path", [0, 1])
def test_with_zeroed_cross_weights_each_path_sees_its_own_phase_alone(base, path):
    net = net_of(base=base, cross_init="zero")
    x = images()
    changed = x.clone()
    changed[:, 1 - path] += images(1)[:, 0]
    assert torch.allclose(net(x).last[path], net(changed).last[path], **CLOSE)
    net(x).last[path].sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in net.paths[1 - path].parameters())
    exchanging = net_of(base=base)
    assert not torch.allclose(exchanging(x).last[path], exchanging(changed).last[path], **CLOSE)


@pytest.mark.parametrize("base", BASES)
def test_a_path_without_exchange_is_the_single_phase_network(base):
    """``cross_init = "zero"`` starts as two independent streams, layer for layer those of the baseline."""
    net = net_of(base=base, cross_init="zero").eval()
    alone = hpn.HyperNet(settings(base=base), K, ["venous"]).double().eval()
    own = alone.paths[0].state_dict()
    theirs = net.paths[1].state_dict()
    own = {name: theirs[name][tuple(slice(n) for n in value.shape)] for name, value in own.items()}
    if (
        base == "unet"
    ):  # decoder entry reads [up; own skip; other skip], the others [own; other]: own channels come first
        assert all(not theirs[name][:, value.shape[1] :].any() for name, value in own.items() if value.ndim == 5)
    alone.paths[0].load_state_dict(own)
    assert torch.allclose(alone(images()).last[0], net(images()).last[1], **CLOSE)


LINKS = [("enc2", level) for level in range(3)] + [(name, level) for name in ("dec1", "dec2") for level in range(2)]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("path", [0, 1])
@pytest.mark.parametrize("link", LINKS, ids=lambda link: f"{link[0]}-{link[1]}")
def test_exchanges_happen_at_every_level_of_encoder_and_decoder(link, path, base):
    """Of two independent streams, opening any one link alone lets a path see the other phase."""
    net, source = net_of(base=base, cross_init="zero"), net_of(base=base)
    name, level = link
    opened, given = (getattr(n.paths[path], name)[level] for n in (net, source))
    own, other = images()[:, path : path + 1], images()[:, 1 - path : 2 - path].requires_grad_()

    def seen() -> torch.Tensor:
        x = torch.cat([own, other] if path == 0 else [other, own], dim=1)
        return torch.autograd.grad(net(x).last[path].square().sum(), other)[0].abs().max()

    assert seen() == 0
    weight, exchanged = (m.conv.weight if base == "unet" else m.cross.weight for m in (opened, given))
    shut = weight.detach().flatten(2).abs().sum((0, 2)) == 0  # the input channels that read the other path
    assert shut.any()
    with torch.no_grad():
        weight[:, shut] = exchanged[:, shut]
    assert seen() > 1e-6


@pytest.mark.parametrize("base", BASES)
def test_the_objective_reaches_both_paths_and_every_parameter_of_the_network(base):
    o = objective(base=base, corr_mode="project")
    sum(terms(o, batch()).values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in o.nets["original"].parameters())
    assert o.pairing["original"].weight.grad.any()


# --- virtual pairs ---


def test_virtual_pairs_keep_the_sum_and_lambda_one_and_zero_are_identity_and_swap():
    x_a, x_v = images()[:, :1], images()[:, 1:]
    share = torch.tensor([0.3, 0.85])
    mixed_a, mixed_v = hpn.virtual_pairs(x_a, x_v, share)
    assert torch.allclose(mixed_a + mixed_v, x_a + x_v, **CLOSE)
    assert torch.allclose(mixed_a[1], share[1] * x_a[1] + (1 - share[1]) * x_v[1], **CLOSE)
    for same, (one, two) in ((1.0, (x_a, x_v)), (0.0, (x_v, x_a))):
        got = hpn.virtual_pairs(x_a, x_v, torch.full((2,), same))
        assert torch.equal(got[0], one)
        assert torch.equal(got[1], two)


def test_lambda_has_the_mean_and_variance_of_beta_and_is_not_folded():
    lots = torch.cat([hpn.mixing_shares(batch(seed, 8), 0.4) for seed in range(1000)]).double()
    assert lots.mean().item() == pytest.approx(0.5, abs=0.015)
    assert lots.var().item() == pytest.approx(1 / 7.2, abs=0.004)
    assert ((lots >= 0) & (lots <= 1)).all()
    assert (lots < 0.5).double().mean().item() == pytest.approx(0.5, abs=0.02)


def test_lambda_does_not_depend_on_how_a_batch_is_divided():
    whole = hpn.mixing_shares(batch(5, 4), 0.4)
    part = Batch({}, {}, torch.ones(2, K), 5, first=2, size=4)
    assert torch.equal(hpn.mixing_shares(part, 0.4), whole[2:])
    assert len(set(whole.tolist())) == 4


@pytest.mark.parametrize(("aug_mode", "stages"), [("none", ["original"]), ("joint", ["joint"])])
def test_one_model_is_trained_unless_two_are_united(aug_mode, stages):
    o = objective(aug_mode=aug_mode)
    assert [s.name for s in o.stages()] == stages
    assert o.config.traits.members == 1


def test_each_stage_mixes_what_it_is_named_after():
    b = batch(3, 16)
    original, virtual = objective()._pairs("original", b), objective()._pairs("virtual", b)
    x = torch.cat([b.x[A], b.x[V]], 1)
    assert torch.equal(original, x)
    unchanged = (virtual == x).flatten(1).all(1)
    assert unchanged.sum() <= 2
    assert torch.allclose(virtual.sum(1), x.sum(1), atol=1e-5)
    joint = objective(aug_mode="joint")._pairs("joint", b)
    kept = (joint == x).flatten(1).all(1)
    assert 2 <= kept.sum() <= 14
    assert torch.equal(joint[~kept], virtual[~kept])


# --- union ---


def member_maps(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(2 * torch.randn(K, 10, 12, 14, generator=generator, dtype=torch.float64), 0)


def test_the_union_holds_each_models_foreground_and_never_recalls_less():
    first, second = member_maps(0), member_maps(1)
    both = hpn.union(first, second)
    chosen, one, two = both.argmax(0), first.argmax(0), second.argmax(0)
    assert torch.equal(chosen > 0, (one > 0) | (two > 0))
    assert torch.allclose(both.sum(0), torch.ones_like(both[0]), **CLOSE)
    truth = member_maps(2).argmax(0) > 0
    recall = [((m > 0) & truth).sum().item() for m in (chosen, one, two)]
    assert recall[0] >= max(recall[1:])
    agree = one == two
    assert torch.allclose(both[:, agree], (first + second)[:, agree] / 2, **CLOSE)


@pytest.mark.parametrize("k", range(1, K))
def test_the_union_of_each_target_holds_both_masks_and_never_recalls_less(k):
    first, second = member_maps(0), member_maps(1)
    both, truth = hpn.union_masks(first, second, k), member_maps(2).argmax(0) == k
    each = [p.argmax(0) == k for p in (first, second)]
    assert all((both | mask).equal(both) for mask in each)
    assert (both & truth).sum() >= max((mask & truth).sum() for mask in each)
    assert torch.equal(both, each[0] | each[1])
    shown = hpn.union(first, second).argmax(0) == k
    assert torch.equal(both | shown, both)  # the label map gives a voxel to one target alone
    others = [hpn.union_masks(first, second, other) for other in range(1, K) if other != k]
    assert torch.equal(both & ~shown, both & (others[0] | others[1]) & ~shown) and (both & ~shown).any()


def test_two_structures_are_settled_by_the_higher_softmax():
    first = torch.tensor([[0.1], [0.6], [0.2], [0.1]])
    second = torch.tensor([[0.1], [0.1], [0.7], [0.1]])
    background = torch.tensor([[0.9], [0.04], [0.03], [0.03]])
    assert torch.equal(hpn.union(first, second), second)
    assert torch.equal(hpn.union(second, first), second)
    assert torch.equal(hpn.union(background, first), first)
    assert torch.equal(hpn.union(first, background), first)


def test_with_one_target_the_union_is_that_of_the_masks():
    first, second = (member_maps(seed)[:2] / member_maps(seed)[:2].sum(0) for seed in (0, 1))
    mask = (first.argmax(0) == 1) | (second.argmax(0) == 1)
    assert torch.equal(hpn.union(first, second).argmax(0) == 1, mask)


# --- objective and stages ---


def test_eq_2_is_cross_entropy_plus_half_the_pairing_loss():
    o, b = objective(), batch()
    b.y[V][:, :2] = IGNORE
    got = terms(o, b)
    out = o.nets["original"](torch.cat([b.x[A], b.x[V]], 1))
    nll = F.cross_entropy(out.logits, b.y[V], ignore_index=IGNORE)
    assert set(got) == {"cross_entropy", "L_corr"}
    assert got["cross_entropy"].item() == pytest.approx(nll.item(), abs=1e-6)
    assert got["L_corr"].item() == pytest.approx(0.5 * hpn.CorrelationLoss()(*out.last).item(), abs=1e-6)


def test_resdsn_adds_its_auxiliary_heads_with_weights_a_fifth_and_two_fifths():
    o, b = objective(base="resdsn", levels=4), batch()
    got = terms(o, b)
    aux = o.nets["original"](torch.cat([b.x[A], b.x[V]], 1)).aux
    assert [tuple(a.shape[2:]) for a in aux] == [(8, 8, 16)] * 2
    for name, weight, logits in zip(("aux_1", "aux_2"), (0.2, 0.4), aux, strict=True):
        assert got[name].item() == pytest.approx(weight * F.cross_entropy(logits, b.y[V]).item(), abs=1e-6)
    assert o.nets["original"].aux_heads[0].in_channels == 2 * o.nets["original"].aux_heads[1].in_channels
    assert o.eval().nets["original"](images().float()).aux == ()


CONFIGURATIONS = {
    "single-arterial": ({"paths": "arterial"}, ["arterial"], 1),
    "single-venous": ({"paths": "venous"}, ["venous"], 1),
    "fusion": ({"paths": "fusion"}, ["arterial", "venous"], 1),
    "hypernet": ({"aug_mode": "none", "corr_weight": 0.0}, ["original"], 1),
    "hypernet-aug": ({"corr_weight": 0.0}, ["original", "virtual"], 2),
    "hypernet-aug-joint": ({"corr_weight": 0.0, "aug_mode": "joint"}, ["joint"], 1),
    "hpn": ({}, ["original", "virtual"], 2),
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("row", CONFIGURATIONS)
def test_each_stage_of_each_row_trains_its_own_network_alone(row, base):
    changes, stages, members = CONFIGURATIONS[row]
    o = objective(base=base, **changes)
    assert [s.name for s in o.stages()] == stages
    assert o.config.traits.members == members
    for number, stage in enumerate(o.stages()):
        o.zero_grad()
        got = terms(o, batch(), number)
        assert ("L_corr" in got) == (row == "hpn")
        sum(got.values()).backward()
        for name, p in o.named_parameters():
            assert (p.grad is not None) == name.startswith(f"nets.{stage.name}."), f"{stage.name}: {name}"
        assert stage.turns[0].modules[0] == f"nets.{stage.name}"


@pytest.mark.parametrize("phase", [A, V])
def test_a_single_phase_network_reads_its_own_phase_and_learns_the_venous_labels(phase):
    o = objective(paths=phase.value)
    b = batch()
    before = terms(o, b)["cross_entropy"].item()
    other = V if phase is A else A
    assert terms(o, Batch({**b.x, other: b.x[other] + 1}, b.y, b.annotated, 0))["cross_entropy"].item() == before
    assert terms(o, Batch(b.x, {**b.y, A: b.y[A] + 1}, b.annotated, 0))["cross_entropy"].item() == before
    assert terms(o, Batch({**b.x, phase: -b.x[phase]}, b.y, b.annotated, 0))["cross_entropy"].item() != before


def test_fusion_is_the_mean_probability_of_two_single_phase_networks():
    o = objective(paths="fusion").eval()
    x = images().float()
    segmentor = hpn.METHOD.segmentor(o.config, o.nets)
    p = torch.softmax(segmentor.logits(V, x), 1)
    each = [torch.softmax(o.nets[name](x).logits, 1) for name in ("arterial", "venous")]
    assert torch.allclose(p, (each[0] + each[1]) / 2, **CLOSE)
    assert segmentor.combine([p[0]]) is not None


def test_the_two_models_are_members_and_united():
    o = objective().eval()
    segmentor = hpn.METHOD.segmentor(o.config, o.nets)
    x = images(0, 1).float()
    means = [torch.softmax(segmentor.logits(V, x, member), 1)[0] for member in (0, 1)]
    assert not torch.allclose(*means)
    assert torch.equal(segmentor.combine(means), hpn.union(*means))


# --- presets and rows ---


@pytest.mark.parametrize(
    ("name", "base", "millions"),
    [
        ("paper", "unet", 113.67),
        ("paper", "resdsn", 53.24),
        ("workstation", "unet", 28.42),
        ("workstation", "resdsn", 13.32),
    ],
)
def test_a_preset_builds_with_the_known_number_of_parameters(name, base, millions):
    run = preset("hpn", name)
    config = method_config("hpn", {**run.method_config, "base": base})
    with torch.device("meta"):
        nets = hpn.HpnNets(config, len(run.labels))
        x = torch.empty(run.batch, 2, *run.patch_vox)
        for net in nets.values():
            assert net(x).logits.shape == (run.batch, K, *run.patch_vox)
    assert sum(p.numel() for p in nets.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


ROWS = sorted((EXPERIMENTS / "hpn").glob("*.yaml"))


def test_there_is_one_configuration_per_row_of_table_1():
    kinds = ("single-a", "single-v", "fusion", "hypernet", "hypernet-aug", "hpn")
    assert {f"{base}-{kind}" for base in BASES for kind in kinds} <= {path.stem for path in ROWS}


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.stem)
def test_a_row_differs_from_hpn_in_the_named_factor_alone(path):
    run, paper = read_run(path), read_run(EXPERIMENTS / "hpn" / "unet-hpn.yaml")
    config = method_config("hpn", run.method_config)
    free = {"base", "paths", "aug_mode", "corr_weight"}
    assert config.model_dump(exclude=free) == method_config("hpn", paper.method_config).model_dump(exclude=free)
    assert run.model_dump(exclude={"name", "method_config"}) == paper.model_dump(exclude={"name", "method_config"})
    assert config.base == path.stem.split("-")[0]
    changes, stages, members = CONFIGURATIONS[
        {"single-a": "single-arterial", "single-v": "single-venous"}.get(path.stem.partition("-")[2])
        or path.stem.partition("-")[2]
    ]
    assert list(config.networks) == stages
    assert config.traits.members == members
    assert all(getattr(config, name) == value for name, value in changes.items())


def test_the_rows_train_with_the_papers_preset():
    run, paper = read_run(EXPERIMENTS / "hpn" / "unet-hpn.yaml"), preset("hpn", "paper")
    keep = {"name"}
    assert method_config("hpn", run.method_config) == method_config("hpn", paper.method_config)
    assert run.model_dump(exclude={"method_config", *keep}) == paper.model_dump(exclude={"method_config", *keep})


def test_the_bundled_model_and_its_baselines_share_steps_data_and_seed_and_fit_six_megabytes():
    runs = [read_run(EXPERIMENTS / f"hpn-phantom{end}.yaml") for end in ("", "-fusion", "-hypernet")]
    configs = [method_config("hpn", run.method_config) for run in runs]
    free = {"paths", "aug_mode", "corr_weight", "width"}
    for run, config in zip(runs, configs, strict=True):
        assert run.model_dump(exclude={"name", "method_config"}) == runs[0].model_dump(
            exclude={"name", "method_config"}
        )
        assert config.model_dump(exclude=free) == configs[0].model_dump(exclude=free)
        count = sum(p.numel() for p in hpn.HpnNets(config, len(run.labels)).parameters())
        assert 2 * count < 6e6
