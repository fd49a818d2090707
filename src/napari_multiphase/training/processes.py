"""The processes of one run: which one this is, where it computes, and how they agree. Accelerate does the work."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import nn

from napari_multiphase.config import RunConfig
from napari_multiphase.errors import UserError
from napari_multiphase.inference.device import choose_device, choose_precision


class Processes:
    """One process, or what ``accelerate launch`` and ``torchrun`` started."""

    def __init__(self, run: RunConfig) -> None:
        if run.threads:
            torch.set_num_threads(run.threads)
        if run.loaders and sys.platform != "linux":
            raise UserError(f"loaders is {run.loaders}, which needs Linux (workers that are forked); set it to 0")
        device = choose_device(run.device)
        if device.type == "cpu":
            os.environ.setdefault("ACCELERATE_USE_CPU", "1")
        self._accelerator = Accelerator(cpu=device.type == "cpu")
        self.device: torch.device = self._accelerator.device
        self.count: int = self._accelerator.num_processes
        self.rank: int = self._accelerator.process_index
        self.precision = _precision(run, self.device)
        if run.batch % (self.count * run.accumulate):
            raise UserError(
                f"batch {run.batch} cannot be divided among {self.count} processes x {run.accumulate} micro-batches; "
                f"choose a multiple of {self.count * run.accumulate}"
            )

    @property
    def main(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def items(self, run: RunConfig, micro: int) -> range:
        """The items of a step's whole batch that are this process's `micro`-th micro-batch."""
        size = run.batch // (self.count * run.accumulate)
        first = (micro * self.count + self.rank) * size
        return range(first, first + size)

    def mean_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average the gradients over the processes, as one message."""
        if self.count == 1:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = self._accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
        for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            p.grad = part.view_as(p).clone()

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """`values` summed over the processes."""
        return self._accelerator.reduce(values, "sum") if self.count > 1 else values

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set in one of the processes."""
        if self.count == 1:
            return flag
        return bool(self.total(torch.tensor([float(flag)], device=self.device)).item())

    def wait(self) -> None:
        """Until every process is here."""
        self._accelerator.wait_for_everyone()


def _precision(run: RunConfig, device: torch.device) -> torch.dtype:
    if run.precision != "auto":
        return getattr(torch, run.precision)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return choose_precision(device)


_GLIBC_TRIM, _GLIBC_MMAP_MOST = -1, -4
"""M_TRIM_THRESHOLD and M_MMAP_MAX of glibc's ``mallopt``."""


def keep_freed_memory() -> None:
    """From now on this process keeps memory that is freed, where its C library is glibc.

    Each step frees large tensors and asks for as many again. Given back to the kernel in between, every page is cleared
    anew: a quarter of a step on a CPU, for a tenth more memory (benchmarks/kept_memory.py).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_GLIBC_MMAP_MOST, 0)
        mallopt(_GLIBC_TRIM, 2**31 - 1)
