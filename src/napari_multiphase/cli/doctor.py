"""``multiphase doctor``: what works here, what is missing, how to get it."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from napari_multiphase.cli.console import say, say_json, verb

Level = Literal["ok", "note", "missing", "broken"]
_MARKS: dict[Level, str] = {"ok": "ok     ", "note": "note   ", "missing": "missing", "broken": "BROKEN "}


@dataclass(frozen=True)
class Check:
    """One line: `level` "broken" means that the core cannot work; "missing" that something optional is not there."""

    level: Level
    name: str
    text: str


@verb
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check this installation line by line. The exit code is 0 unless the core cannot work."""
    checks = list(examine())
    if as_json:
        say_json([vars(check) for check in checks])
    else:
        for check in checks:
            say(f"{_MARKS[check.level]}  {check.name}: {check.text}")
    if any(check.level == "broken" for check in checks):
        raise typer.Exit(1)


def examine() -> Iterator[Check]:
    """Every check, in order; one that fails on something unforeseen says so instead of stopping the others."""
    for check in (_python, _core, _torch, _bf16, _memory, _codecs, _models, _scratch, _data, _window, _libraries):
        try:
            yield from check()
        except Exception as error:
            yield Check("missing", check.__name__.strip("_"), f"could not be checked ({type(error).__name__}: {error})")


def _python() -> Iterator[Check]:
    good = sys.version_info >= (3, 11)
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    yield Check("ok" if good else "broken", "Python", text if good else text + ": 3.11 or later is needed")


def _core() -> Iterator[Check]:
    core = [text for text in importlib.metadata.requires("napari-multiphase") or () if "extra ==" not in text]
    gone = [name for text in core if not _is_installed(name := re.split(r"[^\w.-]", text)[0])]
    if gone:
        yield Check(
            "broken", "libraries", f"{', '.join(gone)} not found: pip install --force-reinstall napari-multiphase"
        )
    else:
        version = importlib.metadata.version("napari-multiphase")
        yield Check("ok", "libraries", f"napari-multiphase {version} with all {len(core)} it needs")


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _torch() -> Iterator[Check]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Check("broken", "torch", f"cannot be loaded ({error}): pip install 'torch>=2.10'")
        return
    if torch.cuda.is_available():
        name, memory = torch.cuda.get_device_name(0), torch.cuda.get_device_properties(0).total_memory / 1e9
        yield Check("ok", "torch", f"{torch.__version__}, runs on {name} ({memory:.0f} GB)")
    elif torch.backends.mps.is_available():
        yield Check("ok", "torch", f"{torch.__version__}, runs on the Apple GPU (mps)")
    else:
        how = "for an NVIDIA GPU install a CUDA build of torch"
        yield Check(
            "ok", "torch", f"{torch.__version__}, runs on the CPU with {torch.get_num_threads()} threads; {how}"
        )


def _bf16() -> Iterator[Check]:
    import torch

    from napari_multiphase.inference.device import choose_precision

    fast = choose_precision(torch.device("cpu")) is torch.bfloat16
    yield Check("ok", "CPU bfloat16", "yes" if fast else "no, float32 is used on the CPU")


def _memory() -> Iterator[Check]:
    import psutil

    memory = psutil.virtual_memory()
    text = f"{memory.total / 2**30:.1f} GB, {memory.available / 2**30:.1f} GB free"
    low = memory.total < 4 << 30
    yield Check("note" if low else "ok", "memory", text + (": large scans may not fit, 8 GB are better" if low else ""))


_CODECS = (
    ("gdcm", "python-gdcm", "JPEG, JPEG-LS, JPEG 2000, RLE"),
    ("openjpeg", "pylibjpeg-openjpeg", "JPEG 2000"),
    ("pylibjpeg", "pylibjpeg", "pixel handlers"),
)


