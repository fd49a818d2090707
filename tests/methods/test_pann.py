"""PaNN: who is drawn, which pseudo-labels may appear, what each supervision optimises, p follows q (PAPER 004)."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from napari_multiphase.config import PRESETS, PannConfig, RunConfig, method_config, preset
from napari_multiphase.config.files import read_run
from napari_multiphase.errors import UserError
from napari_multiphase.labels import IGNORE, UNKNOWN
from napari_multiphase.losses.segmentation import mean_cross_entropy
from napari_multiphase.methods import pann
from napari_multiphase.methods.base import Batch
from napari_multiphase.training.cases import PhaseArrays, TrainingCase
from napari_multiphase.training.phantoms import phantom_sources
from napari_multiphase.training.splits import split_cases
from napari_multiphase.volume import Phase

K = 4
UNET = {"widths": [4, 6, 8]}
DEEPLAB = {"width": 4, "channels": 8, "low_channels": 4}
CLOSE = {"rtol": 0, "atol": 1e-6}


def objective(form: str = "3d", **changes) -> pann.PannObjective:
    torch.manual_seed(0)
    settings = {"form": form, "unet": UNET, "deeplab": DEEPLAB, "dual": "closed", "teacher_every": 10, **changes}
    return pann.objective(RunConfig(method="pann", method_config=settings, labels=(0, 1, 2, 3), batch=4))


def batch(seed: int = 0, structures: tuple[int, ...] = (2,), size: int = 4, shape=(8, 16, 16)) -> Batch:
    """Items 0..2 of every four annotated in full, the fourth for `structures` alone; brightness tells the class."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, K, (size, *(s // 4 for s in shape)), generator=generator)
    y = y.repeat_interleave(4, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)
    x = y[:, None] / 2 - 0.75 + 0.05 * torch.randn(size, 1, *shape, generator=generator)
    annotated = torch.ones(size, K, dtype=torch.bool)
    given = torch.tensor([k in structures for k in range(K)])
    annotated[3::4] = given
    y[3::4] = torch.where(given[y[3::4]], y[3::4], UNKNOWN)
    return Batch({Phase.VENOUS: x}, {Phase.VENOUS: y}, annotated, seed, 0, size)


def ready(o: pann.PannObjective, step: int = 0) -> pann.PannObjective:
    """At the start of stage 2."""
    stage = o.stages()[-1]
    o.begin(stage, batch)
    o.before_step(stage, step)
    return o.train()


def terms(o: pann.PannObjective, b: Batch, stage: int = -1) -> dict[str, torch.Tensor]:
    stage = o.stages()[stage]
    return o.terms(stage, stage.turns[0], b)


def step(o: pann.PannObjective, b: Batch, number: int) -> dict[str, torch.Tensor]:
    """A step of stage 2 with one micro-batch, as the loop takes it."""
    o.before_step(o.stages()[-1], number)
    return terms(o, b)


def grads(o: pann.PannObjective, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(o.nets.parameters())))


# --- stages and draws ----------------------------------------------------------------------------------------------


def test_stages_draw_full_cases_then_three_to_one():
    first, second = objective().stages()
    assert (first.draw.annotation, second.draw.annotation) == ("full", "mixed")
    assert second.draw.focus_share == 0  # q and p under the same sampling
    assert [t.modules for s in (first, second) for t in s.turns] == [("nets",), ("nets",)]
    assert len(objective(supervision="full").stages()) == 1
    config = PannConfig()
    assert (config.first_steps, config.second_steps, config.teacher_every) == (40_000, 30_000, 10_000)
    assert (config.first.lr, config.second.lr, config.dual_rate) == (2e-5, 1e-5, 2e-5)
    assert (config.partial_weight, config.prior_weight, config.dual) == (1.0, 0.1, "sga")


@pytest.mark.parametrize(("size", "accumulate"), [(6, 1), (8, 4), (3, 1)])
def test_a_batch_that_cannot_be_mixed_three_to_one_is_refused(size, accumulate):
    run = RunConfig(method="pann", batch=size, accumulate=accumulate)
    with pytest.raises(UserError, match="multiple of 4"):
        pann.objective(run)
    pann.objective(run.model_copy(update={"method_config": {"supervision": "full"}}))


