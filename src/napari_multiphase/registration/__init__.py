"""How the two phases of a study lie to each other: rigid registration, its figures, and the transform as files."""

from napari_multiphase.registration.files import read_transform, write_transform
from napari_multiphase.registration.rigid import register_rigid

__all__ = ["read_transform", "register_rigid", "write_transform"]
