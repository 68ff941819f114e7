"""Stored values of every depth come through, with their sign."""

import io
from collections.abc import Callable

import numpy as np
import pydicom
import pytest
from pydicom.pixels.utils import pack_bits

from phantomset.data.dicom.frames import stored_frames
from phantomset.data.dicom.header import parse, quiet
from phantomset.data.source import Limits


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", range(2, 17))
def test_values_of_two_to_sixteen_bits(bits: int, signed: bool, make_dicom: Callable[..., bytes]) -> None:
    """Written as two's complement in the lowest bits, the least and the greatest value among them."""
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    values = np.random.default_rng(bits).integers(low, high + 1, (8, 8))
    values[0, :2] = low, high
    lowest = (values & ((1 << bits) - 1)).astype(np.uint8 if bits <= 8 else np.uint16)
    content = make_dicom(lowest, BitsStored=bits, PixelRepresentation=int(signed))
    assert np.array_equal(_stored(content), values)


def test_values_of_one_bit(make_dicom: Callable[..., bytes]) -> None:
    """Eight pixels a byte, as pydicom packs them."""
    values = np.random.default_rng(1).integers(0, 2, (8, 8), dtype=np.uint8)
    data = pydicom.dcmread(io.BytesIO(make_dicom(values, BitsAllocated=1, BitsStored=1, HighBit=0)))
    data.PixelData = pack_bits(values.ravel())
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    assert np.array_equal(_stored(buffer.getvalue()), values)


def _stored(content: bytes) -> np.ndarray:
    with quiet():
        (frame,) = stored_frames(parse(content, Limits()), Limits())
    return frame
