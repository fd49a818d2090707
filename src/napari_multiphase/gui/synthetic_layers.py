"""A synthetic image and its difference from the real scan, as layers: named, marked in their metadata, in HU."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.gui.layers import add_image, fresh_name, layers_of, placement
from napari_multiphase.gui.session import Session
from napari_multiphase.gui.window_presets import current_window
from napari_multiphase.study import Study, Translation

if TYPE_CHECKING:
    import napari
    from napari.layers import Image
    from napari.utils.colormaps import Colormap

DIFFERENCE_HU = 100.0
"""Contrast limits of the difference: -100 to 100 HU."""
_BLUE, _RED, _MOST_OPAQUE = (0.25, 0.55, 1.0), (1.0, 0.3, 0.15), 0.9


def difference_rgba() -> NDArray[np.float32]:
    """(257, 4): blue where the synthetic image is brighter, red where the real one is, clear where they agree."""
    t = np.linspace(-1, 1, 257, dtype=np.float32)
    rgba = np.where(t[:, None] < 0, (*_BLUE, 1.0), (*_RED, 1.0)).astype(np.float32)
    rgba[:, 3] = _MOST_OPAQUE * np.abs(t)
    return rgba


@cache
def difference_colormap() -> Colormap:
    """`difference_rgba` for an image layer of HU."""
    from napari.utils.colormaps import Colormap

    return Colormap(difference_rgba(), name="real minus synthetic", display_name="real minus synthetic")


def words_of(translation: Translation) -> str:
    """How the image was made: what layers and files say of it."""
    return f"{translation.to} from {translation.source} by {translation.model_name}"


def add_synthetic(session: Session, study: Study, translation: Translation, number: int) -> Image:
    """The image as a grey layer over the scans; older synthetic images of that phase are hidden."""
    viewer = session.viewer
    for old in layers_of(viewer, study=study.id, phase=str(translation.to)):
        if old.metadata["multiphase"]["kind"] in ("synthetic", "difference"):
            old.visible = False
    volume = study.volumes[translation.source].with_data(translation.image)
    name = fresh_name(viewer, f"{session.title} synthetic {translation.to}")
    layer = add_image(viewer, volume, name, current_window(session), **_ours("synthetic", study, translation, number))
    _place(viewer, layer)
    return layer


def show_difference(session: Session, study: Study, translation: Translation, number: int, hu: NDArray[Any]) -> Image:
    """Real minus synthetic, (D, H, W) HU on the source's grid: a hidden layer, or new values for the one there is."""
    viewer = session.viewer
    for layer in layers_of(viewer, kind="difference", translation=number):
        layer.data = hu
        return layer
    volume = study.volumes[translation.source]
    mine = _ours("difference", study, translation, number)
    mine |= {"units": "HU", "shows": f"real minus synthetic {translation.to}", "grid": volume.grid.to_dict()}
    chosen = viewer.layers.selection.active
    layer = viewer.add_image(
        hu,
        name=fresh_name(viewer, f"{session.title} difference"),
        contrast_limits=(-DIFFERENCE_HU, DIFFERENCE_HU),
        colormap=difference_colormap(),
        blending="translucent_no_depth",
        interpolation2d="nearest",
        rgb=False,
        multiscale=False,
        visible=False,
        metadata={"multiphase": {"source": volume.source.to_dict(), **mine}},
        **placement(volume.grid),
    )
    _place(viewer, layer)
    viewer.layers.selection.active = chosen
    return layer


def _place(viewer: napari.Viewer, layer: Image) -> None:
    """Under the results, over the scans and the synthetic images before it."""
    images = [other for kind in ("ct", "aligned", "synthetic", "difference") for other in layers_of(viewer, kind=kind)]
    above = 1 + max((viewer.layers.index(other) for other in images if other is not layer), default=-1)
    viewer.layers.move(viewer.layers.index(layer), above)


def _ours(kind: str, study: Study, translation: Translation, number: int) -> dict[str, Any]:
    """Metadata: `synthetic` says how the image was made, `phase` what it shows."""
    return {
        "kind": kind,
        "phase": str(translation.to),
        "study": study.id,
        "translation": number,
        "synthetic": words_of(translation),
        "model": translation.model_name,
    }
