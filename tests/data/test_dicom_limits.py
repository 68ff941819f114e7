"""Limits of a DICOM header: depth, elements, what follows the data set, how far it may inflate."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

from phantomset.data.dicom.header import parse
from phantomset.data.source import Limits

from .gate import held

Make = Callable[..., bytes]


@pytest.mark.parametrize(("depth", "code"), [(31, ""), (32, ""), (33, "TOO_DEEP"), (100, "TOO_DEEP")])
def test_items_in_items_down_to_the_limit(depth: int, code: str, make_dicom: Make) -> None:
    """Sequences of undefined length, which a parser opens at once: 32 inside one another, and no more."""
    start = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    end = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    content = make_dicom(PatientComments="x")
    place = content.index(struct.pack("<HH2s", 0x0010, 0x4000, b"LT"))
    assert held(content[:place] + start * depth + end * depth + content[place:]) == code


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("more", "code"), [(0, ""), (1, "TOO_MANY_MEMBERS")])
def test_elements_up_to_the_limit(nested: bool, more: int, code: str, make_dicom: Make) -> None:
    """In the data set, or in an item that a parser opens at once; one more is too many."""
    content = make_dicom(PatientComments="x")
    place = content.index(struct.pack("<HH2s", 0x0010, 0x4000, b"LT"))
    there = 0 if nested else len(parse(content, Limits()))
    numbers = range(0x10, Limits().elements - there + 0x10 + more)
    elements = b"".join(struct.pack("<HH2sH", 0x0011, n, b"LO", 2) + b"x " for n in numbers)
    if nested:
        start = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF)
        elements = b"".join(
            (
                start,
                b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
                elements,
                b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0",
            )
        )
    assert held(content[:place] + elements + content[place:]) == code


@pytest.mark.parametrize("tail", [b"x", b"JONE", b"CANARY1", b"\0\0\0x", b"CANARY78", b"SMITH^JOHN" * 9])
@pytest.mark.parametrize("kind", ["native", "deflated", "after the stream", "compressed"])
def test_bytes_after_the_data_set(tail: bytes, kind: str, make_dicom: Make) -> None:
    """However few, they may hide anything: TRAILING_DATA. Zeros fill up to an even length or a block."""

    def with_tail(after: bytes) -> bytes:
        if kind == "compressed":
            data = pydicom.dcmread(BytesIO(make_dicom()))
            data.compress(RLELossless)
            stream = BytesIO()
            data.save_as(stream, enforce_file_format=True)
            return stream.getvalue() + after
        if kind != "deflated":
            syntax = DeflatedExplicitVRLittleEndian if kind == "after the stream" else ExplicitVRLittleEndian
            return make_dicom(syntax=syntax) + after
        content = make_dicom(syntax=DeflatedExplicitVRLittleEndian)
        start = 144 + int.from_bytes(content[140:144], "little")
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        plain = zlib.decompress(content[start:], wbits=-zlib.MAX_WBITS)
        return content[:start] + packer.compress(plain + after) + packer.flush()

    assert held(with_tail(b"")) == held(with_tail(bytes(len(tail)))) == ""
    assert held(with_tail(tail)) == "TRAILING_DATA"


@pytest.mark.parametrize("last", [b"\x18\x00\x004Y\x18\x00\x00", b"\xfe\xff\xdd\xe0\0\0\0\0"])
def test_an_empty_element_of_no_kind_at_the_end(last: bytes, make_dicom: Make) -> None:
    """A value representation that is none, or the end of a sequence that never began: a code, no error."""
    assert held(make_dicom(PixelData=None) + last) == "MISSING_REQUIRED"


def test_an_element_that_comes_again_after_the_pixels(make_dicom: Make) -> None:
    """It would take the place of the first: what stands behind the pixels is told by where it lies."""
    again = struct.pack("<HH2sH", 0x0010, 0x0020, b"LO", 4) + b"P2  "
    assert held(make_dicom() + again) == "TRAILING_DATA"


def test_a_deflated_bomb_is_refused_without_inflating_it(make_dicom: Make) -> None:
    """64 MB of zeros in 64 KB: the limit holds before pydicom sees the file."""
    content = make_dicom(syntax="1.2.840.10008.1.2.1.99")
    meta = 144 + struct.unpack("<L", content[140:144])[0]
    machine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = b"".join(machine.compress(bytes(1 << 20)) for _ in range(64)) + machine.flush()
    assert held(content[:meta] + packed) == "BOMB_RATIO"
    assert held(content) == ""
