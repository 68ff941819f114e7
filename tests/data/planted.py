"""A corpus of 89 files, each a sound object with one identifier planted in one place.

Standard attributes, dates, UIDs, sequences, private blocks, free text, misused value representations,
container, pixels, overlays, character sets, objects that are no images. Each file has pixels of its own, so
that its record can be told; its twin has the same pixels and nothing planted.
"""

import io
import struct
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.tag import Tag

EXPLICIT, IMPLICIT, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.50"
MR, SC, US = (
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.6.1",
)
SR, PDF = "1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.5.1.4.1.1.104.1"
SIDE = 16


@dataclass
class Plant:
    """One file of the corpus while it is made.

    Attributes:
        tokens: bytes that must not be found in anything that was written; none where pixels are compared.
        code: the reason code with which the file must be kept out; "" where it must become a record.
    """

    group: str
    place: str
    number: int
    code: str = ""
    tokens: list[bytes] = field(default_factory=list)
    data: Dataset = field(default_factory=Dataset)
    syntax: str = EXPLICIT
    preamble: bytes = bytes(128)
    after: bytes = b""
    name: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    pixels: bytes | None = None

    @property
    def word(self) -> str:
        """A name that occurs in this file alone."""
        return f"Quorndale{self.number:02d}x"

    @property
    def day(self) -> str:
        """A date that occurs in this file alone."""
        return f"19{31 + self.number // 12:02d}{1 + self.number % 12:02d}17"

    @property
    def uid(self) -> str:
        """A UID that occurs in this file alone."""
        return f"1.3.6.1.4.1.55555.9.{self.number}.777"

    def say(self, *texts: str, encodings: Iterable[str] = ("utf-8", "utf-16-le")) -> None:
        """Note texts as tokens, in several encodings."""
        self.tokens += [text.encode(encoding) for text in texts for encoding in encodings]

    def content(self) -> bytes:
        """The bytes of the file."""
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = self.syntax
        for keyword, value in self.meta.items():
            setattr(meta, keyword, value)
        self.data.file_meta = meta
        self.data.preamble = self.preamble
        buffer = io.BytesIO()
        with warnings.catch_warnings(action="ignore"):
            self.data.save_as(
                buffer,
                implicit_vr=self.syntax == IMPLICIT,
                little_endian=True,
                enforce_file_format=True,
            )
        return buffer.getvalue() + self.after


def stored(number: int) -> np.ndarray:
    """The pixels of one file: 12 of 16 bits."""
    return np.random.default_rng(number).integers(0, 4096, (SIDE, SIDE), dtype=np.uint16)


def sound(number: int) -> Dataset:
    """An MR image of nobody in particular."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = MR, f"1.2.826.0.1.3680043.2.{number}.1"
    data.StudyInstanceUID = f"1.2.826.0.1.3680043.2.{number}.2"
    data.SeriesInstanceUID = f"1.2.826.0.1.3680043.2.{number}.3"
    data.Modality, data.PatientID = "MR", f"P{number}"
    data.Rows = data.Columns = SIDE
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = stored(number).tobytes()
    return data


def drawn(text: str, side: int = 64) -> np.ndarray:
    """A picture with text in it, 8 bit."""
    picture = Image.new("L", (side, side))
    ImageDraw.Draw(picture).text((2, 20), text, fill=255)
    return np.asarray(picture)


def element(keyword: str) -> Callable[[Plant], None]:
    """Plant a word in one element."""

    def plant(it: Plant) -> None:
        setattr(it.data, keyword, it.word)
        it.say(it.word)

    return plant


def date(keyword: str, clock: str = "") -> Callable[[Plant], None]:
    """Plant a date in one element."""

    def plant(it: Plant) -> None:
        setattr(it.data, keyword, it.day + clock)
        dashed = f"{it.day[:4]}-{it.day[4:6]}-{it.day[6:]}"
        it.say(it.day, dashed)

    return plant


def uid(keyword: str) -> Callable[[Plant], None]:
    """Plant a UID in one element."""

    def plant(it: Plant) -> None:
        setattr(it.data, keyword, it.uid)
        it.say(it.uid)

    return plant


def nested(*path: str, last: str, value: str = "") -> Callable[[Plant], None]:
    """Plant a word, or the file's UID, at the end of a path of sequences."""

    def plant(it: Plant) -> None:
        text = it.uid if value == "uid" else it.word
        item = it.data
        for keyword in path:
            deeper = Dataset()
            setattr(item, keyword, Sequence([deeper]))
            item = deeper
        setattr(item, last, text)
        it.say(text)

    return plant


