"""Body wall, muscles, spine, ribs, pelvis, lungs and heart."""

from __future__ import annotations

import numpy as np

from napari_multiphase.labels import IDS_BY_NAME
from napari_multiphase.phantom.render import Hu, Layer, Site, Structure
from napari_multiphase.phantom.shapes import Array, Box, Solid, ellipsoid, moved, polyline, rotation, superellipse, tube
from napari_multiphase.phantom.subject import EVERYWHERE, Subject, Torso, both, jitter
from napari_multiphase.volume import Phase

BONE, LUNGS, HEART = (IDS_BY_NAME[name] for name in ("spine and bones", "lungs", "heart"))
LEVELS = {"L5": -141.0, "L4": -106.0, "L3": -71.0, "L2": -36.0, "L1": -1.0}
LUMBAR_MM, THORACIC_MM = 35.0, 27.0


def spine_y(z: float) -> float:
    """Centre of the vertebral bodies: lordosis around L3, kyphosis above."""
    t2 = ((z + 71.0) / 150.0) ** 2
    return 49.0 + 13.0 * t2 / (1 + 0.5 * t2)


def vertebrae_z() -> list[tuple[float, float]]:
    """(centre z, body height) from the sacrum's top to the neck."""
    lumbar = [(z, 27.0) for z in LEVELS.values()]
    first = LEVELS["L1"] + 0.5 * (LUMBAR_MM + THORACIC_MM)
    return lumbar + [(first + k * THORACIC_MM, 22.0) for k in range(13)]


def body(subject: Subject) -> list[Structure]:
    """Skin, subcutaneous fat, the muscle wall with its fat planes, visceral fat."""
    torso = subject.torso

    def subcutaneous(site: Site, _phase: object, fat: Array) -> Array:
        return fat + 5 * site.coarse + 4 * site.fine

    def wall(site: Site, _phase: object, muscle: Array, fat: Array) -> Array:
        # Three flat muscles with fat between them at the sides; one rectus in front, none of it behind.
        depth = -site.d
        lateral = np.clip((np.abs(site.x) - 70) * np.float32(0.05), 0, 1) * np.clip(
            (70 - site.y) * np.float32(0.05), 0, 1
        )
        between = np.maximum(
            np.clip(1 - np.abs(depth - 4.2) * np.float32(0.9), 0, 1),
            np.clip(1 - np.abs(depth - 8.2) * np.float32(0.9), 0, 1),
        )
        alba = np.clip(1 - np.abs(site.x) * np.float32(0.25), 0, 1) * np.float32(0.5) * (site.y < 0)
        share = np.maximum(lateral * between * np.float32(0.6), alba)
        return muscle + 3 * site.fine + (fat - muscle) * share

    def visceral(site: Site, _phase: object, fat: Array, muscle: Array) -> Array:
        # Beyond the abdomen (shoulders, pelvic floor) the phantom has no organs; flesh stands for them.
        share = np.clip((np.abs(site.z) - 205) * np.float32(1 / 40.0), 0, 1)
        return fat + 7 + 6 * site.coarse + 5 * site.fine + (muscle - fat) * share

    cavity = Solid(EVERYWHERE, lambda x, y, z: torso.cavity(x, y, z)[2])
    return [
        *_table(subject),
        Structure(
            "skin",
            Solid(EVERYWHERE, torso.skin),
            [Layer(0, subject.hu("skin"), None), Layer(1.8, subject.mix(("fat",), subcutaneous), None)],
        ),
        Structure(
            "muscle wall", Solid(EVERYWHERE, torso.muscle), [Layer(0, subject.mix(("muscle", "fat"), wall), None)]
        ),
        Structure("visceral fat", cavity, [Layer(0, subject.mix(("fat", "muscle"), visceral), None)]),
    ]


