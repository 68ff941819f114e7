"""Picture files (PNG, JPEG, BMP, TIFF) to an image in [0, 1]: pixels come through, and nothing else."""

import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.source import Limits
from phantomset.data.synthetic_mark import is_marked_picture

_PNG = b"\x89PNG\r\n\x1a\n"
_MAGIC = (_PNG, b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*")
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_BITS, _PHOTOMETRIC, _PROFILE = 258, 262, 34675
"""The TIFF tags BitsPerSample, PhotometricInterpretation, whose 0 is WhiteIsZero, and the colour profile's.
Sources: TIFF 6.0, section 8; ICC.1:2010, B.4."""

_ORIENTATION = 274
"""The EXIF tag Orientation: 1 to 8, how the stored picture is turned to be seen upright. Source: EXIF 2.32,
4.6.4."""

_V5_BYTES, _V5_COLOURS, _V5_PROFILES = 124, slice(70, 74), (b"DEBM", b"KNIL")
"""A BMP file's header of version 5: its length, where bV5CSType stands in the file, and what that says of a
profile in the file ("MBED") or beside it ("LINK"), read backwards. Source: BITMAPV5HEADER (wingdi.h).
"""

_SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_COLOUR = ("RGB", "RGBA", "RGBX")
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, EOFError, LookupError, OverflowError, RuntimeError)
"""What Pillow and imagecodecs raise over a broken file."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a file.

    Attributes:
        unit: ``(H, W)`` or ``(H, W, 3)`` float32 in [0, 1].
        total: how many pictures the file has.
        passed_over: what the path to pixels dropped or assumed, by the names that DICOM's path gives it.
    """

    unit: np.ndarray
    total: int
    passed_over: dict[str, int]


def unit_pictures(content: bytes, limits: Limits, bits: int = 16, marked: bool = False) -> Iterator[Picture]:
    """Yield the pictures of a file in their order.

    A TIFF file may have several pages; other files have one picture. EXIF orientation is applied; text, EXIF,
    XMP, colour profile, thumbnail and transparency are dropped.

    Args:
        content: the file's bytes; its type is told by them and not by a name.
        limits: of pixels and pages.
        bits: how many bits a 16-bit picture uses; 12 where the white of 12-bit data is 4095.
        marked: whether one that says that a trained model made it is read too.

    Raises:
        Unfit: the reason code.
    """
    if not content:
        raise Unfit("EMPTY_FILE")
    if not content.startswith(_MAGIC):
        raise Unfit("NOT_RECOGNISED")
    if not marked and is_marked_picture(content):
        raise Unfit("MARKED_SYNTHETIC")
    if content.startswith(_PNG):
        _hold_checksums(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns with values of the file
        try:
            with Image.open(BytesIO(content), formats=_FORMATS) as picture:
                total = int(getattr(picture, "n_frames", 1)) if picture.format == "TIFF" else 1
                if total > limits.frames:
                    raise Unfit("TOO_MANY_FRAMES")
                cap = max(limits.expansion_free_bytes, limits.expansion * len(content))
                for page in range(total):
                    if total > 1:
                        picture.seek(page)
                    if picture.width * picture.height > limits.pixels:
                        raise Unfit("TOO_MANY_PIXELS")
                    sample = 2 if picture.mode in _SIXTEEN else 1
                    cap -= picture.width * picture.height * len(picture.getbands()) * sample
                    if cap < 0:
                        raise Unfit("BOMB_RATIO")
                    yield _picture(content, picture, page, total, bits)
        except Image.DecompressionBombError:
            raise Unfit("TOO_MANY_PIXELS") from None
        except Image.UnidentifiedImageError:
            raise Unfit("PARSE_ERROR") from None
        except _BROKEN as error:
            raise Unfit("TRUNCATED" if "truncated" in str(error).lower() else "DECODE_ERROR") from None


def _hold_checksums(content: bytes) -> None:
    """Hold the checksum of every chunk of a PNG file: Pillow passes over those of the pixels."""
    view, at = memoryview(content), len(_PNG)
    while at + 12 <= len(content):
        end = at + 8 + int.from_bytes(view[at : at + 4], "big")
        if end + 4 > len(content):
            return  # cut short: the decoder says so
        if zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise Unfit("CHECKSUM_MISMATCH")
        if content[at + 4 : at + 8] == b"IEND":
            return
        at = end + 4


def _is_stored_inverse(picture: Any) -> bool:
    """True for a TIFF of 16 bits whose 0 is white: those of 8 bits Pillow turns, these it does not."""
    return picture.mode in _SIXTEEN and getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC) == 0


