"""Phantoms of label maps, from tiny maps made here."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, map_coordinates

from napari_multiphase.errors import UserError
from napari_multiphase.labels import IDS_BY_NAME, IGNORE, STRUCTURES
from napari_multiphase.phantom import AtlasSpec, make_atlas_phantom
from napari_multiphase.phantom.atlas_body import load_body, make_body
from napari_multiphase.phantom.atlas_paint import paint_subject
from napari_multiphase.phantom.atlas_read import read_atlas, read_meanings
from napari_multiphase.phantom.atlas_scan import sample_labels
from napari_multiphase.phantom.atlas_tissues import CODES, code_of
from napari_multiphase.phantom.atlas_warp import LEAST_DETERMINANT, Organ, Warp
from napari_multiphase.phantom.subject import Subject
from napari_multiphase.volume import Phase

NAMES = {"1": "body", "2": "liver", "3": "kidney_right", "4": "kidney_left", "5": "spleen", "6": "aorta", "7": "spine"}
ABSENT = {"stomach", "pancreas", "gallbladder", "heart", "colon", "liver tumour"}


def _map() -> np.ndarray:
    """(x right to left, y front to back, z feet to head), 5 mm voxels: a barrel with five organs."""
    x, y, z = np.meshgrid(np.arange(72), np.arange(52), np.arange(60), indexing="ij")

    def ball(cx: float, cy: float, cz: float, rx: float, ry: float, rz: float) -> np.ndarray:
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2 < 1

    out = (((x - 36) / 33) ** 2 + ((y - 26) / 23) ** 2 < 1).astype(np.uint8)
    out[ball(24, 24, 38, 15, 14, 14)] = 2
    out[ball(24, 38, 24, 5, 5, 9)] = 3
    out[ball(48, 38, 26, 5, 5, 9)] = 4
    out[ball(54, 32, 40, 7, 8, 8)] = 5
    out[((x - 38) / 2.2) ** 2 + ((y - 31) / 2.2) ** 2 < 1] = 6
    out[((x - 36) / 5) ** 2 + ((y - 39) / 4.5) ** 2 < 1] = 7
    return out


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The map (first axis to the left, second to the back), its names, a cache."""
    folder = tmp_path_factory.mktemp("atlas")
    nib.save(nib.Nifti1Image(_map(), np.diag([-5.0, -5.0, 5.0, 1.0])), folder / "map.nii.gz")
    (folder / "names.json").write_text(json.dumps(NAMES))
    return folder / "map.nii.gz", folder / "names.json", folder / "cache"


def _spec(files: tuple[Path, Path, Path], **changes: object) -> AtlasSpec:
    atlas, names, cache = files
    values: dict = {"shape": (48, 64, 72), "spacing_mm": (5.0, 5.0, 5.0), "seed": 3, "noise_hu": 0.0}
    return AtlasSpec(**{**values, **changes}, atlas=atlas, names=names, cache=cache)


def test_names_are_understood_in_several_spellings() -> None:
    same = {
        "right kidney": ["kidney_right", "right_kidney", "Right Kidney", "RIGHT-KIDNEY"],
        "spine and bones": ["vertebrae_L1", "rib_left_7", "Lumbar3", "hip_bone", "bone_pelvis_sacrum"],
        "inferior vena cava": ["inferior_vena_cava", "postcava", "IVC"],
        "artery": ["gastroduodenal_artery", "left_gastric_artery", "hepatic_artery"],
        "urine": ["urinary_bladder", "left_renal_pelvis"],
        "gallbladder": ["gall_bladder", "Gallbladder"],
        "muscle": ["autochthon_left", "gluteus_maximus_right"],
    }
    for name, spellings in same.items():
        assert {code_of(spelling) for spelling in spellings} == {CODES[name]}
    assert all(code_of(s.name) == s.id for s in STRUCTURES.values())
    assert code_of("flux capacitor") is None


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SRA", "IPL"])
def test_any_orientation_gives_the_same_map(files: tuple[Path, Path, Path], tmp_path: Path, axes: str) -> None:
    image = nib.load(files[0])
    turned = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes)
    )
    nib.save(image.as_reoriented(turned), tmp_path / "turned.nii.gz")
    before, after = read_atlas(files[0], files[1]), read_atlas(tmp_path / "turned.nii.gz", files[1])
    assert np.array_equal(before.data, after.data) and before.grid.matches(after.grid)
    assert set(np.unique(before.data)) == {0, *(code_of(name) for name in NAMES.values())}


