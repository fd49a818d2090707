"""The trainer beside the same network in a plain PyTorch loop: what a step costs, and whether loading hides behind it.

    python benchmarks/trainer.py              # 6 rounds of every variant in turn
    python benchmarks/trainer.py --quick      # small patches, 2 rounds; nothing is written

Every variant trains PCN's shared stage: the same residual 3-D U-Net, loss, AdamW, clipping, precision, patch, batch and
threads, on the same phantoms. Without loading, each step sees one and the same batch; with loading

* ours: `training.loop.Loop` with its one helper thread;
* MONAI: CacheDataset, RandCropByPosNegLabeld, RandAffined and intensity changes, DataLoader with one worker process;
* nnU-Net's style: background threads that crop with a third of forced foreground, turn, scale and change intensity, and
  put batches into a queue (its loop, not its package: that brings CUDA builds of torch and torchvision).

An epoch is one patch per case and phase, and ends with a written checkpoint; the loaders are kept alive between epochs.
Ratios are taken within a round, so that a slow minute hits all alike. Writes benchmarks/results/trainer.{json,md}.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_multiphase.config import AugmentConfig, RunConfig, method_config
from napari_multiphase.events import Cancel, ignore
from napari_multiphase.imaging.windows import normalise
from napari_multiphase.losses.segmentation import DiceCrossEntropyLoss
from napari_multiphase.methods import method
from napari_multiphase.methods.base import Batch
from napari_multiphase.training.augment import change_hu, draw_move, moved
from napari_multiphase.training.cache import prepare_cases
from napari_multiphase.training.cases import PhaseArrays, TrainingCase
from napari_multiphase.training.checkpoint import save_checkpoint
from napari_multiphase.training.loop import Loop
from napari_multiphase.training.processes import Processes
from napari_multiphase.training.report import machine
from napari_multiphase.training.sampling import draw_batch

RESULTS = Path(__file__).parent / "results"
WARM_STEPS = 2
NNUNET_FOREGROUND = 1 / 3
WORDS = {
    "bare": "plain loop, one fixed batch",
    "ours fixed": "this trainer, one fixed batch",
    "ours": "this trainer, drawing patches",
    "monai": "plain loop, MONAI's loader",
    "nnunet": "plain loop, nnU-Net's style of loader",
}
STEP_PAIRS = (("ours fixed", "bare"), ("ours", "bare"), ("ours", "ours fixed"), ("monai", "bare"), ("nnunet", "bare"))
EPOCH_PAIRS = (("ours", "monai"), ("ours", "nnunet"))


def run_config(args: argparse.Namespace) -> RunConfig:
    """What is trained."""
    quick: dict[str, Any] = {
        "patch_vox": [32, 48, 48],
        "data": {"kind": "phantom", "cases": 2, "case_vox": [48, 64, 64]},
    }
    full: dict[str, Any] = {"data": {"kind": "phantom", "cases": args.cases}}
    values = {
        "name": "trainer-benchmark",
        "batch": args.batch,
        "threads": args.threads,
        "device": args.device,
        "validation": {"every": 10**9},
        "checkpoint_every": 10**9,
        "method_config": {"segmentor": {"widths": [16, 32, 56, 80, 88]}, "shared_steps": 1, "phase_steps": 0},
    }
    return RunConfig.model_validate(values | (quick if args.quick else full))


class Bench:
    """The cases, and each way to train on them for some steps.

    Every way returns (median seconds per step once warm, seconds of it all).
    """

    def __init__(self, run: RunConfig, scratch: Path) -> None:
        self.run, self.scratch, self.team = run, scratch, Processes(run)
        self.traits = method_config("pcn", run.method_config).traits
        self.cases: list[TrainingCase] = prepare_cases(
            run, self.traits, processes=2, on_event=ignore, cancel=Cancel(), cache=scratch / "cache"
        )
        self.stage = method("pcn").objective(run).stages()[0]
        self.fixed = draw_batch(run, self.traits, self.stage.draw, self.cases, 0, 0)
        self.monai, self.nnunet = monai_batches(run, self.cases), NnUnetLoader(run, self.cases)

    @property
    def steps_per_epoch(self) -> int:
        """One patch per case and phase."""
        return -(-2 * len(self.cases) // self.run.batch)

    def ours(self, steps: int, fixed: bool = False, checkpoint: bool = False) -> tuple[float, float]:
        """Our loop, from its own start to its end."""
        config = self.run.method_config | {"shared_steps": steps}
        run = self.run.model_copy(update={"method_config": config})
        torch.manual_seed(0)
        objective = method("pcn").objective(run).to(self.team.device).train()
        clock = Clock(self.team.device)
        terms = objective.terms

        def timed(*args: Any) -> dict[str, Tensor]:
            clock.step()
            return terms(*args)

        objective.terms = timed  # type: ignore[method-assign]

        def draw(stage: Any, index: int, step: int, items: range | None) -> Batch:
            return self.fixed if fixed else draw_batch(run, self.traits, stage.draw, self.cases, index, step, items)

        loop = Loop(
            run,
            self.traits,
            objective,
            self.team,
            draw,
            on_metrics=lambda *_: None,
            on_event=ignore,
            cancel=Cancel(),
            save=lambda step, state: save_checkpoint(self.scratch, step, state) and None if checkpoint else None,
            look=lambda *_: None,
        )
        loop.finish()
        return clock.stop()

    def plain(
        self, steps: int, batches: Iterator[tuple[Tensor, Tensor]], checkpoint: bool = False
    ) -> tuple[float, float]:
        """What anyone would write."""
        torch.manual_seed(0)
        device, precision = self.team.device, self.team.precision
        config = self.stage.turns[0].optimiser
        net = method("pcn").objective(self.run).nets["arterial"].to(device).train()  # type: ignore[index]
        loss_of = DiceCrossEntropyLoss()
        optimiser = torch.optim.AdamW(net.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr, total_steps=steps + 1, pct_start=0.1)
        clock = Clock(device)
        for _ in range(steps):
            x, y = next(batches)
            clock.step()
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                terms = loss_of(net(x.to(device)), y.to(device))
            optimiser.zero_grad(set_to_none=True)
            torch.stack(list(terms.values())).sum().backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), config.clip_norm)
            optimiser.step()
            schedule.step()
        if checkpoint:
            state = {"net": net.state_dict(), "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}
            torch.save(state, self.scratch / "plain.pt")
        return clock.stop()

    def variant(self, name: str, steps: int, checkpoint: bool = False) -> tuple[float, float]:
        """One way by name."""
        if name.startswith("ours"):
            return self.ours(steps, name == "ours fixed", checkpoint)
        if name == "bare":
            phase = self.fixed.phase
            return self.plain(steps, iter(lambda: (self.fixed.x[phase], self.fixed.y[phase]), None), checkpoint)
        if name == "monai":
            return self.plain(steps, self.monai, checkpoint)
        with self.nnunet.running() as batches:
            return self.plain(steps, batches, checkpoint)


class Clock:
    """Median time from one step's begin to the next one's, once warm, and the time of everything."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._steps = device, list[float]()
        self._began = time.perf_counter()

    def step(self) -> None:
        """A step's computation begins: its batch is there."""
        self._steps.append(self._now())

    def stop(self) -> tuple[float, float]:
        """(seconds per step, seconds of all)."""
        now = self._now()
        each = np.diff([*self._steps, now])[WARM_STEPS:]
        return float(np.median(each)), now - self._began

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