def _picture(content: bytes, picture: Any, page: int, total: int, bits: int) -> Picture:
    """Decode one page to [0, 1]; three equal channels become one."""
    if _is_deep_colour(content, picture):
        unit = _deep_colour(content, picture, page) / np.float32(2**bits - 1)
        unit = np.clip(unit, 0, 1)
    else:
        unit = _unit(ImageOps.exif_transpose(picture), bits)
        unit = 1 - unit if _is_stored_inverse(picture) else unit
    is_grey = unit.ndim == 3 and bool((unit[..., :1] == unit).all())
    found = {
        "colour profiles": int(_has_profile(content, picture)),
        "colours that are all grey, made one channel": int(is_grey),
    }
    passed_over = {step: count for step, count in found.items() if count}
    return Picture(np.ascontiguousarray(unit[..., 0]) if is_grey else unit, total, passed_over)


def _has_profile(content: bytes, picture: Any) -> bool:
    """True where this page has a colour profile: what Pillow knows of a TIFF page outlives the page, and of a
    BMP file it knows none.
    """
    if picture.format == "BMP":
        is_fifth = int.from_bytes(content[14:18], "little") == _V5_BYTES
        return is_fifth and content[_V5_COLOURS] in _V5_PROFILES
    tags = getattr(picture, "tag_v2", None)
    return bool(picture.info.get("icc_profile")) if tags is None else _PROFILE in tags


def _is_deep_colour(content: bytes, picture: Any) -> bool:
    """True for colour of 16 bits a channel, of which Pillow would keep the upper 8."""
    if picture.mode not in _COLOUR:
        return False
    if picture.format == "PNG":
        return content[24] == 16  # the bit depth in IHDR, the first chunk
    return picture.format == "TIFF" and picture.tag_v2.get(_BITS, (8,))[0] == 16


def _deep_colour(content: bytes, picture: Any, page: int) -> np.ndarray:
    """Return the stored values ``(H, W, 3)``, or ``(H, W)`` of grey with transparency, as float32; turned as
    EXIF says.
    """
    import imagecodecs

    if picture.format == "PNG":
        stored = imagecodecs.png_decode(content)
    else:
        stored = imagecodecs.tiff_decode(content, index=page)
        if stored.shape[1:] == (picture.height, picture.width):  # a plane for each channel
            stored = np.moveaxis(stored, 0, -1)
    if stored.shape[:2] != (picture.height, picture.width) or stored.dtype != np.uint16:
        raise Unfit("FRAME_MISMATCH")
    shown = stored[..., :3] if stored.shape[-1] > 2 else stored[..., 0]
    return _upright(shown, picture.getexif().get(_ORIENTATION, 1)).astype(np.float32)


def _upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Return a picture as EXIF says that it is seen: from 5 on rows and columns change places first."""
    turned = stored.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else stored
    turned = turned[::-1] if orientation in (3, 4, 7, 8) else turned
    return turned[:, ::-1] if orientation in (2, 3, 6, 7) else turned


def _unit(picture: Image.Image, bits: int) -> np.ndarray:
    mode = picture.mode
    if mode in _SIXTEEN:
        values = np.asarray(picture).astype(np.float32)
        if values.min() < 0 or values.max() > 65535:
            raise Unfit("UNSUPPORTED_PIXEL_FORMAT")
        return np.clip(values / np.float32(2**bits - 1), 0, 1)
    if mode in ("1", "L", "LA", "La"):
        return np.asarray(picture.convert("L")).astype(np.float32) / np.float32(255)
    if mode not in ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "YCbCr"):
        raise Unfit("UNSUPPORTED_PIXEL_FORMAT")
    return np.asarray(picture.convert("RGB")).astype(np.float32) / np.float32(255)