def test_same_seed_same_study_other_seed_another(files: tuple[Path, Path, Path]) -> None:
    small = {"shape": (48, 48, 48)}
    one, again, other = (make_atlas_phantom(_spec(files, seed=seed, **small)) for seed in (3, 3, 4))
    for phase in Phase:
        assert np.array_equal(one.volumes[phase].data, again.volumes[phase].data)
        assert np.array_equal(one.labels[phase], again.labels[phase])
    assert not np.array_equal(one.labels[Phase.VENOUS], other.labels[Phase.VENOUS])


@pytest.mark.parametrize("wide", [False, True])
def test_organs_of_the_map_are_there_and_no_others(files: tuple[Path, Path, Path], wide: bool) -> None:
    study = make_atlas_phantom(_spec(files, wide=wide))
    for phase in Phase:
        ids = set(np.unique(study.labels[phase]).tolist())
        assert ids <= {0, *STRUCTURES, IGNORE}
        assert {IDS_BY_NAME[n] for n in ("liver", "right kidney", "left kidney", "spleen", "aorta")} <= ids
        assert not ids & {IDS_BY_NAME[name] for name in ABSENT}
        hu = study.volumes[phase].data
        assert hu.dtype == np.int16 and hu.min() >= -1024 and hu.max() <= 3071
        assert hu[0, 0, 0] < -900 and study.volumes[phase].shape == (48, 64, 72)
    left, right = (
        np.argwhere(study.labels[Phase.VENOUS] == IDS_BY_NAME[n])[:, 2].mean() for n in ("left kidney", "right kidney")
    )
    assert left > right  # index x grows towards the left


def test_undeformed_organs_keep_their_volume(files: tuple[Path, Path, Path]) -> None:
    study = make_atlas_phantom(_spec(files, warp=0.0, motion_mm=0.0, shape=(60, 64, 80)))
    for name, value in (("liver", 2), ("spleen", 5), ("left kidney", 4)):
        got = np.count_nonzero(study.labels[Phase.VENOUS] == IDS_BY_NAME[name])
        assert got == pytest.approx(np.count_nonzero(_map() == value), rel=0.06)


def test_hu_follow_the_kinetics(files: tuple[Path, Path, Path]) -> None:
    study = make_atlas_phantom(_spec(files))
    means = {}
    for phase in Phase:
        for name in ("aorta", "liver"):
            inside = study.labels[phase] == IDS_BY_NAME[name]
            means[name, phase] = float(np.median(study.volumes[phase].data[inside]))
    assert means["aorta", Phase.ARTERIAL] > means["aorta", Phase.VENOUS] + 60
    assert means["liver", Phase.VENOUS] > means["liver", Phase.ARTERIAL] + 15
    assert 90 < means["liver", Phase.VENOUS] < 150


def test_motion_carries_the_arterial_labels_onto_the_venous(files: tuple[Path, Path, Path]) -> None:
    study = make_atlas_phantom(_spec(files, motion_mm=25.0, spacing_mm=(4.0, 4.0, 4.0), shape=(56, 72, 80)))
    venous, arterial = study.labels[Phase.VENOUS], study.labels[Phase.ARTERIAL]
    assert np.linalg.norm(study.motion_mm, axis=-1).max() > 8
    index = np.indices(venous.shape).astype(float) + np.moveaxis(study.motion_mm[..., ::-1], -1, 0) / 4.0
    inside = (index[0] > 0.5) & (index[0] < len(venous) - 1.5)
    for name in ("liver", "spleen", "right kidney"):
        here = venous == IDS_BY_NAME[name]
        there = arterial == IDS_BY_NAME[name]
        carried = map_coordinates(there.astype(np.float32), index, order=1) > 0.5
        moved = _dice(here & inside, carried & inside)
        assert moved > 0.94 and moved > _dice(here & inside, there & inside)
        wrong = (here != carried) & inside
        assert not (wrong & ~binary_dilation(here)).any() and not (wrong & binary_erosion(here)).any()  # within a voxel


