"""Freed memory stays with a process that trains."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from napari_multiphase.training.processes import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def fill(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(16, 1024, 1024)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(min(fill(1) for _ in range(12)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is what is set")
def test_large_tensors_cost_no_page_faults_after_the_first() -> None:
    def faults(how: str) -> int:
        return int(subprocess.check_output([sys.executable, "-c", FAULTS, how], text=True))

    pages = 64 * 2**20 // 4096
    assert faults("keep") < pages / 100, "kept, if not from the second time on"
    assert faults("leave") > pages / 2, "else there would be nothing to mend"
