"""SIGKILL at random moments: the finished run must equal the uninterrupted one, bit for bit.

    python benchmarks/resume_kills.py                         # 20 trials of every method
    python benchmarks/resume_kills.py --methods pcn --trials 3 --steps 6

What is run is each method's smoke preset, every stage cut to a few steps, with a checkpoint every third step. Per
method one run is never interrupted. Each trial starts the same run in its own folder, kills all its processes, resumes
it, kills it once more, and lets it finish. In odd trials the kill comes at a random moment of the run; in even ones
when a checkpoint's unfinished folder is seen, up to 5 ms later. Compared byte by byte: the model, every tensor and
counter of the last checkpoint, metrics.csv, split.json. Writes benchmarks/results/resume_kills.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from napari_multiphase.config import METHOD_CONFIGS, method_config, preset
from napari_multiphase.training.report import machine

RESULT = Path(__file__).parent / "results" / "resume_kills.json"
KILLS = 2
LIMIT_S = 900.0
UNFINISHED = "checkpoints/.*.part"

Kill = dict[str, Any]


def config_of(method: str, steps: int, folder: Path) -> Path:
    """The method's smoke preset as a file, with frequent checkpoints and at most `steps` in every stage."""
    run = preset(method, "smoke", checkpoint_every=3, threads=1, validation={"every": 5, "cases": 1})
    values = run.model_dump(mode="json")
    values["method_config"] = shortened(method_config(method, run.method_config).model_dump(mode="json"), steps)
    path = folder / f"{method}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def shortened(values: dict[str, Any], steps: int) -> dict[str, Any]:
    """Settings whose numbers of steps are at most `steps`, those of nested groups too."""
    out = dict(values)
    for name, value in values.items():
        if isinstance(value, dict):
            out[name] = shortened(value, steps)
        elif isinstance(value, int) and name.split("_")[-1] == "steps":
            out[name] = min(value, steps)
    return out


def command(*args: object) -> list[str]:
    """A training command."""
    return [sys.executable, "-m", "napari_multiphase", "train", *map(str, args)]


def start(args: list[str], log: Path) -> subprocess.Popen[bytes]:
    """The command in a process group of its own."""
    with log.open("ab") as words:
        return subprocess.Popen(args, stdout=words, stderr=words, start_new_session=True)


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for the process and its helpers."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def finish(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for a good end."""
    if process.wait(timeout=LIMIT_S):
        raise SystemExit(f"{' '.join(map(str, process.args))} failed:\n{log.read_text()[-3000:]}")  # type: ignore[arg-type]


def trial(config: Path, folder: Path, number: int, span_s: tuple[float, float]) -> dict[str, Any]:
    """One run, killed and resumed; what happened. `span_s`: when an uninterrupted run trains, from its start."""
    chance = random.Random(number)
    log, kills = folder.with_suffix(".log"), []
    begin = command(config, "--out", folder)
    process = start(begin, log)
    for _ in range(KILLS):
        before = set(folder.glob(UNFINISHED))
        found = _kill_at(process, span_s, chance) if number % 2 else _kill_in_checkpoint(process, folder, chance)
        if found is None:
            break  # it was finished before the moment came
        kills.append(found | {"within_a_checkpoint": bool(set(folder.glob(UNFINISHED)) - before)})
        process = start(command("--resume", folder) if (folder / "run.yaml").exists() else begin, log)
    finish(process, log)
    return {"trial": number, "kills": kills}


def _kill_at(process: subprocess.Popen[bytes], span_s: tuple[float, float], chance: random.Random) -> Kill | None:
    after_s = chance.uniform(*span_s)
    try:
        process.wait(timeout=after_s)
    except subprocess.TimeoutExpired:
        kill(process)
        return {"when": "at random", "after_s": round(after_s, 3)}
    return None


def _kill_in_checkpoint(process: subprocess.Popen[bytes], folder: Path, chance: random.Random) -> Kill | None:
    passes, delay_s = chance.randint(0, 3), chance.uniform(0.0, 0.005)
    seen = set(folder.glob(UNFINISHED))
    until = len(seen) + passes
    while process.poll() is None:
        seen |= set(folder.glob(UNFINISHED))
        if len(seen) > until:
            time.sleep(delay_s)
            kill(process)
            return {"when": "at a checkpoint", "passed": passes, "delay_ms": round(1000 * delay_s, 2)}
        time.sleep(0.0003)
    return None


# --- comparison ------------------------------------------------------------------------------------------------------


def fingerprint(folder: Path) -> dict[str, str]:
    """Hashes of everything a run leaves behind that does not hold times."""
    last = max((folder / "checkpoints").iterdir(), key=lambda path: path.name)
    files = {
        "weights": folder / "model" / "weights.safetensors",
        "card": folder / "model" / "model.json",
        "checkpoint": last / "state.safetensors",
        "checkpoint's counters": last / "checkpoint.json",
        "metrics.csv": folder / "metrics.csv",
        "split.json": folder / "split.json",
    }
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def check(method: str, trials: int, steps: int, scratch: Path) -> dict[str, Any]:
    """All trials of a method."""
    config, log = config_of(method, steps, scratch), scratch / f"{method}.log"
    first, second = scratch / f"{method}-first", scratch / f"{method}-second"
    finish(start(command(config, "--out", first), log), log)  # fills the cache of cases
    began = time.monotonic()
    process = start(command(config, "--out", second), log)
    while not (second / "split.json").exists() and process.poll() is None:
        time.sleep(0.01)
    prepared_s = time.monotonic() - began
    finish(process, log)
    expected_s = time.monotonic() - began
    whole = fingerprint(second)
    same_twice = whole == fingerprint(first)
    done = []
    for number in range(trials):
        folder = scratch / f"{method}-{number}"
        result = trial(config, folder, number, (0.8 * prepared_s, expected_s))
        found = fingerprint(folder)
        result["differs"] = [name for name, value in whole.items() if found[name] != value]
        done.append(result)
        words = ", ".join(f"{k['when']}" for k in result["kills"]) or "not killed"
        print(f"{method} {number}: {words}; {'equal' if not result['differs'] else result['differs']}", flush=True)
        if not result["differs"]:
            shutil.rmtree(folder)
    kills = [kill for result in done for kill in result["kills"]]
    return {
        "trials": len(done),
        "kills": len(kills),
        "kills_within_a_checkpoint": sum(k["within_a_checkpoint"] for k in kills),
        "equal": sum(not result["differs"] for result in done),
        "two_whole_runs_equal": same_twice,
        "seconds_of_a_whole_run": round(expected_s, 1),
        "each": done,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHOD_CONFIGS), choices=list(METHOD_CONFIGS))
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--steps", type=int, default=12, help="of every stage, at most")
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    result: dict[str, Any] = {
        "command": " ".join(["python benchmarks/resume_kills.py --methods", *args.methods])
        + f" --trials {args.trials} --steps {args.steps}",
        "machine": machine(),
        "methods": {},
    }
    if args.out.exists():
        result["methods"] = json.loads(args.out.read_text())["methods"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        os.environ["MULTIPHASE_DATA_DIR"] = name
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        for method in args.methods:
            result["methods"][method] = check(method, args.trials, args.steps, Path(name))
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for method in args.methods:
        found = result["methods"][method]
        within = found["kills_within_a_checkpoint"]
        print(
            f"{method}: {found['equal']} of {found['trials']} equal; {found['kills']} kills, {within} in a checkpoint"
        )
    if any(found["equal"] < found["trials"] for found in result["methods"].values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