# --- the peers' loaders ----------------------------------------------------------------------------------------------


def monai_batches(run: RunConfig, cases: Sequence[TrainingCase]) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of MONAI's CacheDataset and DataLoader, for ever."""
    from monai.data import CacheDataset, DataLoader
    from monai.transforms import (
        Compose,
        RandAffined,
        RandCropByPosNegLabeld,
        RandGaussianNoised,
        RandGaussianSmoothd,
        RandScaleIntensityd,
        RandShiftIntensityd,
        ScaleIntensityRanged,
    )

    augment = AugmentConfig()
    scans = [scan for case in cases for scan in case.scans.values()]
    items = [
        {"image": np.asarray(s.hu, np.float32)[None], "label": np.asarray(s.channels, np.float32)[None]} for s in scans
    ]
    low, high = run.window_hu
    both = ["image", "label"]
    steps = [
        RandCropByPosNegLabeld(both, "label", run.patch_vox, pos=3, neg=1, num_samples=1, allow_smaller=True),
        RandAffined(
            both,
            prob=augment.share,
            rotate_range=[np.deg2rad(a) for a in augment.rotate_deg],
            scale_range=[0.15] * 3,
            mode=("bilinear", "nearest"),
            padding_mode="border",
        ),
        RandGaussianSmoothd("image", prob=augment.blur_share),
        RandScaleIntensityd("image", augment.gain, prob=1.0),
        RandShiftIntensityd("image", augment.offset_hu, prob=1.0),
        RandGaussianNoised("image", prob=1.0, std=augment.noise_hu),
        ScaleIntensityRanged("image", low, high, -1, 1, clip=True),
    ]
    dataset = CacheDataset(items, Compose(steps), progress=False)
    loader = DataLoader(
        dataset, batch_size=run.batch, shuffle=True, drop_last=True, num_workers=1, persistent_workers=True
    )
    while True:
        for item in loader:
            yield item["image"].as_tensor(), item["label"].as_tensor()[:, 0].long()


