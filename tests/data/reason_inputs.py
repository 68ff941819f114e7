"""For each reason code of the quarantine an input in which a file has it."""

import errno
import gzip
import importlib
import io
import os
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, JPEGLosslessSV1

from phantomset.data.burned_in import reader
from phantomset.data.burned_in.reader import TextBox
from phantomset.data.decoding.workers import Bounds, decode_all
from phantomset.data.dicom import decoders, header
from phantomset.data.reading import tree
from phantomset.data.sources import folder
from phantomset.data.synthetic_mark import SOURCE_TYPE

CLASS = "1.2.840.10008.5.1.4.1.1."
VIDEO = "1.2.840.10008.1.2.4.100"
TABLE = {"table": "labels.csv", "key": "file", "column": "label"}


@dataclass(frozen=True)
class Bench:
    """What an input is made with: its folder, and writers of files."""

    root: Path
    dicom: Callable[..., bytes]
    png: Callable[..., bytes]
    patch: pytest.MonkeyPatch

    def picture(self, number: int, side: int = 8) -> bytes:
        return self.png(np.random.default_rng(number).integers(20, 200, (side, side), dtype=np.uint8))


@dataclass(frozen=True)
class Case:
    """An input: files by name, and how it is taken in."""

    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    kind: str = "dicom"
    source: dict[str, Any] = field(default_factory=dict[str, Any])
    near: str = "group"
    workers: int = 0


Maker = Callable[[Bench], Case]


def _bytes(content: bytes, kind: str = "dicom") -> Maker:
    return lambda bench: Case({"x": content}, kind)


def _header(**elements: Any) -> Maker:
    return lambda bench: Case({"x": bench.dicom(**elements)})


def _pair(first: dict[str, Any], second: dict[str, Any]) -> Maker:
    """Two DICOM files of different pixels."""

    def make(bench: Bench) -> Case:
        pixels = np.random.default_rng(0).integers(0, 999, (2, 8, 8), dtype=np.uint16)
        return Case({"x": bench.dicom(pixels[0], **first), "y": bench.dicom(pixels[1], **second)})

    return make


def _around(change: Callable[[bytes], bytes], **elements: Any) -> Maker:
    """A sound DICOM file, changed."""
    return lambda bench: Case({"x": change(bench.dicom(**elements))})


def _inserted(more: bytes) -> Callable[[bytes], bytes]:
    """Put elements before Patient Comments (0010,4000)."""

    def change(content: bytes) -> bytes:
        place = content.index(struct.pack("<HH2s", 0x0010, 0x4000, b"LT"))
        return content[:place] + more + content[place:]

    return change


def _packed(syntax: str, *frames: bytes) -> Callable[[bytes], bytes]:
    """Give a DICOM file compressed pixels."""

    def change(content: bytes) -> bytes:
        data = pydicom.dcmread(io.BytesIO(content))
        data.file_meta.TransferSyntaxUID = syntax
        data.PixelData = encapsulate(list(frames))
        data["PixelData"].is_undefined_length = True
        buffer = io.BytesIO()
        data.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    return change


def _jpeg(side: int) -> bytes:
    pixels = np.random.default_rng(77).integers(0, 4096, (side, side), dtype=np.uint16)
    return imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=16)


def _frames(*kinds: str) -> Maker:
    """A multi-frame object: noise, the same noise again, or one value."""
    noise = np.random.default_rng(5).integers(0, 4096, (8, 8), dtype=np.uint16)
    stack = b"".join((np.zeros_like(noise) if kind == "blank" else noise).tobytes() for kind in kinds)

    def change(content: bytes) -> bytes:
        data = pydicom.dcmread(io.BytesIO(content))
        data.NumberOfFrames, data.PixelData = len(kinds), stack
        buffer = io.BytesIO()
        data.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    return _around(change)


