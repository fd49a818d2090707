"""Liver, spleen, kidneys, pancreas, adrenals, gallbladder."""

from __future__ import annotations

import numpy as np

from napari_multiphase.labels import IDS_BY_NAME
from napari_multiphase.phantom.render import Layer, Site, Structure
from napari_multiphase.phantom.shapes import (
    Array,
    Box,
    Solid,
    ellipsoid,
    local,
    moved,
    rotation,
    smooth_max,
    smooth_min,
    tube,
)
from napari_multiphase.phantom.subject import Subject, jitter
from napari_multiphase.volume import Phase

LIVER, SPLEEN, PANCREAS = (IDS_BY_NAME[name] for name in ("liver", "spleen", "pancreas"))
GALLBLADDER, LEFT_KIDNEY, RIGHT_KIDNEY = (IDS_BY_NAME[name] for name in ("gallbladder", "left kidney", "right kidney"))
RIGHT_ADRENAL, LEFT_ADRENAL = IDS_BY_NAME["right adrenal"], IDS_BY_NAME["left adrenal"]

PANCREAS_PATH = np.array(
    [
        (-30, -14, -50),
        (-35, -20, -34),
        (-26, -26, -18),
        (-8, -33, -6),
        (12, -33, 2),
        (34, -18, 10),
        (56, 4, 18),
        (76, 20, 28),
    ],
    float,
)
PANCREAS_RADII = np.array([8.0, 14.5, 12.5, 8.0, 9.0, 9.5, 10.0, 7.5])


def liver_shape(subject: Subject) -> Solid:
    """Right-dominant wedge under the diaphragm; the visceral surface rises to the left."""
    torso, rng = subject.torso, subject.rng("liver")
    big = float(np.clip(rng.normal(1.03, 0.06), 0.92, 1.15))
    right = ellipsoid(np.array([-78, 2, 32]) + jitter(rng, 3.0), np.array([72, 86, 94]) * big)
    reach = float(rng.uniform(0.8, 1.15))
    left = ellipsoid(
        np.array([4, -52, 58]) + jitter(rng, 3.0), np.array([74 * reach, 38, 36]) * big, rotation(y_deg=-8, z_deg=-8)
    )
    hollow = ellipsoid(np.array([-10, -8, -14]) + jitter(rng, 2.5), (44, 33, 47), rotation(z_deg=-20))
    low = -64.0 + float(jitter(rng, 7.0, 1)[0])
    rise = 0.52 + float(jitter(rng, 0.05, 1)[0])

    def distance(x: Array, y: Array, z: Array) -> Array:
        d = smooth_min(right.distance(x, y, z), left.distance(x, y, z), 16)
        floor = (np.float32(low) + np.float32(rise) * (x + 105) + np.float32(0.10) * (y + 20) - z) * np.float32(0.87)
        d = smooth_max(d, floor, 14)
        # The bare area: cava, right adrenal and crus lie behind the medial border; the porta opens downwards.
        # Towards the dome the caudate lobe reaches around the cava.
        caudate = 11 * np.clip((z - 38) * np.float32(1 / 35.0), 0, 1)
        behind = np.float32(0.75) * (x + 40) + np.float32(0.66) * (y - 27) - caudate
        d = smooth_max(d, behind, 10)
        d = smooth_max(d, -hollow.distance(x, y, z), 10)
        d = smooth_max(d, torso.cavity(x, y, z)[2] + 3, 4)
        return smooth_max(d, torso.below_diaphragm(x, y, z) + 3, 4)

    return Solid(Box((-150, -95, -80), (95, 90, 110)), distance)


