"""Windows by name, and what the recipe may say about them."""

from collections.abc import Mapping
from typing import Literal

CT_WINDOWS: Mapping[str, tuple[float, float]] = {
    "lung": (-600.0, 1500.0),
    "bone": (400.0, 1800.0),
    "soft-tissue": (40.0, 400.0),
    "brain": (40.0, 80.0),
}
"""Centre and width in Hounsfield units: CT has one scale, so one window serves every scanner."""

Window = Literal["auto", "file", "percentile", "lung", "bone", "soft-tissue", "brain"] | tuple[float, float]
"""How values become grey: see `dicom_pixels.to_unit`."""
