"""From DICOM stored values to images in [0, 1], bright is dense, square pixels; a fixed order of steps.

Source: DICOM PS3.3, C.7.6.3 (image pixel), C.7.6.16 (functional groups), C.11.1 and C.11.2 (LUTs).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_color_lut
from pydicom.sequence import Sequence

from phantomset.data.dicom.elements import element, numbers, plain, whole, word
from phantomset.data.dicom.frames import COLOUR, PALETTE, stored_frames
from phantomset.data.pixels.aspect import square
from phantomset.data.pixels.windows import CT_WINDOWS, Window, percentile_range
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.source import Limits

_PROJECTION = ("CR", "DX", "MG", "RG", "RF", "XA", "IO", "PX")
_SAMPLE = 1 << 24
"""Percentiles of an object larger than this many pixels are taken from an even grid of them."""

_MACROS = ("PixelValueTransformationSequence", "FrameVOILUTSequence", "PixelMeasuresSequence")
"""The functional groups of enhanced objects that decide how a frame looks."""

_LOOKS = (
    *("Modality", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth"),
    *("VOILUTFunction", "VOILUTSequence", "PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit"),
)
"""The elements that do the same at the top of a header."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as an image.

    Attributes:
        unit: ``(H, W)`` or ``(H, W, 3)`` float32 in [0, 1], square pixels.
        spacing_mm: the side of its pixels; None where the header does not measure them.
        stored: gives the same picture with every value between black and white; None in colour, where no
            window hides any.
    """

    unit: np.ndarray
    spacing_mm: float | None
    stored: Callable[[], np.ndarray] | None = None


def unit_images(data: Dataset, window: Window, limits: Limits) -> Iterator[Frame]:
    """Yield each frame, with values between black and white as its header or the recipe says.

    The frames of one object share their percentiles, so that they stay comparable.

    Raises:
        Unfit: the reason code.
    """
    photometric = word(data, "PhotometricInterpretation")
    frames = stored_frames(data, limits)
    if photometric in COLOUR:
        white = np.float32(2 ** whole(data, "BitsStored", 1, 32) - 1)
        for index, frame in enumerate(frames):
            unit = np.clip(frame.astype(np.float32) / white, 0, 1)
            yield Frame(*_square(_grey_if_equal(unit), frame_header(data, index)))
        return
    if photometric == PALETTE:
        for index, frame in enumerate(frames):
            yield Frame(*_square(_grey_if_equal(_palette(frame, data)), frame_header(data, index)))
        return
    headers = [frame_header(data, index) for index in range(len(frames))]
    span = cache(lambda: _span(frames, headers))
    inverse = photometric == "MONOCHROME1" or word(data, "PresentationLUTShape") == "INVERSE"
    for frame, header in zip(frames, headers, strict=True):
        grey = partial(_grey, header=header, window=window, span=span, inverse=inverse)
        # a modality table may rise and fall: only without one do the ends tell what may occur between them
        unit = grey(frame) if "ModalityLUTSequence" in header else each_once(frame, grey)
        yield Frame(*_square(unit, header), partial(_whole_range, frame, header, inverse))


def steps_of(data: Dataset, frame: Frame) -> dict[str, int]:
    """Return what the path from stored values to pixels passed over or assumed, by step, as counts.

    All else follows from the recipe and from what a record keeps of the header.
    """
    windows: Any = plain(data, "WindowCenter")
    is_grey = frame.unit.ndim == 2 and word(data, "PhotometricInterpretation") in (*COLOUR, PALETTE)
    found = {
        "windows after the first": len(cast(list[Any], windows)) - 1
        if isinstance(windows, MultiValue)
        else 0,
        "colour profiles": int("ICCProfile" in data),
        "colours that are all grey, made one channel": int(is_grey),
        "pixels without a spacing, taken for square": int(frame.spacing_mm is None),
    }
    return {step: count for step, count in found.items() if count}


def each_once(stored: np.ndarray, grey: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return ``grey(stored)`` where it looks at each value alone: asked once a value, not once a pixel.

    Args:
        stored: integers of any shape.
        grey: integers to float32 of the same shape; it sees the lowest and the highest of them either way.
    """
    low, high = int(stored.min()), int(stored.max())
    if stored.itemsize > 2 or high - low >= stored.size:
        return grey(stored)
    values = np.arange(low, high + 1).astype(stored.dtype)
    unsigned = f"u{stored.itemsize}"  # a table has no negative places
    table = np.zeros(int(values.view(unsigned).max()) + 1, dtype=np.float32)
    table[values.view(unsigned)] = grey(values)
    return table.take(stored.view(unsigned), mode="clip")


