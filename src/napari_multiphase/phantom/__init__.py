"""The parametric two-phase abdomen: exact labels in both phases and a known motion between them."""

from napari_multiphase.phantom.make import make_phantom
from napari_multiphase.phantom.spec import PhantomSpec, PhantomStudy
from napari_multiphase.phantom.write import write_sample

__all__ = ["PhantomSpec", "PhantomStudy", "make_phantom", "write_sample"]
