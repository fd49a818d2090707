"""One slice as Translate would make it, at once: the generator sees a slab around it and stays loaded for the next.

What was translated is kept, so that scrolling within a slab costs no network. A slab that does not reach as far as the
generator sees, or whose layers normalise by their input, gives slightly other HU than the whole scan does.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from math import ceil, prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_multiphase.config import TranslateOptions, TranslatorTraits
from napari_multiphase.events import Cancel
from napari_multiphase.imaging.body import Body, find_body
from napari_multiphase.imaging.resample import axis_weights, resample
from napari_multiphase.inference.context_tiles import padded
from napari_multiphase.inference.cost import translation_cost
from napari_multiphase.inference.device import choose_device
from napari_multiphase.inference.grids import network_grid
from napari_multiphase.inference.inputs import transform_of
from napari_multiphase.inference.room import in_words
from napari_multiphase.inference.scan import Scan
from napari_multiphase.inference.translation_emit import slice_hu
from napari_multiphase.inference.translation_plan import source_of, translation_precision
from napari_multiphase.io.models import translator_traits
from napari_multiphase.methods import method
from napari_multiphase.methods.base import Translator
from napari_multiphase.model import Model
from napari_multiphase.study import Study
from napari_multiphase.volume import Grid, Phase, Volume

SLAB_FLOP = {"cpu": 2.4e10, "cuda": 1e12, "mps": 2e11}
"""What a generator may compute for one preview: well under a second on two idle cores."""
_WHOLE = 2.5
"""A scan of up to so many slabs is translated whole by its first preview: then every slice is there, and exact."""
_LEAST_SLICES = 8
_KEPT_BYTES = 128 << 20


@dataclass(frozen=True)
class Slabs:
    """How a scan's network slices are translated: `own` at a time, seeing `context` more at either end."""

    own: int
    context: int
    exact: bool