def raw(tag: tuple[int, int], vr: str, value: bytes | None = None) -> Callable[[Plant], None]:
    """Plant bytes in an element, whatever its dictionary says."""

    def plant(it: Plant) -> None:
        content = it.word.encode() + b" " * (len(it.word) % 2) if value is None else value
        with warnings.catch_warnings(action="ignore"):
            it.data.add_new(Tag(tag), vr, content if vr in ("UN", "OB", "OW") else content.decode())
        it.say(it.word)

    return plant


def misused(keyword: str, vr: str) -> Callable[[Plant], None]:
    """Plant a word in an element of a representation that allows none: written as LO, patched on disk."""

    def plant(it: Plant) -> None:
        it.data.add_new(Tag(keyword), "LO", it.word)
        it.say(it.word)
        it.meta["_patch"] = (Tag(keyword), vr)

    return plant


def patched(content: bytes, tag: Any, vr: str) -> bytes:
    """Change the representation of an element, as LO on disk, to another of the same layout."""
    head = struct.pack("<HH", tag.group, tag.element)
    place = content.index(head + b"LO", 132)
    return content[: place + 4] + vr.encode() + content[place + 6 :]


def after_pixels(it: Plant) -> None:
    it.data.PixelData = stored(it.number).tobytes() + (it.word.encode() + b" ") * 2
    it.say(it.word)


def burned_mr(it: Plant) -> None:
    it.data.PixelData = (drawn(it.word, SIDE).astype(np.uint16) * 16).tobytes()
    it.data.BurnedInAnnotation = "YES"


def burned_sc(it: Plant) -> None:
    it.data.SOPClassUID, it.data.Modality = SC, "OT"
    it.data.SamplesPerPixel, it.data.PhotometricInterpretation = 3, "RGB"
    it.data.PlanarConfiguration, it.data.BitsAllocated, it.data.BitsStored, it.data.HighBit = 0, 8, 8, 7
    it.data.PixelData = np.repeat(drawn(it.word, SIDE)[..., None], 3, axis=2).tobytes()


def burned_us(it: Plant) -> None:
    it.data.SOPClassUID, it.data.Modality = US, "US"
    it.data.BitsAllocated, it.data.BitsStored, it.data.HighBit = 8, 8, 7
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 8
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 15, 15
    it.data.SequenceOfUltrasoundRegions = Sequence([region])
    it.data.PixelData = drawn(it.word, SIDE).tobytes()


def high_bits(it: Plant) -> None:
    text = drawn("Q", SIDE) > 127
    it.data.PixelData = (stored(it.number) | (text.astype(np.uint16) << 15)).tobytes()


def overlay(group: int) -> Callable[[Plant], None]:
    def plant(it: Plant) -> None:
        bits = np.packbits(drawn(it.word, SIDE) > 127, bitorder="little")
        for place, vr, value in (
            (0x0010, "US", SIDE),
            (0x0011, "US", SIDE),
            (0x0040, "CS", "G"),
            (0x0050, "SS", [1, 1]),
            (0x0100, "US", 1),
            (0x0102, "US", 0),
            (0x3000, "OW", bits.tobytes()),
        ):
            it.data.add_new(Tag(group, place), vr, value)

    return plant


def in_group(group: int, *elements: tuple[int, str]) -> Callable[[Plant], None]:
    def plant(it: Plant) -> None:
        for place, vr in elements:
            value = it.word.encode() + b" " if vr in ("OB", "OW") else it.word
            it.data.add_new(Tag(group, place), vr, value)
        it.say(it.word)

    return plant


def icon(it: Plant) -> None:
    item = Dataset()
    item.Rows = item.Columns = 64
    item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
    item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 8, 8, 7, 0
    item.PixelData = drawn(it.word).tobytes()
    it.data.IconImageSequence = Sequence([item])


def picture(number: int, comment: bytes = b"") -> bytes:
    """A JPEG stream, with or without a comment segment."""
    buffer = io.BytesIO()
    Image.fromarray((stored(number) >> 4).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    content = buffer.getvalue()
    if not comment:
        return content
    return content[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + content[2:]


def as_jpeg(it: Plant, comment: bytes) -> None:
    it.syntax = JPEG
    it.data.BitsAllocated, it.data.BitsStored, it.data.HighBit = 8, 8, 7
    it.data.PixelData = encapsulate([picture(it.number, comment)])
    it.data["PixelData"].is_undefined_length = True


def jpeg_comment(it: Plant) -> None:
    as_jpeg(it, it.word.encode())
    it.say(it.word)
