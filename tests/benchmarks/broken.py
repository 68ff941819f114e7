"""Sound inputs of every format, and ways to break them: number n of a kind and a seed is always the same.

A specimen is the files of one input by their names. Most changes are made inside of what carries a checksum
(gzip, ZIP, PNG), and that is then made anew: else nearly all would end there and none would reach a reader.
"""

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel
import numpy as np
import pandas as pd
from PIL import Image
from pydicom.data import get_testdata_file

from phantomset.data.reading.tree import Member

Files = dict[str, bytes]
"""The files of an input: contents by relative path."""

TABLE = "index.csv"
_ONE = "file"
_PNG = b"\x89PNG\r\n\x1a\n"
_GZIP = b"\x1f\x8b"
_INSIDE = 0.75
"""How often a change is made inside of a container instead of in its own bytes."""

_DICOM = (
    *("CT_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm", "JPGExtended.dcm"),
    *("MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_small_odd.dcm", "image_dfl.dcm"),
    *("examples_palette.dcm", "JPEGLSNearLossless_16.dcm", "SC_rgb_rle_16bit.dcm"),
)
_VOLUMES = (
    *("real/anatomical.nii", "real/example_nifti2.nii.gz", "real/resampled_anat_moved.nii"),
    *("derived/mask_uint8.nii.gz", "derived/rgb24.nii.gz"),
)
_SLICES = 4
_WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_TEXTS = (
    *(",", ";", "\t", '"', '""', "'", "\n", "\r", "\r\n", "\0", "\ufeff", "\u202e", "\x1b[2J", "=1+1", "-1"),
    *(
        "nan",
        "inf",
        "1e999",
        "9" * 400,
        "\u0661\u0662",
        "NONE",
        " ",
        "/",
        "../",
        "\\",
        "age",
        "label",
        "file",
    ),
)


def specimens(kind: str, datasets: Path) -> list[Files]:
    """Return sound inputs of a kind: real ones, the pictures also in other formats."""
    return _SOUND[kind](datasets)


def broken(kind: str, sound: list[Files], seed: int, number: int) -> Files:
    """Return broken input ``number``."""
    rng = np.random.default_rng([seed, number])
    return _BREAK[kind](dict(sound[number % len(sound)]), rng)


class Broken:
    """A tree whose files are made when they are read."""

    def __init__(self, kind: str, sound: list[Files], seed: int) -> None:
        self._kind, self._sound, self._seed = kind, sound, seed

    def read(self, member: Member) -> bytes:
        """Return the broken file whose number is the member's key."""
        return broken(self._kind, self._sound, self._seed, int(member.key))[_ONE]


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a file with one to six changes, mostly one: bytes, words, and spans that are cut or doubled.

    Half of the changes hit the first or the last 1,024 bytes, where headers and directories are.
    """
    changed = bytearray(content)
    for _ in range(min(6, int(rng.geometric(0.5)))):
        if not changed:
            break
        at, length = _place(len(changed), rng), int(rng.integers(1, 65))
        match int(rng.integers(12)):
            case 0 | 1 | 2:
                changed[at] ^= 1 << int(rng.integers(8))
            case 3 | 4:
                changed[at : at + length] = rng.bytes(min(length, len(changed) - at))
            case 5 | 6:
                order = "little" if rng.random() < 0.5 else "big"
                word = _WORDS[int(rng.integers(len(_WORDS)))].to_bytes(4, order)
                changed[at : at + 4] = word[: len(changed) - at]
            case 7 | 8:
                del changed[at : at + length]
            case 9 | 10:
                changed[at:at] = changed[at : at + length]
            case _:
                del changed[at:]
    return bytes(changed)


def _place(size: int, rng: np.random.Generator) -> int:
    near = int(rng.integers(min(size, 1024)))
    chance = rng.random()
    if chance < 0.35:
        return near
    return size - 1 - near if chance < 0.5 else int(rng.integers(size))


def _mutated_text(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a table with one to six changes, mostly one, that leave it UTF-8: marks put in, cells cut."""
    text = content.decode()
    for _ in range(min(6, int(rng.geometric(0.5)))):
        at, length = int(rng.integers(len(text) + 1)), int(rng.integers(1, 65))
        match int(rng.integers(4)):
            case 0:
                text = text[:at] + text[at + length :]
            case 1:
                text = text[:at] + text[at : at + length] + text[at:]
            case 2:
                lines = text.splitlines(keepends=True)
                text = "".join(lines[int(i)] for i in rng.permutation(len(lines)))
            case _:
                text = text[:at] + _TEXTS[int(rng.integers(len(_TEXTS)))] + text[at:]
    return text.encode()


