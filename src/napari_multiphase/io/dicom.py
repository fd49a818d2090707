"""DICOM CT: what is there (`index`), one acquisition as a volume (`read_series`), and back (`write_series`)."""

from napari_multiphase.io.dicom_index import Series, index
from napari_multiphase.io.dicom_read import read_series
from napari_multiphase.io.dicom_write import series_uids, write_series

__all__ = ["Series", "index", "read_series", "series_uids", "write_series"]
