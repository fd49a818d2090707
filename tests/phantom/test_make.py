"""Whole phantoms: anatomy, enhancement, motion, reproducibility, speed."""

import time
from functools import lru_cache

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, label, map_coordinates

from napari_multiphase.labels import IDS_BY_NAME, STRUCTURES, ids_of_group
from napari_multiphase.phantom import PhantomSpec, PhantomStudy, make_phantom
from napari_multiphase.phantom import make as making
from napari_multiphase.phantom.motion import Breathing
from napari_multiphase.phantom.subject import Subject
from napari_multiphase.volume import Phase

A, V = Phase.ARTERIAL, Phase.VENOUS
MEDIUM = {"shape": (72, 128, 128), "spacing_mm": (4.0, 3.0, 3.0)}
SMALL = {"shape": (48, 64, 64), "spacing_mm": (6.0, 6.0, 6.0)}
PATHOLOGIES = ("none", "liver", "pancreas")
PLAUSIBLE_ML = {
    "liver": (900, 2200),
    "spleen": (70, 500),
    "right kidney": (85, 300),
    "left kidney": (85, 300),
    "aorta": (40, 160),
    "pancreas": (20, 150),
    "stomach": (100, 900),
    "gallbladder": (5, 80),
    "inferior vena cava": (40, 220),
    "portal and splenic vein": (10, 70),
    "superior mesenteric artery": (2, 12),
    "right adrenal": (2, 12),
    "left adrenal": (2, 12),
    "oesophagus": (5, 40),
    "duodenum": (40, 160),
    "small bowel": (200, 1500),
    "colon": (200, 1500),
    "spine and bones": (300, 1200),
    "lungs": (500, 4000),
    "heart": (60, 700),
}


@lru_cache(maxsize=12)
def medium(seed: int) -> PhantomStudy:
    return make_phantom(PhantomSpec(**MEDIUM, seed=seed, pathology=PATHOLOGIES[seed % 3]))


@lru_cache(maxsize=1)
def default() -> tuple[PhantomStudy, float]:
    start = time.process_time()
    study = make_phantom(PhantomSpec(seed=2, pathology="pancreas"))
    return study, time.process_time() - start


def mask(study: PhantomStudy, name: str, phase: Phase = V) -> np.ndarray:
    return study.labels[phase] == IDS_BY_NAME[name]


def centre_mm(study: PhantomStudy, name: str) -> np.ndarray:
    grid = study.volumes[V].grid
    index = np.array(np.nonzero(mask(study, name))).mean(axis=1)
    return (grid.affine_mm @ [*index, 1.0])[:3]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("phase", list(Phase))
def test_every_structure_is_there_with_a_plausible_volume(seed: int, phase: Phase) -> None:
    study = medium(seed)
    voxel_ml = study.volumes[phase].grid.voxel_ml
    for name, (low, high) in PLAUSIBLE_ML.items():
        ml = mask(study, name, phase).sum() * voxel_ml
        assert low <= ml <= high, f"{name}: {ml:.1f} ml"
    lesions = {s.name for s in STRUCTURES.values() if s.kind == "lesion" and mask(study, s.name, phase).any()}
    expected = {"none": set(), "liver": {"liver tumour"}, "pancreas": {"pancreatic mass", "pancreatic duct"}}
    assert lesions == expected[study.spec.pathology]


@pytest.mark.parametrize("seed", range(5))
def test_organs_lie_where_a_radiologist_looks_for_them(seed: int) -> None:
    study = medium(seed)
    at = {name: centre_mm(study, name) for name in PLAUSIBLE_ML}
    # x grows to the patient's left, y to the back, z to the head.
    sides = [("liver", "stomach"), ("liver", "spleen"), ("right kidney", "left kidney"), ("gallbladder", "stomach")]
    for right, left in (*sides, ("right adrenal", "left adrenal"), ("inferior vena cava", "aorta")):
        assert at[right][0] < at[left][0], (right, left)
    assert at["right kidney"][2] < at["left kidney"][2]
    assert at["pancreas"][1] < at["aorta"][1] < at["spine and bones"][1]
    assert at["superior mesenteric artery"][1] < at["aorta"][1]
    assert at["colon"][2] < at["liver"][2] < at["heart"][2]
    for adrenal, kidney in (("right adrenal", "right kidney"), ("left adrenal", "left kidney")):
        assert at[adrenal][2] > at[kidney][2] + 25 and np.linalg.norm((at[adrenal] - at[kidney])[:2]) < 70


