"""Bytes of a file to numbers: DICOM headers, compressed pixels, NIfTI, pictures."""
