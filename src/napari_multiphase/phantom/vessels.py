"""Aorta, superior mesenteric artery, inferior vena cava, portal system, and the branches that carry no label."""

from __future__ import annotations

import numpy as np

from napari_multiphase.labels import IDS_BY_NAME
from napari_multiphase.phantom.organs import pancreas_path
from napari_multiphase.phantom.render import Hu, Layer, Site, Structure
from napari_multiphase.phantom.shapes import Array, moved, tube
from napari_multiphase.phantom.subject import Subject, jitter
from napari_multiphase.phantom.torso import spine_y
from napari_multiphase.volume import Phase

AORTA, SMA = IDS_BY_NAME["aorta"], IDS_BY_NAME["superior mesenteric artery"]
CAVA, PORTAL = IDS_BY_NAME["inferior vena cava"], IDS_BY_NAME["portal and splenic vein"]
BIFURCATION_Z = -118.0


def arteries(subject: Subject) -> list[Structure]:
    """Aorta to its bifurcation, iliac arteries, coeliac trunk with two branches, renal arteries, SMA with branches."""
    rng = subject.rng("vessels")
    aorta_hu = subject.hu("aorta")
    plain = [Layer(0, aorta_hu, None)]
    radius = 10.0 * float(np.clip(rng.normal(1.0, 0.08), 0.85, 1.2))
    sway = jitter(rng, 2.0, 2)
    levels = np.array([BIFURCATION_Z, -70, -30, 10, 50, 90, 140, 240])
    x = np.array([3, 6 + sway[0], 8 + sway[1], 8, 9, 12, 16, 20])
    y = np.array([spine_y(z) - 17.5 - radius for z in levels])
    aorta = tube(np.stack([x, y, levels], axis=1), radius * np.array([0.8, 0.82, 0.9, 1.0, 1.05, 1.1, 1.15, 1.2]), 8.0)
    at = {z: np.array([np.interp(z, levels, x), np.interp(z, levels, y), z]) for z in (BIFURCATION_Z, -6.0, 4.0, 16.0)}
    out = []
    for side in (-1, 1):
        iliac = [at[BIFURCATION_Z], (side * 20, 16, -150), (side * 42, 18, -190), (side * 60, -5, -240)]
        out.append(Structure("iliac artery", tube(iliac, [6.5, 5.5, 5, 4.5], 7), plain))
        hilum = (side * 40, 30, -30.0 if side < 0 else -16.0)
        renal = [at[-6.0], (side * 22, 24, -12), hilum]
        out.append(Structure("renal artery", tube(renal, [3.0, 2.8, 2.2], 6), plain))
    trunk = moved(at[16.0], 0, -20, 2)
    path, _radii = pancreas_path(subject)
    splenic = [trunk, *(path[4:] + np.array([0, 4, 9]))]
    out.append(Structure("coeliac trunk", tube([at[16.0], moved(at[16.0], 0, -11, 1), trunk], 3.2, 5), plain))
    out.append(Structure("splenic artery", tube(splenic, 2.4, 6), plain))
    out.append(
        Structure("hepatic artery", tube([trunk, (-16, -32, 14), (-34, -30, 22), (-44, -24, 36)], 2.2, 6), plain)
    )
    sma_start = at[4.0]
    sma = [sma_start, moved(sma_start, 0, -13, -3), (6, -11, -24), (4, -15, -55), (0, -24, -90), (-8, -30, -115)]
    for k in range(5):
        root = np.array([3, -17, -60 - 9.0 * k])
        tip = np.array([rng.uniform(-60, 60), rng.uniform(-60, -30), rng.uniform(-130, -70)])
        out.append(
            Structure(
                "jejunal artery", tube([root, 0.5 * (root + tip) + jitter(rng, 5), tip], [1.8, 1.5, 1.0], 9), plain
            )
        )
    out.append(Structure("aorta", aorta, [Layer(0, aorta_hu, AORTA)]))
    out.append(Structure("SMA", tube(sma, np.array([3.8, 3.7, 3.6, 3.3, 2.8, 2.4]), 4.0), [Layer(0, aorta_hu, SMA)]))
    return out


