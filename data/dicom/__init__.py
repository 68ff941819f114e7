"""A DICOM object: its header, its frames, its pixels in [0, 1]."""
