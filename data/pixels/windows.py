"""Windows by name and by percentiles, and what the recipe may say about them."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from phantomset.data.quarantine.ledger import Unfit

CT_WINDOWS: Mapping[str, tuple[float, float]] = {
    "lung": (-600.0, 1500.0),
    "bone": (400.0, 1800.0),
    "soft-tissue": (40.0, 400.0),
    "brain": (40.0, 80.0),
}
"""Centre and width in Hounsfield units: CT has one scale, so one window serves every scanner."""

Window = Literal["auto", "file", "percentile", "lung", "bone", "soft-tissue", "brain"] | tuple[float, float]
"""How values become grey: see `dicom.pixels.to_unit`."""

_PERCENTILES = (0.5, 99.5)


def percentile_range(values: np.ndarray) -> tuple[float, float]:
    """Return what becomes black and what becomes white: outliers of half a percent a side do not count.

    Raises:
        Unfit: CONSTANT_IMAGE.
    """
    low, high = np.percentile(values, _PERCENTILES)
    if not high > low:
        low, high = values.min(), values.max()
    if not high > low:
        raise Unfit("CONSTANT_IMAGE")
    return float(low), float(high)
