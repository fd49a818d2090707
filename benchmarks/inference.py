"""The inference engine beside MONAI's ``sliding_window_inference``: peak memory, time, and whether both say the same.

    python benchmarks/inference.py                          # full size once, a crop repeated
    python benchmarks/inference.py --content hcc_015 --crop-only
    python benchmarks/inference.py --quick                  # the crop only, once; nothing is written

Both get the same pair of scans in memory (int16 HU), the same network (the bundled model's, its first 14 classes),
tile, overlap, Gaussian blending of softmax probabilities, precision and threads, and both deliver uint8 labels; the
engine delivers the two best classes and the confidence as well. Every run is a process of its own, whose peak resident
memory is read at its end. Writes ``benchmarks/results/inference.json`` and the table in ``results/inference.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
CLASSES = 14
TILE = (64, 96, 96)
OVERLAP = 0.25
SIGMA_SCALE = 0.125
FULL = (300, 512, 512)
CROP = (64, 512, 512)
PHANTOM_SPACING_MM = (2.5, 0.75, 0.75)
WINDOW_HU = (-200.0, 600.0)
PHASES = ("arterial", "venous")
PEERS = {
    "engine": "this package",
    "monai": "MONAI sliding_window_inference",
    "monai-buffered": "MONAI, buffer_steps=4, buffer_dim=0",
}


# --- content ---------------------------------------------------------------------------------------------------------


def prepare(folder: Path, full: tuple[int, int, int], content: str) -> dict[str, Any]:
    """Write ``<phase>.npy`` (int16 HU) and ``<phase>_body.npy``; return what they hold, in words and numbers."""
    scans, spacing_mm, words = _phantom_pair(full) if content == "phantom" else _real_pair(content)
    (folder / "spacing.json").write_text(json.dumps(spacing_mm))
    from napari_multiphase.imaging.body import body_mask
    from napari_multiphase.volume import Grid

    grid, facts = Grid(full, spacing_mm), {}
    for phase, data in scans.items():
        data = _fit(data, full)
        np.save(folder / f"{phase}.npy", data)
        body = body_mask(data, grid)
        np.save(folder / f"{phase}_body.npy", body)
        facts[phase] = {"air_fraction": float((data < -500).mean()), "outside_body": float(1 - body.mean())}
    return {"content": words, "shape": list(full), "phases": facts}


Pair = tuple[dict[str, np.ndarray], tuple[float, float, float], str]


def _real_pair(name: str) -> Pair:
    """A patient of TCIA HCC-TACE-Seg (CC BY 4.0), arterial and late, 512 x 512."""
    from napari_multiphase.io.dicom import index, read_series

    series = sorted(index(_real_data() / f"{name}_dicom.zip"), key=lambda s: (s.slices, s.acquisition))
    volumes = [read_series(s) for s in series[-2:]]
    words = f"{name} (TCIA HCC-TACE-Seg), real CT, repeated back and forth along z to the number of slices"
    pair = dict(zip(PHASES, (v.data.astype(np.int16) for v in volumes), strict=True))
    return pair, volumes[0].spacing_mm, words


def _phantom_pair(full: tuple[int, int, int]) -> Pair:
    from napari_multiphase.phantom import PhantomSpec, make_phantom
    from napari_multiphase.volume import Phase

    study = make_phantom(PhantomSpec(shape=(min(full[0], 96), *full[1:]), spacing_mm=PHANTOM_SPACING_MM, seed=7))
    scans = {p.value: study.volumes[Phase(p)].data.astype(np.int16) for p in Phase}
    words = "phantom (seed 7), repeated back and forth along z to the number of slices"
    return scans, PHANTOM_SPACING_MM, words


def _fit(data: np.ndarray, full: tuple[int, int, int]) -> np.ndarray:
    """The middle of `data` in plane, mirrored along z until there are enough slices."""
    y, x = ((have - want) // 2 for have, want in zip(data.shape[1:], full[1:], strict=True))
    order = np.r_[np.arange(len(data)), np.arange(len(data) - 2, 0, -1)]
    rows = np.resize(order, full[0])
    return np.ascontiguousarray(data[rows, y : y + full[1], x : x + full[2]])


def _real_data() -> Path:
    named = os.environ.get("MULTIPHASE_REAL_DATA")
    return Path(named) if named else Path(__file__).parents[2] / "shared" / "data"


# --- one run, in a process of its own --------------------------------------------------------------------------------


def one(peer: str, folder: Path, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Segment both phases with `peer`; seconds, peak memory; labels go to ``<phase>_<peer>.npy``."""
    import torch

    from napari_multiphase.inference.device import choose_precision

    net = _network()
    precision = choose_precision(torch.device("cpu"))
    run = {"engine": _engine, "monai": _monai, "monai-buffered": _monai_buffered}[peer]
    scans = {phase: np.load(folder / f"{phase}.npy")[: shape[0]] for phase in PHASES}
    with torch.inference_mode():
        net(torch.zeros(1, 1, 32, 32, 32))  # libraries load their kernels before the clock starts
    prepared = run(net, precision, folder)  # and their imports are done
    before_mb, began, cpu_began = _peak_mb(), time.perf_counter(), time.process_time()
    tiles = 0
    for phase, data in scans.items():
        labels, count = prepared(data, phase)
        tiles += count
        np.save(folder / f"{phase}_{peer}.npy", labels)
        del labels
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    facts = {
        "peer": peer,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mb": _peak_mb(),
        "before_mb": before_mb,
        "tiles": tiles,
    }
    return {**facts, "precision": str(precision).removeprefix("torch."), "threads": torch.get_num_threads()}