def _codecs() -> Iterator[Check]:
    for module, package, what in _CODECS:
        if importlib.util.find_spec(module) is None:
            yield Check("missing", f"codec {module}", f"no compressed DICOM ({what}): pip install {package}")
        else:
            importlib.import_module(module)
            yield Check("ok", f"codec {module}", what)


def _models() -> Iterator[Check]:
    from napari_multiphase.errors import UserError
    from napari_multiphase.io.models import bundled, read_model

    folders = bundled()
    if not folders:
        yield Check("missing", "models", "none is bundled: name a model folder with --model")
    for folder in folders:
        try:
            model = read_model(folder)
        except UserError as error:
            yield Check("broken", f"model {folder.name}", f"{error}: pip install --force-reinstall napari-multiphase")
        else:
            note = ", trained on phantoms only" if model.card.phantoms_only else ""
            yield Check("ok", f"model {model.card.name}", f"verified{note}")


def _scratch() -> Iterator[Check]:
    import shutil

    from napari_multiphase.jobs.leases import scratch_parent

    parent = scratch_parent()
    how = "set MULTIPHASE_SCRATCH to a folder on a larger disk"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=parent):
            pass
    except OSError as error:
        yield Check("broken", "scratch folder", f"{parent} cannot be written ({error.strerror}): {how}")
        return
    free = shutil.disk_usage(parent).free / 2**30
    level: Level = "ok" if free > 4 else "note"
    yield Check(level, "scratch folder", f"{parent}, {free:.0f} GB free" + ("" if free > 4 else f": {how}"))


def _data() -> Iterator[Check]:
    from napari_multiphase.io.places import data_folder

    folder = data_folder()
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    if os.access(existing, os.W_OK):
        yield Check("ok", "data folder", f"{folder} can be written")
    else:
        yield Check("missing", "data folder", f"{existing} cannot be written: choices are not remembered")


_BINDINGS = {"PyQt6": "PyQt6-Qt6", "PySide6": "PySide6", "PyQt5": "PyQt5-Qt5"}
"""Qt bindings, and the packages whose versions are Qt's own."""
_BAD_QT = {"6.11.0", "6.11.1"}


def _window() -> Iterator[Check]:
    how = "pip install 'napari-multiphase[all]'"
    if importlib.util.find_spec("napari") is None:
        yield Check("missing", "napari", f"no window, the command line works without: {how}")
        return
    yield Check("ok", "napari", importlib.metadata.version("napari"))
    binding = next((name for name in _BINDINGS if importlib.util.find_spec(name)), None)
    if binding is None:
        yield Check("missing", "Qt", f"no binding, so no window: {how}")
        return
    package = _BINDINGS[binding]
    version = importlib.metadata.version(package)
    known_bad = version in _BAD_QT
    text = f"{binding} with Qt {version}" + (f" lays docks out wrongly: pip install -U {package}" if known_bad else "")
    yield Check("note" if known_bad else "ok", "Qt", text)


_LIBRARIES = {
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-xinerama.so.0": "libxcb-xinerama0",
    "libxcb-shape.so.0": "libxcb-shape0",
}
"""Libraries a Qt window with OpenGL needs on Linux, and the Debian packages that bring them."""


def _libraries() -> Iterator[Check]:
    if not sys.platform.startswith("linux"):
        return
    gone = missing_libraries()
    if gone:
        packages = " ".join(_LIBRARIES[name] for name in gone)
        text = f"{', '.join(gone)} not found, so no window: sudo apt-get install -y {packages}"
        yield Check("missing", "window libraries", text)
    else:
        yield Check("ok", "window libraries", "OpenGL and X11 libraries are there")
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        yield Check(
            "note", "display", "none here: use the command line, or a virtual one (sudo apt-get install -y xvfb)"
        )


def missing_libraries(load: Callable[[str], object] = ctypes.CDLL) -> list[str]:
    """Which of the libraries that a window needs cannot be loaded."""
    gone = []
    for name in _LIBRARIES:
        try:
            load(name)
        except OSError:
            gone.append(name)
    return gone
