"""Oesophagus, stomach, duodenum, small bowel and colon: walls that enhance, content, gas above fluid."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from napari_multiphase.labels import IDS_BY_NAME
from napari_multiphase.phantom.kinetics import BOWEL_GAS_HU
from napari_multiphase.phantom.render import Hu, Layer, Site, Structure
from napari_multiphase.phantom.shapes import Array, Solid, Tube, smooth_max, tube
from napari_multiphase.phantom.subject import Subject, both, jitter
from napari_multiphase.volume import Phase

OESOPHAGUS, STOMACH, DUODENUM, SMALL_BOWEL, COLON = (
    IDS_BY_NAME[name] for name in ("oesophagus", "stomach", "duodenum", "small bowel", "colon")
)


def oesophagus(subject: Subject) -> list[Structure]:
    """Beside the aorta down to the cardia, with a little gas."""
    path = [(6, 10, 240), (7, 14, 150), (13, 8, 110), (22, 0, 88), (38, -4, 76)]
    gas = both(-350.0)
    layers = [Layer(0, subject.hu("oesophagus"), OESOPHAGUS), Layer(5.6, gas, None)]
    return [Structure("oesophagus", tube(path, [8, 8, 8, 7.5, 8], 7.0), layers, rough_mm=0.4)]


def stomach(subject: Subject) -> list[Structure]:
    """Fundus under the left dome, body, antrum across the midline to the pylorus; a bubble in front when supine."""
    rng = subject.rng("stomach")
    torso = subject.torso
    full = float(rng.uniform(0.70, 1.08))
    path = np.array(
        [(56, 22, 76), (66, 0, 62), (64, -28, 34), (48, -56, 4), (22, -66, -16), (0, -60, -20), (-20, -50, -16)], float
    )
    path += jitter(rng, 2.5, path.shape)
    radii = np.array([27, 35, 34, 28, 22, 16, 9]) * np.array([full, full, full, full, 0.5 + 0.5 * full, 1, 1])
    curve = tube(path, radii, 12.0)

    def distance(x: Array, y: Array, z: Array) -> Array:
        d = smooth_max(curve.distance(x, y, z), torso.cavity(x, y, z)[2] + 4, 6)
        return smooth_max(d, torso.below_diaphragm(x, y, z) + 4, 6)

    level = float(rng.uniform(-62, -38))
    content = gas_over(subject, "chyme", level, mottle=float(rng.uniform(3, 22)))
    layers = [Layer(0, subject.hu("stomach_wall"), STOMACH), Layer(float(rng.uniform(3.0, 5.0)), content, None)]
    return [Structure("stomach", Solid(curve.box, distance), layers, rough_mm=1.0)]


def duodenum(subject: Subject) -> list[Structure]:
    """The C around the pancreatic head, crossing behind the mesenteric vessels."""
    rng = subject.rng("stomach")
    path = np.array(
        [
            (-22, -50, -15),
            (-36, -42, -10),
            (-50, -30, -20),
            (-54, -18, -38),
            (-53, -10, -60),
            (-42, -5, -78),
            (-18, -3, -84),
            (8, -4, -82),
            (26, -10, -70),
            (30, -24, -52),
        ],
        float,
    )
    path[1:] += jitter(rng, 1.5, (9, 3))
    radii = np.array([9, 12, 12, 12, 12, 11.5, 10, 9.5, 10.5, 10.5])
    content = gas_over(subject, "fluid", float(rng.uniform(-60, -42)), mottle=12)
    layers = [Layer(0, subject.hu("gut_wall"), DUODENUM), Layer(3.0, content, None)]
    return [Structure("duodenum", tube(path, radii, 6.0), layers, rough_mm=0.9)]


def small_bowel(subject: Subject) -> list[Structure]:
    """Four layers of loops below the mesocolon; jejunum at upper left, ileum at lower right."""
    rng = subject.rng("bowel")
    out = []
    for layer_y, top in ((-72.0, -98.0), (-50.0, -72.0), (-28.0, -66.0), (-6.0, -104.0)):
        z, direction = top + rng.uniform(-6, 6), rng.choice([-1, 1])
        points = []
        while z > -260:
            width = rng.uniform(52, 84)
            for x in np.linspace(-width, width, 6) * direction:
                points.append((x + rng.normal(0, 5), layer_y + rng.normal(0, 6), z + rng.normal(0, 6)))
            direction, z = -direction, z - rng.uniform(26, 32)
        radii = np.clip(rng.normal(11.5, 1.8, len(points)), 7.5, 14.5)
        content = gas_over(subject, "fluid", layer_y - float(rng.uniform(4, 16)), mottle=14)
        layers = [Layer(0, subject.hu("gut_wall"), SMALL_BOWEL), Layer(2.6, content, None)]
        out.append(Structure("small bowel", tube(points, radii, 8.0), layers, rough_mm=1.2))
    return out


def colon(subject: Subject) -> list[Structure]:
    """Ascending, transverse, descending and sigmoid colon with haustra, faeces and gas."""
    rng = subject.rng("colon")
    path = np.array(
        [
            (-88, -22, -150),
            (-103, -4, -118),
            (-106, 4, -92),
            (-102, 0, -70),
            (-86, -28, -60),
            (-62, -58, -64),
            (-30, -72, -76),
            (8, -76, -78),
            (44, -70, -62),
            (76, -52, -30),
            (96, -22, 2),
            (106, 6, 10),
            (110, 28, -14),
            (108, 34, -50),
            (106, 30, -95),
            (96, 16, -135),
            (78, 4, -165),
            (40, 4, -195),
            (10, 30, -220),
        ],
        float,
    )
    path += jitter(rng, 3.0, path.shape) * (0.8, 1, 1)
    size = float(rng.uniform(0.85, 1.1))
    radii = np.array([22, 22, 20, 19, 18, 17, 17, 17, 16, 15, 14.5, 14, 13, 12, 12, 12, 12, 12, 13]) * size
    pouches = haustrate(tube(path, radii, 5.0), float(rng.uniform(24, 32)), 0.13)
    content = faeces(subject, float(rng.uniform(0.1, 0.9)))
    layers = [Layer(0, subject.hu("gut_wall"), COLON), Layer(2.4, content, None)]
    return [Structure("colon", pouches, layers, rough_mm=1.4)]


def haustrate(plain: Tube, period_mm: float, depth: float) -> Tube:
    """The tube with radii that swell and narrow along it."""
    steps = np.linalg.norm(np.diff(plain.points_mm, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    return Tube(plain.points_mm, plain.radii_mm * (1 + depth * np.sin(2 * np.pi * along / period_mm)))


def gas_over(subject: Subject, tissue: str, level_y: float, mottle: float) -> Mapping[Phase, Hu]:
    """Content with gas in front of a fluid level (the patient lies on the back)."""

    oral = oral_contrast_hu(subject)

    def content(site: Site, _phase: object, fluid: Array) -> Array:
        fluid = fluid + np.float32(oral) * np.clip(np.float32(0.75) + np.float32(0.35) * site.coarse, 0, 1)
        gas = np.clip((np.float32(level_y) - site.y) * np.float32(0.4), 0, 1)
        return fluid + np.float32(mottle) * site.fine + (np.float32(BOWEL_GAS_HU) - fluid) * gas

    return subject.mix((tissue,), content)


def oral_contrast_hu(subject: Subject) -> float:
    """Three in ten subjects have drunk positive contrast medium."""
    rng = subject.rng("oral")
    drunk, strength = rng.uniform() < 0.3, float(rng.uniform(60, 260))
    return strength if drunk else 0.0


def mesentery(subject: Subject) -> list[Structure]:
    """Small vessels and strands in the visceral fat, without a label."""
    rng = subject.rng("mesentery")
    layer = [Layer(0, {p: 0.6 * subject.kinetics.hu("portal", p) for p in Phase}, None)]
    out = []
    for _ in range(46):
        start = np.array([rng.uniform(-85, 100), rng.uniform(-84, 0), rng.uniform(-130, 50)])
        tip = start + rng.normal(0, 1, 3) * (22, 12, 22)
        bend = 0.5 * (start + tip) + rng.normal(0, 5, 3)
        radius = float(rng.uniform(0.8, 1.7))
        out.append(
            Structure("mesenteric vessel", tube([start, bend, tip], [radius, radius, 0.6 * radius], 9), layer, within=0)
        )
    return out


def faeces(subject: Subject, gassiness: float) -> Mapping[Phase, Hu]:
    """Mottled content; gas collects where the random field is high and towards the front."""

    def content(site: Site, _phase: object, solid: Array) -> Array:
        gas = np.clip((site.coarse - site.y * np.float32(0.012) - np.float32(2.0 - 1.8 * gassiness)) * 3, 0, 1)
        bubbles = np.clip((site.fine - np.float32(1.3)) * 2, 0, 1) * np.float32(0.35)
        return solid + 18 * site.fine + (np.float32(BOWEL_GAS_HU) - solid) * np.maximum(gas, bubbles)

    return subject.mix(("faeces",), content)
