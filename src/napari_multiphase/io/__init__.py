"""Files: images, DICOM series, models, and writing anything so that it is either whole or not there."""