def _grey(
    stored: np.ndarray,
    header: Dataset,
    window: Window,
    span: Callable[[], tuple[float, float]],
    inverse: bool,
) -> np.ndarray:
    """From stored values to [0, 1]; padding is black."""
    padding = _padding(stored, header)
    unit = to_unit(_modality(stored, header), header, window, span)
    if inverse:
        unit = 1 - unit
    if padding is not None:
        unit[padding] = 0
    return unit


def frame_header(data: Dataset, index: int) -> Dataset:
    """Return what the header says of one frame: its own functional groups, else the shared, else the top."""
    shared, own = (
        _items(data, "SharedFunctionalGroupsSequence"),
        _items(data, "PerFrameFunctionalGroupsSequence"),
    )
    groups = [*shared[:1], *own[index : index + 1]]
    if not groups:
        return data
    merged = Dataset()
    for keyword in _LOOKS:
        if keyword in data:
            merged[keyword] = data[keyword]
    for group in groups:
        for macro in _MACROS:
            for item in _items(group, macro)[:1]:
                merged.update(item)
    return merged


def to_unit(
    values: np.ndarray, header: Dataset, window: Window, span: Callable[[], tuple[float, float]]
) -> np.ndarray:
    """Return grey in [0, 1] for values after the modality step.

    "auto": CT by the soft-tissue window; projection radiographs by the file's VOI LUT, else its first window,
    else percentiles; all else by percentiles. A window by name: CT by that window, all else as with "auto".
    "file": the file's own, else percentiles. "percentile": 0.5 to 99.5 of the pixels that are no padding.
    Two numbers: centre and width.

    Args:
        values: ``(H, W)`` float32.
        header: what is said of this frame.
        window: the rule.
        span: the values that become black and white where percentiles decide.

    Raises:
        Unfit: LUT_INVALID, NON_FINITE or CONSTANT_IMAGE.
    """
    if not np.isfinite(values).all():
        raise Unfit("NON_FINITE")
    if isinstance(window, tuple):
        return _linear(values, *window)
    modality = word(header, "Modality")
    if modality == "CT" and window not in ("file", "percentile"):
        return _linear(values, *CT_WINDOWS["soft-tissue" if window == "auto" else window])
    if window == "file" or (window != "percentile" and modality in _PROJECTION):
        tables = _items(header, "VOILUTSequence")
        if tables:
            table, first, bits = _table(tables[0], signed=bool(values.min() < 0))
            return _look_up(values, table, first) / np.float32(2**bits - 1)
        centres, widths = numbers(header, "WindowCenter"), numbers(header, "WindowWidth")
        if centres and widths:
            return _windowed(values, centres[0], widths[0], word(header, "VOILUTFunction") or "LINEAR")
    low, high = span()
    return np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)


def _span(frames: list[np.ndarray], headers: list[Dataset]) -> tuple[float, float]:
    """The percentiles of all frames together, without padding.

    Raises:
        Unfit: CONSTANT_IMAGE or NON_FINITE.
    """
    step = -(-sum(frame.size for frame in frames) // _SAMPLE)
    shown: list[np.ndarray] = []
    everything: list[np.ndarray] = []
    for frame, header in zip(frames, headers, strict=True):
        padding = _padding(frame, header)
        values = _modality(frame, header)
        everything.append(values.ravel()[::step])
        shown.append(everything[-1] if padding is None else values[~padding][::step])
    values = np.concatenate(shown if any(part.size for part in shown) else everything)
    if not np.isfinite(values).all():
        raise Unfit("NON_FINITE")
    return percentile_range(values)


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
        with np.errstate(over="ignore"):  # an infinite power, far below the centre, has the right inverse: 0
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


def _whole_range(stored: np.ndarray, header: Dataset, inverse: bool) -> np.ndarray:
    """All values from the lowest to the highest, whatever the window, in [0, 1]."""
    values = _modality(stored, header)
    low, high = float(values.min()), float(values.max())
    unit = (values - np.float32(low)) / np.float32(max(high - low, 1e-30))
    return _square(1 - unit if inverse else unit, header)[0]


def _square(unit: np.ndarray, header: Dataset) -> tuple[np.ndarray, float | None]:
    """Resample to square pixels, whose side is in mm where the header measures and not only compares."""
    measured = numbers(header, "PixelSpacing") or numbers(header, "ImagerPixelSpacing")
    spacing = measured or numbers(header, "PixelAspectRatio")
    if len(spacing) < 2:
        return unit, None
    return square(unit, spacing[0], spacing[1]), min(spacing[:2]) if measured else None