def liver(subject: Subject, shape: Solid) -> list[Structure]:
    """Parenchyma, hepatic veins, portal branches, the fissure of the ligamentum teres."""
    rng = subject.rng("liver")

    def parenchyma(site: Site, _phase: object, liver: Array) -> Array:
        return liver + 2.0 * site.coarse + 1.5 * site.fine

    out = [Structure("liver", shape, [Layer(0, subject.mix(("liver",), parenchyma), LIVER)], rough_mm=0.8)]
    vein, portal = [Layer(0, subject.hu("hepatic_vein"), None)], [Layer(0, subject.hu("portal"), None)]
    cava = np.array([-23, 8, 84])
    for end in ((-112, 28, 52), (-70, -45, 60), (4, -55, 66)):
        tip = np.array(end) + jitter(rng, 6.0)
        bend = moved(0.5 * (cava + tip) + jitter(rng, 4.0), 0, 0, 6)
        out.append(Structure("hepatic vein", tube([cava, bend, tip], [5.0, 4.0, 1.5], 8), vein, within=LIVER))
        fork = bend + 0.5 * (tip - bend) * (1, 0.2, 1) + jitter(rng, 14.0)
        out.append(Structure("hepatic vein", tube([bend, fork], [2.6, 1.2], 8), vein, within=LIVER))
    hilum = np.array([-42, -16, 36])
    for end in ((-100, -20, 10), (-112, 25, 12), (-95, -35, 55), (-105, 30, 45), (-10, -48, 48), (22, -55, 60)):
        tip = np.array(end) + jitter(rng, 6.0)
        start = hilum if end[0] < -50 else np.array([-18, -36, 48])
        bend = 0.5 * (start + tip) + jitter(rng, 5.0)
        out.append(Structure("portal branch", tube([start, bend, tip], [4.5, 3.2, 1.4], 8), portal, within=LIVER))
    fissure = [(-14, -88, 22), (-14, -66, 30), (-18, -46, 40)]
    porta = [(-24, -22, 26), (-42, -18, 36), (-54, -14, 41)]
    out.append(Structure("porta hepatis", tube(porta, [11, 9, 6], 6), [Layer(0, subject.hu("fat"), 0)], rough_mm=1.5))
    out.append(Structure("fissure", tube(fissure, [3.5, 3.0, 1.5], 6, stretch_z=3.0), [Layer(0, subject.hu("fat"), 0)]))
    return out


def spleen(subject: Subject) -> list[Structure]:
    """A crescent against the left diaphragm; arterial stripes (moire) that are gone in the venous phase."""
    torso, rng = subject.torso, subject.rng("spleen")
    big = float(np.clip(rng.normal(1.02, 0.11), 0.84, 1.3))
    centre = np.array([94, 36, 42]) + jitter(rng, 3.0)
    whole = ellipsoid(centre, np.array([46, 54, 54]) * big, rotation(y_deg=-15, z_deg=-12))
    bed = ellipsoid(moved(jitter(rng, 3.0), 47, -8, 44), (42, 48, 72))

    def distance(x: Array, y: Array, z: Array) -> Array:
        d = smooth_max(whole.distance(x, y, z), -bed.distance(x, y, z), 10)
        d = smooth_max(d, torso.cavity(x, y, z)[2] + 3, 4)
        return smooth_max(d, torso.below_diaphragm(x, y, z) + 3, 4)

    turn = rotation(z_deg=float(rng.uniform(0, 180)), x_deg=25)
    strength = float(rng.uniform(14, 30))

    def striped(site: Site, phase: Phase, pulp: Array) -> Array:
        if phase is not Phase.ARTERIAL:
            return pulp + 2 * site.fine
        along, _, _ = local(site.x, site.y, site.z, centre, turn)
        wave = along * np.float32(1 / 17.0) + np.float32(0.55) * site.coarse + np.float32(0.12) * site.fine
        wave = wave - np.floor(wave)
        return pulp + np.float32(strength) * (2 * np.abs(2 * wave - 1) - 1)

    reach = np.array([58, 66, 66]) * big
    shape = Solid(Box(tuple(centre - reach), tuple(centre + reach)), distance)
    return [Structure("spleen", shape, [Layer(0, subject.mix(("spleen",), striped), SPLEEN)], rough_mm=1.0)]


