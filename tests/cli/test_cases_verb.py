"""``multiphase cases``: a study that was corrected becomes a case list; one that was not is refused."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import yaml
from tests.studies.conftest import box_of_tissue

from napari_multiphase.labels import IGNORE
from napari_multiphase.studies import Workspace, open_study
from napari_multiphase.studies.annotation import Annotation
from napari_multiphase.volume import Phase


@pytest.fixture
def folder(tmp_path):
    """A study of a venous scan, with labels that nobody has touched."""
    path = tmp_path / "venous.nii.gz"
    nib.save(nib.Nifti1Image(box_of_tissue(0).transpose(2, 1, 0), np.diag([-4.0, -4.0, 5.0, 1.0])), path)
    study = open_study(venous=path)
    workspace = Workspace.create(tmp_path / "study", study)
    volume, file = study.volumes[Phase.VENOUS], workspace.annotation_file(Phase.VENOUS)
    file.parent.mkdir(parents=True)
    Annotation.create(file, np.ones(volume.shape, np.uint8), volume.grid).close()
    workspace.set_annotation(Phase.VENOUS, file)
    return workspace.folder


def test_a_corrected_study_becomes_a_case(run, folder, tmp_path):
    file = Workspace.open(folder).annotation_file(Phase.VENOUS)
    with Annotation.open(file, write=True) as annotation:
        labels = annotation.labels()
        labels[0, 0, :3] = 2
        annotation.save(labels, annotation.reviewed())
    done = run("cases", folder, "--out", tmp_path / "cases")
    assert done.exit_code == 0 and "1 case" in done.output and "multiphase plan" in done.output
    (entry,) = yaml.safe_load((tmp_path / "cases" / "cases.yaml").read_text())["cases"]
    taught = np.asarray(nib.load(tmp_path / "cases" / entry["venous"]["labels"]).dataobj)
    assert np.count_nonzero(taught == 2) == 3 and np.count_nonzero(taught == IGNORE) == taught.size - 3


def test_what_nobody_corrected_is_refused_in_a_sentence(run, folder, tmp_path):
    done = run("cases", folder, "--out", tmp_path / "cases")
    assert done.exit_code == 2 and "nothing was reviewed in study" in done.output
    assert run("cases", folder, "--out", tmp_path / "x", "--unreviewed", "maybe").exit_code == 2
