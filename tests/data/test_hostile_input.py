"""Hostile files: a reason code each, or the picture and nothing else; never a crash, a hang or an escape."""

import importlib
import io
import os
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLosslessSV1

from phantomset.data.dicom.header import parse
from phantomset.data.dicom.pixels import unit_images
from phantomset.data.errors import RecipeError
from phantomset.data.quarantine.ledger import CODES, Unfit
from phantomset.data.reading import tree
from phantomset.data.records import Cohort
from phantomset.data.source import Limits
from phantomset.data.workspace import Workspace

Make = Callable[..., bytes]
Draw = Callable[[int], np.ndarray]
TakeIn = Callable[..., Cohort]


def _dicom(tmp_path: Path, take_in: TakeIn, make_dicom: Make, hostile: bytes) -> dict[str, int]:
    """What becomes of one hostile file among three sound ones."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 4096, (8, 8), dtype=np.uint16)
        (folder / f"{number}.dcm").write_bytes(make_dicom(pixels, PatientID=f"P{number}"))
    (folder / "hostile.dcm").write_bytes(hostile)
    cohort = take_in({"format": "dicom", "path": folder}, accept=1)
    assert cohort.files == 4
    assert len(cohort.records) + sum(cohort.quarantine.values()) == 4
    return cohort.quarantine


def _zip(path: Path, members: dict[str, bytes]) -> Path:
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("magic", [b"II*\0\x08\0\0\0", b"MZ\x90\0", b"%PDF-1.7\n", b"\x7fELF"])
def test_what_a_preamble_pretends_counts_for_nothing(
    magic: bytes, tmp_path: Path, take_in: TakeIn, make_dicom: Make, workspace: Workspace
) -> None:
    """A DICOM file that is a TIFF, a program or a PDF as well is its pixels; the preamble goes nowhere."""
    content = magic + b"CANARY^PREAMBLE" + make_dicom()[len(magic) + 15 :]
    assert _dicom(tmp_path, take_in, make_dicom, content) == {}
    stored = [path for path in workspace.root.rglob("*") if path.is_file()]
    assert stored
    assert not [path for path in stored if b"CANARY^PREAMBLE" in path.read_bytes()]


def test_a_suffix_counts_for_nothing(tmp_path: Path, take_in: TakeIn, make_png: Make, gradient: Draw) -> None:
    """A PNG named .nii is a picture, a ZIP inside a ZIP and a PDF named .png are none."""
    inner = _zip(tmp_path / "inner.zip", {"a.png": make_png(gradient(9))}).read_bytes()
    members = {f"im{n}.png": make_png(gradient(n)) for n in range(4)}
    members |= {"brain.nii": make_png(gradient(5)), "more.zip": inner, "report.png": b"%PDF-1.7 " * 40}
    cohort = take_in({"format": "folder", "path": _zip(tmp_path / "in.zip", members)}, accept=1)
    assert cohort.quarantine == {"NOT_RECOGNISED": 2}
    assert len(cohort.records) == 5


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (("A.png", "a.png"), "NAME_COLLISION"),
        (("x\x01.png",), "PATH_ESCAPE"),
        (("x\x1b[2J.png",), "PATH_ESCAPE"),
        (("x\0y.png",), "PATH_ESCAPE"),
    ],
)
def test_names_that_deceive(
    names: tuple[str, ...], code: str, tmp_path: Path, take_in: TakeIn, make_png: Make, gradient: Draw
) -> None:
    """Names that are one on some disks, and names that write to a terminal."""
    members = {f"im{n}.png": make_png(gradient(n)) for n in range(4)}
    members |= {name: make_png(gradient(20 + n)) for n, name in enumerate(names)}
    path = _zip(tmp_path / "in.zip", {name.replace("\0", "~"): content for name, content in members.items()})
    path.write_bytes(path.read_bytes().replace(b"x~y.png", b"x\0y.png"))  # Python would write it as "x"
    assert take_in({"format": "folder", "path": path}, accept=1).quarantine == {code: len(names)}


def test_names_that_are_no_text(tmp_path: Path, take_in: TakeIn, make_png: Make, gradient: Draw) -> None:
    """Bytes that are no UTF-8 in a file's name are a name like any other."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        (folder / f"im{number}.png").write_bytes(make_png(gradient(number)))
    with open(os.fsencode(folder) + b"/\xff\xfe.png", "wb") as stream:  # noqa: PTH123 - bytes are no Path
        stream.write(make_png(gradient(3)))
    assert len(take_in({"format": "folder", "path": folder}).records) == 4


