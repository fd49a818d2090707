"""Deformable registration beside SimpleITK's demons, elastix and ANTs SyN: error, folds, inverse, time and memory.

    python benchmarks/registration.py --peer-python PEERS/bin/python    # everything: four motions, two subjects each
    python benchmarks/registration.py --motions 20 --seeds 1 --methods mind "sitk demons"
    python benchmarks/registration.py --quick                           # a small phantom; nothing is written

On phantoms with 0, 10, 20 and 30 mm of breathing, of seeds that no setting was chosen on. All methods get the same two
scans and the same rigid start; every run is a process of its own with as many threads as asked for, whose peak resident
memory is read at its end and whose times (wall clock, and processor time for busy machines) leave out starting Python
and reading the scans. Peers get the arterial scan already resampled through the start, and both scans clipped.

SimpleITK is a dependency of the package; the others want an environment of their own, beside the package:

    python -m venv PEERS && PEERS/bin/pip install itk-elastix==0.25.4 antspyx==0.6.3 && PEERS/bin/pip install .

A peer that is not installed is named and left out. Figures: target error over voxels within 10 mm of an organ's
surface, pancreas surface distance, folded voxels and inverse error in the body, all on the venous voxel grid; the
inverse error over points that do not leave the scan, since peers' inverses are given on its grid only.
Writes ``benchmarks/results/registration.json`` and ``registration.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from napari_multiphase.field import DenseField
from napari_multiphase.imaging.body import body_mask
from napari_multiphase.imaging.resample import resample
from napari_multiphase.labels import ids_of_group
from napari_multiphase.phantom import PhantomSpec, make_phantom
from napari_multiphase.registration import field_quality, register_rigid
from napari_multiphase.volume import Grid, Phase, Volume

RESULTS = Path(__file__).parent / "results"
MOTIONS_MM = (0.0, 10.0, 20.0, 30.0)
FIRST_SEED = 8100
FULL = {"shape": (96, 192, 192), "spacing_mm": (3.0, 2.0, 2.0)}
QUICK = {"shape": (56, 96, 116), "spacing_mm": (4.5, 3.2, 3.2)}
CLIP_HU = (-200.0, 300.0)
OURS = ("mind", "demons")

Fields = tuple[np.ndarray, np.ndarray | None]
"""Displacement (D, H, W, 3) in LPS mm on the venous grid, before the start; and its inverse, on that grid, or None."""


# --- the methods -----------------------------------------------------------------------------------------------------


def ours(name: str, pair: Pair) -> Fields:
    """This package: the total maps, start included; the start alone where deforming did not help."""
    from napari_multiphase.registration.deformable import register_deformable

    found = register_deformable(pair.venous, pair.arterial, pair.start, method=name)
    maps = (found.into(Phase.ARTERIAL), found.into(Phase.VENOUS))
    there, back = (m.on(pair.grid) if isinstance(m, DenseField) else _moved(m, pair.grid) for m in maps)
    return there, back


def sitk_demons(pair: Pair) -> Fields:
    """Symmetric diffeomorphic demons of SimpleITK on histogram-matched scans; inverse by its own iteration."""
    import SimpleITK as sitk

    fixed = _sitk_image(pair.fixed(), pair.grid)
    moving = sitk.HistogramMatching(_sitk_image(pair.moving(), pair.grid), fixed, 256, 15, True)
    field = None
    for factor, steps in ((4, 60), (2, 40), (1, 20)):
        small = [sitk.Shrink(sitk.DiscreteGaussian(i, (0.5 * factor) ** 2, 16, 0.01, False), [factor] * 3)
                 if factor > 1 else i for i in (fixed, moving)]  # fmt: skip
        demons = sitk.DiffeomorphicDemonsRegistrationFilter()
        demons.SetUseGradientType(sitk.DiffeomorphicDemonsRegistrationFilter.Symmetric)
        demons.SetNumberOfIterations(steps)
        demons.SetSmoothDisplacementField(True)
        demons.SetStandardDeviations(1.5)
        if field is None:
            field = demons.Execute(*small)
        else:
            field = demons.Execute(*small, sitk.Resample(field, small[0], sitk.Transform(), sitk.sitkLinear))
    inverse = sitk.InvertDisplacementField(field, 30, 0.05, 0.01, True)
    return sitk.GetArrayFromImage(field), sitk.GetArrayFromImage(inverse)


def elastix(pair: Pair) -> Fields:
    """B-splines of elastix: its default parameters (Mattes mutual information, 10 mm), four levels, 500 iterations.

    It gives no inverse.
    """
    import itk

    fixed, moving = (_itk_image(itk, data, pair.grid) for data in (pair.fixed(), pair.moving()))
    parameters = itk.ParameterObject.New()
    settings = parameters.GetDefaultParameterMap("bspline", 4)
    settings["MaximumNumberOfIterations"] = ["500"]
    parameters.AddParameterMap(settings)
    threads = int(os.environ["OMP_NUM_THREADS"])
    _, result = itk.elastix_registration_method(
        fixed, moving, parameter_object=parameters, log_to_console=False, number_of_threads=threads
    )
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # it leaves a file where it runs
        field = itk.array_from_image(itk.transformix_deformation_field(moving, result))
    return np.array(field, np.float32), None


def ants_syn(metric: str, steps: tuple[int, ...]) -> Callable[[Pair], Fields]:
    """SyN of ANTs; `metric` is "mattes" (32 bins) or "CC" (radius 4); `steps` per level, the last at full size."""

    def run(pair: Pair) -> Fields:
        import ants
        import SimpleITK as sitk

        fixed, moving = (_ants_image(ants, data, pair.grid) for data in (pair.fixed(), pair.moving()))
        with tempfile.TemporaryDirectory() as folder:
            found = ants.registration(
                fixed,
                moving,
                type_of_transform="SyNOnly",
                initial_transform="Identity",
                syn_metric=metric,
                syn_sampling=4 if metric == "CC" else 32,
                reg_iterations=steps,
                outprefix=f"{folder}/",
            )
            warps = [next(p for p in found[key] if p.endswith(".nii.gz")) for key in ("fwdtransforms", "invtransforms")]
            there, back = (np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(path)), np.float32) for path in warps)
        return there, back

    return run


PEERS: dict[str, tuple[str, Callable[[Pair], Fields]]] = {
    "sitk demons": ("SimpleITK", sitk_demons),
    "elastix": ("itk", elastix),
    "ants syn": ("ants", ants_syn("mattes", (100, 70, 20))),
    "ants syn cc": ("ants", ants_syn("CC", (100, 50, 0))),
}


# --- a pair, and one run ---------------------------------------------------------------------------------------------


class Pair:
    """A phantom's scans, labels, true motion and rigid start, read from a folder."""

    def __init__(self, folder: Path) -> None:
        with np.load(folder / "pair.npz") as held:
            spacing, origin = (tuple(float(v) for v in held[name]) for name in ("spacing_mm", "origin_mm"))
            self.grid = Grid(held["venous"].shape, spacing, origin)
            self.venous, self.arterial = (Volume.from_array(held[p], spacing, origin) for p in ("venous", "arterial"))
            self.start = held["start"]

    @staticmethod
    def write(folder: Path, spec: PhantomSpec) -> str:
        """Make the phantom and register it rigidly; the sentence of that."""
        study, grid = make_phantom(spec), spec.grid
        venous, arterial = study.volumes[Phase.VENOUS], study.volumes[Phase.ARTERIAL]
        rigid = register_rigid(venous, arterial)
        scans = {"venous": venous.data, "arterial": arterial.data, "start": rigid.venous_to_arterial_mm}
        np.savez(folder / "pair.npz", **scans, spacing_mm=grid.spacing_mm, origin_mm=grid.origin_mm)
        labels = {f"{phase}_labels": study.labels[phase] for phase in Phase}
        np.savez(folder / "truth.npz", motion_mm=study.motion_mm, **labels)
        return str(rigid.quality["sentence"])

    def fixed(self) -> np.ndarray:
        """The venous scan as peers get it: float32, clipped."""
        return np.clip(self.venous.data.astype(np.float32), *CLIP_HU)

    def moving(self) -> np.ndarray:
        """The arterial scan through the start, on the venous grid, clipped."""
        data = self.arterial.data.astype(np.float32)
        return np.clip(resample(data, self.grid, self.grid, transform=self.start), *CLIP_HU)