def veins(subject: Subject) -> list[Structure]:
    """Cava (unmixed below the kidneys), renal and iliac veins, portal, splenic and superior mesenteric vein."""
    rng = subject.rng("vessels")
    rng.normal(size=64)  # a stretch of the stream away from the arteries' draws

    def mixed(site: Site, phase: Phase, above: Array, below: Array) -> Array:
        share = np.clip((site.z + 35) * np.float32(1 / 45.0), 0, 1)
        swirl = 10 * site.fine * share * (1 - share) * 4 if phase is Phase.ARTERIAL else 0
        return below + (above - below) * share + swirl

    cava_hu = subject.mix(("cava", "cava_infrarenal"), mixed)
    wide = float(np.clip(rng.normal(1.0, 0.09), 0.8, 1.2))
    cava = [
        (-14, 18, -122),
        (-21, 15, -90),
        (-24, 13, -45),
        (-25, 10, 0),
        (-26, 10, 40),
        (-24, 6, 78),
        (-20, -8, 108),
        (-16, -22, 122),
    ]
    out = []
    infra: dict[Phase, Hu] = subject.hu("cava_infrarenal")
    for side in (-1, 1):
        iliac = [(-14, 18, -122), (side * 22 - 4, 24, -150), (side * 44, 26, -190), (side * 60, 4, -240)]
        out.append(Structure("iliac vein", tube(iliac, [7.5, 6.5, 6, 5.5], 7), [Layer(0, infra, None)]))
    renal_vein = {p: 0.5 * (subject.kinetics.hu("renal_cortex", p) + subject.kinetics.hu("cava", p)) for p in Phase}
    layer = [Layer(0, renal_vein, None)]
    out.append(
        Structure(
            "left renal vein",
            tube([(44, 28, -14), (24, 10, -12), (6, 2.5, -12), (-20, 8, -12)], [3.5, 4.5, 3.6, 5], 5),
            layer,
        )
    )
    out.append(Structure("right renal vein", tube([(-42, 30, -28), (-25, 12, -22)], [4, 4.5], 5), layer))
    out.append(
        Structure(
            "cava",
            tube(cava, np.array([8.5, 9.5, 10.5, 11, 11.5, 12, 12.5, 13]) * wide, 7.0),
            [Layer(0, cava_hu, CAVA)],
            rough_mm=0.7,
        )
    )
    portal = [Layer(0, subject.hu("portal"), PORTAL)]
    path, _radii = pancreas_path(subject)
    confluence = moved(path[3], -3, 11, -2)
    hilum = np.array([-42, -16, 36])
    main = tube(
        [confluence, moved(0.5 * (confluence + hilum), 2, 0, 1), hilum, (-58, -12, 42)], [6.6, 6.4, 6.4, 5.4], 5
    )
    left = tube([moved(hilum, 2, -1, 0), (-28, -26, 44), (-18, -36, 48)], [5.0, 4.4, 4.0], 5)
    splenic = tube(
        [confluence, *(path[4:7] + np.array([0, 9.5, 1])), moved(path[7], 6, 4, 3)], [5.6, 4.8, 4.4, 4.2, 3.6], 5
    )
    smv = tube([confluence, moved(confluence, -1, 2, -18), (-10, -20, -58), (-12, -27, -90)], [6.2, 5.6, 5.0, 4.0], 5)
    for k in range(5):
        root = np.array([-11, -23, -58 - 8.0 * k])
        tip = np.array([rng.uniform(-65, 65), rng.uniform(-60, -28), rng.uniform(-130, -70)])
        bend = 0.5 * (root + tip) + jitter(rng, 5)
        out.append(
            Structure("jejunal vein", tube([root, bend, tip], [2.4, 2.0, 1.3], 9), [Layer(0, portal[0].hu, None)])
        )
    for name, shape in (("splenic vein", splenic), ("SMV", smv), ("left portal vein", left), ("portal vein", main)):
        out.append(Structure(name, shape, portal))
    return out
