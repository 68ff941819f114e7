"""From DICOM stored values to an image in [0, 1], bright is dense, square pixels; a fixed order of steps.

Source: DICOM PS3.3, C.7.6.3 (image pixel), C.11.1 (modality LUT), C.11.2 (VOI LUT); PS3.5, 8.
"""

from collections.abc import Iterable
from io import BytesIO
from typing import Any, Literal, cast

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.sequence import Sequence
from pydicom.uid import UID

from phantomset.data.dicom_header import element, numbers, whole, word
from phantomset.data.quarantine import Unfit

Window = Literal["auto", "file", "percentile"] | tuple[float, float]
"""How values become grey: see `to_unit`."""

_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99")
_PICTURES = (
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
)
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PROJECTION = ("CR", "DX", "MG", "RG", "RF", "XA", "IO", "PX")
_SOFT_TISSUE = (40.0, 400.0)
"""Centre and width in Hounsfield units: CT has one scale, so one window serves every scanner."""


def unit_image(data: Dataset, window: Window) -> np.ndarray:
    """Return the image of a single-frame data set: ``(H, W)`` or ``(H, W, 3)`` float32 in [0, 1].

    Raises:
        Unfit: the reason code.
    """
    photometric = word(data, "PhotometricInterpretation")
    bits = whole(data, "BitsStored", 1, 32)
    if photometric in _COLOUR:
        colour = _stored(data).astype(np.float32) / np.float32(2**bits - 1)
        return _square(_grey_if_equal(np.clip(colour, 0, 1)), data)
    if photometric == "PALETTE COLOR":
        return _square(_grey_if_equal(_palette(_masked(_stored(data), data), data)), data)
    if photometric not in _GREY:
        raise Unfit("UNSUPPORTED_PIXEL_FORMAT" if photometric else "MISSING_REQUIRED")
    stored = _masked(_stored(data), data)
    if stored.ndim != 2:
        raise Unfit("FRAME_MISMATCH")
    padding = _padding(stored, data)
    unit = to_unit(_modality(stored, data), data, window, padding)
    if photometric == "MONOCHROME1" or word(data, "PresentationLUTShape") == "INVERSE":
        unit = 1 - unit
    if padding is not None:
        unit[padding] = 0
    return _square(unit, data)


def to_unit(values: np.ndarray, data: Dataset, window: Window, padding: np.ndarray | None) -> np.ndarray:
    """Return grey in [0, 1] for values after the modality step.

    "auto": CT by one soft-tissue window; projection radiographs by the file's VOI LUT, else its first window,
    else percentiles; all else by percentiles. "file": the file's own, else percentiles. "percentile": 0.5 to
    99.5 of the pixels that are no padding. Two numbers: centre and width.

    Raises:
        Unfit: LUT_INVALID or NON_FINITE.
    """
    if not np.isfinite(values).all():
        raise Unfit("NON_FINITE")
    if isinstance(window, tuple):
        return _linear(values, *window)
    modality = word(data, "Modality")
    if window == "auto" and modality == "CT":
        return _linear(values, *_SOFT_TISSUE)
    if window == "file" or (window == "auto" and modality in _PROJECTION):
        tables = _items(data, "VOILUTSequence")
        if tables:
            table, first, bits = _table(tables[0], signed=bool(values.min() < 0))
            return _look_up(values, table, first) / np.float32(2**bits - 1)
        centres, widths = numbers(data, "WindowCenter"), numbers(data, "WindowWidth")
        if centres and widths:
            return _windowed(values, centres[0], widths[0], word(data, "VOILUTFunction") or "LINEAR")
    low, high = np.percentile(values if padding is None or padding.all() else values[~padding], (0.5, 99.5))
    if not high > low:
        low, high = values.min(), values.max()
    if not high > low:
        raise Unfit("CONSTANT_IMAGE")
    return np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)


