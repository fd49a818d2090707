"""HU of a painted body in both phases: every tissue's own, and what is inside hollow organs, kidneys, bones, heart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.labels import IDS_BY_NAME
from napari_multiphase.phantom.atlas_canvas import Canvas
from napari_multiphase.phantom.atlas_fields import Array
from napari_multiphase.phantom.atlas_gut import fill, hold_contrast
from napari_multiphase.phantom.atlas_spec import AtlasSpec
from napari_multiphase.phantom.atlas_tissues import (
    AIR,
    ASCITES,
    CODES,
    COLLAPSED,
    EFFUSION,
    FLESH,
    ISLAND,
    PORTAL_BRANCH,
    SKIN,
    SUBCUTANEOUS,
    TWIG,
    VISCERAL,
)
from napari_multiphase.phantom.kinetics import AIR_HU
from napari_multiphase.phantom.subject import Subject
from napari_multiphase.volume import Phase

TISSUE_OF = {
    **{name: name for name in ("aorta", "liver", "spleen", "pancreas", "gallbladder", "oesophagus", "muscle", "disc")},
    "right kidney": "renal_cortex",
    "left kidney": "renal_cortex",
    "stomach": "stomach_wall",
    "stomach or duodenum": "stomach_wall",
    "duodenum": "gut_wall",
    "small bowel": "gut_wall",
    "colon": "gut_wall",
    "bowel": "gut_wall",
    "inferior vena cava": "cava",
    "portal and splenic vein": "portal",
    "superior mesenteric artery": "aorta",
    "artery": "aorta",
    "artery of unknown name": "aorta",
    "right adrenal": "adrenal",
    "left adrenal": "adrenal",
    "spine and bones": "cortical_bone",
    "lungs": "lung",
    "heart": "myocardium",
    "heart cavity": "right_heart",
    "vein": "cava_infrarenal",
    "hepatic vein": "hepatic_vein",
    "urine": "renal_pelvis",
    "bile duct": "gallbladder",
    "cartilage": "cartilage",
    "spinal cord": "cord",
    "soft organ": "gut_wall",
    "mesentery": "fat",
    "body": "fat",
    "arm": "muscle",
}
"""Tissue of `kinetics` that each code of a map has."""
FINE_HU = {
    **{"fat": 7, "liver": 3, "spleen": 3, "pancreas": 7, "muscle": 6, "lung": 45, "cortical_bone": 30},
    **{"renal_cortex": 4, "gut_wall": 5, "stomach_wall": 5, "oesophagus": 6, "myocardium": 4},
}
CONTRAST_SHARE = {False: 0.15, True: 0.5}
"""Of the subjects, in whom some drunk contrast medium is; by `AtlasSpec.wide`."""
COARSE_HU = {"fat": 5, "liver": 3, "muscle": 5, "lung": 25, "cortical_bone": 30, "pancreas": 4}


def paint_hu(canvas: Canvas, subject: Subject, spec: AtlasSpec) -> dict[Phase, Array]:
    """HU per phase, float32, without noise."""
    rng = subject.rng("atlas_hu")
    tissues = _tissues()
    fine, coarse = np.zeros(256, np.float32), np.zeros(256, np.float32)
    for code, name in tissues.items():
        fine[code], coarse[code] = FINE_HU.get(name, 2), COARSE_HU.get(name, 1)
    if spec.wide:
        fine += np.abs(rng.normal(0, 7, 256)).astype(np.float32) * (rng.random(256) < 0.5)
        coarse += np.abs(rng.normal(0, 7, 256)).astype(np.float32) * (rng.random(256) < 0.5)
    texture = fine[canvas.tissue] * canvas.fine + coarse[canvas.tissue] * canvas.coarse
    inner = _Inner(canvas, rng, spec.wide)
    out = {}
    for phase in Phase:
        table = np.full(256, AIR_HU, np.float32)
        for code, name in tissues.items():
            table[code] = subject.kinetics.hu(name, phase)
        table[TWIG] = 0.6 * table[CODES["vein"]] + 0.4 * table[CODES["portal and splenic vein"]]
        image = table[canvas.tissue]
        inner.paint(image, subject, phase)
        image += texture
        out[phase] = np.where(canvas.tissue == AIR, np.float32(AIR_HU), image)
    return out


def _tissues() -> dict[int, str]:
    found = {CODES[name]: tissue for name, tissue in TISSUE_OF.items()}
    found |= {SUBCUTANEOUS: "fat", VISCERAL: "fat", SKIN: "skin", ISLAND: "gut_wall", FLESH: "muscle"}
    found |= {EFFUSION: "csf", COLLAPSED: "gut_wall", ASCITES: "cyst"}
    return found | {PORTAL_BRANCH: "portal", TWIG: "portal", CODES["airway"]: "lung"}


class _Inner:
    """Parts of organs, found once and painted in both phases."""

    def __init__(self, canvas: Canvas, rng: np.random.Generator, wide: bool) -> None:
        self.canvas, self.rng = canvas, rng
        tissue, depth = canvas.tissue, canvas.depth_mm
        self.z, self.y, self.x = canvas.axes_mm
        self.lumps, self.mottle = canvas.fields(14.0), canvas.fields(6.0)
        cortex = rng.uniform(4.5, 7.5)
        kidney = np.isin(tissue, [IDS_BY_NAME["right kidney"], IDS_BY_NAME["left kidney"]])
        self.medulla = np.nonzero(kidney & (depth > cortex) & (self.mottle > -0.5))
        self.marrow = np.nonzero((tissue == IDS_BY_NAME["spine and bones"]) & (depth > rng.uniform(1.6, 3.0)))
        self.streaks = np.nonzero((tissue == CODES["muscle"]) & (np.abs(self.mottle) < rng.uniform(0.05, 0.25)))
        self.clefts = np.nonzero((tissue == IDS_BY_NAME["pancreas"]) & (canvas.fine < -1.3) & (depth < 5))
        self.branches = np.nonzero((tissue == IDS_BY_NAME["lungs"]) & (canvas.fields.network(9.0) < 1.6))
        self.spleen = np.nonzero(tissue == IDS_BY_NAME["spleen"])
        self.cava = np.nonzero(tissue == IDS_BY_NAME["inferior vena cava"])
        self.airway = np.nonzero(tissue == CODES["airway"])
        hollow = fill(canvas, rng, self.lumps, self.mottle, wide)
        self.left, self.right = _chambers(canvas)
        self.moire, self.moire_hu = float(rng.uniform(9, 17)), float(rng.uniform(8, 28))
        self.fatty = float(rng.uniform(0.2, 0.7))
        self.hollow = hold_contrast(hollow, rng, CONTRAST_SHARE[wide])
        self.filling = rng.uniform(-1, 1, 256)
        self.mixing = float(rng.uniform(0, 25)) if wide else 0.0

    def paint(self, image: Array, subject: Subject, phase: Phase) -> None:
        """Over the tissue's own HU."""

        def hu(name: str) -> np.float32:
            return np.float32(subject.kinetics.hu(name, phase))

        image[self.medulla] = hu("renal_medulla")
        image[self.marrow] = hu("marrow")
        image[self.streaks] += np.float32(self.fatty * 0.6) * (hu("fat") - image[self.streaks])
        image[self.clefts] += np.float32(self.fatty) * (hu("fat") - image[self.clefts])
        image[self.branches] = np.float32(0.5) * (hu("right_heart") - 60)
        image[self.airway] = np.float32(AIR_HU)
        image[self.left], image[self.right] = hu("left_heart"), hu("right_heart")
        if phase is Phase.ARTERIAL:
            wave = np.sin(
                (self.lumps[self.spleen] * 9 + np.broadcast_to(self.x, image.shape)[self.spleen])
                * 6.2832
                / (2 * self.moire)
            )
            image[self.spleen] += np.float32(self.moire_hu) * wave
        share = np.clip((np.broadcast_to(self.z, image.shape)[self.cava] + 35) / 45, 0, 1)
        image[self.cava] = hu("cava_infrarenal") + share * (hu("cava") - hu("cava_infrarenal"))
        image[self.cava] += np.float32(self.mixing) * self.lumps[self.cava]  # blood of legs and kidneys, not yet mixed
        for lumen in self.hollow:
            lumen.paint(image, hu(lumen.content) + 25 * self.filling[lumen.code])


def _chambers(canvas: Canvas) -> tuple[tuple[NDArray[np.intp], ...], tuple[NDArray[np.intp], ...]]:
    """Left and right chambers of the heart: left of and behind an oblique plane, and the others."""
    cavity = canvas.tissue == CODES["heart cavity"]
    if not cavity.any():
        cavity = (canvas.tissue == IDS_BY_NAME["heart"]) & (canvas.depth_mm > 9)
    found = np.nonzero(cavity)
    if not len(found[0]):
        return found, found
    _, y, x = (np.broadcast_to(a, canvas.tissue.shape)[found] for a in canvas.axes_mm)
    left = (x - x.mean()) + (y - y.mean()) > 0
    return tuple(k[left] for k in found), tuple(k[~left] for k in found)
