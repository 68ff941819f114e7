"""Stored values of a DICOM object, frame by frame: held against the header first, then decoded and masked.

Source: DICOM PS3.3, C.7.6.3 (image pixel); PS3.5, 8 and annex A (encodings).
"""

from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import UID

from phantomset.data.dicom.decoders import decoder_for
from phantomset.data.dicom.elements import element, whole, word
from phantomset.data.dicom.header import shape_of
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.source import Limits

GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
PALETTE = "PALETTE COLOR"

_LITTLE_ENDIAN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99")
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_RLE = "1.2.840.10008.1.2.5"


def stored_frames(data: Dataset, limits: Limits) -> list[np.ndarray]:
    """Return the stored values of every frame.

    Grey and palette: ``(H, W)`` integers, stored bits alone, with their sign. Colour: ``(H, W, 3)`` unsigned,
    red, green and blue, whatever the file's colour model and plane order.

    Raises:
        Unfit: the reason code; before anything of the image's size is allocated where the header says enough.
    """
    photometric = word(data, "PhotometricInterpretation")
    if photometric not in (*GREY, *COLOUR, PALETTE):
        raise Unfit("UNSUPPORTED_PIXEL_FORMAT" if photometric else "MISSING_REQUIRED")
    shape = shape_of(data, limits)
    if shape[3:] != ((3,) if photometric in COLOUR else ()):
        raise Unfit("UNSUPPORTED_PIXEL_FORMAT")
    syntax = _syntax(data)
    allocated = whole(data, "BitsAllocated", 1, 64)
    if allocated not in (1, 8, 16, 32):
        raise Unfit("UNSUPPORTED_PIXEL_FORMAT")
    if syntax in _LITTLE_ENDIAN and len(shape) == 3 and allocated > 1:
        frames = iter(_plain(data, shape, allocated))
    else:
        frames = _decoded(data, syntax, shape)
    if photometric in COLOUR:
        return list(frames)
    shift = _shift(data, syntax)
    bits, signed = _bits(data), whole(data, "PixelRepresentation", 0, 1, default=0) == 1
    return [masked(frame, bits, shift, signed) for frame in frames]


def masked(stored: np.ndarray, bits: int, shift: int, signed: bool) -> np.ndarray:
    """Keep the stored bits alone, with their sign: nothing can hide in the unused ones.

    Args:
        stored: integers of 8, 16 or 32 bits, signed or not: only their bits count.
        bits: how many are stored, from bit ``shift`` on.
        shift: how far the stored bits lie above the lowest.
        signed: whether the highest of them is a sign.
    """
    width = stored.dtype.itemsize * 8
    if bits > width:
        width = 16 if bits <= 16 else 32
        stored = stored.astype(np.dtype(f"{stored.dtype.kind}{width // 8}"))
    plain = stored.astype(stored.dtype.newbyteorder("="), copy=False).view(np.dtype(f"u{width // 8}"))
    if shift:
        plain = plain >> np.uint8(shift)
    spare = width - bits
    if signed:
        values = plain.view(np.dtype(f"i{width // 8}"))
        return (values << spare) >> spare if spare else values
    return plain & plain.dtype.type((1 << bits) - 1) if spare else plain


def _bits(data: Dataset) -> int:
    bits = whole(data, "BitsStored", 1, 32)
    if bits > whole(data, "BitsAllocated", 1, 64):
        raise Unfit("INVALID_VALUE")
    return bits


def _shift(data: Dataset, syntax: str) -> int:
    """How far native stored bits lie above the lowest; decoders deliver them at the lowest."""
    bits = _bits(data)
    high = whole(data, "HighBit", 0, 63, default=bits - 1)
    is_native = syntax in (*_LITTLE_ENDIAN, _BIG_ENDIAN)
    return high + 1 - bits if is_native and bits <= high + 1 <= whole(data, "BitsAllocated", 1, 64) else 0