def _break_file(files: Files, rng: np.random.Generator) -> Files:
    return {_ONE: mutated(files[_ONE], rng)}


def _break_volume(files: Files, rng: np.random.Generator) -> Files:
    """Plain, or gzipped after the change, or gzipped before it."""
    content = files[_ONE]
    if rng.random() > _INSIDE:
        return {_ONE: mutated(gzip.compress(content, 1, mtime=0), rng)}
    changed = mutated(content, rng)
    return {_ONE: gzip.compress(changed, 1, mtime=0) if rng.random() < 0.5 else changed}


def _break_picture(files: Files, rng: np.random.Generator) -> Files:
    """Of a PNG file the checksums are mostly made anew."""
    changed = mutated(files[_ONE], rng)
    return {_ONE: _with_checksums(changed) if rng.random() < _INSIDE else changed}


def _break_archive(files: Files, rng: np.random.Generator) -> Files:
    """A member before it is put into the ZIP file, or the ZIP file itself."""
    is_inside = rng.random() < _INSIDE
    if is_inside:
        name = sorted(files)[int(rng.integers(len(files)))]
        files[name] = mutated(files[name], rng)
    buffer = io.BytesIO()
    how = zipfile.ZIP_DEFLATED if rng.random() < 0.5 else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, how)
    return {_ONE: buffer.getvalue() if is_inside else mutated(buffer.getvalue(), rng)}


def _break_pair(files: Files, rng: np.random.Generator) -> Files:
    """One of two IDX files: plain, or gzipped after the change, or gzipped before it."""
    name = sorted(files)[int(rng.integers(len(files)))]
    changed = _break_volume({_ONE: files.pop(name)}, rng)[_ONE]
    return files | {f"{name}.gz" if changed.startswith(_GZIP) else name: changed}


def _break_table(files: Files, rng: np.random.Generator) -> Files:
    change = _mutated_text if rng.random() < _INSIDE else mutated
    return files | {TABLE: change(files[TABLE], rng)}


def _with_checksums(content: bytes) -> bytes:
    """Return a PNG file with the checksums that its chunks should have; other files as they are."""
    if not content.startswith(_PNG):
        return content
    mended, at = bytearray(content), len(_PNG)
    while (end := at + 8 + int.from_bytes(mended[at : at + 4], "big")) + 4 <= len(mended):
        mended[end : end + 4] = zlib.crc32(mended[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(mended)


def _dicom(datasets: Path) -> list[Files]:
    return [{_ONE: Path(str(get_testdata_file(name))).read_bytes()} for name in _DICOM]


def _volumes(datasets: Path) -> list[Files]:
    """Published volumes, of each the first slices, and one of four dimensions and the other byte order."""
    kept = []
    for name in _VOLUMES:
        volume: Any = nibabel.load(datasets / "nifti" / name)
        kept.append(volume.slicer[:, :, :_SLICES].to_bytes())
    deep = nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(9, 8, 3, 2)).astype(">f4"), np.eye(4))
    return [{_ONE: each} for each in (*kept, deep.to_bytes())]


def _pictures(datasets: Path) -> list[Files]:
    """A radiograph and a photograph as they are published and in each other format that is read."""
    grey_file, colour_file = _members(datasets / "kermany-cxr-64.zip", 1)[0], _ham(datasets, 1)[0]
    grey = Image.open(io.BytesIO(grey_file[1])).convert("L")
    colour = Image.open(io.BytesIO(colour_file[1])).convert("RGB")
    exif = Image.Exif()
    exif[274], exif[270] = 6, "a description"
    deep, wide = np.asarray(grey).astype(np.uint16) * 257, np.asarray(colour).astype(np.uint16) * 257
    return [
        {_ONE: content}
        for content in (
            *(grey_file[1], colour_file[1]),
            *(_saved(grey, kind) for kind in ("JPEG", "BMP", "TIFF")),
            *(_saved(colour, kind) for kind in ("PNG", "BMP", "TIFF")),
            _saved(grey, "PNG", exif=exif),
            _saved(colour, "JPEG", exif=exif, progressive=True),
            _saved(colour.quantize(16), "PNG", transparency=3),
            _saved(colour.quantize(16), "TIFF", compression="tiff_lzw"),
            _saved(grey, "TIFF", compression="jpeg"),
            _saved(grey, "TIFF", save_all=True, append_images=[grey.rotate(90), grey.rotate(180)]),
            _saved(Image.fromarray(deep), "TIFF", compression="tiff_adobe_deflate"),
            _saved(Image.fromarray(deep), "PNG"),
            *(bytes(imagecodecs.png_encode(wide)), _deep_tiff(wide)),
        )
    ]


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _deep_tiff(values: np.ndarray) -> bytes:
    """A plain TIFF file of colour at 16 bits, which Pillow does not write. Source: TIFF 6.0, section 6."""
    height, width, _ = values.shape
    data = values.astype("<u2").tobytes()
    bits_at = 8 + len(data)
    tags = [
        *((256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, bits_at), (259, 3, 1, 1), (262, 3, 1, 2)),
        *((273, 4, 1, 8), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(data)), (284, 3, 1, 1)),
    ]
    entries = b"".join(
        tag.to_bytes(2, "little")
        + kind.to_bytes(2, "little")
        + count.to_bytes(4, "little")
        # a value shorter than four bytes stands at the left, which little-endian gives by itself
        + value.to_bytes(4, "little")
        for tag, kind, count, value in tags
    )
    directory = len(tags).to_bytes(2, "little") + entries + bytes(4)
    return b"II*\0" + (bits_at + 6).to_bytes(4, "little") + data + np.full(3, 16, "<u2").tobytes() + directory


