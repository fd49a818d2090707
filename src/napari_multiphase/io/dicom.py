"""DICOM CT: what is there (`index`), one acquisition as a volume (`read_series`), a volume as a series (`write_series`)."""

from napari_multiphase.io.dicom_index import Series, index
from napari_multiphase.io.dicom_read import read_series

__all__ = ["Series", "index", "read_series"]
