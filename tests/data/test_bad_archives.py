"""Archives and array files that are broken, hostile or contradict themselves: refused, and nothing stays."""

import gzip
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phantomset.data.errors import SourceError
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.reading.tree import open_tree, unpacked
from phantomset.data.records import Cohort
from phantomset.data.source import Limits
from phantomset.data.workspace import Workspace

Source = dict[str, Any]
Make = Callable[..., bytes]
Draw = Callable[[int], np.ndarray]
TakeIn = Callable[..., Cohort]
Refuses = Callable[..., None]
TABLE = {"table": "labels.csv", "key": "file", "column": "label"}


def _archive(path: Path, members: dict[str, bytes], **options: Any) -> Path:
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_archive_members_never_leave_the_archive(
    tmp_path: Path, workspace: Workspace, take_in: TakeIn, make_png: Make, gradient: Draw
) -> None:
    """Names with '..', absolute and drive paths, and links are refused; nothing is ever extracted."""
    members = {f"a/im{n}.png": make_png(gradient(n)) for n in range(5)}
    members |= {
        name: make_png(gradient(50)) for name in ("../up.png", "/abs.png", "C:/drive.png", "a\\..\\b.png")
    }
    path = _archive(tmp_path / "in.zip", members)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("a/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/hostname")
    before = sorted(tmp_path.rglob("*"))
    cohort = take_in({"format": "folder", "path": path}, accept=1)
    assert cohort.quarantine == {"LINK_REFUSED": 1, "PATH_ESCAPE": 4}
    assert len(cohort.records) == 5
    assert sorted(p for p in tmp_path.rglob("*") if workspace.root not in p.parents) == [
        p for p in before if workspace.root not in p.parents
    ]


def test_archives_with_two_members_of_one_name(
    tmp_path: Path, take_in: TakeIn, make_png: Make, gradient: Draw
) -> None:
    """Which of the two is meant? Neither is taken, and both are counted."""
    path = _archive(tmp_path / "in.zip", {f"im{n}.png": make_png(gradient(n)) for n in range(5)})
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("im0.png", make_png(gradient(60)))
    cohort = take_in({"format": "folder", "path": path}, accept=1)
    assert cohort.quarantine == {"NAME_COLLISION": 2}
    assert cohort.files == 6


def test_a_bomb_in_an_archive(tmp_path: Path, take_in: TakeIn, make_png: Make, gradient: Draw) -> None:
    """32 MB of zeros pack a thousandfold: refused by the declared sizes, before a byte is expanded."""
    members = {f"im{n}.png": make_png(gradient(n)) for n in range(5)} | {"bomb.png": bytes(32 << 20)}
    path = _archive(tmp_path / "in.zip", members, compression=zipfile.ZIP_DEFLATED)
    assert take_in({"format": "folder", "path": path}, accept=1).quarantine == {"BOMB_RATIO": 1}


def test_a_damaged_member_is_quarantined(
    tmp_path: Path, take_in: TakeIn, make_png: Make, gradient: Draw
) -> None:
    """The archive's own checksum is held to the end."""
    path = _archive(tmp_path / "in.zip", {f"im{n}.png": make_png(gradient(n)) for n in range(5)})
    content = bytearray(path.read_bytes())
    content[content.index(make_png(gradient(2))) + 60] ^= 0xFF
    path.write_bytes(bytes(content))
    assert take_in({"format": "folder", "path": path}, accept=1).quarantine == {"CHECKSUM_MISMATCH": 1}


def test_an_encrypted_member_is_quarantined(
    tmp_path: Path, take_in: TakeIn, make_png: Make, gradient: Draw
) -> None:
    """Bit 0 of the flags, in the local header (offset 6) and in the directory (offset 8), says encrypted."""
    path = _archive(tmp_path / "in.zip", {f"im{n}.png": make_png(gradient(n)) for n in range(5)})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x03\x04") + 6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))
    assert take_in({"format": "folder", "path": path}, accept=1).quarantine == {"ENCRYPTED": 1}


@pytest.mark.parametrize("packed", [False, True])
def test_an_input_of_too_many_files_is_refused(
    packed: bool, tmp_path: Path, make_png: Make, gradient: Draw
) -> None:
    """A limit of the whole input, and of no single file: an error that names the code."""
    members = {f"im{n}.png": make_png(gradient(n)) for n in range(4)}
    path = _archive(tmp_path / "in.zip", members)
    if packed:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "in")
        path = tmp_path / "in"
    assert len(open_tree(path, Limits(members=4)).members()) == 4
    with pytest.raises(SourceError, match=r"more than 3 files, the limit \(TOO_MANY_MEMBERS\)"):
        open_tree(path, Limits(members=3))