def test_a_single_slice_is_refused_in_2d():
    with pytest.raises(UserError, match="2 or more"):
        pann.objective(RunConfig(method="pann", method_config={"form": "2d", "supervision": "full"}))


# --- pseudo-labels -------------------------------------------------------------------------------------------------


def test_pseudo_labels_never_hold_an_annotated_structure_and_keep_what_is_given():
    b = batch(structures=(2,), size=8)
    partly = ~b.annotated[:, 0]
    y = b.y[Phase.VENOUS][partly]
    y[0, 0] = IGNORE
    scores = torch.randn(2, K, *y.shape[1:], generator=torch.Generator().manual_seed(1))
    scores[:, 2] += 10  # the argmax over all classes would be 2 nearly everywhere
    target = pann.pseudo_labels(scores, y, b.annotated[partly])
    assert torch.equal(target == 2, y == 2)
    assert torch.equal(target == IGNORE, y == IGNORE)
    assert set(target[y == UNKNOWN].tolist()) == {0, 1, 3}
    free = scores.clone()
    free[:, 2] = -torch.inf
    assert torch.equal(target[y == UNKNOWN], free.argmax(1)[y == UNKNOWN])


def test_all_structures_annotated_is_full_supervision():
    truth = torch.randint(0, K, (1, 4, 4, 4))
    y = torch.where(truth == 0, UNKNOWN, truth)  # background alone was not said
    annotated = torch.tensor([[False, True, True, True]])
    scores = torch.randn(1, K, 4, 4, 4, dtype=torch.float64)
    target = pann.pseudo_labels(scores, y, annotated)
    assert torch.equal(target, truth)
    log_p = scores.log_softmax(1)
    torch.testing.assert_close(mean_cross_entropy(log_p, target), F.cross_entropy(scores, truth), **CLOSE)


def test_no_structure_annotated_is_semi_supervision():
    o, b = ready(objective(supervision="partial")), batch(structures=())
    semi = ready(objective(supervision="semi"))
    semi.load_state_dict(o.state_dict())
    for name, value in terms(o, b).items():
        torch.testing.assert_close(terms(semi, b)[name], value, **CLOSE)


def test_semi_supervision_does_not_see_the_partial_labels():
    o, labelled = ready(objective(supervision="semi")), batch(structures=(2,))
    none = Batch(labelled.x, batch(structures=()).y, batch(structures=()).annotated, 0, 0, 4)
    assert torch.equal(terms(o, labelled)["J_P"], terms(o, none)["J_P"])


# --- terms ---------------------------------------------------------------------------------------------------------


def test_means_leave_out_ignored_voxels_and_stand_alone():
    log_p = torch.randn(2, K, 2, 2, 2, dtype=torch.float64).log_softmax(1)
    y = torch.randint(0, K, (2, 2, 2, 2))
    y[0, 0], y[1, 1] = IGNORE, UNKNOWN
    known, seen = y < UNKNOWN, y != IGNORE
    by_hand = -log_p.movedim(1, -1)[known].gather(1, y[known][:, None]).mean()
    torch.testing.assert_close(mean_cross_entropy(log_p, y), by_hand, **CLOSE)
    torch.testing.assert_close(pann.mean_prediction(log_p, y), log_p.exp().movedim(1, -1)[seen].mean(0), **CLOSE)
    assert mean_cross_entropy(log_p[:0], y[:0]) == 0
    assert pann.mean_prediction(log_p, y).sum().item() == pytest.approx(1)


def test_q_counts_the_fully_labelled_items_alone():
    batches = [batch(seed, structures=(3,)) for seed in range(3)]
    y = torch.cat([b.y[Phase.VENOUS][:3] for b in batches])
    expected = torch.bincount(y.flatten(), minlength=K).double() / y.numel()
    torch.testing.assert_close(pann.class_fractions(batches, K), expected, **CLOSE)
    o = objective(prior_draws=3)
    o.begin(o.stages()[1], lambda step: batches[step])
    torch.testing.assert_close(o.prior.q, expected, **CLOSE)
    torch.testing.assert_close(o.prior.nu, -1 / expected, **CLOSE)
    torch.testing.assert_close(o.prior.mu, -1 / (1 - expected), **CLOSE)


