"""Liver lesions of five types, and a pancreatic mass with a dilated duct upstream of it."""

from __future__ import annotations

import numpy as np

from napari_multiphase.labels import IDS_BY_NAME
from napari_multiphase.phantom.organs import LIVER, PANCREAS, pancreas_path
from napari_multiphase.phantom.render import Layer, Site, Structure
from napari_multiphase.phantom.shapes import Array, Solid, ellipsoid, rotation, tube
from napari_multiphase.phantom.subject import Subject, jitter
from napari_multiphase.volume import Phase

TUMOUR, MASS, DUCT = (IDS_BY_NAME[name] for name in ("liver tumour", "pancreatic mass", "pancreatic duct"))
LIVER_LESIONS = ("cyst", "fnh", "haemangioma", "hcc", "metastasis")


def liver_lesions(subject: Subject, liver: Solid) -> list[Structure]:
    """Two to five lesions of different types, wholly inside the liver and apart from each other."""
    rng = subject.rng("pathology")
    kinds = rng.permutation(LIVER_LESIONS)[: rng.integers(2, 6)]
    placed: list[tuple[np.ndarray, float]] = []
    out: list[Structure] = []
    for kind in kinds:
        radius = float(rng.uniform(7, 22))
        centre = _place(rng, liver, radius, placed)
        if centre is not None:
            placed.append((centre, radius))
            out += lesion(subject, rng, str(kind), centre, radius)
    return out


def _place(
    rng: np.random.Generator, liver: Solid, radius: float, placed: list[tuple[np.ndarray, float]]
) -> np.ndarray | None:
    for _ in range(400):
        point = rng.uniform(liver.box.lo, liver.box.hi)
        x, y, z = (np.array([v], np.float32) for v in point)
        if float(liver.distance(x, y, z)[0]) > -(radius + 5) or z[0] < -25:
            continue
        if np.hypot(point[0] + 26, point[1] - 8) < radius + 18:  # the cava
            continue
        if all(np.linalg.norm(point - other) > radius + far + 6 for other, far in placed):
            return point
    return None


def lesion(subject: Subject, rng: np.random.Generator, kind: str, centre: np.ndarray, radius: float) -> list[Structure]:
    """One lesion of a kind of `LIVER_LESIONS` at `centre` (x, y, z mm), painted inside the liver only."""
    axes = radius * (1 + jitter(rng, 0.1))
    shape = ellipsoid(centre, axes, rotation(*rng.uniform(0, 180, 3)))
    rim = max(2.5, 0.14 * radius)

    def mottled(site: Site, _phase: object, tissue: Array) -> Array:
        return tissue + 7 * site.fine

    def nodular(site: Site, phase: Phase, core: Array, blood: Array) -> Array:
        # Nodules at the rim early; later the pool reaches inwards.
        reach = np.float32(0.30 if phase is Phase.ARTERIAL else 0.75) * np.float32(radius)
        pool = np.clip((reach + site.d + np.float32(0.15 * radius) * site.fine) * np.float32(0.4), 0, 1)
        gaps = (
            np.clip(np.float32(0.75) + np.float32(0.7) * site.fine, 0, 1) if phase is Phase.ARTERIAL else np.float32(1)
        )
        return core + (blood - core) * pool * gaps

    layers = {
        "cyst": [Layer(0, subject.hu("cyst"), TUMOUR)],
        "fnh": [Layer(0, subject.hu("fnh"), TUMOUR), Layer(0.72 * radius, subject.hu("fnh_scar"), None)],
        "haemangioma": [Layer(0, subject.mix(("haemangioma", "haemangioma_rim"), nodular), TUMOUR)],
        "hcc": [Layer(0, subject.hu("hcc_capsule"), TUMOUR), Layer(rim, subject.mix(("hcc",), mottled), None)],
        "metastasis": [
            Layer(0, subject.hu("metastasis_rim"), TUMOUR),
            Layer(rim, subject.mix(("metastasis",), mottled), None),
        ],
    }[kind]
    return [Structure(kind, shape, layers, within=LIVER, rough_mm=0.0 if kind == "cyst" else 0.6)]


def pancreatic_mass(subject: Subject) -> list[Structure]:
    """An adenocarcinoma in head or body, clear only in the arterial phase; the duct beyond it is wide."""
    rng = subject.rng("pathology")
    path, radii = pancreas_path(subject)
    at = int(rng.choice([1, 2, 4]))
    radius = float(rng.uniform(0.85, 1.15)) * (float(radii[at]) + 2.0)
    shape = ellipsoid(
        path[at] + jitter(rng, 1.0), np.full(3, radius) * (1 + jitter(rng, 0.07)), rotation(*rng.uniform(0, 90, 3))
    )

    def scirrhous(site: Site, _phase: object, mass: Array) -> Array:
        return mass + 3 * site.fine

    wide = float(rng.uniform(2.2, 3.4))
    duct = tube(path[at:], np.linspace(wide * 1.1, wide * 0.75, len(path) - at), 5.0)
    return [
        Structure("dilated duct", duct, [Layer(0, subject.hu("duct"), DUCT)], within=PANCREAS),
        Structure(
            "pancreatic mass", shape, [Layer(0, subject.mix(("pancreatic_mass",), scirrhous), MASS)], rough_mm=0.6
        ),
    ]