def test_a_file_over_the_limit_of_bytes(tmp_path: Path, make_png: Make, gradient: Draw) -> None:
    """TOO_LARGE_FILE, unread: by its size, by what an archive declares of it, and by what gzip unpacks to."""
    content = make_png(gradient(0))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(content)
    archive = _archive(tmp_path / "in.zip", {"a.png": content})
    small = Limits(file_bytes=len(content) - 1, expansion_free_bytes=1 << 20)
    for path in (tmp_path / "in", archive):
        found = open_tree(path, small)
        with pytest.raises(Unfit, match="TOO_LARGE_FILE"):
            found.read(found.members()[0])
    with pytest.raises(Unfit, match="TOO_LARGE_FILE"):
        unpacked(gzip.compress(content), small)


def test_an_archive_whose_members_overlap_is_refused(
    tmp_path: Path, refuses: Refuses, make_png: Make, gradient: Draw
) -> None:
    """The densest bombs let many directory entries share one body: all offsets are set to the first."""
    path = _archive(tmp_path / "in.zip", {f"im{n}.png": make_png(gradient(n)) for n in range(3)})
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02")
    while place >= 0:
        struct.pack_into("<L", content, place + 42, 0)
        place = content.find(b"PK\x01\x02", place + 1)
    path.write_bytes(bytes(content))
    refuses({"format": "folder", "path": path}, "members that overlap")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"no archive at all"])
def test_a_file_that_is_no_archive(content: bytes, tmp_path: Path, refuses: Refuses) -> None:
    """The message says what was expected."""
    (tmp_path / "in.zip").write_bytes(content)
    refuses({"format": "folder", "path": tmp_path / "in.zip"}, "no sound ZIP file")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": np.zeros((3, 8, 8), np.uint8)}, "no pair of arrays"),
        ({"train_images": np.zeros((3, 8, 8), np.float32), "train_labels": np.arange(3)}, "is float32"),
        ({"train_images": np.zeros((3, 8, 8, 8), np.uint8), "train_labels": np.arange(3)}, "Volumes"),
        (
            {"train_images": np.zeros((3, 8, 8), np.uint8), "train_labels": np.arange(4)},
            "3 images and 4 labels",
        ),
        (
            {"train_images": np.zeros((3, 8, 8), np.uint8), "train_labels": np.ones((3, 14), int)},
            "14 columns",
        ),
        ({"train_images": np.zeros((3, 8, 8), np.uint8), "train_labels": np.ones(3)}, "float64"),
        ({"train_images": np.zeros((0, 8, 8), np.uint8), "train_labels": np.arange(0)}, "empty"),
        ({"train_images": np.array([[[{}]]]), "train_labels": np.arange(1)}, "Python objects"),
        ({"train_images": np.zeros((1, 4, 4), np.uint8), "train_labels": np.array(["a"])}, "<U1"),
    ],
)
def test_arrays_that_are_no_images_with_labels(
    arrays: dict[str, np.ndarray], message: str, tmp_path: Path, refuses: Refuses
) -> None:
    """Every contradiction is named with what was found; objects, which would run code, are never read."""
    np.savez(tmp_path / "in.npz", **arrays)
    refuses({"format": "medmnist", "path": tmp_path / "in.npz"}, message)


def test_label_names_must_cover_the_labels(tmp_path: Path, refuses: Refuses) -> None:
    """Three labels and two names do not fit."""
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "in.npz", train_images=images, train_labels=np.arange(3))
    source = {"format": "medmnist", "path": tmp_path / "in.npz", "label_names": ["a", "b"]}
    refuses(source, "2 names, but the labels go from 0 to 2")


def test_an_npz_file_cut_anywhere(tmp_path: Path, refuses: Refuses) -> None:
    """Truncated, it is damaged, and says so."""
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    np.savez_compressed(tmp_path / "in.npz", train_images=images, train_labels=np.arange(20))
    content = (tmp_path / "in.npz").read_bytes()
    for length in range(0, len(content), 97):
        (tmp_path / "in.npz").write_bytes(content[:length])
        refuses({"format": "medmnist", "path": tmp_path / "in.npz"}, "damaged")