def one(method: str, folder: Path) -> dict[str, Any]:
    """Run a method in this process; leave its maps in the folder; seconds and peak memory (MB)."""
    pair = Pair(folder)
    began, used = time.perf_counter(), time.process_time()
    if method in OURS:
        there, back = ours(method, pair)
        seconds, used = time.perf_counter() - began, time.process_time() - used
        fields = {"there": there, "back": back}
    else:
        forward, inverse = PEERS[method][1](pair)
        seconds, used = time.perf_counter() - began, time.process_time() - used
        fields = {"there": _after(forward, pair)}
        if inverse is not None:
            fields["back"] = _before(inverse, pair)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KB on Linux
    np.savez(folder / "maps.npz", **{name: np.asarray(field, np.float32) for name, field in fields.items()})
    return {"seconds": round(seconds, 2), "processor_seconds": round(used, 2), "peak_memory_mb": round(peak)}


def _places(grid: Grid) -> np.ndarray:
    z, y, x = (o + s * np.arange(n) for o, s, n in zip(grid.origin_mm, grid.spacing_mm, grid.shape, strict=True))
    return np.stack(np.broadcast_arrays(x, y[:, None], z[:, None, None]), axis=-1)


def _moved(matrix: np.ndarray, grid: Grid) -> np.ndarray:
    """What a 4 x 4 on LPS mm does, as a displacement."""
    points = _places(grid)
    return points @ matrix[:3, :3].T + matrix[:3, 3] - points