class NnUnetLoader:
    """Background threads that fill a queue, as nnU-Net's data loading does."""

    def __init__(self, run: RunConfig, cases: Sequence[TrainingCase], threads: int = 1, ahead: int = 4) -> None:
        self._run, self._threads, self._ahead = run, threads, ahead
        self._scans = [scan for case in cases for scan in case.scans.values()]
        self._spacing_mm = cases[0].spacing_mm

    @contextmanager
    def running(self) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
        """Batches for ever, while the block lasts."""
        ready: queue.Queue[tuple[Tensor, Tensor]] = queue.Queue(self._ahead)
        over = threading.Event()

        def fill(seed: int) -> None:
            rng = np.random.default_rng(seed)
            while not over.is_set():
                batch = self._batch(rng)
                while not over.is_set():
                    try:
                        ready.put(batch, timeout=0.05)
                        break
                    except queue.Full:
                        continue

        threads = [threading.Thread(target=fill, args=(i,), daemon=True) for i in range(self._threads)]
        for thread in threads:
            thread.start()
        try:
            yield iter(ready.get, None)
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def _batch(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        drawn = [self._item(i, rng) for i in range(self._run.batch)]
        return torch.stack([x for x, _ in drawn])[:, None], torch.stack([y for _, y in drawn])

    def _item(self, number: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        patch, augment = self._run.patch_vox, AugmentConfig()
        scan = self._scans[int(rng.integers(len(self._scans)))]
        forced = number >= round(self._run.batch * (1 - NNUNET_FOREGROUND)) or rng.random() < NNUNET_FOREGROUND
        start = self._start(scan, forced, rng)
        move = draw_move(augment, patch, self._spacing_mm, rng)
        first, end = (start, start + patch) if move is None else move.reach(start, patch)
        hu, channels = (_window(a, first, end) for a in (scan.hu, scan.channels))
        x, y = torch.from_numpy(hu.astype(np.float32)), torch.from_numpy(channels.astype(np.float32))
        if move is not None:
            d, h, w = (int(n) for n in end - first)
            grid = move.grid(start, patch, first, (d, h, w))
            x, y = moved(x, grid, "bilinear"), moved(y, grid, "nearest")
        return torch.from_numpy(normalise(change_hu(x, augment, rng).numpy(), self._run.window_hu)), y.long()

    def _start(self, scan: PhaseArrays, forced: bool, rng: np.random.Generator) -> np.ndarray:
        shape, patch = np.array(scan.hu.shape), np.array(self._run.patch_vox)
        there = [points for points in scan.anchors[1:] if len(points)]
        if forced and there:
            points = there[int(rng.integers(len(there)))]
            centre = points[int(rng.integers(len(points)))]
        else:
            centre = np.array([int(rng.integers(n)) for n in shape])
        return np.clip(centre - patch // 2, 0, np.maximum(shape - patch, 0))


def _window(array: np.ndarray, first: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A cut that may reach over the border, which is repeated."""
    inside = tuple(slice(max(f, 0), min(e, n)) for f, e, n in zip(first, end, array.shape, strict=True))
    pad = [(max(-f, 0), max(e - n, 0)) for f, e, n in zip(first, end, array.shape, strict=True)]
    return np.pad(array[inside], pad, mode="edge")


# --- comparison ------------------------------------------------------------------------------------------------------


def compare(bench: Bench, rounds: int, steps: int) -> dict[str, Any]:
    """Every variant in turn, the order shifted by one each round."""
    names = list(WORDS)
    for name in names:
        bench.variant(name, WARM_STEPS + 1)
    found: dict[str, Any] = {"steps": [], "epochs": []}
    for number in range(rounds):
        order = names[number % len(names) :] + names[: number % len(names)]
        each = {name: bench.variant(name, WARM_STEPS + steps)[0] for name in order}
        with_loader = [name for name in order if name in ("ours", "monai", "nnunet")]
        epochs = {name: bench.variant(name, bench.steps_per_epoch, checkpoint=True)[1] for name in with_loader}
        found["steps"].append(each)
        found["epochs"].append(epochs)
        print(
            f"round {number + 1}: " + ", ".join(f"{n} {s * 1000:.0f} ms" for n, s in sorted(each.items())), flush=True
        )
    return found


def ratios(rounds: list[dict[str, float]], pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Ratio of each pair within a round: median, lowest, highest."""
    out = []
    for ours, theirs in pairs:
        values = [each[ours] / each[theirs] for each in rounds]
        spread = {"median": statistics.median(values), "min": min(values), "max": max(values)}
        out.append({"of": ours, "to": theirs, **{name: round(value, 4) for name, value in spread.items()}})
    return out


def draw_seconds(bench: Bench, count: int) -> float:
    """Median seconds of drawing one of our batches, alone."""
    seconds = []
    for step in range(count):
        began = time.perf_counter()
        draw_batch(bench.run, bench.traits, bench.stage.draw, bench.cases, 0, step)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    setup = result["setup"]
    patch = " x ".join(map(str, setup["patch_vox"]))
    where = setup["machine"].get("accelerator") or f"{setup['machine']['processor']}, {setup['machine']['cores']} cores"
    lines = [
        "# Trainer benchmark",
        "",
        f"`python benchmarks/trainer.py` on {where}; torch {setup['torch']}, MONAI {setup['monai']}, "
        f"{setup['threads']} threads in torch, {setup['precision']}.",
        f"PCN's shared stage, patches of {patch}, batch {setup['batch']}, {setup['cases']} phantoms; "
        f"{setup['rounds']} rounds of {setup['steps']} steps in turn. Drawing one of our batches alone takes "
        f"{1000 * result['draw_seconds']:.0f} ms.",
        "",
        "| one step | ms, median (lowest to highest) |",
        "| --- | --- |",
        *(f"| {words} | {_spread([1000 * r[n] for r in result['steps']], 0)} |" for n, words in WORDS.items()),
        "",
        f"| one epoch ({setup['steps_per_epoch']} steps and a checkpoint) | s, median (lowest to highest) |",
        "| --- | --- |",
        *(f"| {WORDS[n]} | {_spread([r[n] for r in result['epochs']], 2)} |" for n in ("ours", "monai", "nnunet")),
        "",
        "| ratio | median (lowest to highest) |",
        "| --- | --- |",
    ]
    for what, found in (("step", result["step_ratios"]), ("epoch", result["epoch_ratios"])):
        for r in found:
            spread = f"{r['median']:.3f} ({r['min']:.3f} to {r['max']:.3f})"
            lines.append(f"| {what}: {WORDS[r['of']]} / {WORDS[r['to']]} | {spread} |")
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Prepare, compare, sum up."""
    run = run_config(args)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        bench = Bench(run, Path(name))
        result = compare(bench, args.rounds, args.steps)
        result["draw_seconds"] = draw_seconds(bench, 20)
        result["setup"] = {
            "machine": machine(),
            "torch": torch.__version__,
            "monai": version("monai"),
            "threads": torch.get_num_threads(),
            "precision": str(bench.team.precision),
            "device": str(bench.team.device),
            "patch_vox": list(run.patch_vox),
            "batch": run.batch,
            "cases": len(bench.cases),
            "rounds": args.rounds,
            "steps": args.steps,
            "steps_per_epoch": bench.steps_per_epoch,
        }
    result["step_ratios"] = ratios(result["steps"], STEP_PAIRS)
    result["epoch_ratios"] = ratios(result["epochs"], EPOCH_PAIRS)
    return result


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small patches, 2 rounds; results are not written")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each variant in each round")
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument(
        "--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="one core is the loader's"
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for trainer.json and trainer.md")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.steps = 2, 6
    result = measure(args)
    print(table(result))
    if not args.quick:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "trainer.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        (args.out / "trainer.md").write_text(table(result), encoding="utf-8")


if __name__ == "__main__":
    main()