def _table(subject: Subject) -> list[Structure]:
    """The scanner's couch: a thin curved shell filled with foam."""
    rng = subject.rng("table")
    bottom = Torso.BACK_MUSCLE_MM + subject.torso.fat_back + float(rng.uniform(5, 12))
    radius, shell = float(rng.uniform(450, 900)), float(rng.uniform(-150, 350))

    def distance(x: Array, y: Array, z: Array) -> Array:
        py = y - np.float32(bottom - radius)
        ring = np.abs(np.sqrt(x * x + py * py) - np.float32(radius + 9)) - 9
        return np.maximum(ring, np.abs(x) - 205) + 0 * z

    box = Box((-206, bottom - 60, -1e4), (206, bottom + 20, 1e4))
    return [Structure("table", Solid(box, distance), [Layer(0, both(shell), None), Layer(3.6, both(-930.0), None)])]


def muscles(subject: Subject) -> list[Structure]:
    """Psoas, quadratus lumborum, paraspinal muscles with fat between them, crura of the diaphragm."""
    rng = subject.rng("torso")
    size = float(np.clip(rng.normal(1.0, 0.08), 0.85, 1.15))

    def fleshy(site: Site, _phase: object, muscle: Array) -> Array:
        return muscle + 5 * site.fine - 4 * np.maximum(site.coarse, 0)

    layer = [Layer(0, subject.mix(("muscle",), fleshy), None)]
    out = []
    for side in (-1, 1):

        def paraspinal(x: Array, y: Array, z: Array, side: int = side) -> Array:
            return superellipse(x - side * 33, y - 88, 30 * size, 22 * size)[2]

        out.append(
            Structure(
                "paraspinal", Solid(Box((side * 35 - 40, 60, -1e4), (side * 35 + 40, 120, 1e4)), paraspinal), layer
            )
        )
        psoas = [
            (side * 24, 40, 12),
            (side * 33, 44, -25),
            (side * 42, 42, -75),
            (side * 52, 34, -130),
            (side * 66, 12, -190),
            (side * 72, -18, -240),
        ]
        out.append(Structure("psoas", tube(psoas, np.array([4, 9, 16, 20, 19, 15]) * size), layer, rough_mm=0.6))
        quadratus = [(side * 46, 64, 15), (side * 58, 66, -30), (side * 70, 66, -85), (side * 78, 64, -125)]
        out.append(Structure("quadratus", tube(quadratus, np.array([6, 9, 11, 11]) * size), layer, rough_mm=0.5))
        crus = [
            (side * 7 - 2, 24, -50 - 10 * (side < 0)),
            (side * 14, 24, -10),
            (side * 19, 22, 25),
            (side * 20, 14, 55),
            (side * 22, 8, 76),
        ]
        out.append(Structure("crus", tube(crus, [2.5, 4.5, 5.0, 3.5, 2.5]), layer))
    return out


def spine(subject: Subject) -> list[Structure]:
    """Vertebrae with discs between them, canal and cord, arches and processes."""
    rng = subject.rng("spine")
    width, depth = 22.0 + float(jitter(rng, 1.0, 1)[0]), 16.5 + float(jitter(rng, 0.7, 1)[0])

    def cancellous(site: Site, _phase: object, marrow: Array) -> Array:
        return marrow + 16 * site.fine + 8 * site.coarse

    bone = [Layer(0, subject.hu("cortical_bone"), BONE), Layer(2.2, subject.mix(("marrow",), cancellous), None)]
    solid = [Layer(0, subject.hu("cortical_bone"), BONE), Layer(3.0, subject.mix(("marrow",), cancellous), None)]
    out: list[Structure] = []
    levels = vertebrae_z()
    for z0, height in levels:
        s = 1.0 if height > 25 else 0.88
        y0 = spine_y(z0)
        out.append(
            Structure(
                "disc",
                _puck(z0, y0, width * s - 0.5, depth * s - 0.5, height + 9),
                [Layer(0, subject.hu("disc"), None)],
            )
        )
    for z0, height in levels:
        s = 1.0 if height > 25 else 0.88
        y0 = spine_y(z0)
        out.append(Structure("vertebral body", _puck(z0, y0, width * s, depth * s, height), bone))
        up = z0 + 0.2 * height
        spinous = [(0, y0 + depth + 24, up - 6), (0, y0 + depth + 34, up - 14), (0, y0 + depth + 44, up - 20)]
        out.append(Structure("spinous process", polyline(spinous, [4.5, 3.0, 4.0], stretch_z=2.0), solid))
        for side in (-1, 1):
            arch = [
                (side * 14, y0 + 0.75 * depth, up),
                (side * 15, y0 + depth + 11, up),
                (side * 11, y0 + depth + 19, up - 5),
                (0, y0 + depth + 24, up - 6),
            ]
            out.append(Structure("arch", polyline(arch, [4.5, 4.5, 3.6, 3.6], stretch_z=1.6), solid))
            long = 42 if height > 25 else 34
            out.append(
                Structure(
                    "transverse process",
                    polyline(
                        [(side * 15, y0 + depth + 8, up), (side * long, y0 + depth + 13, up + 2)], [4.2, 3.0], 1.3
                    ),
                    solid,
                )
            )
            facet = [(side * 16, y0 + depth + 14, up + 8), (side * 16, y0 + depth + 16, up - 24)]
            out.append(Structure("facet", polyline(facet, [5.0, 4.5]), solid))
    path = [(0, spine_y(z) + depth + 9, z) for z in np.arange(-200, 341, 20.0)]
    out.append(Structure("canal", tube(path, 8.5, 12), [Layer(0, subject.hu("csf"), 0)]))
    cord = [p for p in path if p[2] > -15]
    out.append(Structure("cord", tube(cord, 4.5, 12), [Layer(0, subject.hu("cord"), 0)]))
    nerves: dict[Phase, Hu] = {p: 0.5 * (subject.kinetics.hu("csf", p) + subject.kinetics.hu("cord", p)) for p in Phase}
    out.append(
        Structure(
            "cauda",
            tube([p for p in path if p[2] < 0], 5.0, 12),
            [Layer(0, nerves, 0)],
        )
    )
    return out


