"""napari's doors to this package: readers that fill the Study dock, writers that keep the scan's own grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_multiphase.errors import UserError
from napari_multiphase.gui.layers import OURS, image_arguments, labels_colormap, placement
from napari_multiphase.volume import Grid, Source, Volume

SAMPLE_URI = "multiphase://sample/two-phase-abdomen"
LayerData = tuple[Any, dict[str, Any], str]


def sample_paths() -> list[Path]:
    """The two scans of the sample that comes with the package."""
    folder = Path(__file__).resolve().parents[1] / "sample_data"
    paths = [folder / "arterial.nii.gz", folder / "venous.nii.gz"]
    if not all(path.is_file() for path in paths):
        raise UserError("the sample pair is not part of this installation; make one with `multiphase sample FOLDER`")
    return paths


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """A reader for scans; with a window open they go into the Study dock, otherwise they are read here and now."""
    paths = [path] if isinstance(path, str) else list(path)
    if not paths:
        return None
    return _read


def _read(path: str | Sequence[str]) -> list[LayerData]:
    given = [path] if isinstance(path, str) else list(path)
    paths = sample_paths() if SAMPLE_URI in given else [Path(p) for p in given]
    viewer = _viewer_with_window()
    if viewer is None:
        return [layer for p in paths for layer in _read_now(p)]
    from napari_multiphase.gui.session import get_session
    from napari_multiphase.gui.workbench import open_workbench

    session = get_session(viewer)
    session.open_paths(paths)
    if "Study" not in " ".join(viewer.window.dock_widgets):
        session.bridge.later(0, lambda: open_workbench(viewer))
    return [(None,)]  # type: ignore[list-item]  # napari's word for: read, and nothing to add now


def _viewer_with_window() -> Any:
    import napari
    from qtpy.QtWidgets import QApplication

    viewer = napari.current_viewer()
    return viewer if viewer is not None and QApplication.instance() is not None else None


def _read_now(path: Path) -> list[LayerData]:
    """One file as layer data; folders and zips of DICOM need the window or the command line."""
    from napari_multiphase.imaging.windows import WINDOWS_HU
    from napari_multiphase.io.images import is_synthetic, read_image

    if path.is_dir() or path.suffix.lower() in (".zip", ".dcm"):
        from napari_multiphase.io.dicom import index, read_series

        return [_image_data(read_series(series), path.name) for series in index(path) if not series.problems]
    volume = read_image(path)
    if np.issubdtype(volume.data.dtype, np.unsignedinteger) and int(volume.data.max(initial=0)) < 256:
        meta = {"name": path.name, "colormap": labels_colormap(), **placement(volume.grid)}
        meta["metadata"] = {OURS: {"source": volume.source.to_dict(), "grid": volume.grid.to_dict()}}
        return [(volume.data, meta, "labels")]
    name = path.name.split(".")[0]
    if is_synthetic(volume.source) and "synthetic" not in name.lower():
        name = f"{name} (synthetic)"
    return [_image_data(volume, name, WINDOWS_HU["soft tissue"])]


def _image_data(volume: Volume, name: str, window_hu: tuple[float, float] = (-160.0, 240.0)) -> LayerData:
    return volume.data, image_arguments(volume, name, window_hu, kind="ct"), "image"


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a Labels layer as NIfTI: on the scan's own grid where the layer knows it, on the layer's otherwise."""
    return _write(path, data, meta, "labels")


def write_image(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write an Image layer as NIfTI: on the scan's own grid where the layer knows it, on the layer's otherwise."""
    mine = meta.get("metadata", {}).get(OURS, {})
    kind = "confidence" if mine.get("kind") == "confidence" else "image"
    return _write(path, data, meta, kind, str(mine.get("synthetic", "")))


def _write(path: str, data: Any, meta: dict[str, Any], kind: Any, synthetic: str = "") -> list[str]:
    """`synthetic` says how a model made the image: the file's header then tells it from a scan."""
    from napari_multiphase.io.images import write_on_source
    from napari_multiphase.io.nifti import SYNTHETIC

    array = np.asarray(data)
    if array.ndim != 3:
        raise UserError(f"{meta.get('name', 'this layer')} has {array.ndim} axes, NIfTI scans need 3: save it as TIFF")
    words = f"{SYNTHETIC}{synthetic}" if synthetic else ""
    write_on_source(Path(path), array, volume_of(array, meta), kind=kind, description=words)
    return [path]


def volume_of(array: Any, meta: dict[str, Any]) -> Volume:
    """Where a layer lies: its scan's grid and source where it carries them, else its scale and translate in mm."""
    mine = meta.get("metadata", {}).get(OURS, {})
    if "source" in mine and "grid" in mine:
        grid = Grid.from_dict(mine["grid"])
        if grid.shape == array.shape:
            return Volume(array, grid, Source.from_dict(mine["source"]))
    z, y, x = (abs(float(s)) for s in meta.get("scale", (1.0, 1.0, 1.0)))
    oz, oy, ox = (float(t) for t in meta.get("translate", (0.0, 0.0, 0.0)))
    return Volume.from_array(array, (z, y, x), (oz, oy, ox))