def _after(displacement: np.ndarray, pair: Pair) -> np.ndarray:
    """The start applied after a displacement, as one displacement."""
    points = _places(pair.grid)
    return (points + displacement) @ pair.start[:3, :3].T + pair.start[:3, 3] - points


def _before(displacement: np.ndarray, pair: Pair) -> np.ndarray:
    """The start undone before a displacement, as one displacement."""
    points = _places(pair.grid).reshape(-1, 3)
    back = np.linalg.inv(pair.start)
    at = points @ back[:3, :3].T + back[:3, 3]
    field = DenseField(np.ascontiguousarray(displacement, np.float32), pair.grid)
    return (field.map(at) - points).reshape(*pair.grid.shape, 3)


def _inside(points: np.ndarray, grid: Grid) -> np.ndarray:
    """(N,) which of the points (N, 3) LPS mm lie between the grid's voxel centres."""
    index = (points[:, ::-1] - np.array(grid.origin_mm)) / np.array(grid.spacing_mm)
    return ((index >= 0) & (index <= np.array(grid.shape) - 1)).all(axis=1)


def _sitk_image(data: np.ndarray, grid: Grid) -> Any:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(data)
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_mm[::-1])
    return image


def _itk_image(itk: Any, data: np.ndarray, grid: Grid) -> Any:
    image = itk.image_from_array(np.ascontiguousarray(data, np.float32))
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_mm[::-1])
    return image


def _ants_image(ants: Any, data: np.ndarray, grid: Grid) -> Any:
    return ants.from_numpy(data.transpose(2, 1, 0), origin=grid.origin_mm[::-1], spacing=grid.spacing_mm[::-1])


# --- figures ---------------------------------------------------------------------------------------------------------


def figures(folder: Path, there: DenseField, back: DenseField | None) -> dict[str, Any]:
    """What a map is worth on this phantom."""
    pair = Pair(folder)
    with np.load(folder / "truth.npz") as truth:
        venous, arterial, motion = (truth[name] for name in ("venous_labels", "arterial_labels", "motion_mm"))
    grid = pair.grid
    error = field_quality.target_error_mm(there, motion, grid, field_quality.near_surfaces(venous, grid))
    distances = field_quality.structure_distances(there, venous, grid, arterial, grid, ids_of_group(6)).pooled_mm
    body = body_mask(pair.venous.data, grid, margin_mm=0.0)
    out = {
        "target_error_mm": round(float(error.mean()), 3),
        "target_error_p95_mm": round(float(np.percentile(error, 95)), 3),
        "pancreas_mm": [round(float(distances.mean()), 3), round(float(distances.std()), 3)],
        "folded_share": field_quality.folded_share(there, body),
        "jacobian_min": round(float(field_quality.jacobian(there)[body].min()), 3),
    }
    if back is not None:
        points = _places(grid)[body][::17]
        apart = field_quality.inverse_error_mm(there, back, points[_inside(there.map(points), grid)])
        out["inverse_mean_mm"], out["inverse_max_mm"] = round(float(apart.mean()), 3), round(float(apart.max()), 3)
    return out


