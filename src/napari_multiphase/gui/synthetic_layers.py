"""A synthetic image and its difference from the real scan, as layers: named, marked in their metadata, in HU."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_multiphase.gui.layers import fresh_name, image_arguments, insert_hidden, layers_of, ours
from napari_multiphase.gui.session import Session
from napari_multiphase.gui.window_presets import current_window
from napari_multiphase.study import Study, Translation

if TYPE_CHECKING:
    from napari.layers import Layer
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


def synthetic_steps(
    session: Session, study: Study, translation: Translation, number: int
) -> list[Callable[[], object]]:
    """What adds the image as a grey layer over the scans, step by step; older images of that phase are hidden."""
    viewer = session.viewer
    volume = study.volumes[translation.source].with_data(translation.image)
    mine = _ours("synthetic", study, translation, number)

    def hide(old: Layer) -> None:
        old.visible = False

    def add() -> None:
        name = fresh_name(viewer, f"{session.title} synthetic {translation.to}")
        arguments = image_arguments(volume, name, current_window(session), **mine)
        insert_hidden(viewer, volume.data, arguments)

    def reveal() -> None:
        for layer in layers_of(viewer, kind="synthetic", translation=number):
            layer.visible = True

    older = layers_of(viewer, study=study.id, phase=str(translation.to))
    shown = [old for old in older if old.visible and ours(old)["kind"] in ("synthetic", "difference")]
    return [*(partial(hide, old) for old in shown), add, reveal]


def difference_steps(
    session: Session, study: Study, translation: Translation, number: int, hu: NDArray[Any]
) -> list[Callable[[], object]]:
    """What adds real minus synthetic, (D, H, W) HU on the source's grid, as a hidden layer; or new values for the one
    there is."""
    viewer = session.viewer
    volume = study.volumes[translation.source].with_data(hu)
    shows = {"units": "HU", "shows": f"real minus synthetic {translation.to}"}
    mine = {**_ours("difference", study, translation, number), **shows}

    def add() -> None:
        for layer in layers_of(viewer, kind="difference", translation=number):
            layer.data = hu
            return
        name = fresh_name(viewer, f"{session.title} difference")
        arguments = image_arguments(volume, name, (-DIFFERENCE_HU, DIFFERENCE_HU), **mine)
        looks = {"colormap": difference_colormap(), "interpolation2d": "nearest"}
        insert_hidden(viewer, hu, {**arguments, **looks})

    return [add]


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