def _volume(values: np.ndarray | None = None, body_part: str = "other", **fields: Any) -> Maker:
    """A NIfTI file whose header says something else, or a volume of these values."""
    noise = np.random.default_rng(0).integers(0, 99, (9, 9, 4)).astype(np.int16)
    image = nibabel.Nifti1Image(noise if values is None else values, np.diag([-1.0, -1.0, 1.0, 1.0]))
    content, changed = bytearray(image.to_bytes()), image.header.copy()
    changed["vox_offset"] = 352
    for name, value in fields.items():
        changed[name] = value
    content[:348] = changed.binaryblock
    return lambda bench: Case({"x.nii": bytes(content)}, "nifti", {"body_part": body_part})


def _rows(*rows: str, **labels: Any) -> Maker:
    """Pictures a to d, and a table of labels whose rows for c and d these are."""

    def make(bench: Bench) -> Case:
        files = {f"{name}.png": bench.picture(number) for number, name in enumerate("abcd")}
        table = "\n".join(["file,label,who", "a.png,x,1", "b.png,y,2", *rows])
        more = {"labels": TABLE | labels, "patient": {"column": "who"}}
        return Case(files | {"labels.csv": table.encode()}, "folder", more)

    return make


def _zip(*names: str, link: bool = False, flags: int = 0) -> Maker:
    """A ZIP file of sound pictures, and more members of these names."""

    def make(bench: Bench) -> Case:
        place = bench.root.parent / "in.zip"
        with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(place, "w") as archive:
            for number in range(3):
                archive.writestr(f"{number}.png", bench.picture(number))
            for number, name in enumerate(names):
                archive.writestr(name, bench.picture(10 + number))
        content = bytearray(place.read_bytes())
        content[content.index(b"PK\x03\x04") + 6] |= flags
        content[content.index(b"PK\x01\x02") + 8] |= flags
        place.write_bytes(bytes(content))
        return Case(kind="folder", source={"path": place})

    return make


def _flipped_checksum(bench: Bench) -> Case:
    content = bytearray(bench.picture(9))
    start = content.index(b"IDAT") + 4
    content[start + int.from_bytes(content[start - 8 : start - 4], "big")] ^= 1
    return Case({"x.png": bytes(content)}, "folder")


def _cmyk(bench: Bench) -> Case:
    buffer = io.BytesIO()
    Image.new("CMYK", (8, 8)).save(buffer, "JPEG")
    return Case({"x.jpg": buffer.getvalue()}, "folder")


def _closed(bench: Bench) -> Case:
    opened = tree._open

    def guarded(path: Path, root: Path) -> int:
        if path.name == "closed":  # the superuser, who may run this test, is let in everywhere
            raise PermissionError(errno.EACCES, "closed")
        return opened(path, root)

    bench.patch.setattr(tree, "_open", guarded)
    return Case({"closed": bench.dicom()})


def _growing(bench: Bench) -> Case:
    read = tree._read_all

    def slowly(descriptor: int, size: int) -> bytes:
        content = read(descriptor, size)
        if content.endswith(b"GROWS"):
            with (bench.root / "x").open("ab") as stream:
                stream.write(b"more")
            os.utime(bench.root / "x", (1, 1))
        return content

    bench.patch.setattr(tree, "_read_all", slowly)
    return Case({"x": b"GROWS"})


def _link(bench: Bench) -> Case:
    (bench.root / "x").symlink_to(bench.root.parent)
    return Case()


def _pipe(bench: Bench) -> Case:
    os.mkfifo(bench.root / "x")
    return Case()


def _huge(bench: Bench) -> Case:
    with (bench.root / "x").open("wb") as stream:
        stream.truncate((512 << 20) + 1)  # a hole: it takes no room on the disk
    return Case()


def _fault(bench: Bench) -> Case:
    links = header.links_of
    bench.patch.setattr(header, "links_of", lambda data: 1 / (data.PatientID != "FAULT") and links(data))
    return Case({"x": bench.dicom(PatientID="FAULT")})