@pytest.mark.parametrize("seed", range(3))
def test_no_organ_leaves_the_body_and_solid_organs_are_one_piece(seed: int) -> None:
    study = medium(seed)
    hu = study.volumes[V].data
    for name in ("liver", "spleen", "right kidney", "left kidney", "pancreas", "aorta", "inferior vena cava"):
        organ = np.isin(study.labels[V], ids_of_group(IDS_BY_NAME[name]))
        pieces, count = label(organ)
        assert np.bincount(pieces.ravel())[1:].max() > 0.97 * organ.sum(), (name, count)
        assert (hu[organ] < -300).mean() < 0.01, name


@pytest.mark.parametrize("seed", [0, 4])
def test_interiors_have_the_hu_of_the_kinetics(seed: int) -> None:
    study = make_phantom(PhantomSpec(**MEDIUM, seed=seed, noise_hu=0.0))
    kinetics = Subject(seed).kinetics
    for phase in Phase:
        for name, tissue, margin, tolerance in (
            ("liver", "liver", 3, 4),
            ("spleen", "spleen", 2, 9),
            ("aorta", "aorta", 1, 8),
            ("pancreas", "pancreas", 1, 9),
            ("portal and splenic vein", "portal", 1, 9),
            ("gallbladder", "gallbladder", 1, 12),
        ):
            inside = binary_erosion(mask(study, name, phase), iterations=margin)
            assert inside.sum() >= 8
            found = float(np.median(study.volumes[phase].data[inside]))
            assert found == pytest.approx(kinetics.hu(tissue, phase), abs=tolerance), (name, phase)


@pytest.mark.parametrize("seed", range(5))
def test_phases_show_what_they_should(seed: int) -> None:
    study = medium(seed)

    def hu(name: str, phase: Phase) -> float:
        return float(np.median(study.volumes[phase].data[mask(study, name, phase)]))

    assert hu("aorta", A) > 200 and hu("aorta", A) > hu("aorta", V) + 70
    assert hu("portal and splenic vein", V) > hu("portal and splenic vein", A) + 30
    assert hu("liver", V) > hu("liver", A) + 20
    assert hu("pancreas", A) > hu("liver", A)
    kidney = study.volumes[A].data[mask(study, "left kidney", A)], study.volumes[V].data[mask(study, "left kidney")]
    assert kidney[0].std() > kidney[1].std() + 8  # cortex against medulla, early only


def test_the_pancreatic_mass_shows_early_and_hides_later() -> None:
    study, _ = default()
    gap = {}
    for phase in Phase:
        hu = study.volumes[phase].data
        mass = binary_erosion(mask(study, "pancreatic mass", phase), iterations=2)
        gland = binary_erosion(mask(study, "pancreas", phase), iterations=2)
        gap[phase] = float(hu[gland].mean() - hu[mass].mean())
    assert gap[A] > 20 and abs(gap[V]) < 15


def test_labels_of_both_phases_agree_with_the_motion() -> None:
    study, _ = default()
    grid = study.volumes[V].grid
    at = np.indices(grid.shape, dtype=np.float32)
    for axis, component in ((0, 2), (1, 1), (2, 0)):
        at[axis] += study.motion_mm[..., component] / grid.spacing_mm[axis]
    least_dice = {
        "liver": 0.97,
        "stomach": 0.97,
        "right kidney": 0.97,
        "left kidney": 0.97,
        "spleen": 0.96,
    }
    for name, least in least_dice.items():
        venous, arterial = mask(study, name), mask(study, name, A)
        carried = map_coordinates(arterial.astype(np.float32), at, order=1) > 0.5
        dice = 2 * (carried & venous).sum() / (carried.sum() + venous.sum())
        still = 2 * (arterial & venous).sum() / (arterial.sum() + venous.sum())
        assert dice > least and dice > still + 0.04, (name, dice, still)