def _medmnist(datasets: Path) -> list[Files]:
    counts = {"train_images": 4, "train_labels": 4, "val_images": 2, "val_labels": 2}
    with np.load(datasets / "pneumoniamnist.npz") as arrays:
        return [{f"{name}.npy": _npy(arrays[name][:count]) for name, count in counts.items()}]


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _idx(datasets: Path) -> list[Files]:
    with np.load(datasets / "mnist.npz") as arrays:
        images, labels = arrays["test_images"][:6], arrays["test_labels"][:6].astype(np.uint8)
    return [{"t10k-images-idx3-ubyte": _idx_file(images), "t10k-labels-idx1-ubyte": _idx_file(labels)}]


def _idx_file(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def _archives(datasets: Path) -> list[Files]:
    """Two pictures a class in folders: radiographs, photographs; and the smaller pictures of each format."""
    small = [content for content in (files[_ONE] for files in _pictures(datasets)) if len(content) < 6_000]
    formats = [{f"a/{i}": content for i, content in enumerate(small[at : at + 4])} for at in (0, 4)]
    return [dict(_members(datasets / "kermany-cxr-64.zip", 2)), dict(_ham(datasets, 2)), *formats]


def _tables(datasets: Path) -> list[Files]:
    """Six photographs with their rows of the publisher's table, in both ways that tables are written.

    The photographs are made small: they are decoded again for each broken table.
    """
    pictures = {
        name: _saved(Image.open(io.BytesIO(content)).resize((8, 8)), "BMP")
        for name, content in _ham(datasets, 3)
    }
    with zipfile.ZipFile(datasets / "ham10000-nv-mel-150.zip") as archive, archive.open(TABLE) as stream:
        index = pd.read_csv(stream, dtype=str)
    rows = index[index["file"].isin(pictures)]
    other = rows.to_csv(index=False, sep=";", lineterminator="\r\n")
    return [
        pictures | {TABLE: rows.to_csv(index=False).encode()},
        pictures | {TABLE: other.encode("utf-8-sig")},
    ]


def _members(path: Path, count: int) -> list[tuple[str, bytes]]:
    """Return the first pictures of each class of a published set, by name."""
    with zipfile.ZipFile(path) as archive:
        with archive.open(TABLE) as stream:
            index = pd.read_csv(stream, dtype=str)
        names = index.sort_values("file").groupby("label").head(count)["file"]
        return [(name, archive.read(name)) for name in names]


def _ham(datasets: Path, count: int) -> list[tuple[str, bytes]]:
    return _members(datasets / "ham10000-nv-mel-150.zip", count)


_SOUND: dict[str, Callable[[Path], list[Files]]] = {
    **{"dicom": _dicom, "nifti": _volumes, "folder": _pictures},
    **{"medmnist": _medmnist, "idx": _idx, "zip": _archives, "table": _tables},
}
_BREAK: dict[str, Callable[[Files, np.random.Generator], Files]] = {
    **{"dicom": _break_file, "nifti": _break_volume, "folder": _break_picture},
    **{"medmnist": _break_archive, "idx": _break_pair, "zip": _break_archive, "table": _break_table},
}
FILES, WHOLE = ("dicom", "nifti", "folder"), ("medmnist", "idx", "zip", "table")
"""Kinds whose input is one file that a worker decodes, and kinds that are ingested as a whole."""
