"""A whole study: both phases, their labels, and the motion between them."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.phantom.anatomy import structures
from napari_multiphase.phantom.kinetics import AIR_HU
from napari_multiphase.phantom.lattice import Lattice, Locator
from napari_multiphase.phantom.motion import Breathing, Shape, Waves
from napari_multiphase.phantom.render import Chunk, Structure, edge_mm, render
from napari_multiphase.phantom.spec import PhantomSpec, PhantomStudy
from napari_multiphase.phantom.subject import Subject
from napari_multiphase.phantom.texture import Noise
from napari_multiphase.volume import Phase, Volume

CHUNK_VOXELS = 1_200_000
NOISE_HU = (8.0, 20.0)
FIELD_LIMIT = 2.6
"""The random fields (standard deviation 1) are clipped here, so that a rough surface stays inside its padded box."""


def make_phantom(spec: PhantomSpec, chunk_slices: int | None = None) -> PhantomStudy:
    """The study that `spec` describes; the same for every `chunk_slices`, which only bounds the working memory."""
    subject = Subject(int(spec.seed))
    grid = spec.grid
    lattice = Lattice(grid)
    points = lattice.points_mm
    shape = Shape.draw(subject.rng("shape"))
    breathing = Breathing.draw(subject.rng("motion"), float(spec.motion_mm))
    rng = subject.rng("fields")
    fields = Waves.draw(rng, 14, (28, 55), 1.0, 1), Waves.draw(rng, 24, (11, 22), 1.0, 1)
    parts = structures(subject, spec.pathology)
    n = chunk_slices or max(1, CHUNK_VOXELS // (grid.shape[1] * grid.shape[2]))

    venous_points = breathing.inverse(points) if spec.motion_mm else points
    volumes, labels = {}, {}
    for phase, at in ((Phase.ARTERIAL, venous_points), (Phase.VENOUS, points)):
        scan = _Scan(lattice, points, shape(at), fields)
        noise = Noise(grid, subject.seeds(f"noise_{phase}"))
        hu, ids = _scan(scan, parts, phase, noise, _noise_hu(subject, spec), n)
        volumes[phase] = Volume.from_array(hu, grid.spacing_mm, grid.origin_mm)
        labels[phase] = ids
    motion = _motion(lattice, breathing(points), n) if spec.motion_mm else np.zeros((*grid.shape, 3), np.float32)
    return PhantomStudy(MappingProxyType(volumes), MappingProxyType(labels), motion, spec)


class _Scan:
    """Reference coordinates and random fields of a scan, on the lattice."""

    def __init__(
        self, lattice: Lattice, points: NDArray[np.float64], reference: NDArray[np.float64], fields: tuple[Waves, Waves]
    ) -> None:
        self.lattice = lattice
        self.locator = Locator(lattice, reference)
        values = np.concatenate([reference - points, *(field(reference) for field in fields)], axis=-1)
        self._coefficients = lattice.coefficients(values)

    def chunk(self, z0: int, z1: int) -> Chunk:
        """The slices z0 up to z1."""
        grid = self.lattice.grid
        values = self.lattice.slices(self._coefficients, z0, z1)
        z, y, x = (
            (o + s * np.arange(n)).astype(np.float32)
            for o, s, n in zip(grid.origin_mm, grid.spacing_mm, grid.shape, strict=True)
        )
        values[0] += x
        values[1] += y[:, None]
        values[2] += z[z0:z1, None, None]
        np.clip(values[3:], -FIELD_LIMIT, FIELD_LIMIT, out=values[3:])
        x_mm, y_mm, z_mm, coarse, fine = values
        return Chunk(x_mm, y_mm, z_mm, coarse, fine, self.locator.chunk(z0, z1))


def _scan(
    scan: _Scan, parts: list[Structure], phase: Phase, noise: Noise, noise_hu: float, n: int
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    grid = scan.lattice.grid
    hu, labels = np.empty(grid.shape, np.int16), np.empty(grid.shape, np.uint8)
    edge = edge_mm(grid)
    for z0 in range(0, grid.shape[0], n):
        z1 = min(z0 + n, grid.shape[0])
        image, labels[z0:z1] = render(scan.chunk(z0, z1), parts, phase, edge, AIR_HU)
        if noise_hu:
            image += np.float32(noise_hu) * noise.slices(z0, z1)
        hu[z0:z1] = np.rint(np.clip(image, -1024, 3071, out=image), out=image)
    return hu, labels


def _noise_hu(subject: Subject, spec: PhantomSpec) -> float:
    drawn = float(subject.rng("noise_hu").uniform(*NOISE_HU))
    return drawn if spec.noise_hu is None else float(spec.noise_hu)


def _motion(lattice: Lattice, values: NDArray[np.float64], n: int) -> NDArray[np.float32]:
    depth = lattice.grid.shape[0]
    out = np.empty((*lattice.grid.shape, 3), np.float32)
    coefficients = lattice.coefficients(values)
    for z0 in range(0, depth, n):
        z1 = min(z0 + n, depth)
        out[z0:z1] = np.moveaxis(lattice.slices(coefficients, z0, z1), 0, -1)
    return out