def test_a_folder_that_becomes_a_link_leads_nowhere(tmp_path: Path) -> None:
    """Between listing and reading a folder is swapped for a link out of the input: LINK_REFUSED."""
    inside, outside = tmp_path / "in" / "sub", tmp_path / "out"
    for folder in (inside, outside):
        folder.mkdir(parents=True)
        (folder / "a").write_bytes(b"x")
    found = tree.open_tree(tmp_path / "in", Limits())
    (member,) = found.members()
    assert found.read(member) == b"x"
    (inside / "a").unlink()
    inside.rmdir()
    inside.symlink_to(outside)
    with pytest.raises(Unfit) as caught:
        found.read(member)
    assert caught.value.code == "LINK_REFUSED"


@pytest.mark.parametrize("place", ["inside", "outside"])
def test_a_hard_link_is_refused(
    place: str, tmp_path: Path, take_in: TakeIn, make_png: Make, gradient: Draw
) -> None:
    """A file with a second name, here or elsewhere: LINK_REFUSED under each name that lies here."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(5):
        (folder / f"im{number}.png").write_bytes(make_png(gradient(number)))
    second = (folder if place == "inside" else tmp_path) / "again.png"
    second.hardlink_to(folder / "im0.png")
    refused = 2 if place == "inside" else 1
    assert take_in({"format": "folder", "path": folder}, accept=0.5).quarantine == {"LINK_REFUSED": refused}


@pytest.mark.parametrize(
    ("path", "code"), [("/dev/zero", "SPECIAL_FILE"), ("/proc/self/status", "CHANGED_DURING_READ")]
)
def test_a_device_and_a_file_of_the_kernel(path: str, code: str) -> None:
    """A device is never read; a file that says it is empty and is not has changed: neither hangs."""
    with pytest.raises(Unfit) as caught:
        tree.read_file(Path(path), Limits())
    assert caught.value.code == code


def test_files_are_listed_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    """Whole paths are compared, as if all were sorted at once: "/" stands after "." and "-"."""
    names = [
        "a.png",
        "a/b.png",
        "a/c/d.png",
        "a-b/e.png",
        "a0.png",
        "A.png",
        "\xe9.png",
        "a/b/f.png",
        "a/b0.png",
    ]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    listed = [member.key for member in tree.open_tree(tmp_path, Limits()).members()]
    assert listed == sorted(names, key=os.fsencode)


def test_a_long_listing_is_lean(tmp_path: Path) -> None:
    """Names wait to be sorted, and nothing else: some 400 bytes a file at most. Beyond the limit it stops."""
    for number in range(5000):
        (tmp_path / f"image-{number:09d}.dcm").touch()
    found = tree.Tree(tmp_path, Limits())
    tracemalloc.start()
    try:
        assert len(found.members()) == 5000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5000 * 400
    assert len(tree.Tree(tmp_path, Limits(members=10)).members()) == 11


def test_a_file_that_nobody_may_read(tmp_path: Path) -> None:
    """READ_DENIED: neither opened nor taken for a link."""
    path = tmp_path / "a"
    path.write_bytes(b"x")
    path.chmod(0)
    everybody = os.geteuid()
    if not everybody:
        os.seteuid(65534)  # to the superuser nothing is forbidden
    try:
        with pytest.raises(Unfit) as caught:
            tree.read_file(path, Limits())
    finally:
        os.seteuid(everybody)
    assert caught.value.code == "READ_DENIED"


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It grows under the reader: neither the old nor the new half is taken."""
    path = tmp_path / "a"
    path.write_bytes(b"x" * 100)
    read = tree._read_all

    def slowly(descriptor: int, size: int) -> bytes:
        content = read(descriptor, size)
        with path.open("ab") as stream:
            stream.write(b"more")
        os.utime(path, (1, 1))
        return content

    monkeypatch.setattr(tree, "_read_all", slowly)
    with pytest.raises(Unfit) as caught:
        tree.read_file(path, Limits())
    assert caught.value.code == "CHANGED_DURING_READ"


def _headers(make_dicom: Make) -> bytes:
    content = make_dicom()
    return content[: 144 + struct.unpack("<L", content[140:144])[0]]


def _many_elements() -> bytes:
    return b"".join(
        struct.pack("<HH2sH2s", 0x0011, n % 0xFF00 + 0x10, b"LO", 2, b"x ") for n in range(60_000)
    )


