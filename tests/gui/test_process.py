"""What the window's process carries and what it costs: no torch, a light plugin, an event loop that never waits."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_COST = """
import json, sys, time
import napari, napari._qt.qt_main_window, napari.components.overlays, napari.utils.notifications, napari.layers
began, began_cpu = time.perf_counter(), time.process_time()
import napari_multiphase.gui.study_dock, napari_multiphase.gui.segment_dock, napari_multiphase.gui.compare_dock
import napari_multiphase.gui.translate_dock, napari_multiphase.gui.train_dock, napari_multiphase.gui.workbench
import napari_multiphase.gui.io, napari_multiphase.gui.show, napari_multiphase.gui.marks, napari_multiphase.gui.readout
print(json.dumps({"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - began_cpu,
                  "torch": "torch" in sys.modules}))
"""

_WINDOW = """
import json, sys, time
import napari
from napari_multiphase.gui.demo import Demo
demo = Demo(napari.Viewer())
demo.open_sample()
demo.rest(0.5)
heavy = [name for name in ("torch", "monai", "SimpleITK", "pydicom", "nibabel", "scipy.ndimage") if name in sys.modules]
print("RESULT", json.dumps({"heavy": heavy, "layers": [layer.name for layer in demo.viewer.layers]}))
demo.session.close()
demo.viewer.close()
"""


def _run(code: str, timeout_s: float) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_importing_the_plugin_costs_little(tmp_path, monkeypatch):
    """Under 0.3 s on top of napari, all docks included; CPU time, as the machine may be shared.

    From the second start on, as for a user: bytecode is there, also where an environment tells Python to write none.
    """
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path))
    _run(_COST, 240)
    cost = json.loads(_run(_COST, 240).splitlines()[-1])
    print(f"importing the plugin: {cost['cpu_s']:.3f} s of CPU, {cost['wall_s']:.3f} s by the clock")
    assert cost["cpu_s"] < 0.3
    assert not cost["torch"]


@pytest.mark.gui
@pytest.mark.timeout(400)
def test_the_windows_process_never_loads_torch(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    lines = [line for line in _run(_WINDOW, 380).splitlines() if line.startswith("RESULT")]
    result = json.loads(lines[-1].removeprefix("RESULT"))
    assert result["layers"] == ["sample arterial", "sample venous"]
    assert "torch" not in result["heavy"]
    assert "monai" not in result["heavy"]
    print("also loaded:", result["heavy"])