def _decoder(content: bytes) -> Maker:
    """A decoder that dies, or does not end, over one file: in a process of its own, as all decoders are."""

    def make(bench: Bench) -> Case:
        (bench.root.parent / "hostile_decoder.py").write_text(
            "import os, signal\n"
            "from phantomset.data.sources import folder\n"
            "def decode(content, *more):\n"
            "    if content == b'crash': os.kill(os.getpid(), signal.SIGSEGV)\n"
            "    while content == b'hang': pass\n"
            "    yield from folder.decode(content, *more)\n"
        )
        bench.patch.syspath_prepend(bench.root.parent)
        decode = importlib.import_module("hostile_decoder").decode
        bench.patch.setattr(
            "phantomset.data.ingest.source_of", lambda _: replace(folder.SOURCE, decode=decode)
        )
        impatient = partial(decode_all, bounds=Bounds(seconds=1))
        bench.patch.setattr("phantomset.data.ingest.decode_all", impatient)
        return Case({"x": content}, "folder", workers=1)

    return make


def _no_decoder(bench: Bench) -> Case:
    bench.patch.setattr(decoders.util, "find_spec", lambda _: None)
    return Case({"x": _packed(JPEGLosslessSV1, _jpeg(8))(bench.dicom())})


def _text(bench: Bench) -> Case:
    box = TextBox((0.0, 0.0, 0.25, 0.125), 9, 0.9)
    bench.patch.setattr(reader, "is_installed", lambda: True)
    bench.patch.setattr(reader, "version", lambda: "reader 1")
    bench.patch.setattr(reader, "hold_weights", lambda: None)
    bench.patch.setattr(reader, "read", lambda shown: [box] if (shown[1:3, 1:7] > 200).all() else [])
    pixels = np.random.default_rng(0).integers(20, 180, (32, 32), dtype=np.uint16)
    pixels[1:3, 1:7] = 255
    return Case({"x": bench.dicom(pixels, WindowCenter=128, WindowWidth=256)})


def _near(bench: Bench) -> Case:
    files = {f"{number:02d}.png": bench.picture(number, 32) for number in range(12)}
    brighter = np.asarray(Image.open(io.BytesIO(files["00.png"]))) + 30
    return Case(files | {"x.png": bench.png(brighter)}, "folder", near="drop")


def _encrypted() -> dict[str, Any]:
    item = Dataset()
    item.EncryptedContentTransferSyntaxUID, item.EncryptedContent = "1.2.840.10008.1.2", b"\1\2"
    return {"EncryptedAttributesSequence": [item]}


def _without_meta(content: bytes) -> bytes:
    return content[144 + int.from_bytes(content[140:144], "little") :]


_DEEP = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
_CLOSED = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
_MANY = b"".join(struct.pack("<HH2sH", 0x0011, n + 0x10, b"LO", 2) + b"x " for n in range(20_001))
_STUDY, _SERIES = {"StudyInstanceUID": "1.2.7"}, {"SeriesInstanceUID": "1.2.8"}
_INFINITE = np.full((9, 9, 4), np.inf, dtype=np.float32)