def test_terms_are_named_and_weighted():
    b = batch()
    assert set(terms(ready(objective()), b, 0)) == {"J_L"}
    assert set(terms(ready(objective()), b)) == {"J_L", "J_P", "J_C"}
    assert set(terms(ready(objective(dice_weight=1.0)), b)) == {"J_L", "dice", "J_P", "J_C"}
    assert set(terms(ready(objective(supervision="partial")), b)) == {"J_L", "J_P"}
    one, two = (terms(ready(objective(partial_weight=w, prior_weight=w)), b) for w in (1.0, 2.0))
    for name in ("J_P", "J_C"):
        torch.testing.assert_close(two[name], 2 * one[name])
    torch.testing.assert_close(two["J_L"], one["J_L"])


def test_j_l_and_j_p_are_cross_entropies_of_their_own_items():
    o, b = ready(objective(partial_weight=0.5)), batch(size=8, structures=(2,))
    x, y, full = b.x[Phase.VENOUS], b.y[Phase.VENOUS], b.annotated[:, 0]
    y[0, :2] = IGNORE
    logits = o.nets(x)
    target = pann.pseudo_labels(o.teacher(x[~full]), y[~full], b.annotated[~full])
    got = terms(o, b)
    torch.testing.assert_close(got["J_L"], F.cross_entropy(logits[full], y[full], ignore_index=IGNORE), **CLOSE)
    torch.testing.assert_close(got["J_P"], 0.5 * F.cross_entropy(logits[~full], target), **CLOSE)
    torch.testing.assert_close(terms(o, b, 0)["J_L"], F.cross_entropy(o.nets(x[full]), y[full], ignore_index=IGNORE))


def test_items_annotated_for_every_structure_are_learned_as_in_full():
    """L_Pt = L: all but background was said."""
    o, b = ready(objective()), batch(structures=(1, 2, 3))
    x, y = b.x[Phase.VENOUS], b.y[Phase.VENOUS]
    assert not b.annotated[3, 0] and (y[3] == UNKNOWN).any()
    truth = torch.where(y[3:] == UNKNOWN, 0, y[3:])
    torch.testing.assert_close(terms(o, b)["J_P"], F.cross_entropy(o.nets(x)[3:], truth), **CLOSE)


def test_without_weights_stage_two_is_stage_one():
    o, b = ready(objective(partial_weight=0.0, prior_weight=0.0)), batch()
    second, first = terms(o, b), terms(o, b, 0)
    assert set(second) == {"J_L"}
    assert torch.equal(second["J_L"], first["J_L"])
    for a, c in zip(grads(o, second["J_L"]), grads(o, first["J_L"]), strict=True):
        assert torch.equal(a, c)


@pytest.mark.parametrize("form", ["2d", "3d"])
def test_gradient_reaches_the_network_and_never_the_teacher_or_the_duals(form):
    o = ready(objective(form))
    b = batch(shape=(4, 32, 32))
    sum(terms(o, b).values()).backward()
    assert all(p.grad is not None for p in o.nets.parameters())
    assert all(p.grad is None for p in o.teacher.parameters())
    assert {name.split(".")[0] for name, p in o.named_parameters() if p.requires_grad} == {"nets"}
    assert not any(p.requires_grad for p in o.prior.parameters())


def test_the_prior_exerts_no_force_before_the_duals_move():
    o = ready(objective(dual="sga", dual_rate=1e-300))
    force = grads(o, terms(o, batch())["J_C"])
    assert max(g.abs().max().item() for g in force) < 1e-7
    o = ready(objective(dual="closed", prior_momentum=0.0))
    assert max(g.abs().max().item() for g in grads(o, terms(o, batch())["J_C"])) > 1e-5


def test_the_duals_climb_before_the_network_moves_and_in_every_step():
    o, b = ready(objective(dual="sga", dual_rate=0.1)), batch()
    q = o.prior.q.clone()
    terms(o, b)
    p = o._p.detach().double()
    torch.testing.assert_close(o.prior.nu, -1 / q + 0.1 * q * (p - q), rtol=0, atol=1e-5)
    first = o.prior.nu.clone()
    step(o, b, 1)
    assert not torch.equal(first, o.prior.nu)
    assert set(o.watched()) == {"dual_residual", "prior_divergence"}


