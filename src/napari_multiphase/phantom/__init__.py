"""Two-phase abdomens, parametric or of a label map: exact labels in both phases, a known motion between them."""

from napari_multiphase.phantom.atlas_make import make_atlas_phantom
from napari_multiphase.phantom.atlas_spec import AtlasSpec
from napari_multiphase.phantom.make import make_phantom
from napari_multiphase.phantom.spec import PhantomSpec, PhantomStudy
from napari_multiphase.phantom.write import write_sample

__all__ = ["AtlasSpec", "PhantomSpec", "PhantomStudy", "make_atlas_phantom", "make_phantom", "write_sample"]
