"""What there is to compute on: devices, precision, memory, and how fast it was last time."""

from __future__ import annotations

import psutil
import torch

from napari_multiphase.config import Device
from napari_multiphase.errors import UserError

_MB = 1024 * 1024
_SPEEDS_VOX_S = {"cuda": 3e7, "mps": 4e6, "cpu-bfloat16": 1.2e6, "cpu-float32": 5e5}
"""Tile voxels per second and, on the processor, per core, of the bundled U-Net: a first guess, refined by each run."""
_FLOP_PER_VOX = 66e3
"""Of that U-Net; other networks are guessed to take time in proportion."""
_measured_vox_s: dict[str, float] = {}


def choose_device(wanted: Device) -> torch.device:
    """The device asked for; "auto" takes CUDA, then MPS, then the processor.

    Raises
    ------
    UserError : where the device asked for is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, usable in there.items() if usable))
    if not there[wanted]:
        usable = ", ".join(name for name, ok in there.items() if ok)
        raise UserError(f"torch finds no {wanted} device here; choose auto or one of: {usable}")
    return torch.device(wanted)


def choose_precision(device: torch.device) -> torch.dtype:
    """Half precision where it is fast and safe: float16 on CUDA, bfloat16 on processors that compute in it."""
    if device.type == "cuda":
        return torch.float16
    if device.type == "cpu" and any(
        getattr(torch.cpu, name, lambda: False)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    ):
        return torch.bfloat16
    return torch.float32


def device_words(device: torch.device) -> str:
    """The device for a person: "NVIDIA T4" or "processor, 2 threads"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "Apple GPU" if device.type == "mps" else f"processor, {torch.get_num_threads()} threads"


def free_mb(device: torch.device) -> float | None:
    """Memory left on a CUDA device; None elsewhere (it shares the main memory)."""
    return torch.cuda.mem_get_info(device)[0] / _MB if device.type == "cuda" else None


def free_ram_mb() -> float:
    """Main memory that can be taken without swapping."""
    return psutil.virtual_memory().available / _MB


def _key(device: torch.device, precision: torch.dtype) -> str:
    return f"cpu-{str(precision).removeprefix('torch.')}" if device.type == "cpu" else device.type


def speed_vox_s(device: torch.device, precision: torch.dtype, model: str, flop_per_vox: float) -> float:
    """Tile voxels per second to expect of `model`: of its last run in this process, or from a table."""
    key = _key(device, precision)
    if f"{model} {key}" in _measured_vox_s:
        return _measured_vox_s[f"{model} {key}"]
    cores = min(8, torch.get_num_threads()) if device.type == "cpu" else 1
    return _SPEEDS_VOX_S.get(key, 5e5) * cores * _FLOP_PER_VOX / max(flop_per_vox, 1.0)


def remember_speed(device: torch.device, precision: torch.dtype, model: str, vox_s: float) -> None:
    """Keep what a run measured for the next plan."""
    _measured_vox_s[f"{model} {_key(device, precision)}"] = vox_s


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, in any of the ways torch and NumPy say it."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    words = ("out of memory", "not enough memory", "can't allocate memory", "could not allocate", "bad allocation")
    return isinstance(error, RuntimeError) and any(word in text for word in words)