@pytest.mark.parametrize("dual", ["sga", "log", "closed"])
@pytest.mark.parametrize("first", [0, 4])  # of this process's items; those of the others come before
def test_the_duals_climb_once_per_step_however_many_micro_batches_it_has(dual, first):
    def micro(seed: int, part: int) -> Batch:
        return replace(batch(seed), seed=0, first=first + 8 * part, size=16)

    divided, whole = (ready(objective(dual=dual, dual_rate=0.1)) for _ in range(2))
    for number in range(3):
        step(whole, micro(number, 0), number)
        climbed = step(divided, micro(number, 0), number)["J_C"]
        after = divided.prior.nu.clone()
        terms(divided, micro(number + 10, 1))
        assert torch.equal(divided.prior.nu, after)
        assert terms(divided, micro(number, 0))["J_C"] == climbed  # the same duals for every part of the step
    assert torch.equal(divided.prior.nu, whole.prior.nu) and torch.equal(divided.prior.mu, whole.prior.mu)
    assert not torch.equal(whole.prior.nu, -1 / whole.prior.q)


def test_the_prior_alone_pulls_the_mean_prediction_towards_q():
    o, q = ready(objective(prior_momentum=0.0)), torch.tensor([0.7, 0.2, 0.08, 0.02])
    o.prior.start(q)
    optimiser = torch.optim.Adam(o.nets.parameters(), lr=1e-2)
    apart = []
    for number in range(40):
        loss = step(o, batch(), number)["J_C"]
        apart.append((o._p - q).abs().sum().item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert apart[-1] < 0.1 * apart[0]


# --- teacher and state ---------------------------------------------------------------------------------------------


def test_the_teacher_is_a_snapshot_renewed_at_the_start_and_every_so_many_steps():
    o = objective(teacher_every=3)
    stage, weight, copy = o.stages()[1], o.nets.net.head.weight, o.teacher.net.head.weight
    for step in range(7):
        with torch.no_grad():
            weight += 1
        before = copy.clone()
        o.before_step(stage, step)
        assert torch.equal(copy, weight if step % 3 == 0 else before)
    o.before_step(o.stages()[0], 0)
    o.train()
    assert o.nets.training and not any(m.training for m in o.teacher.modules())


def test_resuming_needs_the_state_dict_alone():
    o = ready(objective(dual="log", dual_rate=1.0))
    for number in range(3):
        step(o, batch(number), number)
    other = objective(dual="log", dual_rate=1.0).train()
    other.load_state_dict(o.state_dict())
    one, two = (step(each, batch(9), 3) for each in (o, other))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_scores_become_float32_in_the_losses(dtype):
    assert pann._log_softmax(torch.zeros(1, 3, 2, 2, 2, dtype=dtype)).dtype == torch.float32


def test_mixed_precision_stays_finite_and_one_batch_is_fitted():
    o, b = ready(objective(teacher_every=20)), batch()
    optimiser = torch.optim.Adam(o.nets.parameters(), lr=2e-2)
    losses = []
    for step in range(60):
        o.before_step(o.stages()[1], step)
        with torch.autocast("cpu", torch.bfloat16):
            loss = sum(terms(o, b).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert all(loss > 0 for loss in losses)
    assert min(losses[-10:]) < 0.25 * losses[0]  # the prior has a floor: the entropy of q


# --- running -------------------------------------------------------------------------------------------------------


def test_2d_runs_slice_by_slice_in_three_equal_channels():
    o = objective("2d").eval()
    x = batch(shape=(4, 32, 32)).x[Phase.VENOUS]
    seen = []
    o.nets.net.encoder.conv1.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    out = o.nets(x)
    assert out.shape == (4, K, 4, 32, 32) and seen[0].shape == (16, 3, 32, 32)
    assert torch.equal(seen[0][:, 0], seen[0][:, 2])
    torch.testing.assert_close(o.nets(x[1:2, :, 2:3])[0, :, 0], out[1, :, 2], rtol=0, atol=1e-5)


def test_intensity_is_what_the_weights_expect():
    x = torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 1, 1, 1, 3)
    values = {i: pann.PannNet(PannConfig(unet=UNET, intensity=i), K)._intensity(x).flatten() for i in ("unit", "byte")}
    assert values["unit"].tolist() == [-1, 0, 1]
    assert values["byte"].tolist() == [0, 127.5, 255]


def test_test_scales_are_averaged_as_probabilities():
    o = objective("2d", test_scales=[1.0, 1.5]).eval()
    x = batch(shape=(4, 32, 48)).x[Phase.VENOUS][:2]
    with torch.no_grad():
        log_p = pann.PannSegmentor(o.config, o.nets).logits(Phase.VENOUS, x)
        one = o.nets(x).softmax(1)
        large = F.interpolate(x[:, 0], scale_factor=1.5, mode="bilinear", align_corners=False)[:, None]
        two = F.interpolate(o.nets(large).softmax(1).flatten(1, 2), size=(32, 48), mode="bilinear", align_corners=False)
    expected = (one + two.reshape(one.shape)) / 2
    torch.testing.assert_close(log_p.exp(), expected, rtol=0, atol=1e-5)
    single = objective("2d").eval()
    assert torch.equal(pann.PannSegmentor(single.config, single.nets).logits(Phase.VENOUS, x), single.nets(x))


# --- presets -------------------------------------------------------------------------------------------------------

PARAMETERS = {
    "paper": 40_350_382,
    "paper-3d": 2_287_024,
    "workstation": 9_143_648,
    "workstation-2d": 40_350_382,
    "smoke": 274_584,
    "smoke-2d": 638_558,
}


@pytest.mark.parametrize("name", PRESETS["pann"])
def test_presets_have_their_size_and_shapes_on_the_meta_device(name):
    run = preset("pann", name)
    with torch.device("meta"):
        o = pann.objective(run)
        out = o.nets(torch.empty(2, 1, *run.patch_vox))
    assert out.shape == (2, len(run.labels), *run.patch_vox)
    assert sum(p.numel() for p in o.nets.parameters()) == PARAMETERS[name]
    assert all(side % d == 0 for side, d in zip(run.patch_vox, o.config.traits.divisor, strict=True))
    assert all(part.structures for part in run.data.partly)


# --- experiments ---------------------------------------------------------------------------------------------------

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
ROWS = sorted(EXPERIMENTS.glob("pann/*.yaml"))


def settings_of(path: Path) -> dict:
    """Without the name."""
    run = read_run(path)
    values = run.model_dump(mode="json") | {"method_config": method_config("pann", run.method_config).model_dump()}
    return {key: value for key, value in values.items() if key != "name"}


SETS = {"a": (40, (2,)), "b": (40, (6,)), "c": (40, (1,))}
"""Spleen, pancreas, liver: cases, structures."""
ALL_SETS = tuple(SETS.values())
ERASED = tuple(
    (1, kept)
    for kept in (
        (1, 4, 7, 10, 13),
        (2, 3, 6, 9, 14),
        (1, 5, 8, 12, 13),
        (3, 4, 5, 6, 10),
        (2, 7, 8, 9, 12),
        (1, 2, 6, 8, 14),
    )
)
CONFIGURATIONS = {
    **{
        f"{net}-{how}-{name}": (f"resnet{net[1:]}", how, (SETS[name],) if name in SETS else ALL_SETS)
        for net in ("r50", "r101")
        for how in ("semi", "partial", "pann")
        for name in ("a", "b", "c", "abc")
    },
    "r50-full": ("resnet50", "full", ALL_SETS),
    "r101-full": ("resnet101", "full", ALL_SETS),
    **{f"unet3d-{how}": ("3d", how, ALL_SETS) for how in ("full", "semi", "partial", "pann")},
    **{f"general-{how}": ("resnet101", how, ALL_SETS) for how in ("full", "semi", "partial", "pann")},
    "challenge": ("resnet101", "pann", ALL_SETS),
    "challenge-partly-erased": ("resnet101", "pann", ERASED),
}
"""Row -> network, supervision, partly labelled sets."""
FULL_CASES = {"challenge": (30, 6)} | {row: (20, 5) for row in CONFIGURATIONS if row.startswith("general")}
"""To learn from and held out; of every other row 24 and 6."""


def test_every_row_of_the_tables_is_a_configuration_of_its_own():
    assert {path.stem for path in ROWS} == set(CONFIGURATIONS) and len(ROWS) == 36
    assert [read_run(path).name for path in ROWS] == [f"pann-{path.stem}" for path in ROWS]
    rows = [repr(settings_of(path)) for path in ROWS]
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.stem)
def test_a_row_is_what_its_name_says_and_nothing_else(path):
    network, supervision, partly = CONFIGURATIONS[path.stem]
    found = settings_of(path)
    config = PannConfig(**found["method_config"])
    assert (config.form if network == "3d" else config.deeplab.encoder) == network
    assert (config.form == "3d") == (network == "3d")
    assert config.supervision == supervision
    assert tuple((part["cases"], tuple(part["structures"])) for part in found["data"]["partly"]) == partly
    base = settings_of(EXPERIMENTS / "pann" / ("unet3d-pann.yaml" if network == "3d" else "r50-pann-abc.yaml"))
    for values in (found, base):
        values["method_config"].pop("supervision")
        values["method_config"]["deeplab"].pop("encoder")
        for name in ("cases", "partly"):
            values["data"].pop(name)
        if path.stem.startswith("general"):
            values.pop("labels")
        if path.stem == "challenge":
            values["validation"].pop("folds")
    assert found == base


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.stem)
def test_a_row_learns_from_as_many_cases_of_each_kind_as_the_paper(path):
    run = read_run(path)
    scan = PhaseArrays(np.zeros(0, np.int16), np.zeros(0, np.uint8), (np.zeros((1, 3), np.int32),), 0.0, 1.0)
    cases = {}
    for source in phantom_sources(run, run.data):
        annotated = np.array([label in source.annotated for label in run.labels])
        annotated[0] = annotated[1:].all()
        cases[source.id] = TrainingCase(
            source.id, source.patient, {Phase.VENOUS: scan}, None, annotated, run.spacing_mm
        )
    split = split_cases(list(cases.values()), run.validation)
    learned, held = FULL_CASES.get(path.stem, (24, 6))
    assert all(cases[name].complete for name in split.validation) and len(split.validation) == held
    kinds = Counter(
        tuple(label for label, known in zip(run.labels, cases[name].annotated, strict=True) if known)
        for name in split.train
    )
    expected = {structures: count for count, structures in CONFIGURATIONS[path.stem][2]}
    assert kinds == {tuple(run.labels): learned, **expected}