@pytest.mark.parametrize("seed", range(4))
def test_no_loop_of_bowel_lies_in_a_kidneys_sinus(files: tuple[Path, Path, Path], seed: int) -> None:
    atlas, names, cache = files
    body = load_body(atlas, names, cache)
    d, h, w = (slice(0, n) for n in body.codes.shape)
    _, labels, _ = paint_subject(body, (d, h, w), Subject(seed, wide=True), _spec(files, seed=seed, wide=True))
    kidneys = np.isin(body.codes, [CODES["right kidney"], CODES["left kidney"]])
    assert (labels[Phase.VENOUS] == IGNORE).any()  # loops were drawn: this map holds no bowel
    assert not (labels[Phase.VENOUS][kidneys] == IGNORE).any()


def test_lesions_lie_in_the_liver(files: tuple[Path, Path, Path]) -> None:
    plain, ill = (make_atlas_phantom(_spec(files, pathology=p)) for p in ("none", "liver"))
    tumour = ill.labels[Phase.VENOUS] == IDS_BY_NAME["liver tumour"]
    assert tumour.any()
    assert np.isin(plain.labels[Phase.VENOUS][tumour], [IDS_BY_NAME["liver"]]).mean() > 0.97
    assert make_atlas_phantom(_spec(files, pathology="pancreas")).labels[Phase.VENOUS].max() in (IGNORE, 19, 18)


def test_nothing_folds() -> None:
    organ = Organ(np.array([-60.0, 0.0, 30.0]), 60.0, (0.35, -0.25, 0.7))
    for seed in range(4):
        warp = Warp.draw(np.random.default_rng(seed), [organ], 1.0)
        assert warp.least_determinant() >= LEAST_DETERMINANT and warp.strength > 0.2


def test_labels_go_to_the_larger_share() -> None:
    labels = np.array([[[1, 2]] * 2] * 2, np.uint8)
    index = np.zeros((3, 1, 1, 2), np.float32)
    index[2, 0, 0] = 0.3, 0.7
    assert sample_labels(labels, index).tolist() == [[[1, 2]]]


def test_body_has_walls_around_its_organs(files: tuple[Path, Path, Path]) -> None:
    body = make_body(files[0], files[1])
    liver = body.codes == IDS_BY_NAME["liver"]
    assert (body.skin[liver] < 0).all() and (body.wall[liver] <= 2).mean() > 0.98
    assert {IDS_BY_NAME[n] for n in ("liver", "spleen", "aorta")} <= body.structures
    assert body.structures.isdisjoint(IDS_BY_NAME[name] for name in ABSENT)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", "list"),
        ("{", "not JSON"),
        ("{}", "names no label values"),
        ('{"one": "liver"}', "no label value"),
        ('{"-1": "liver"}', "no label value"),
        ('{"1": ["liver"]}', "no structure"),
        ('{"1": true}', "no structure"),
        ('{"1": "flux capacitor"}', "flux capacitor"),
        ('{"1": 99}', "99"),
        ('{"labels": 3}', "names no label values"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_bad_json_is_refused_in_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "names.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_meanings(path)


def test_json_forms(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    labels = {"0": "background", "1": 2, "2": "RK", "3": "implant"}
    path.write_text(json.dumps({"labels": labels, "structures": {"RK": "right kidney", "implant": None}}))
    assert read_meanings(path) == {1: 2, 2: 3, 3: CODES["body"]}


def test_bad_maps_are_refused_in_a_sentence(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('{"1": "body", "2": "liver"}')
    with pytest.raises(UserError, match="no name"):
        read_atlas(files[0], tmp_path / "names.json")
    nib.save(nib.Nifti1Image(np.zeros((9, 9, 9), np.uint8), np.eye(4)), tmp_path / "empty.nii.gz")
    with pytest.raises(UserError, match="too little"):
        read_atlas(tmp_path / "empty.nii.gz", files[1])
    with pytest.raises(UserError, match="no such file"):
        read_atlas(tmp_path / "nowhere.nii.gz", files[1])
    with pytest.raises(UserError, match="cannot be read"):
        read_atlas(files[0], tmp_path / "nowhere.json")
    with pytest.raises(UserError, match="warp"):
        _spec(files, warp=9.0)


REAL = Path(os.environ.get("MULTIPHASE_REAL_DATA", Path(__file__).parents[3] / "shared/data")) / "atlases"


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no label maps of people in {REAL}")
def test_names_of_real_maps_are_understood() -> None:
    paths = sorted(REAL.glob("*/labels.json"))
    assert len(paths) == 5
    for path in paths:
        meanings = set(read_meanings(path).values())
        assert {IDS_BY_NAME[n] for n in ("liver", "spleen", "right kidney", "left kidney", "pancreas")} <= meanings


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / max((a.sum() + b.sum()), 1))