def plan_slabs(shape: tuple[int, int, int], traits: TranslatorTraits, flop_per_vox: float, most_flop: float) -> Slabs:
    """Slabs of a scan of `shape` (D, H, W), rounded up to the divisor, that take about `most_flop` each.

    A scan that takes little more is one slab. `exact` is whether slabs give what the whole scan gives, as far as
    generators go that do not normalise.
    """
    step = traits.divisor[0]
    full = ceil(traits.context_vox[0] / step) * step
    affordable = int(most_flop / flop_per_vox / prod(shape[1:])) // step * step
    if _WHOLE * affordable >= shape[0]:
        return Slabs(shape[0], 0, True)
    least = ceil(min(_LEAST_SLICES, shape[0]) / step) * step if step > 1 else 1
    context = min(full, max(0, (affordable - least) // 2 // step * step))
    if traits.form == "slices":  # each sees its neighbours and no more: cheap, and wrong without them
        context = full
    return Slabs(max(least, affordable - 2 * context), context, context >= full)


@dataclass
class _Scene:
    """A generator, the scan it reads, and what it made so far, by number of the slab."""

    key: tuple[Any, ...]
    translator: Translator
    to: Phase
    volume: Volume
    grid: Grid
    body: Body
    slabs: Slabs
    device: torch.device
    window_hu: tuple[float, float]
    made: OrderedDict[int, NDArray[np.float32]] = field(default_factory=OrderedDict)

    @property
    def exact(self) -> bool:
        """Whether a slice is what the whole scan gives."""
        one = self.slabs.own >= padded(self.grid.shape, self.translator.traits.divisor)[0]
        return self.slabs.exact and (one or not self.translator.norms(self.to))

    def plane(self, z: int) -> NDArray[np.float32]:
        """(h, w) in [-1, 1]: network slice `z`, translated."""
        number, row = divmod(z, self.slabs.own)
        if number not in self.made:
            self.made[number] = self._translate(number)
            while len(self.made) > 2 and sum(a.nbytes for a in self.made.values()) > _KEPT_BYTES:
                self.made.popitem(last=False)
        self.made.move_to_end(number)
        return self.made[number][row]

    def _translate(self, number: int) -> NDArray[np.float32]:
        depth, height, width = padded(self.grid.shape, self.translator.traits.divisor)
        start, stop = number * self.slabs.own, min((number + 1) * self.slabs.own, depth)
        low, high = max(0, start - self.slabs.context), min(depth, stop + self.slabs.context)
        grid = self.grid.part(0, low, min(high, self.grid.shape[0]))
        image = resample(self.volume.data, self.volume.grid, grid, 1) if grid != self.volume.grid else self.volume.data
        slab = Scan("preview", (image,), grid, grid, self.body, self.window_hu, ())
        x = torch.from_numpy(slab.cut((0, 0, 0), (high - low, height, width)))[None].to(self.device)
        precision = translation_precision(self.device)
        with torch.inference_mode(), torch.autocast(
            self.device.type, precision, enabled=precision != torch.float32
        ):  # fmt: skip
            y = self.translator.translate(self.to, x)[0, 0].float().cpu().numpy()
        own = slice(start - low, min(stop, self.grid.shape[0]) - low)
        return y[own, : self.grid.shape[1], : self.grid.shape[2]].copy()


_scene: list[_Scene] = []
"""The scene of the last preview, or none: one scan and one direction are looked at at a time."""


def preview_slice(
    study: Study,
    to: Phase,
    model: Model,
    index: int,
    options: TranslateOptions | None = None,
    cancel: Cancel | None = None,
) -> dict[str, Any]:
    """Slice `index` of the scan of ``to.other``, as `model` makes it look in phase `to`, beside the real one.

    Returns
    -------
    "index": the slice; "box": (y0, y1, x0, x1) of the body in it, to which the images are cut; "synthetic", "source":
    (h, w) int16 HU; "real": the same of phase `to`, brought onto this slice through the study's transform, None
    without that scan; "spacing_mm": (y, x); "exact": whether the whole volume gives the same.

    Raises
    ------
    UserError : as `translate`.
    """
    cancel = cancel or Cancel()
    volume = source_of(study, to)
    index = min(max(index, 0), volume.shape[0] - 1)
    with in_words():
        scene = _scene_of(study, to, model, options or TranslateOptions())
        weights = axis_weights(scene.grid, volume.grid, 0)[0][index]
        _, by_y, by_x = (axis_weights(scene.grid, volume.grid, axis)[0] for axis in range(3))
        x = np.zeros(volume.shape[1:], np.float32)
        for z in np.flatnonzero(weights):
            cancel.check()
            plane = scene.plane(int(z))
            x += weights[z] * (plane if scene.grid == volume.grid else by_y @ plane @ by_x.T)
        source = np.asarray(volume.data[index])
        inside = scene.body.on(volume.grid, slice(index, index + 1))[0]
        y0, y1, x0, x1 = box = _box(inside)
        cut = (slice(y0, y1), slice(x0, x1))
        made = slice_hu(x[cut], source[cut], inside[cut], model.card.window_hu)
        real = _real(study, to, volume.grid.part(0, index, index + 1).part(1, y0, y1).part(2, x0, x1))
    return {
        "index": index,
        "box": list(box),
        "synthetic": made,
        "source": _int16(source[cut]),
        "real": real,
        "spacing_mm": list(volume.spacing_mm[1:]),
        "exact": scene.exact,
    }


def _scene_of(study: Study, to: Phase, model: Model, options: TranslateOptions) -> _Scene:
    device = choose_device(options.device)
    key = (study.id, to, model.card.weights_sha256, device.type)
    if _scene and _scene[0].key == key:
        return _scene[0]
    volume, traits = source_of(study, to), translator_traits(model.card)
    grid = network_grid(volume.grid, model.card.spacing_mm)
    flop = translation_cost(model.card, to).whole.flop
    slabs = plan_slabs(padded(grid.shape, traits.divisor), traits, max(flop, 1.0), SLAB_FLOP[device.type])
    same = bool(_scene) and _scene[0].key[2:] == key[2:]
    translator = _scene[0].translator if same else method(model.card.method).load_translator(model, device)
    body = find_body(volume.data, volume.grid)
    _scene[:] = [_Scene(key, translator, to, volume, grid, body, slabs, device, model.card.window_hu)]
    return _scene[0]


def _box(inside: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """(y0, y1, x0, x1) around what is inside; the whole slice where nothing is."""
    if not inside.any():
        return 0, inside.shape[0], 0, inside.shape[1]
    rows, columns = (np.flatnonzero(inside.any(axis=1 - axis)) for axis in range(2))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _real(study: Study, to: Phase, grid: Grid) -> NDArray[np.int16] | None:
    """(h, w) int16 HU of the scan of phase `to` on the one slice of `grid`."""
    if to not in study.volumes:
        return None
    scan = study.volumes[to]
    return _int16(resample(scan.data, scan.grid, grid, 1, transform_of(study).into(to))[0])


def _int16(hu: NDArray[Any]) -> NDArray[np.int16]:
    return np.clip(np.rint(hu), -32768, 32767).astype(np.int16)