def test_the_dense_motion_is_the_true_map_between_the_phases() -> None:
    study, _ = default()
    field = Breathing.draw(Subject(2).rng("motion"), 12.0)
    rng = np.random.default_rng(0)
    index = np.stack([rng.integers(0, n, 3_000) for n in study.spec.shape], axis=1)
    venous = (study.volumes[V].grid.affine_mm @ np.c_[index, np.ones(len(index))].T).T[:, :3]
    arterial = venous + study.motion_mm[tuple(index.T)]
    assert np.abs(field.inverse(arterial) - venous).max() < 0.05


def test_without_motion_both_phases_have_the_same_labels() -> None:
    study = make_phantom(PhantomSpec(**SMALL, motion_mm=0.0))
    assert (study.labels[A] == study.labels[V]).all() and not study.motion_mm.any()
    assert (study.volumes[A].data != study.volumes[V].data).mean() > 0.9


def test_the_same_seed_gives_the_same_study_however_it_is_cut() -> None:
    spec = PhantomSpec(shape=(50, 80, 72), spacing_mm=(5.0, 4.5, 5.0), seed=5, pathology="liver")
    first = make_phantom(spec)
    for other in (make_phantom(spec), making.make_phantom(spec, 3), making.make_phantom(spec, 17)):
        assert (first.motion_mm == other.motion_mm).all()
        for phase in Phase:
            assert (first.labels[phase] == other.labels[phase]).all()
            assert (first.volumes[phase].data == other.volumes[phase].data).all()


def test_subjects_differ() -> None:
    liver = [mask(medium(seed), "liver") for seed in range(4)]
    overlap = [2 * (a & b).sum() / (a.sum() + b.sum()) for k, a in enumerate(liver) for b in liver[k + 1 :]]
    assert max(overlap) < 0.95


def test_noise_has_the_asked_deviation_and_differs_between_phases() -> None:
    quiet = make_phantom(PhantomSpec(**SMALL, motion_mm=0.0, noise_hu=0.0))
    loud = make_phantom(PhantomSpec(**SMALL, motion_mm=0.0, noise_hu=15.0))
    inside = quiet.volumes[V].data > -900
    noise = {p: (loud.volumes[p].data.astype(float) - quiet.volumes[p].data)[inside] for p in Phase}
    assert [noise[p].std() for p in Phase] == pytest.approx([15, 15], rel=0.03)
    assert abs(np.corrcoef(noise[A], noise[V])[0, 1]) < 0.02


@pytest.mark.parametrize(("shape", "spacing"), [((48, 48, 48), (3.0, 2.0, 2.0)), ((48, 64, 96), (12.0, 8.0, 5.0))])
def test_small_and_large_fields_of_view(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    study = make_phantom(PhantomSpec(shape=shape, spacing_mm=spacing))
    for phase in Phase:
        assert study.volumes[phase].shape == study.labels[phase].shape == shape
        assert study.volumes[phase].data.dtype == np.int16 and study.labels[phase].dtype == np.uint8
        assert set(np.unique(study.labels[phase])) <= {0, *STRUCTURES}
    assert study.motion_mm.shape == (*shape, 3) and study.motion_mm.dtype == np.float32
    assert {IDS_BY_NAME["aorta"], IDS_BY_NAME["pancreas"], IDS_BY_NAME["spine and bones"]} <= set(
        np.unique(study.labels[V])
    )


def test_the_default_study_takes_seconds_on_one_core(capsys: pytest.CaptureFixture[str]) -> None:
    _, seconds = default()
    with capsys.disabled():
        print(f"\nphantom 96 x 192 x 192, both phases: {seconds:.1f} s of processor time")
    assert seconds < 15.0