def _puck(z0: float, y0: float, width: float, depth: float, height: float) -> Solid:
    """An elliptic cylinder with a waist, rounded at its rims."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        pz = z - np.float32(z0)
        waist = 1 - np.float32(0.06) + np.float32(0.24 / height**2) * pz * pz
        _, _, radial = superellipse(x, y - np.float32(y0), width * waist, depth * waist)
        flat = np.abs(pz) - np.float32(height / 2)
        a, b = np.maximum(radial + 2, 0), np.maximum(flat + 2, 0)
        return np.sqrt(a * a + b * b) + np.minimum(np.maximum(radial + 2, flat + 2), 0) - 2

    return Solid(
        Box((-width - 1, y0 - depth - 1, z0 - height / 2), (width + 1, y0 + depth + 1, z0 + height / 2)), distance
    )


def ribs(subject: Subject) -> list[Structure]:
    """Twelve pairs that run down and forwards around the chest, and their cartilages; the pelvis."""
    torso = subject.torso
    bone = [Layer(0, subject.hu("cortical_bone"), BONE), Layer(2.3, subject.hu("marrow"), None)]
    cartilage = [Layer(0, subject.hu("cartilage"), None)]
    end_deg = [82, 108, 128, 134, 140, 143, 146, 148, 150, 150, 150, 150]
    out = []
    for number, (z0, _height) in enumerate(vertebrae_z()[5:17]):
        y0 = spine_y(z0)
        for side in (-1, 1):
            points = [(side * 20, y0 + 12, z0 + 8), (side * 38, y0 + 27, z0 + 5)]
            for theta in np.arange(34, end_deg[number] + 1, 12):
                z = z0 + 2 - 0.62 * (theta - 34) * (1.0 if number else 0.6)
                a, b = _cage(subject, z)
                s, c = np.sin(np.deg2rad(theta)), np.cos(np.deg2rad(theta))
                points.append((side * a * abs(s) ** 0.8, torso.centre_y + b * np.sign(c) * abs(c) ** 0.8, z))
            out.append(Structure("rib", tube(points, 4.0, 7.0, stretch_z=1.5), bone))
            if number >= 2:
                a, b = _cage(subject, points[-1][2])
                last = np.array(points[-1])
                rise = 24.0 if number < 5 else 10.0
                tip = np.array([side * 12.0, torso.centre_y - b + 2, last[2] + rise + 10])
                middle = 0.5 * (last + tip) + np.array([side * 14, -8, -6])
                out.append(Structure("cartilage", tube([last, middle, tip], 4.0, 8.0, stretch_z=1.4), cartilage))
    sternum = ellipsoid((0, torso.centre_y - torso.depth - 3, 165), (15, 5, 75))
    out.append(Structure("sternum", sternum, bone))
    return out + _pelvis(bone)


def _cage(subject: Subject, z: float) -> tuple[float, float]:
    girth = float(subject.torso.girth(np.array(z, np.float32)))
    return (subject.torso.side * girth + 5.0), (subject.torso.depth * girth + 5.0)


def _pelvis(bone: list[Layer]) -> list[Structure]:
    out = []
    for side in (-1, 1):
        turn = rotation(y_deg=side * -12, z_deg=side * 48)
        out.append(Structure("iliac wing", ellipsoid((side * 84, 38, -178), (8, 52, 58), turn), bone))
        out.append(Structure("acetabulum", ellipsoid((side * 88, 8, -270), (28, 30, 34)), bone))
    out.append(Structure("sacrum", ellipsoid((0, 72, -205), (50, 19, 48), rotation(x_deg=-25)), bone))
    return out


def chest(subject: Subject) -> list[Structure]:
    """Lungs with their vessels, heart with its chambers, epicardial fat."""
    torso, rng = subject.torso, subject.rng("chest")
    top, shift = 265.0, jitter(rng, 4.0)
    centre = np.array([22.0, -38.0, 124.0]) + shift
    turn = rotation(x_deg=-20, z_deg=-38)
    heart = ellipsoid(centre, (60, 42, 43), turn)
    mediastinum = 30.0 + float(jitter(rng, 2.0, 1)[0])

    def lungs(x: Array, y: Array, z: Array) -> Array:
        level, _, wall = torso.cavity(x, y, z)
        middle = superellipse(x - 4, y - 5, mediastinum, 92)[2]
        d = np.maximum(wall + 2, -torso.below_diaphragm(x, y, z))
        d = np.maximum(np.maximum(d, -middle), 4 - heart.distance(x, y, z))
        return np.asarray(np.maximum(d, (z - np.float32(top) + 90 * level) * np.float32(0.6)), np.float32)

    def spongy(site: Site, _phase: object, lung: Array) -> Array:
        return lung + np.float32(0.35) * site.y + 12 * site.coarse + 10 * site.fine

    box = Box(
        (-torso.side * 1.1, torso.centre_y - torso.depth * 1.1, -70),
        (torso.side * 1.1, torso.centre_y + torso.depth * 1.1, top),
    )
    out = [
        Structure("lungs", Solid(box, lungs), [Layer(0, subject.mix(("lung",), spongy), LUNGS)]),
    ]
    vessel: dict[Phase, Hu] = {phase: 0.5 * (subject.kinetics.hu("right_heart", phase) - 60) for phase in Phase}
    for side in (-1, 1):
        for _ in range(9):
            start = np.array([side * 38.0, 8.0, rng.uniform(105, 150)])
            end = np.array([side * rng.uniform(70, 108), rng.uniform(-50, 60), rng.uniform(40, 120)])
            bend = 0.5 * (start + end) + jitter(rng, 8.0)
            out.append(
                Structure(
                    "lung vessel", tube([start, bend, end], [4.0, 2.6, 1.2], 10), [Layer(0, vessel, None)], within=LUNGS
                )
            )
    myocardium = subject.hu("myocardium")
    left = ellipsoid(moved(centre, 22, -4, -6), (30, 19, 22), turn)
    right = ellipsoid(moved(centre, -16, -20, -4), (32, 14, 24), turn)
    atrium = ellipsoid(moved(centre, -30, 12, 4), (22, 20, 26))
    left_atrium = ellipsoid(moved(centre, 2, 26, 16), (26, 15, 18))
    out.append(Structure("heart", heart, [Layer(0, subject.hu("fat"), None), Layer(3.5, myocardium, HEART)]))
    for name, shape, tissue in (
        ("left ventricle", left, "left_heart"),
        ("right ventricle", right, "right_heart"),
        ("right atrium", atrium, "right_heart"),
        ("left atrium", left_atrium, "left_heart"),
    ):
        out.append(Structure(name, shape, [Layer(0, subject.hu(tissue), None)], within=HEART))
    return out
