"""A training step on the CPU with and without `keep_freed_memory`: processor time and peak memory.

    python benchmarks/kept_memory.py

Both ways in turn, a process each, the network and patch of experiments/abdomen-next-five.yaml, bfloat16 where the
processor has it, one thread. Writes benchmarks/results/kept_memory.json.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "kept_memory.json"
RUN = Path(__file__).parents[1] / "experiments" / "abdomen-next-five.yaml"
ROUNDS, STEPS = 4, 6


def steps(keep: bool) -> None:
    """Print the median processor seconds of a step, and the peak memory in MB."""
    import torch

    from napari_multiphase.config import method_config
    from napari_multiphase.config.files import read_run
    from napari_multiphase.inference.device import choose_precision
    from napari_multiphase.losses.segmentation import DiceCrossEntropyLoss
    from napari_multiphase.nets.unet3d import UNet3D
    from napari_multiphase.training.processes import keep_freed_memory

    if keep:
        keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    run = read_run(RUN)
    net, loss = UNet3D(method_config(run.method, run.method_config).segmentor, len(run.labels)), DiceCrossEntropyLoss()
    x, y = torch.randn(1, 1, *run.patch_vox), torch.randint(0, len(run.labels), (1, *run.patch_vox))
    precision, took = choose_precision(torch.device("cpu")), []
    for _ in range(STEPS):
        began = time.process_time()
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            terms = loss(net(x), y)
        torch.stack(list(terms.values())).sum().backward()
        took.append(time.process_time() - began)
    print(json.dumps([statistics.median(took), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def main() -> None:
    """Both ways in turn; print and save."""
    told: dict[str, list[list[float]]] = {"kept": [], "given back": []}
    for _ in range(ROUNDS):
        for name, rows in told.items():
            rows.append(json.loads(subprocess.check_output([sys.executable, __file__, name], text=True)))
    ratios = [kept[0] / back[0] for kept, back in zip(told["kept"], told["given back"], strict=True)]
    result = {
        "command": "python benchmarks/kept_memory.py",
        "cpu_seconds_a_step": {name: [round(row[0], 3) for row in rows] for name, rows in told.items()},
        "peak_mb": {name: [round(row[1]) for row in rows] for name, rows in told.items()},
        "ratio_of_cpu": {
            "median": round(statistics.median(ratios), 3),
            "range": [round(min(ratios), 3), round(max(ratios), 3)],
        },
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        steps(sys.argv[1] == "kept")
    else:
        main()
