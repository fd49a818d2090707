"""What a child process loads while nobody waits."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from napari_multiphase.jobs.tasks import warm_parser
warm_parser(None)
before = set(sys.modules)
from napari_multiphase.studies import Annotation, Workspace, find_scans, open_study, recognise_scans
print(sorted(set(sys.modules) - before), "SimpleITK" in before, "torch" in sys.modules)
"""


def test_a_warm_parser_has_loaded_what_opening_and_correcting_need_and_no_torch():
    told = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[] True False"
