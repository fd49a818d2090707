"""How the two phases of a study lie to each other: rigid and deformable registration, and figures that judge it."""

from napari_multiphase.registration.rigid import register_rigid

__all__ = ["register_rigid"]
