"""Picture files (PNG, JPEG, BMP, TIFF) to an image in [0, 1]: pixels come through, and nothing else."""

import warnings
import zlib
from collections.abc import Iterator
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
_PHOTOMETRIC = 262
"""The TIFF tag PhotometricInterpretation; 0 is WhiteIsZero. Source: TIFF 6.0, section 8."""

_SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def unit_pictures(
    content: bytes, limits: Limits, bits: int = 16, marked: bool = False
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the pictures of a file, ``(H, W)`` or ``(H, W, 3)`` float32 in [0, 1], with their number.

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
                for page in range(total):
                    if total > 1:
                        picture.seek(page)
                    if picture.width * picture.height > limits.pixels:
                        raise Unfit("TOO_MANY_PIXELS")
                    unit = _unit(ImageOps.exif_transpose(picture), bits)
                    yield 1 - unit if _is_stored_inverse(picture) else unit, total
        except Image.DecompressionBombError:
            raise Unfit("TOO_MANY_PIXELS") from None
        except Image.UnidentifiedImageError:
            raise Unfit("PARSE_ERROR") from None
        except (OSError, SyntaxError, ValueError, TypeError, EOFError, LookupError, OverflowError) as error:
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
    colour = np.asarray(picture.convert("RGB"))
    if (colour[..., :1] == colour).all():
        colour = colour[..., 0]
    return colour.astype(np.float32) / np.float32(255)