MAKERS: dict[str, Maker] = {
    "NOT_RECOGNISED": _bytes(b"hello, doctor\n" * 50),
    "EMPTY_FILE": _bytes(b""),
    "NO_PREAMBLE_UNPROVEN": _bytes(b"\x08\x00\x05\x00" + bytes(20)),
    "PARSE_ERROR": _bytes(b"\xff\xd8\xff" + bytes(50), "folder"),
    "TRUNCATED": _around(lambda content: content[:-40]),
    "TRAILING_DATA": _around(lambda content: content + b"CANARY78"),
    "CHECKSUM_MISMATCH": _flipped_checksum,
    "ENCRYPTED": _header(**_encrypted()),
    "READ_DENIED": _closed,
    "CHANGED_DURING_READ": _growing,
    "LINK_REFUSED": _link,
    "SPECIAL_FILE": _pipe,
    "PATH_ESCAPE": _zip("../up.png"),
    "NAME_COLLISION": _zip("A.png", "a.png"),
    "TOO_LARGE_FILE": _huge,
    "TOO_MANY_PIXELS": _header(Rows=65535, Columns=65535),
    "TOO_MANY_FRAMES": _header(NumberOfFrames=1_000_000),
    "TOO_MANY_MEMBERS": _around(_inserted(_MANY), PatientComments="x"),
    "TOO_DEEP": _around(_inserted(_DEEP * 33 + _CLOSED * 33), PatientComments="x"),
    "BOMB_RATIO": _bytes(gzip.compress(bytes(32 << 20), mtime=0)),
    "INTERNAL_ERROR": _fault,
    "NO_TRANSFER_SYNTAX": _around(_without_meta, syntax=ExplicitVRBigEndian),
    "UNSUPPORTED_TRANSFER_SYNTAX": _around(_packed(VIDEO, b"x" * 8)),
    "DECODER_MISSING": _no_decoder,
    "DECODE_ERROR": _around(_packed(JPEGLosslessSV1, _jpeg(8)[:60])),
    "DECODE_TIMEOUT": _decoder(b"hang"),
    "DECODER_CRASH": _decoder(b"crash"),
    "FRAME_MISMATCH": _around(_packed(JPEGLosslessSV1, _jpeg(16))),
    "NOT_AN_IMAGE": _header(SOPClassUID=f"{CLASS}88.11", PixelData=None),
    "DERIVED_OBJECT": _header(SOPClassUID=f"{CLASS}66.4"),
    "LOCALIZER_OR_SCREEN": _header(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    "MISSING_REQUIRED": _header(Rows=None),
    "INVALID_VALUE": _header(Rows=0),
    "UNSUPPORTED_PIXEL_FORMAT": _cmyk,
    "INCONSISTENT_SERIES": _pair({**_SERIES, "Modality": "CR"}, {**_SERIES, "Modality": "DX"}),
    "LUT_INVALID": _header(RescaleSlope=0, RescaleIntercept=0),
    "SPACING_INVALID": _header(PixelSpacing=[0, 1]),
    "NON_FINITE": _volume(_INFINITE),
    "CONSTANT_IMAGE": lambda bench: Case({"x": bench.dicom(np.full((8, 8), 7, dtype=np.uint16))}),
    "LOW_CONTENT": _frames("noise", "blank"),
    "AFFINE_INVALID": _volume(srow_y=[0, 0, 0, 0]),
    "NOT_A_VOLUME": _volume(intent_code=3001),
    "DIM_UNSUPPORTED": _volume(dim=[5, 9, 9, 1, 1, 4, 1, 1]),
    "NO_PATIENT": _header(PatientID=" "),
    "PATIENT_CONFLICT": _pair({**_STUDY, "PatientID": "P1"}, {**_STUDY, "PatientID": "P2"}),
    "UID_CONFLICT": _pair({"SOPInstanceUID": "1.2.9"}, {"SOPInstanceUID": "1.2.9"}),
    "NO_LABEL": _rows("c.png,x,3"),
    "LABEL_UNKNOWN": _rows("c.png,=1+1,3", "d.png,x,4"),
    "LABEL_CONFLICT": _rows("c.png,x,3", "c.png,y,3", "d.png,x,4"),
    "NOT_SELECTED": _rows("c.png,z,3", "d.png,x,4", classes=["x", "y"]),
    "DUPLICATE_EXACT": lambda bench: Case(dict.fromkeys("xy", bench.picture(5)), "folder"),
    "DUPLICATE_NEAR": _near,
    "NEIGHBOUR_THINNED": _frames("noise", "noise"),
    "MARKED_SYNTHETIC": lambda bench: Case({"x": bench.picture(5) + SOURCE_TYPE.encode()}, "folder"),
    "BURNED_IN_DECLARED": _header(BurnedInAnnotation="YES"),
    "BURNED_IN_TEXT": _text,
    "BURNED_IN_RISK": _header(SOPClassUID=f"{CLASS}6.1", Modality="US"),
    "FACE_RISK": _volume(body_part="head"),
}
"""By reason code, what makes an input in which a file has it."""