def _stored(data: Dataset) -> np.ndarray:
    """Decode. Plain grey is viewed directly; the rest goes through pydicom's decoders."""
    syntax = _syntax(data)
    rows, columns = whole(data, "Rows", 1, 65535), whole(data, "Columns", 1, 65535)
    samples = whole(data, "SamplesPerPixel", 1, 4, default=1)
    allocated = whole(data, "BitsAllocated", 1, 64)
    if allocated not in (8, 16, 32) or samples not in (1, 3):
        raise Unfit("UNSUPPORTED_PIXEL_FORMAT")
    if syntax in _NATIVE and samples == 1:
        content = element(data, "PixelData")
        if not isinstance(content, bytes):
            raise Unfit("INVALID_VALUE")
        size = rows * columns * (allocated // 8)
        if len(content) < size:
            raise Unfit("TRUNCATED")
        return np.frombuffer(content, dtype=f"<u{allocated // 8}", count=rows * columns).reshape(
            rows, columns
        )
    if syntax in _PICTURES:
        _hold_codestream(data, rows, columns)
    try:
        decoded = pixel_array(data)
    except MemoryError:
        raise Unfit("TOO_MANY_PIXELS") from None
    except Exception as error:  # decoders raise whatever a broken stream drives them to
        short = "less than expected" in str(error) or "truncated" in str(error)
        raise Unfit("TRUNCATED" if short else "DECODE_ERROR") from None
    if decoded.shape != ((rows, columns) if samples == 1 else (rows, columns, samples)):
        raise Unfit("FRAME_MISMATCH")
    return decoded


def _syntax(data: Dataset) -> str:
    """Return the transfer syntax, once it is known that it can be decoded here."""
    meta: Any = getattr(data, "file_meta", None)
    uid: Any = meta.get("TransferSyntaxUID") if meta is not None else None
    if not uid:
        # without file meta only the syntax that the parser itself recognised is sure
        implicit, little = getattr(data, "original_encoding", (None, None))
        if implicit is None or not little:
            raise Unfit("NO_TRANSFER_SYNTAX")
        data.ensure_file_meta()
        meta = data.file_meta
        uid = UID(_NATIVE[0] if implicit else _NATIVE[1])
        meta.TransferSyntaxUID = uid
    try:
        decoder = get_decoder(uid)
    except NotImplementedError:
        raise Unfit("UNSUPPORTED_TRANSFER_SYNTAX") from None
    if not decoder.is_available:
        raise Unfit("DECODER_MISSING")
    return str(uid)


def _hold_codestream(data: Dataset, rows: int, columns: int) -> None:
    """Hold the picture inside against the header before anything of its size is allocated."""
    from pydicom.encaps import get_frame

    try:
        with Image.open(BytesIO(get_frame(data.PixelData, 0, number_of_frames=1))) as picture:
            size = picture.size
    except Image.UnidentifiedImageError:
        raise Unfit("DECODER_MISSING" if whole(data, "BitsStored", 1, 32) > 8 else "DECODE_ERROR") from None
    except Exception:  # broken fragments, or a decompression bomb
        raise Unfit("DECODE_ERROR") from None
    if size != (columns, rows):
        raise Unfit("FRAME_MISMATCH")


def _masked(stored: np.ndarray, data: Dataset) -> np.ndarray:
    """Keep the stored bits alone, as int64 with their sign: nothing can hide in the unused ones."""
    allocated = stored.dtype.itemsize * 8
    bits = whole(data, "BitsStored", 1, 32)
    if stored.dtype.kind not in "iu" or bits > allocated:
        raise Unfit("INVALID_VALUE")
    plain = stored.view(stored.dtype.str.replace("i", "u")).astype(np.int64)
    high = whole(data, "HighBit", 0, 63, default=bits - 1)
    if high + 1 > bits and _is_native(data) and high < allocated:
        plain >>= high + 1 - bits
    plain &= (1 << bits) - 1
    if whole(data, "PixelRepresentation", 0, 1, default=0) == 1:
        sign = 1 << (bits - 1)
        plain = (plain ^ sign) - sign
    return plain


def _is_native(data: Dataset) -> bool:
    return not data.file_meta.TransferSyntaxUID.is_compressed


def _padding(stored: np.ndarray, data: Dataset) -> np.ndarray | None:
    """The mask of padded pixels: padding is given in stored values, so it is taken before they change."""
    first = numbers(data, "PixelPaddingValue")
    if not first:
        return None
    last = numbers(data, "PixelPaddingRangeLimit") or first
    low, high = sorted((first[0], last[0]))
    mask = (stored >= low) & (stored <= high)
    return mask if mask.any() else None


def _modality(stored: np.ndarray, data: Dataset) -> np.ndarray:
    """Modality LUT, else rescale, else nothing."""
    tables = _items(data, "ModalityLUTSequence")
    if tables:
        table, first, _ = _table(tables[0], signed=bool(stored.min() < 0))
        return _look_up(stored, table, first)
    slopes, intercepts = numbers(data, "RescaleSlope") or [1.0], numbers(data, "RescaleIntercept") or [0.0]
    if slopes[0] == 0 or not np.isfinite([slopes[0], intercepts[0]]).all():
        raise Unfit("LUT_INVALID")
    return (stored * slopes[0] + intercepts[0]).astype(np.float32)


def _items(data: Dataset, keyword: str) -> list[Dataset]:
    found = element(data, keyword)
    if found is None:
        return []
    if not isinstance(found, Sequence):
        raise Unfit("INVALID_VALUE")
    return list(cast(Iterable[Dataset], found))


def _table(item: Dataset, signed: bool) -> tuple[np.ndarray, int, int]:
    """Return a lookup table, the first value it maps, and the bits of its entries."""
    descriptor = [int(value) for value in numbers(item, "LUTDescriptor")]
    if len(descriptor) != 3:
        raise Unfit("LUT_INVALID")
    count, first, bits = descriptor[0] & 0xFFFF or 65536, descriptor[1], descriptor[2]
    if signed and first > 32767:
        first -= 65536
    content = element(item, "LUTData")
    if isinstance(content, bytes):
        width = "<u1" if len(content) < 2 * count else "<u2"
        table = np.frombuffer(content, dtype=width).astype(np.float32)
    else:
        table = np.asarray(numbers(item, "LUTData"), dtype=np.float32)
    if not 1 <= bits <= 16 or len(table) < count:
        raise Unfit("LUT_INVALID")
    return table[:count], first, bits


def _look_up(values: np.ndarray, table: np.ndarray, first: int) -> np.ndarray:
    """Values below the first entry take it, values above the last take that (C.11.1.1.1)."""
    return table[np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)]