def test_the_papers_row_is_the_papers_preset():
    def differing(row: str, name: str) -> set[str]:
        run = preset("pann", name)
        values = run.model_dump(mode="json") | {"method_config": method_config("pann", run.method_config).model_dump()}
        found = settings_of(EXPERIMENTS / "pann" / f"{row}.yaml")
        assert {k: v for k, v in values["method_config"].items() if k != "augment"} == {
            k: v for k, v in found["method_config"].items() if k != "augment"
        }
        return {key for key in found if found[key] != values[key]}

    assert differing("r50-pann-abc", "paper") <= {"data", "validation"}
    assert differing("unet3d-pann", "paper-3d") <= {"data", "validation", "method_config"}


def test_the_bundled_model_and_its_baselines_differ_in_supervision_alone():
    ours, partial, full = (settings_of(EXPERIMENTS / f"pann-phantom{end}.yaml") for end in ("", "-partial", "-full"))
    for other, changed in ((partial, {"supervision"}), (full, {"supervision", "first_steps"})):
        assert {key for key in ours if ours[key] != other[key]} == {"method_config"}
        config, theirs = ours["method_config"], other["method_config"]
        assert {key for key in config if config[key] != theirs[key]} == changed
    assert PannConfig(**full["method_config"]).steps == PannConfig(**ours["method_config"]).steps
    with torch.device("meta"):
        nets = pann.PannNet(PannConfig(**ours["method_config"]), len(ours["labels"]))
    assert sum(p.numel() for p in nets.parameters()) * 2 < 6 * 2**20  # bytes in float16