def _network() -> Any:
    """The bundled model's venous segmentor, its head cut to the first `CLASSES` outputs."""
    import torch
    from torch import nn

    from napari_multiphase.io.models import find_model
    from napari_multiphase.methods import method

    model = find_model("pcn-phantom")
    net: Any = method("pcn").load(model, torch.device("cpu")).nets["venous"]  # type: ignore[attr-defined]
    head = nn.Conv3d(net.head.in_channels, CLASSES, 1)
    head.load_state_dict({"weight": net.head.weight[:CLASSES], "bias": net.head.bias[:CLASSES]})
    net.head = head.requires_grad_(False)
    return net


def _peak_mb() -> float:
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _engine(net: Any, precision: Any, folder: Path) -> Any:
    import torch

    from napari_multiphase.events import Cancel, ignore
    from napari_multiphase.imaging.body import find_body
    from napari_multiphase.inference.engine import Networks, Settings, predict
    from napari_multiphase.inference.scan import Scan
    from napari_multiphase.volume import Grid

    def run(data: np.ndarray, phase: str) -> tuple[np.ndarray, int]:
        grid, tiles = Grid(data.shape, tuple(json.loads((folder / "spacing.json").read_text()))), []
        scan = Scan(phase, (data,), grid, grid, find_body(data, grid), WINDOW_HU, tuple(range(CLASSES)))
        settings = Settings(torch.device("cpu"), precision, TILE, OVERLAP, batch=1, divisor=(16, 16, 16))
        prediction, _ = predict(
            Networks((net,)),
            scan,
            settings,
            on_event=ignore,
            on_tiles=lambda done, of: tiles.append(of),
            cancel=Cancel(),
            scratch=folder / "scratch",
        )
        return prediction.labels, tiles[-1]

    return run