def _windowed(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """The three functions of C.11.2.1.2 and C.11.2.1.3, to [0, 1]."""
    if not np.isfinite([centre, width]).all() or (width < 1 and function == "LINEAR") or width <= 0:
        raise Unfit("LUT_INVALID")
    if function == "SIGMOID":
        return (1 / (1 + np.exp(-4 * (values - centre) / width))).astype(np.float32)
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0, 1).astype(np.float32)
    if function != "LINEAR":
        raise Unfit("LUT_INVALID")
    return _linear(values, centre, width)


def _linear(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    if width == 1:
        return (values > centre - 0.5).astype(np.float32)
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1).astype(np.float32)


def _palette(stored: np.ndarray, data: Dataset) -> np.ndarray:
    try:
        colour = apply_color_lut(stored.astype(np.int32), data)
        bits = int(data.RedPaletteColorLookupTableDescriptor[2])
    except Exception:  # a table that contradicts its descriptor
        raise Unfit("LUT_INVALID") from None
    if colour.ndim != 3 or not 1 <= bits <= 16:
        raise Unfit("LUT_INVALID")
    return np.clip(colour[..., :3].astype(np.float32) / np.float32(2**bits - 1), 0, 1)


def _grey_if_equal(colour: np.ndarray) -> np.ndarray:
    """One channel where all three are the same."""
    same = (colour[..., 0] == colour[..., 1]).all() and (colour[..., 0] == colour[..., 2]).all()
    return colour[..., 0] if same else colour


def _square(unit: np.ndarray, data: Dataset) -> np.ndarray:
    """Resample to square pixels: the axis with the coarser spacing gets more of them."""
    spacing = (
        numbers(data, "PixelSpacing")
        or numbers(data, "ImagerPixelSpacing")
        or numbers(data, "PixelAspectRatio")
    )
    if len(spacing) < 2:
        return unit
    if not all(np.isfinite(value) and value > 0 for value in spacing[:2]):
        raise Unfit("SPACING_INVALID")
    ratio = spacing[0] / spacing[1]
    if not 0.1 <= ratio <= 10:
        raise Unfit("SPACING_INVALID")
    height, width = unit.shape[:2]
    size = (width, round(height * ratio)) if ratio > 1 else (round(width / ratio), height)
    if size == (width, height):
        return unit
    planes = [unit] if unit.ndim == 2 else [unit[..., channel] for channel in range(unit.shape[2])]
    resized = [
        np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(size, Image.Resampling.BICUBIC))
        for plane in planes
    ]
    return np.clip(resized[0] if unit.ndim == 2 else np.stack(resized, axis=-1), 0, 1)