def _syntax(data: Dataset) -> str:
    """The transfer syntax; without one, only what the parser itself recognised is sure."""
    meta: Any = getattr(data, "file_meta", None)
    syntax: Any = meta.get("TransferSyntaxUID") if meta is not None else None
    if syntax:
        return str(syntax)
    implicit, little = getattr(data, "original_encoding", (None, None))
    if implicit is None or not little:
        raise Unfit("NO_TRANSFER_SYNTAX")
    data.ensure_file_meta()
    data.file_meta.TransferSyntaxUID = UID(_LITTLE_ENDIAN[0] if implicit else _LITTLE_ENDIAN[1])
    return str(data.file_meta.TransferSyntaxUID)


def _plain(data: Dataset, shape: tuple[int, ...], allocated: int) -> np.ndarray:
    """Native little-endian grey is a view of the file's bytes: nothing is copied, what follows is left."""
    content = element(data, "PixelData")
    if not isinstance(content, bytes):
        raise Unfit("INVALID_VALUE")
    count = int(np.prod(shape, dtype=object))
    if len(content) < count * (allocated // 8):
        raise Unfit("TRUNCATED")
    return np.frombuffer(content, dtype=f"<u{allocated // 8}", count=count).reshape(shape)


def _decoded(data: Dataset, syntax: str, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    decoder, plugin = decoder_for(syntax)
    if decoder.is_encapsulated:
        _hold_codestreams(data, syntax, shape)
    count = 0
    frames = decoder.iter_array(data, decoding_plugin=plugin)
    # one turn more than frames are declared: an excess shows as well
    for _ in chain(range(shape[0]), repeat(None, 1)):
        try:
            found = next(frames, None)
        except (MemoryError, KeyboardInterrupt):
            raise
        except BaseException as error:  # decoders raise whatever a stream drives them to, Rust even panics
            short = "less than expected" in str(error) or "truncated" in str(error).lower()
            raise Unfit("TRUNCATED" if short else "DECODE_ERROR") from None
        if found is None:
            break
        if found[0].shape != shape[1:]:
            raise Unfit("FRAME_MISMATCH")
        count += 1
        yield found[0]
    if count != shape[0]:
        raise Unfit("FRAME_MISMATCH")


def _hold_codestreams(data: Dataset, syntax: str, shape: tuple[int, ...]) -> None:
    """Hold number and size of the frames inside against the header, before a decoder believes them."""
    content = element(data, "PixelData")
    if not isinstance(content, bytes):
        raise Unfit("INVALID_VALUE")
    count = 0
    try:
        for codestream in generate_frames(content, number_of_frames=shape[0]):
            count += 1
            if syntax != _RLE and _size(codestream) != shape[1:3]:
                raise Unfit("FRAME_MISMATCH" if _size(codestream) else "DECODE_ERROR")
    except Unfit:
        raise
    except Exception:  # an offset table or a fragment that points outside
        raise Unfit("DECODE_ERROR") from None
    if count != shape[0]:
        raise Unfit("FRAME_MISMATCH")


def _size(codestream: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 codestream declares; None where it declares none."""
    start = codestream.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start >= 0:
        sides = [int.from_bytes(codestream[start + at : start + at + 4], "big") for at in (8, 12, 16, 20)]
        return sides[1] - sides[3], sides[0] - sides[2]
    at = 2
    while codestream[:2] == b"\xff\xd8" and at + 9 <= len(codestream) and codestream[at] == 0xFF:
        marker, length = codestream[at + 1], int.from_bytes(codestream[at + 2 : at + 4], "big")
        # start-of-frame markers: C0 to CF but for three of other meaning; F7 is JPEG-LS
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return (
                int.from_bytes(codestream[at + 5 : at + 7], "big"),
                int.from_bytes(codestream[at + 7 : at + 9], "big"),
            )
        at += 1 if marker == 0xFF else 2 + max(length, 2)
    return None