def kidneys(subject: Subject) -> list[Structure]:
    """Cortex with columns, medullary pyramids, fatty sinus with the pelvis, perirenal fascia is left out."""
    rng = subject.rng("kidneys")
    out: list[Structure] = []
    size = float(np.clip(rng.normal(1.0, 0.05), 0.88, 1.12))
    for side, label, base in ((-1, RIGHT_KIDNEY, (-64, 44, -34)), (1, LEFT_KIDNEY, (66, 42, -16))):
        centre = np.array(base) + jitter(rng, 3.5) * (1, 0.6, 1.6)
        radii = np.array([26.5, 28.5, 54]) * size * (1 + jitter(rng, 0.03))
        # Upper pole medial and posterior; hilum anteromedial.
        turn = rotation(
            x_deg=9 + jitter(rng, 2, 1)[0],
            y_deg=-side * (13 + jitter(rng, 2, 1)[0]),
            z_deg=side * (28 + jitter(rng, 4, 1)[0]),
        )
        out += _kidney(subject, rng, centre, radii, turn, side, label)
    return out


def _kidney(
    subject: Subject,
    rng: np.random.Generator,
    centre: np.ndarray,
    radii: np.ndarray,
    turn: np.ndarray,
    side: int,
    label: int,
) -> list[Structure]:
    inward = turn @ np.array([-side, 0.0, 0.0])
    hilum = centre + inward * radii[0]
    sinus_centre = centre + inward * radii[0] * 0.52
    notch = ellipsoid(hilum + inward * 5, np.array([9, 9, 15]), turn)
    outer = ellipsoid(centre, radii, turn)
    sinus = ellipsoid(sinus_centre, radii * np.array([0.48, 0.36, 0.52]), turn)
    thickness = float(rng.uniform(5.0, 7.0))

    def distance(x: Array, y: Array, z: Array) -> Array:
        return smooth_max(outer.distance(x, y, z), -notch.distance(x, y, z), 8)

    def flesh(site: Site, _phase: object, cortex: Array, medulla: Array) -> Array:
        _, py, pz = local(site.x, site.y, site.z, centre, turn)
        # Columns of cortex between the pyramids: about seven around, repeating along the long axis.
        lobe = np.abs(pz * np.float32(1 / 17.0) - np.floor(pz * np.float32(1 / 17.0)) - np.float32(0.5)) * 2
        around = np.abs(py * np.float32(1 / 21.0) - np.floor(py * np.float32(1 / 21.0)) - np.float32(0.5)) * 2
        inner = np.clip((-site.d - np.float32(thickness)) * np.float32(0.5) + np.float32(0.5), 0, 1)
        pyramid = inner * np.clip((np.maximum(lobe, around) - np.float32(0.28)) * 5, 0, 1)
        return cortex + (medulla - cortex) * pyramid + 2 * site.fine

    body = Structure(
        "kidney",
        Solid(outer.box, distance),
        [Layer(0, subject.mix(("renal_cortex", "renal_medulla"), flesh), label)],
        rough_mm=0.7,
    )

    def sinus_fat(site: Site, _phase: object, fat: Array, urine: Array) -> Array:
        # Fat with soft calyces and vessels in it.
        return fat + (urine - fat) * np.clip(np.float32(0.35) + np.float32(0.5) * site.fine, 0, 1)

    fat = Structure("renal sinus", sinus, [Layer(0, subject.mix(("fat", "renal_pelvis"), sinus_fat), 0)], rough_mm=1.2)
    pelvis_path = [
        moved(sinus_centre, 0, 0, 3),
        hilum,
        moved(hilum + inward * 10, 0, 4, -14),
        moved(hilum + inward * 10, 0, 2, -60),
    ]
    pelvis = Structure(
        "renal pelvis", tube(pelvis_path, [6.5, 5.5, 3.0, 2.0], 5), [Layer(0, subject.hu("renal_pelvis"), 0)]
    )
    return [body, fat, pelvis]


