"""A NIfTI volume to slices in [0, 1]: the header held first, then voxels, orientation, window.

Source: the NIfTI-1 and NIfTI-2 data formats (nifti.nimh.nih.gov); header fields and orientations by nibabel.
"""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from phantomset.data.pixels.aspect import square
from phantomset.data.pixels.windows import percentile_range
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.source import Limits

_KINDS = {348: (b"n+1\0", b"ni1\0"), 540: (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n")}
"""Size of the header to its magic: voxels in the same file, or in a file of their own."""

_VOXELS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
_RGB = 128
_SPATIAL_UNITS = {1: 1000.0, 3: 0.001}
"""Unit code to mm; whatever else is written is taken as mm."""

_CONNECTIVITY = range(3000, 3100)
_SURFACES = (1008, 1009)
_LABELS = 1002
_MULTIVALUED = (1003, 1004, 1005, 1006, 1007, 1010, 2001, 2002, 2003, 2004, 2005)


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume whose header is held.

    Attributes:
        voxels: ``(X, Y, Z, T)`` as stored, or ``(X, Y, Z, T, 3)`` uint8; a view of the file's bytes.
        scale: slope and intercept.
        affine: ``(4, 4)`` voxel to RAS in mm; None where the file has no orientation.
        spacing: distance of neighbouring voxels along X, Y and Z in mm.
        slice_axis: the axis that slices were taken along: 0, 1 or 2.
    """

    voxels: np.ndarray
    scale: tuple[float, float]
    affine: np.ndarray | None
    spacing: tuple[float, float, float]
    slice_axis: int


def header_of_pair(content: bytes) -> bytes | None:
    """Return the header where its voxels lie in another file; None where they follow, or for other files."""
    found = _order(content)
    if found is None or _magic(content, found[0]) == _KINDS[found[0]][0]:
        return None
    return content[: found[0]]


def parse(content: bytes, limits: Limits) -> Volume:
    """Return the volume of a NIfTI file; of a pair, the header followed by the voxels.

    Raises:
        Unfit: the reason code, before anything of the volume's size is allocated.
    """
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    if not content:
        raise Unfit("EMPTY_FILE")
    found = _order(content)
    if found is None:
        raise Unfit("NOT_RECOGNISED")
    size, order = found
    if len(content) < size:
        raise Unfit("TRUNCATED")
    kind: Any = Nifti1Header if size == 348 else Nifti2Header
    header: Any = kind(content[:size], endianness=order, check=False)
    _hold_intent(header)
    shape = _shape(header, limits)
    code = int(header["datatype"])
    dtype = np.dtype("u1" if code == _RGB else _VOXELS.get(code, "V0")).newbyteorder(order)
    if not dtype.itemsize:
        raise Unfit("UNSUPPORTED_PIXEL_FORMAT")
    if code == _RGB:
        shape = (3, *shape)
    offset = _offset(header, size, header_of_pair(content) is None)
    count = int(np.prod(shape, dtype=object))
    if len(content) - offset < count * dtype.itemsize:
        raise Unfit("TRUNCATED")
    # what follows the voxels, and what stands between header and voxels, is left where it is
    voxels = np.frombuffer(content, dtype, count, offset).reshape(shape, order="F")
    affine = _affine(header)
    return Volume(
        np.moveaxis(voxels, 0, -1) if code == _RGB else voxels,
        _scale(header),
        affine,
        _spacing(header, affine),
        _slice_axis(header),
    )


def unit_slices(
    volume: Volume, window: tuple[float, float] | None
) -> Iterator[tuple[np.ndarray, float | None, int]]:
    """Yield each slice, the side of its pixels in mm, and the number of slices.

    A slice is ``(H, W)`` or ``(H, W, 3)`` float32 in [0, 1].

    Slices lie along the axis that they were taken along; all time points of a slice come together. With an
    orientation in the file, they are turned as DICOM shows them: the patient's left to the right, anterior
    and superior up. NaN is padding: it takes no part in the window and ends as 0.

    Args:
        volume: from `parse`.
        window: centre and width in the volume's own values; None: 0.5 to 99.5 percent of them.

    Raises:
        Unfit: NON_FINITE, CONSTANT_IMAGE, DERIVED_OBJECT or SPACING_INVALID.
    """
    voxels, spacing, axis = _turned(volume)
    low, high = _span(volume, window)
    rows, columns = [spacing[other] for other in (2, 1, 0) if other != axis]
    total = voxels.shape[axis] * voxels.shape[3]
    side = min(rows, columns) if volume.affine is not None or rows != 1 or columns != 1 else None
    for index in range(voxels.shape[axis]):
        for time in range(voxels.shape[3]):
            plane = np.take(voxels, index, axis=axis)[:, :, time]
            yield square(_unit(np.swapaxes(plane, 0, 1), volume.scale, low, high), rows, columns), side, total


def _order(content: bytes) -> tuple[int, Literal["<", ">"]] | None:
    """Size of the header and byte order, where size and magic agree."""
    for size, magics in _KINDS.items():
        if _magic(content, size) in magics:
            if content[:4] == size.to_bytes(4, "little"):
                return size, "<"
            if content[:4] == size.to_bytes(4, "big"):
                return size, ">"
    return None


def _magic(content: bytes, size: int) -> bytes:
    return content[344:348] if size == 348 else content[4:12]


def _hold_intent(header: Any) -> None:
    intent = int(header["intent_code"])
    if intent in _CONNECTIVITY or intent in _SURFACES:
        raise Unfit("NOT_A_VOLUME")
    if intent == _LABELS:
        raise Unfit("DERIVED_OBJECT")
    if intent in _MULTIVALUED:
        raise Unfit("DIM_UNSUPPORTED")


def _shape(header: Any, limits: Limits) -> tuple[int, ...]:
    """``(X, Y, Z, T)``; sides beyond the declared dimensions are 1."""
    dims = [int(side) for side in header["dim"]]
    if not 1 <= dims[0] <= 7 or any(side < 1 for side in dims[1 : dims[0] + 1]):
        raise Unfit("INVALID_VALUE")
    sides = [*dims[1 : dims[0] + 1], 1, 1, 1, 1]
    if any(side > 1 for side in sides[4:]):
        raise Unfit("DIM_UNSUPPORTED")
    if sides[0] < 2 or sides[1] < 2:
        raise Unfit("NOT_A_VOLUME")
    shape = tuple(sides[:4])
    if int(np.prod(shape, dtype=object)) > limits.object_pixels:
        raise Unfit("TOO_MANY_PIXELS")
    if max(shape[:3]) * shape[3] > limits.frames:
        raise Unfit("TOO_MANY_FRAMES")
    return shape


def _offset(header: Any, size: int, is_whole: bool) -> int:
    """Where the voxels begin. In a pair the offset counts from the start of the other file."""
    offset = float(header["vox_offset"])
    least = size + 4 if is_whole else 0
    if not offset.is_integer() or not least <= offset < 1 << 40:
        raise Unfit("INVALID_VALUE")
    return int(offset) + (0 if is_whole else size)


def _scale(header: Any) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or np.isnan(slope):
        return 1.0, 0.0
    if not np.isfinite([slope, intercept]).all():
        raise Unfit("LUT_INVALID")
    return slope, intercept


def _affine(header: Any) -> np.ndarray | None:
    """The orientation: sform, else qform. Two that turn the volume differently contradict each other."""
    nibabel: Any = importlib.import_module("nibabel.orientations")
    found: list[np.ndarray] = []
    try:
        if int(header["sform_code"]) > 0:
            found.append(np.asarray(header.get_sform(), dtype=float))
        if int(header["qform_code"]) > 0:
            found.append(np.asarray(header.get_qform(), dtype=float))
        for affine in found:
            if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
                raise Unfit("AFFINE_INVALID")
        turns = [np.asarray(nibabel.io_orientation(affine)) for affine in found]
    except Unfit:
        raise
    except Exception:  # a quaternion that is none
        raise Unfit("AFFINE_INVALID") from None
    if any(np.isnan(turn).any() or not np.array_equal(turn, turns[0]) for turn in turns):
        raise Unfit("AFFINE_INVALID")
    return found[0] if found else None


def _spacing(header: Any, affine: np.ndarray | None) -> tuple[float, float, float]:
    if affine is not None:
        lengths = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    else:
        lengths = np.abs(np.asarray(header["pixdim"][1:4], dtype=float))
        lengths = np.where(lengths == 0, 1.0, lengths)
    factor = _SPATIAL_UNITS.get(int(header["xyzt_units"]) & 7, 1.0)
    x, y, z = (float(length) * factor for length in lengths)
    return x, y, z


def _slice_axis(header: Any) -> int:
    """The slice dimension where the header names one, else the third."""
    named = (int(header["dim_info"]) >> 4) & 3
    return named - 1 if named else 2


def _turned(volume: Volume) -> tuple[np.ndarray, tuple[float, ...], int]:
    """Voxels, spacing and slice axis with the axes in the order and direction in which they are shown."""
    nibabel: Any = importlib.import_module("nibabel.orientations")
    if volume.affine is None:
        return volume.voxels, volume.spacing, volume.slice_axis
    turn: np.ndarray = np.asarray(nibabel.io_orientation(volume.affine))
    # to the closest axes right, anterior, superior; then each reversed: left, posterior and inferior grow
    voxels: np.ndarray = np.asarray(nibabel.apply_orientation(volume.voxels, turn))[::-1, ::-1, ::-1]
    spacing = [0.0, 0.0, 0.0]
    for stored, (shown, _) in enumerate(turn):
        spacing[int(shown)] = volume.spacing[stored]
    return voxels, tuple(spacing), int(turn[volume.slice_axis, 0])


def _span(volume: Volume, window: tuple[float, float] | None) -> tuple[float, float]:
    """The values that become black and white."""
    if volume.voxels.ndim == 5:
        return 0.0, 255.0
    if volume.voxels.dtype.kind in "iu" and int(volume.voxels.max()) - int(volume.voxels.min()) == 1:
        raise Unfit("DERIVED_OBJECT")  # two values are a mask, and no image
    values = volume.voxels.ravel(order="K")[:: max(1, volume.voxels.size >> 24)].astype(np.float64)
    values = values * volume.scale[0] + volume.scale[1]
    if np.isinf(volume.voxels).any() or np.isnan(values).all():
        raise Unfit("NON_FINITE")
    values = values[~np.isnan(values)]
    if window is not None:
        return window[0] - window[1] / 2, window[0] + window[1] / 2
    return percentile_range(values)


def _unit(plane: np.ndarray, scale: tuple[float, float], low: float, high: float) -> np.ndarray:
    if plane.ndim == 3:
        return plane.astype(np.float32) / np.float32(255)
    values = plane.astype(np.float64) * scale[0] + scale[1]
    unit = np.clip((values - low) / (high - low), 0, 1).astype(np.float32)
    return np.where(np.isnan(unit), np.float32(0), unit)