def test_an_npz_file_with_a_flipped_byte(tmp_path: Path, refuses: Refuses) -> None:
    """Any byte of the packed pixels that changes is found by the checksum, however far down."""
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "in.npz", train_images=images, train_labels=np.arange(20))
    content = bytearray((tmp_path / "in.npz").read_bytes())
    content[content.index(images.tobytes()) + 1279] ^= 1
    (tmp_path / "in.npz").write_bytes(bytes(content))
    refuses({"format": "medmnist", "path": tmp_path / "in.npz"}, "damaged")


def test_an_npz_file_that_lost_bytes_inside(tmp_path: Path, refuses: Refuses) -> None:
    """Its directory then points before the first byte: the file is damaged, and not the workspace."""
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "in.npz", train_images=images, train_labels=np.arange(20))
    content = (tmp_path / "in.npz").read_bytes()
    (tmp_path / "in.npz").write_bytes(content[:500] + content[600:])
    refuses({"format": "medmnist", "path": tmp_path / "in.npz"}, "damaged")


@pytest.mark.parametrize(
    ("found", "instead", "message"),
    [
        (b"}", b"(", "damaged"),  # no Python text any more
        (b"(20, 8, 8)", b"(20, 8, 7)", "goes on"),
        (b"(20, 8, 8)", b"(20, 8, 9)", "damaged"),
    ],
)
def test_an_array_whose_header_is_wrong(
    found: bytes, instead: bytes, message: str, tmp_path: Path, refuses: Refuses
) -> None:
    """Text that cannot be parsed, and fewer or more pixels than the array has: the checksum is made anew."""
    arrays = {"train_images": np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)}
    for name, array in (arrays | {"train_labels": np.arange(20)}).items():
        np.save(tmp_path / f"{name}.npy", array)
    images = (tmp_path / "train_images.npy").read_bytes().replace(found, instead, 1)
    members = {"train_images.npy": images, "train_labels.npy": (tmp_path / "train_labels.npy").read_bytes()}
    _archive(tmp_path / "in.npz", members)
    refuses({"format": "medmnist", "path": tmp_path / "in.npz"}, message)


def test_an_npz_bomb(tmp_path: Path, refuses: Refuses) -> None:
    """64 MB of zeros pack a thousandfold: refused by the declared sizes."""
    np.savez_compressed(
        tmp_path / "in.npz",
        train_images=np.zeros((1 << 16, 32, 32), np.uint8),
        train_labels=np.zeros(1 << 16, int),
    )
    refuses({"format": "medmnist", "path": tmp_path / "in.npz"}, "decompression bomb")


def _idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}L", *array.shape) + array.tobytes()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (b"no idx", _idx(np.zeros(3, np.uint8)), "no IDX file"),
        (_idx(np.zeros((3, 8, 8), np.uint8), kind=13), _idx(np.zeros(3, np.uint8)), "no IDX file"),
        (_idx(np.zeros((3, 8, 8), np.uint8))[:-1], _idx(np.zeros(3, np.uint8)), "ends early"),
        (_idx(np.ones((3, 8, 8), np.uint8)) + b"x", _idx(np.zeros(3, np.uint8)), "goes on after"),
        (_idx(np.zeros((3, 8, 8), np.uint8)), _idx(np.zeros(4, np.uint8)), "3 images and 4 labels"),
        (
            _idx(np.zeros((3, 8, 8), np.uint8)),
            _idx(np.zeros((3, 1), np.uint8)),
            "expected one number an image",
        ),
        (_idx(np.zeros((3, 8), np.uint8)), _idx(np.zeros(3, np.uint8)), "expected uint8"),
        (
            gzip.compress(_idx(np.zeros((3, 8, 8), np.uint8)), mtime=0)[:-9],
            _idx(np.zeros(3, np.uint8)),
            "damaged",
        ),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, _idx(np.zeros(3, np.uint8)), "limits"),
    ],
)
def test_idx_files_that_contradict_their_header(
    images: bytes, labels: bytes, message: str, tmp_path: Path, refuses: Refuses
) -> None:
    """Too short, too long, another type, other counts, a broken gzip, sizes of a lying header."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "train-images-idx3-ubyte").write_bytes(images)
    (tmp_path / "in" / "train-labels-idx1-ubyte").write_bytes(labels)
    refuses({"format": "idx", "path": tmp_path / "in"}, message)