def pancreas_path(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Centre line (head to tail, mm) and radii of this subject's pancreas."""
    rng = subject.rng("pancreas")
    path = PANCREAS_PATH + jitter(rng, 1.5, PANCREAS_PATH.shape)
    path[3:, 2] += np.linspace(0, 1, 5) * float(jitter(rng, 6.0, 1)[0])
    return path, PANCREAS_RADII * float(np.clip(rng.normal(1.0, 0.08), 0.84, 1.16))


def pancreas(subject: Subject) -> list[Structure]:
    """A lobulated gland, fat in its clefts."""
    path, radii = pancreas_path(subject)

    def gland(site: Site, _phase: object, pancreas: Array) -> Array:
        return pancreas + 5 * site.fine - 5 * np.maximum(-site.coarse, 0)

    layer = [Layer(0, subject.mix(("pancreas",), gland), PANCREAS)]
    return [Structure("pancreas", tube(path, radii, 7.0, stretch_z=1.15), layer, rough_mm=1.3)]


def gallbladder(subject: Subject) -> list[Structure]:
    """A pear under the liver."""
    rng = subject.rng("liver")
    size = float(rng.uniform(0.75, 1.2))
    top = np.array([-42, -28, 4]) + jitter(rng, 3.0)
    bottom = np.array([-62, -62, -30]) + jitter(rng, 4.0)
    path = [top, 0.6 * top + 0.4 * bottom, 0.15 * top + 0.85 * bottom, bottom]
    layers = [Layer(0, subject.hu("gallbladder_wall"), GALLBLADDER), Layer(1.6, subject.hu("gallbladder"), None)]
    return [Structure("gallbladder", tube(path, np.array([4, 9, 13.5, 12]) * size, 5.0), layers, rough_mm=0.5)]


def adrenals(subject: Subject) -> list[Structure]:
    """Right: a line behind the cava that splits in two; left: an inverted Y beside the aorta. Limbs 4-6 mm."""
    rng = subject.rng("adrenals")
    out = []
    for label, apex, ends, z0, half in (
        (RIGHT_ADRENAL, (-30, 24), ((-34, 46), (-45, 42)), 34.0, 15.0),
        (LEFT_ADRENAL, (37, 12), ((34, 34), (50, 28)), 26.0, 14.0),
    ):
        shift, thick = jitter(rng, 2.0), 2.5 + float(jitter(rng, 0.2, 1)[0])
        z_mid = z0 + float(shift[2]) * 1.5
        start = np.array(apex) + shift[:2]
        stem = start + 0.35 * (0.5 * (np.array(ends[0]) + np.array(ends[1])) - np.array(apex))
        tips = [np.array(end) + shift[:2] for end in ends]
        shape = _sheets([(start, stem), (stem, tips[0]), (stem, tips[1])], z_mid, half, thick)
        out.append(Structure("adrenal", shape, [Layer(0, subject.hu("adrenal"), label)], rough_mm=0.3))
    return out


def _sheets(pairs: list[tuple[np.ndarray, np.ndarray]], z0: float, half: float, thick: float) -> Solid:
    """Thin upright sheets over line segments in the axial plane, shorter towards their lower end."""
    points = np.array([p for pair in pairs for p in pair])
    lo, hi = points.min(axis=0) - thick - 6, points.max(axis=0) + thick + 6

    def distance(x: Array, y: Array, z: Array) -> Array:
        pz = z - np.float32(z0)
        px, py = x + np.float32(0.15) * pz, y + np.float32(0.12) * pz
        d = None
        for a, b in pairs:
            axis = (b - a).astype(np.float32)
            qx, qy = px - np.float32(a[0]), py - np.float32(a[1])
            t = np.clip((qx * axis[0] + qy * axis[1]) * np.float32(1 / max(float(axis @ axis), 1e-6)), 0, 1)
            qx, qy = qx - t * axis[0], qy - t * axis[1]
            rise = np.maximum(np.abs(pz) - np.float32(half - thick) + 5 * t, 0)
            one = np.sqrt(qx * qx + qy * qy + rise * rise) - np.float32(thick)
            d = one if d is None else np.minimum(d, one)
        return np.asarray(d, np.float32)

    return Solid(Box((lo[0], lo[1], z0 - half - 1), (hi[0], hi[1], z0 + half + 1)), distance)