def _monai(net: Any, precision: Any, _folder: Path, **options: Any) -> Any:
    import torch
    from monai.inferers import sliding_window_inference

    from napari_multiphase.imaging.windows import normalise

    def run(data: np.ndarray, phase: str) -> tuple[np.ndarray, int]:
        count = [0]

        def network(x: torch.Tensor) -> torch.Tensor:
            count[0] += len(x)
            with torch.autocast("cpu", precision, enabled=precision != torch.float32):
                logits = net(x)
            return torch.softmax(logits, 1, dtype=torch.float32)

        with torch.inference_mode():
            x = torch.from_numpy(normalise(data, WINDOW_HU))[None, None]
            p = sliding_window_inference(
                x, TILE, 1, network, overlap=OVERLAP, mode="gaussian", sigma_scale=SIGMA_SCALE, **options
            )
            return p.argmax(1)[0].to(torch.uint8).numpy(), count[0]

    return run


def _monai_buffered(*args: Any) -> Any:
    return _monai(*args, buffer_steps=4, buffer_dim=0)


# --- comparison ------------------------------------------------------------------------------------------------------


def spawn(peer: str, folder: Path, shape: tuple[int, int, int]) -> dict[str, Any]:
    """`one` in a fresh process."""
    command = [sys.executable, __file__, "--one", peer, "--folder", str(folder), "--shape", *map(str, shape)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{peer} failed:\n{done.stderr}")
    facts = json.loads(done.stdout.splitlines()[-1])
    took = f"{facts['seconds']:.1f} s ({facts['cpu_seconds']:.1f} s of processor time), peak {facts['peak_mb']:.0f} MB"
    print(f"  {PEERS[peer]}: {took}, {facts['tiles']} tiles", flush=True)
    return facts


def equal_labels(folder: Path, peer: str, shape: tuple[int, int, int]) -> float:
    """Share of body voxels of both phases where the engine and `peer` give the same label."""
    same = total = 0
    for phase in PHASES:
        body = np.load(folder / f"{phase}_body.npy", mmap_mode="r")
        ours, theirs = (np.load(folder / f"{phase}_{who}.npy", mmap_mode="r") for who in ("engine", peer))
        for z in range(shape[0]):
            inside = body[z]
            total += int(inside.sum())
            same += int((ours[z] == theirs[z])[inside].sum())
    return same / total


def full_size(folder: Path, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Every peer once."""
    print(f"{shape[0]} x {shape[1]} x {shape[2]} pair, once:", flush=True)
    runs = {peer: spawn(peer, folder, shape) for peer in PEERS}
    ours = runs["engine"]
    for peer in ("monai", "monai-buffered"):
        theirs = runs[peer]
        theirs["labels_equal_in_body"] = equal_labels(folder, peer, shape)
        theirs["engine_memory_ratio"] = ours["peak_mb"] / theirs["peak_mb"]
        theirs["engine_time_ratio"] = ours["seconds"] / theirs["seconds"]
    return {"shape": list(shape), "runs": runs}


def repeated(folder: Path, shape: tuple[int, int, int], times: int) -> dict[str, Any]:
    """Peers in turn, `times` rounds; time ratios within each round, so that a slow minute hits both."""
    print(f"{shape[0]} x {shape[1]} x {shape[2]} pair, {times} rounds:", flush=True)
    rounds = [{peer: spawn(peer, folder, shape) for peer in PEERS} for _ in range(times)]
    out: dict[str, Any] = {"shape": list(shape), "rounds": rounds}
    for peer in ("monai", "monai-buffered"):
        ratios = [r["engine"]["seconds"] / r[peer]["seconds"] for r in rounds]
        out[peer] = {
            "time_ratio_median": statistics.median(ratios),
            "time_ratio_min": min(ratios),
            "time_ratio_max": max(ratios),
            "labels_equal_in_body": equal_labels(folder, peer, shape),
        }
    return out


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    facts = result["input"]["phases"]
    air = ", ".join(f"{p} {f['air_fraction']:.0%} air ({f['outside_body']:.0%} outside body)" for p, f in facts.items())
    setup = result["setup"]
    tile = " x ".join(map(str, TILE))
    lines = [
        "# Inference benchmark",
        "",
        f"`python benchmarks/inference.py` on {setup['processor']}, {setup['threads']} threads, "
        f"torch {setup['torch']}, "
        f"MONAI {setup['monai']}, {setup['precision']} in the network.",
        f"Input: {result['input']['content']}; {air}.",
        f"Same network (the bundled model's venous segmentor, {CLASSES} classes), tile {tile}, overlap {OVERLAP}, "
        "Gaussian blending of softmax probabilities.",
        "The engine's time includes the two best classes and the confidence; the peer's ends with the labels.",
        "",
    ]
    if "full" in result:
        shape = " x ".join(map(str, result["full"]["shape"]))
        lines += [
            f"## {shape} pair, once",
            "",
            "| | seconds | peak memory, MB | tiles | engine's time | engine's memory | labels equal in body |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for peer, run in result["full"]["runs"].items():
            compared = (
                f"{run['engine_time_ratio']:.2f} x | {run['engine_memory_ratio']:.2f} x | "
                f"{run['labels_equal_in_body']:.4%}"
                if "engine_time_ratio" in run
                else " | | "
            )
            lines.append(
                f"| {PEERS[peer]} | {run['seconds']:.1f} | {run['peak_mb']:.0f} | {run['tiles']} | {compared} |"
            )
        lines.append("")
    crop = result["crop"]
    lines += [
        f"## {' x '.join(map(str, crop['shape']))} pair, {len(crop['rounds'])} rounds in turn",
        "",
        "| engine against | time, median (lowest to highest) | labels equal in body |",
        "| --- | --- | --- |",
    ]
    for peer in ("monai", "monai-buffered"):
        c = crop[peer]
        spread = f"{c['time_ratio_median']:.2f} x ({c['time_ratio_min']:.2f} to {c['time_ratio_max']:.2f})"
        lines.append(f"| {PEERS[peer]} | {spread} | {c['labels_equal_in_body']:.4%} |")
    return "\n".join(lines) + "\n"


def _setup(run: dict[str, Any]) -> dict[str, Any]:
    from importlib.metadata import version

    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    versions = {"torch": version("torch"), "monai": version("monai"), "python": platform.python_version()}
    return {**versions, "processor": name, "threads": run["threads"], "precision": run["precision"]}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the crop only, one round; results are not written")
    parser.add_argument("--rounds", type=int, default=3, help="rounds on the crop")
    parser.add_argument("--full", type=int, nargs=3, default=FULL, metavar=("D", "H", "W"))
    parser.add_argument("--crop", type=int, nargs=3, default=CROP, metavar=("D", "H", "W"), help="first D slices")
    parser.add_argument("--content", choices=["hcc_002", "hcc_015", "phantom"], default="hcc_002")
    parser.add_argument("--crop-only", action="store_true", help="no full size; written to inference_<content>.json")
    parser.add_argument("--one", choices=list(PEERS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--shape", type=int, nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one, args.folder, tuple(args.shape))))
        return
    content = args.content
    if content != "phantom" and not (_real_data() / f"{content}_dicom.zip").is_file():
        print(f"{content} is not here (docs/real_ct.md); using a phantom")
        content = "phantom"
    crop_only = args.quick or args.crop_only
    full = tuple(args.crop if crop_only else args.full)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result: dict[str, Any] = {"input": prepare(folder, full, content)}
        print(json.dumps(result["input"]), flush=True)
        crop = (min(args.crop[0], full[0]), *full[1:])
        result["crop"] = repeated(folder, crop, 1 if args.quick else args.rounds)
        if not crop_only:
            result["full"] = full_size(folder, full)
        result["setup"] = _setup(result["crop"]["rounds"][0]["engine"])
    print(table(result))
    if not args.quick:
        RESULTS.mkdir(parents=True, exist_ok=True)
        name = f"inference_{content}" if crop_only else "inference"
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        (RESULTS / f"{name}.md").write_text(table(result), encoding="utf-8")


if __name__ == "__main__":
    main()