def baseline(folder: Path) -> dict[str, Any]:
    """The start alone, and the truth itself: what no method can be better than."""
    pair = Pair(folder)
    with np.load(folder / "truth.npz") as truth:
        motion = truth["motion_mm"]
    still = _after(np.zeros((*pair.grid.shape, 3)), pair).astype(np.float32)
    maps = {"truth": motion, "rigid": still}
    return {name: figures(folder, DenseField(field, pair.grid), None) for name, field in maps.items()}


def child(method: str, folder: Path, threads: int, python: str) -> dict[str, Any]:
    """`one` in a process of its own, and the figures of what it left."""
    (folder / "maps.npz").unlink(missing_ok=True)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads))
    command = [python, __file__, "--one", method, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"}
    row = json.loads(done.stdout.strip().splitlines()[-1])
    grid = Pair(folder).grid
    with np.load(folder / "maps.npz") as maps:
        there = DenseField(maps["there"], grid)
        back = DenseField(maps["back"], grid) if "back" in maps else None
    return row | figures(folder, there, back)


# --- the report ------------------------------------------------------------------------------------------------------

COLUMNS = {
    "target_error_mm": ("target error, mm", ".2f"),
    "target_error_p95_mm": ("95th percentile", ".2f"),
    "pancreas_mm": ("pancreas, mm", ".2f"),
    "folded_share": ("folded", ".1e"),
    "jacobian_min": ("smallest Jacobian", ".2f"),
    "inverse_mean_mm": ("inverse error, mm", ".3f"),
    "inverse_max_mm": ("largest", ".2f"),
    "seconds": ("wall s", ".1f"),
    "processor_seconds": ("CPU s", ".1f"),
    "peak_memory_mb": ("MB", ".0f"),
}
WORST = {"jacobian_min": min, "folded_share": max, "inverse_max_mm": max, "peak_memory_mb": max}
"""Columns of which the worst case is given; of all others the mean over the cases."""


def summary(rows: Iterable[dict[str, Any]]) -> dict[str, float]:
    """One method's cases as one row; empty where one of them failed."""
    rows = list(rows)
    out: dict[str, float] = {}
    for key in COLUMNS:
        values = [row[key][0] if key == "pancreas_mm" else row[key] for row in rows if key in row]
        if len(values) == len(rows) > 0:
            out[key] = float(WORST.get(key, np.mean)(values))
    return out


def report(result: dict[str, Any]) -> str:
    """Markdown: a table per motion, and of times against the peers."""
    setup, cases = result["setup"], result["cases"]
    seeds = ", ".join(str(case["seed"]) for case in cases)
    versions = ", ".join(f"{name} {setup[name]}" for name in VERSIONED if name in setup)
    lines = [
        "# Deformable registration beside its peers",
        "",
        f"`{result['command']}` on {setup['processor']}, {setup['threads']} thread(s) for everybody; {versions}.",
        f"Phantoms of {' x '.join(map(str, FULL['shape']))} voxels, seeds {seeds}; all from the same rigid start.",
        'Means over the subjects; folds, Jacobian, largest inverse error and memory are the worst case\'s. "truth" is',
        "the known motion itself: its pancreas distance comes from the voxels. The machine was shared: trust CPU s.",
        "",
    ]
    for motion in dict.fromkeys(case["motion_mm"] for case in cases):
        chosen = [case["methods"] for case in cases if case["motion_mm"] == motion]
        lines += [f"## {motion:g} mm of breathing", "", *_table(chosen), ""]
    chosen = [case["methods"] for case in cases]
    lines += ["## All cases", "", *_table(chosen), "", *_ratios(chosen)]
    return "\n".join(lines) + "\n"


def _table(cases: list[dict[str, Any]]) -> list[str]:
    titles = " | ".join(title for title, _ in COLUMNS.values())
    lines = [f"| method | {titles} |", "|" + " --- |" * (len(COLUMNS) + 1)]
    for name in dict.fromkeys(name for case in cases for name in case):
        found = summary(case[name] for case in cases if name in case)
        cells = [format(found[key], form) if key in found else "" for key, (_, form) in COLUMNS.items()]
        failures = [case[name]["failed"] for case in cases if "failed" in case.get(name, {})]
        if failures:
            cells[0] = f"failed {len(failures)} x: {failures[0]}"
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _ratios(cases: list[dict[str, Any]]) -> list[str]:
    """Ours against each peer: error and time, over the cases that both have."""
    lines = ["| mind against | target error | wall time | CPU time |", "| --- | --- | --- | --- |"]
    for name in PEERS:
        both = [case for case in cases if name in case and "mind" in case and "failed" not in case[name]]
        if not both:
            continue
        mine, theirs = (summary(case[n] for case in both) for n in ("mind", name))
        keys = ("target_error_mm", "seconds", "processor_seconds")
        lines.append(f"| {name} | " + " | ".join(f"{mine[key] / theirs[key]:.2f} x" for key in keys) + " |")
    return lines


VERSIONED = ("torch", "SimpleITK", "itk-elastix", "antspyx")


def _setup(threads: int, peer_python: str) -> dict[str, Any]:
    out: dict[str, Any] = {"threads": threads, "python": platform.python_version(), "processor": platform.machine()}
    for name in VERSIONED:
        code = f"import importlib.metadata as m; print(m.version({name!r}))"
        found = subprocess.run([peer_python, "-c", code], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            out[name] = found.stdout.strip()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        out["processor"] = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return out


def _absent(methods: Iterable[str], python: str) -> list[str]:
    """The peers among `methods` that this interpreter cannot import."""
    return [
        name
        for name in methods
        if name in PEERS and subprocess.run([python, "-c", f"import {PEERS[name][0]}"], capture_output=True).returncode
    ]


def run_case(spec: PhantomSpec, methods: list[str], threads: int, peer_python: str) -> dict[str, Any]:
    """One phantom, every method."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{spec.motion_mm:g} mm, seed {spec.seed}: {Pair.write(folder, spec)}", flush=True)
        rows = baseline(folder)
        for method in methods:
            rows[method] = child(method, folder, threads, peer_python if method in PEERS else sys.executable)
            print(f"  {method}: {json.dumps(rows[method])}", flush=True)
    return {"motion_mm": spec.motion_mm, "seed": spec.seed, "methods": rows}


def _command(args: argparse.Namespace) -> str:
    """What to type for the same figures, without this machine's paths."""
    words = ["python benchmarks/registration.py --peer-python PEERS/bin/python"]
    words += [f"--motions {' '.join(f'{motion:g}' for motion in args.motions)}", f"--seeds {args.seeds}"]
    words += [f"--first-seed {args.first_seed}", f"--threads {args.threads}"]
    return " ".join([*words, "--methods", *(f'"{name}"' if " " in name else name for name in args.methods)])


def main() -> None:
    """Command line."""
    names = [*OURS, *PEERS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--motions", type=float, nargs="+", default=MOTIONS_MM, metavar="MM")
    parser.add_argument("--seeds", type=int, default=2, help="subjects per motion")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--methods", nargs="+", choices=names, default=names)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has the peers")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="a small phantom; results are not written")
    parser.add_argument("--one", choices=names, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one, args.folder)))
        return
    absent = _absent(args.methods, args.peer_python)
    for name in absent:
        print(f"{name} is left out: {args.peer_python} has no package {PEERS[name][0]}", flush=True)
    methods = [name for name in args.methods if name not in absent]
    result: dict[str, Any] = {
        "command": _command(args),
        "setup": _setup(args.threads, args.peer_python),
        "absent": absent,
        "cases": [],
    }
    for number in range(args.seeds):
        for motion in args.motions:
            seed = args.first_seed + 100 * number + int(motion)
            spec = PhantomSpec(**(QUICK if args.quick else FULL), seed=seed, motion_mm=motion)
            result["cases"].append(run_case(spec, methods, args.threads, args.peer_python))
            if not args.quick:  # after each case: a run that is ended early leaves what it has
                args.results.mkdir(parents=True, exist_ok=True)
                (args.results / "registration.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
                (args.results / "registration.md").write_text(report(result), encoding="utf-8")
    print(report(result))


if __name__ == "__main__":
    main()