@pytest.mark.parametrize(
    "tail",
    [
        struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF)
        + b"\xfe\xff\x00\xe0\xff\xff\xff\xff" * 3,
        struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 0xFFFFFFFF) + bytes(64),
        struct.pack("<HH2sHL", 0x0009, 0x1010, b"OB", 0, 0x7FFFFFFF) + bytes(64),
        _many_elements(),
    ],
    ids=["sequence without end", "pixels without end", "element of 2 GiB", "sixty thousand elements"],
)
def test_headers_without_end_or_measure(
    tail: bytes, tmp_path: Path, take_in: TakeIn, make_dicom: Make
) -> None:
    """Lengths that lie, ends that never come, elements without number: one code, no allocation, no hang."""
    (code,) = _dicom(tmp_path, take_in, make_dicom, _headers(make_dicom) + tail)
    assert code in CODES
    assert code not in ("INTERNAL_ERROR", "DECODER_CRASH", "DECODE_TIMEOUT")


def _compressed(make_dicom: Make, pixel_data: bytes, **elements: Any) -> bytes:
    pydicom = importlib.import_module("pydicom")
    data = pydicom.dcmread(io.BytesIO(make_dicom(**elements)))
    data.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    data.PixelData = pixel_data
    data["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _codestreams() -> Iterator[tuple[str, bytes, str]]:
    def packed(side: int) -> bytes:
        pixels = np.random.default_rng(77).integers(0, 4096, (side, side), dtype=np.uint16)
        return imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=16)

    sound = encapsulate([packed(8)], has_bot=True)
    yield "sound", sound, ""
    yield "larger than the header says", encapsulate([packed(16)]), "FRAME_MISMATCH"
    yield "two frames where one is declared", encapsulate([packed(8), packed(8)]), "FRAME_MISMATCH"
    yield "no offset table", encapsulate([packed(8)], has_bot=False), ""
    outside = sound[:8] + struct.pack("<L", 0x7FFFFFF0) + sound[12:]
    yield "an offset that points outside", outside, "DECODE_ERROR"


@pytest.mark.parametrize(
    ("pixel_data", "code"), [each[1:] for each in _codestreams()], ids=[each[0] for each in _codestreams()]
)
def test_codestreams_that_contradict_the_header(
    pixel_data: bytes, code: str, tmp_path: Path, take_in: TakeIn, make_dicom: Make
) -> None:
    """Size and number of the frames inside are held against the header before a decoder runs."""
    hostile = _compressed(make_dicom, pixel_data, SOPInstanceUID="1.2.3.99", PatientID="P9")
    found = _dicom(tmp_path, take_in, make_dicom, hostile)
    if code == "DECODE_ERROR":
        assert found == {} or set(found) <= {"DECODE_ERROR", "FRAME_MISMATCH"}
    else:
        assert found == ({code: 1} if code else {})


def test_a_recipe_runs_nothing(tmp_path: Path) -> None:
    """YAML that would make a Python object is refused, unmade."""
    recipe_file = importlib.import_module("phantomset.pipelines.recipes.recipe_file")
    trap = tmp_path / "trap"
    (tmp_path / "r.yaml").write_text(f"name: !!python/object/apply:os.mkdir ['{trap}']\n")
    with pytest.raises(RecipeError):
        recipe_file.read(str(tmp_path / "r.yaml"), [])
    assert not trap.exists()


@pytest.mark.parametrize(
    ("keyword", "code"),
    [
        ("RescaleSlope", "LUT_INVALID"),
        ("RescaleIntercept", "LUT_INVALID"),
        ("WindowCenter", "LUT_INVALID"),
        ("WindowWidth", "LUT_INVALID"),
        ("PixelSpacing", "SPACING_INVALID"),
    ],
)
@pytest.mark.parametrize("value", [b"nan", b"inf", b"1e999"])
def test_numbers_that_are_none(make_dicom: Make, keyword: str, code: str, value: bytes) -> None:
    """Not a number, infinite, or beyond what a float holds, in the text of a header: a code each."""
    sound: dict[str, Any] = {
        "RescaleSlope": "1",
        "RescaleIntercept": "0",
        "PixelSpacing": ["1", "1"],
        "WindowCenter": 32,
        "WindowWidth": 41,
    }
    marked = ["1.25000", "1"] if keyword == "PixelSpacing" else "1.25000"
    content = make_dicom(**(sound | {keyword: marked}))
    with pytest.raises(Unfit, match=code):
        list(unit_images(parse(content.replace(b"1.25000", value.ljust(7)), Limits()), "auto", Limits()))
