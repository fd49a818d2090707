"""SAM + URIM as a whole: who trains when, masks, stacks, labels, every fusion, sizes of the presets, experiments."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from napari_multiphase.config import METHOD_CONFIGS, RunConfig, UrimConfig, method_config, preset
from napari_multiphase.config.files import read_run
from napari_multiphase.config.urim import TURN_SCALE_SHIFT
from napari_multiphase.errors import UserError
from napari_multiphase.methods import method
from napari_multiphase.methods.base import Batch
from napari_multiphase.methods.urim.network import TumourNet
from napari_multiphase.methods.urim.objective import UrimNets, UrimObjective, UrimSegmentor, channels_of
from napari_multiphase.methods.urim.region import LiverNet, Residual, aligned, masked
from napari_multiphase.nets.stacks import stacks, unstack
from napari_multiphase.volume import Phase

URIM = method("urim")
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SMALL = {
    "encoder": {"kind": "unet", "widths": (4, 6, 6, 8, 8)},
    "decoder": 6,
    "sam_branch": 2,
    "decision_stride": 2,
    "liver": {"widths": (4, 6, 8), "steps": 5},
}
FUSIONS = ("sp", "ilf", "dlf", "mp", "mw", "pa", "sam")


def objective(labels=(0, 1, 21), **changes) -> UrimObjective:
    torch.manual_seed(0)
    run = RunConfig(method="urim", method_config=SMALL | changes, labels=labels, patch_vox=(4, 32, 32), batch=2)
    return URIM.objective(run)


def batch(made: UrimObjective, name: str, seed: int = 0) -> Batch:
    """A bright liver with a darker tumour, alike in both phases."""
    stage = next(s for s in made.stages() if s.name == name)
    depth, height, width = stage.draw.patch_vox
    y = torch.zeros(2, depth, height, width, dtype=torch.long)
    y[:, :, 4:28, 4:28], y[:, :, 10:18, 10:18] = 1, 2
    y = y.clamp(max=made.tumour) if made.tumour == 2 else (y == 2).long()
    noise = torch.randn(2, 2, *y.shape, generator=torch.Generator().manual_seed(seed))[0] * 0.05
    x = torch.tensor([-0.9, 0.5, -0.1])[y] + noise
    phases = stage.draw.phases if stage.draw.pairing == "single" else tuple(Phase)
    known = torch.ones(2, made.tumour + 1, dtype=torch.bool)
    return Batch({p: x[i].clone()[:, None] for i, p in enumerate(phases)}, dict.fromkeys(phases, y), known, seed)


def backward(made: UrimObjective, name: str) -> dict[str, torch.Tensor]:
    stage = next(s for s in made.stages() if s.name == name)
    terms = made.terms(stage, stage.turns[0], batch(made, name))
    sum(terms.values()).backward()
    return terms


# --- stages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", ["labels", "predicted"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_each_stage_trains_its_own_network_all_of_it_and_nothing_else(fusion, mask):
    for name in ("liver", "tumour"):
        made = objective(fusion=fusion, train_mask=mask, pa_scale=0.1).train()
        before = {key: value.clone() for key, value in made.nets.state_dict().items()}
        backward(made, name)
        for key, p in made.nets.named_parameters():
            assert (p.grad is not None) is key.startswith(f"{name}."), f"{name}: {key}"
        changed = {
            key.split(".")[0] for key, value in made.nets.state_dict().items() if not torch.equal(value, before[key])
        }
        assert changed <= {name}, "running statistics of a frozen network moved"


def test_terms_are_named_as_in_the_paper_and_weigh_the_same():
    assert set(backward(objective(), "tumour")) == {"CE_init", "CE_final"}
    assert set(backward(objective(inpainting=False), "tumour")) == {"CE_init"}
    made = objective(lc_convs=1).eval()
    for classifier in (made.nets.tumour.classifier, made.nets.tumour.urim.classifier):
        torch.nn.init.zeros_(classifier.weight)
        torch.nn.init.zeros_(classifier.bias)
    got = backward(made, "tumour")
    assert got["CE_init"].item() == pytest.approx(math.log(2))
    assert got["CE_final"].item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("name", ["liver", "tumour"])
def test_one_batch_can_be_overfitted_under_mixed_precision(name):
    made = objective().train()
    stage = next(s for s in made.stages() if s.name == name)
    optimiser = torch.optim.AdamW(getattr(made.nets, name).parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        with torch.autocast("cpu", torch.bfloat16):
            loss = sum(made.terms(stage, stage.turns[0], batch(made, name)).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.15 * losses[0]


def test_what_was_not_annotated_counts_for_nothing():
    made = objective().eval()
    stage = made.stages()[1]
    whole, partly = batch(made, "tumour"), batch(made, "tumour")
    partly.annotated[1, 2] = False
    first = Batch(
        {p: x[:1] for p, x in whole.x.items()}, {p: y[:1] for p, y in whole.y.items()}, whole.annotated[:1], 0
    )
    got, expected = (made.terms(stage, stage.turns[0], b)["CE_final"] for b in (partly, first))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_a_predicted_mask_needs_more_slices_and_whole_liver_labels_are_needed_for_the_labels_mask():
    assert objective().stages()[1].draw.patch_vox == (3, 32, 32)
    assert objective().stages()[1].draw.annotation == "full"
    predicted = objective(train_mask="predicted").stages()[1].draw
    assert predicted.patch_vox == (5, 32, 32) and predicted.annotation == "any"


def test_the_liver_s_network_is_a_u_net_of_residual_units():
    unit, x = Residual(3, 5, stride=2).eval(), torch.randn(2, 3, 8, 8)
    torch.nn.init.zeros_(unit.second_norm.weight)
    assert torch.equal(unit(x), unit.shortcut(x).relu())
    net = LiverNet((4, 6, 8), 3).eval()
    assert net(torch.randn(2, 3, 16, 32)).shape == (2, 2, 16, 32)
    skip = net.up[0].first.weight
    assert skip.shape[1] == 2 * 4  # own scale's features beside those that come up


# --- input ---------------------------------------------------------------------------------------------------------


def test_stacks_are_the_neighbourhoods_of_the_inner_slices():
    x = torch.arange(2 * 6).reshape(2, 6, 1, 1).float()
    got = stacks(x, 3)
    assert got.shape == (8, 3, 1, 1)
    assert got[:, :, 0, 0].tolist()[:4] == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
    assert unstack(got[:, 1:2], 2)[:, 0, :, 0, 0].tolist() == [[1, 2, 3, 4], [7, 8, 9, 10]]


def test_the_mask_multiplies_after_scaling_to_0_1():
    x = torch.tensor([-1.0, 0.0, 1.0, 1.0])
    assert masked(x, torch.tensor([1.0, 1.0, 1.0, 0.0])).tolist() == [0.0, 0.5, 1.0, 0.0]


def test_alignment_moves_the_arterial_stack_so_that_centres_coincide():
    own, other = torch.zeros(2, 3, 12, 12).bool(), torch.zeros(2, 3, 12, 12).bool()
    own[0, :, 2:5, 6:9], other[0, :, 4:7, 3:6] = True, True  # item 1 has no label: it stays
    x = torch.where(own, 1.0, -1.0)
    x[1, :, 0, 0] = 0.5
    moved = aligned(x, own, other)
    assert torch.equal(moved[0] == 1, other[0])
    assert torch.equal(moved[1], x[1])


@pytest.mark.parametrize("align", ["tumour", "liver"])
def test_aligned_training_says_so_on_the_card(align):
    assert f"patch by patch in plane until the centres of both phases' {align} labels coincide" in URIM.summary(
        UrimConfig(align=align)
    )
    assert "study's transform" in URIM.summary(UrimConfig())
    assert torch.isfinite(sum(backward(objective(align=align), "tumour").values()))


def test_alignment_by_a_liver_that_the_labels_do_not_have_is_refused():
    with pytest.raises(UserError, match="align is liver, but the run's labels have no liver"):
        objective((0, 21), align="liver", region="all")
    assert torch.isfinite(sum(backward(objective((0, 21), align="tumour", region="all"), "tumour").values()))


# --- running -------------------------------------------------------------------------------------------------------


def segmentor(classes: int = 3, **changes) -> UrimSegmentor:
    torch.manual_seed(0)
    config = method_config("urim", SMALL | changes)
    return UrimSegmentor(config, UrimNets(config, classes).eval().requires_grad_(False))


@pytest.mark.parametrize("classes", [2, 3])
def test_outside_the_mask_it_is_background_inside_liver_or_tumour(classes):
    made, x = segmentor(classes), torch.rand(1, 3, 6, 32, 32) * 2 - 1
    x[:, 2] = 0
    x[:, 2, :, 8:20, 8:20] = 1
    p = made.logits(Phase.VENOUS, x).softmax(1)
    assert p.shape == (1, classes, 4, 32, 32)
    inside = x[0, 2, 1:5] > 0
    assert (p[0, 0][~inside] > 0.999).all()
    if classes == 3:
        assert (p[0, 0][inside] < 1e-6).all()
    assert 0 < p[0, -1][inside].min() < 1


def test_inside_the_mask_the_two_classes_keep_their_softmax():
    inside, mask = torch.randn(1, 2, 2, 3, 3).double(), torch.ones(1, 1, 2, 3, 3)
    torch.testing.assert_close(channels_of(inside, mask, 3).softmax(1)[:, 1:], inside.softmax(1), rtol=0, atol=1e-6)
    torch.testing.assert_close(channels_of(inside, mask, 2), inside)


def test_a_slice_is_segmented_from_its_own_neighbours_alone():
    made, x = segmentor(), torch.rand(1, 3, 7, 32, 32)
    x[:, 2] = 1
    whole = made.logits(Phase.VENOUS, x)
    torch.testing.assert_close(made.logits(Phase.VENOUS, x[:, :, 2:5])[:, :, 0], whole[:, :, 2], rtol=1e-4, atol=1e-5)
    region = made.region_logits(x[:, 1:2])
    assert region.shape == (1, 2, 5, 32, 32)
    torch.testing.assert_close(made.region_logits(x[:, 1:2, 2:5])[:, :, 0], region[:, :, 2], rtol=1e-4, atol=1e-5)


def test_without_a_liver_region_every_voxel_counts():
    made = segmentor(2, region="all")
    assert made.nets.liver is None and not made.traits.region
    assert made.logits(Phase.VENOUS, torch.rand(1, 2, 5, 32, 32)).shape == (1, 2, 3, 32, 32)
    trained = objective((0, 21), region="all")
    assert [stage.name for stage in trained.stages()] == ["tumour"]
    assert torch.isfinite(sum(backward(trained, "tumour").values()))


def test_tumour_labels_alone_work_with_a_liver_network_that_is_there_and_are_refused_without():
    with pytest.raises(UserError, match="liver labels"):
        objective((0, 21))
    made = objective((0, 21), train_mask="predicted", liver={"widths": (4, 6, 8), "steps": 0})
    assert [stage.name for stage in made.stages()] == ["tumour"]
    assert torch.isfinite(sum(backward(made, "tumour").values()))
    with pytest.raises(UserError, match="4 labels"):
        objective((0, 1, 2, 21))


# --- configurations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inpainting", [False, True])
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("kind", ["unet", "resnet50", "resnext50"])
def test_every_baseline_and_ablation_is_a_configuration(kind, fusion, inpainting):
    config = UrimConfig(encoder={"kind": kind}, fusion=fusion, inpainting=inpainting)
    with torch.device("meta"):
        net, x = TumourNet(config), torch.empty(2, 3, 64, 64)
    results = net(x, x)
    assert results.initial.shape == results.final.shape == (2, 2, 64, 64)
    assert (results.final is results.initial) or inpainting


def test_sharing_weights_halves_the_streams_and_single_phase_never_sees_the_other():
    def streams(**changes):
        return TumourNet(UrimConfig(**SMALL | changes)).streams.streams

    assert set(streams()) == {"venous", "arterial"} and set(streams(share_weights=True)) == {"both"}
    net, x = TumourNet(UrimConfig(**SMALL | {"fusion": "sp"})).eval(), torch.rand(1, 3, 32, 32)
    assert torch.equal(net(x, x).final, net(x, 1 - x).final)
    both = TumourNet(UrimConfig(**SMALL | {"fusion": "dlf"})).eval()
    assert not torch.equal(both(x, x).final, both(x, 1 - x).final)


def test_sp_reads_one_phase_ilf_joins_the_stacks_and_dlf_the_decoders():
    x, y = torch.rand(2, 1, 3, 32, 32)
    nets = {fusion: TumourNet(UrimConfig(**SMALL | {"fusion": fusion})).eval() for fusion in ("sp", "ilf", "dlf")}
    sp, ilf, dlf = (net.streams for net in nets.values())
    joined = [ilf._alone("both", torch.cat([x, y], 1))]
    alone = [dlf._alone("venous", x), dlf._alone("arterial", y)]
    for got, expected in ((sp(x, y), sp(x, 1 - y)), (ilf(x, y), joined), (dlf(x, y), alone)):
        assert len(got) == len(expected)
        for levels, others in zip(got, expected, strict=True):
            assert all(torch.equal(level, other) for level, other in zip(levels, others, strict=True))
    assert [net.streams.streams["both"].levels[0][0].in_channels for net in (nets["sp"], nets["ilf"])] == [3, 6]
    assert len(nets["dlf"].decoders) == 2 and nets["dlf"].classifier.in_channels == 2 * SMALL["decoder"]
    assert not torch.equal(ilf(x, y)[0][0], ilf(x, 1 - y)[0][0])


def test_feedback_reaches_the_next_block_and_can_be_left_out():
    x = torch.rand(1, 3, 32, 32)
    out = []
    for on in (True, False):
        torch.manual_seed(0)
        out.append(TumourNet(UrimConfig(**SMALL | {"feedback": on})).eval().streams(x, 1 - x)[0])
    assert torch.equal(out[0][0], out[1][0]) and not torch.equal(out[0][1], out[1][1])


@pytest.mark.parametrize(
    ("name", "parameters"), [("paper", 64_990_918), ("workstation", 66_047_174), ("smoke", 83_738)]
)
def test_presets_have_their_size_and_shapes(name, parameters):
    run = preset("urim", name)
    config = method_config("urim", run.method_config)
    with torch.device("meta"):
        made = URIM.segmentor(config, URIM.nets(config, len(run.labels)))
        depth, height, width = run.patch_vox
        x = torch.empty(1, 3, depth + 2, height, width)
    assert sum(p.numel() for p in made.nets.parameters()) == parameters
    assert made.logits(Phase.VENOUS, x).shape == (1, 3, *run.patch_vox)
    assert made.region_logits(x[:, :1]).shape == (1, 2, *run.patch_vox)


def test_the_paper_s_encoder_has_the_printed_channels_and_strides():
    config = method_config("urim", preset("urim", "paper").method_config)
    assert config.encoder.channels == (256, 512, 1024, 2048) and config.encoder.strides == (4, 8, 16, 32)
    with torch.device("meta"):
        levels = TumourNet(config).streams(torch.empty(1, 3, 64, 64), torch.empty(1, 3, 64, 64))[0]
    assert [tuple(level.shape[1:]) for level in levels] == [(256, 16, 16), (512, 8, 8), (1024, 4, 4), (2048, 2, 2)]


def test_imagenet_weights_start_both_streams(tmp_path):
    small = SMALL | {"encoder": {"kind": "resnet50", "stem": 8}}
    source = objective(**small).nets.tumour.streams.streams["venous"].net
    weights = {key: value + 0.5 for key, value in source.state_dict().items() if not key.endswith("tracked")}
    save_file(weights, tmp_path / "resnet50.safetensors")
    made = objective(**small, imagenet_weights=str(tmp_path / "resnet50.safetensors"))
    for stream in made.nets.tumour.streams.streams.values():
        assert all(torch.equal(stream.net.state_dict()[key], value) for key, value in weights.items())
    with pytest.raises(UserError, match="weights"):
        objective(**SMALL | {"encoder": {"kind": "resnet50"}}, imagenet_weights=str(tmp_path / "resnet50.safetensors"))


# --- experiments ---------------------------------------------------------------------------------------------------

ROWS = sorted((EXPERIMENTS / "urim").glob("*.yaml"))
NAMED = {"fusion", "inpainting", "encoder", "decoder"}
CONFIGURATIONS = {
    "sam-urim": ("sam", True, "resnext50"),
    "mc-fcn": ("dlf", False, "unet"),
    "mw-unet": ("mw", False, "unet"),
    "pa-resseg": ("pa", False, "resnet50"),
    "ilf": ("ilf", True, "resnext50"),
    "dlf": ("dlf", True, "resnext50"),
    "mw": ("mw", True, "resnext50"),
    "pa": ("pa", True, "resnext50"),
    "sp": ("sp", False, "resnext50"),
    "mp": ("mp", False, "resnext50"),
    "sam": ("sam", False, "resnext50"),
    "unet-mp": ("mp", False, "unet"),
    "unet-sam-urim": ("sam", True, "unet"),
    "resnet50-mp": ("mp", False, "resnet50"),
    "resnet50-sam-urim": ("sam", True, "resnet50"),
}
"""Row of Tables 1a, 1b, 3 and of the robustness to the encoder -> fusion, inpainting, encoder."""


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.stem)
def test_a_row_changes_only_the_named_factors_of_the_paper_s_run(path):
    run, full = read_run(path), preset("urim", "paper")
    config, printed = (method_config("urim", r.method_config).model_dump() for r in (run, full))
    assert {key for key in config if config[key] != printed[key]} <= NAMED
    assert (config["fusion"], config["inpainting"], config["encoder"]["kind"]) == CONFIGURATIONS[path.stem]
    assert config["decoder"] == (16 if path.stem == "pa-resseg" else 64)
    same = {"name", "method_config", "summary"}
    assert run.model_dump(exclude=same) == full.model_dump(exclude=same)


def test_every_row_of_the_tables_is_there():
    assert {path.stem for path in ROWS} == set(CONFIGURATIONS)


def test_the_paper_s_run_moves_patches_changes_no_intensity_and_masks_by_its_own_liver():
    config = method_config("urim", read_run(EXPERIMENTS / "urim" / "sam-urim.yaml").method_config)
    for augment in (config.augment, config.liver.augment):
        assert augment == TURN_SCALE_SHIFT
        assert augment.gain == augment.offset_hu == augment.noise_hu == augment.blur_share == 0
        assert augment.rotate_deg == (15, 0, 0) and augment.scale == (0.9, 1.1) and augment.shift_vox == (0, 20, 20)
    assert (config.region, config.train_mask, config.align) == ("liver", "predicted", "none")


def test_the_bundled_runs_differ_only_in_what_they_compare_and_stay_small():
    ours, baseline, sam = (read_run(EXPERIMENTS / f"urim-phantom{suffix}.yaml") for suffix in ("", "-ilf", "-sam"))
    sizes = []
    for run in (ours, baseline, sam):
        with torch.device("meta"):
            nets = URIM.nets(method_config("urim", run.method_config), len(run.labels))
        sizes.append(sum(p.numel() for p in nets.parameters()))
        assert run.model_dump(exclude={"name", "method_config"}) == ours.model_dump(exclude={"name", "method_config"})
    assert max(sizes) * 2 < 6e6
    assert abs(sizes[1] / sizes[0] - 1) < 0.05
    assert METHOD_CONFIGS["urim"] is UrimConfig
