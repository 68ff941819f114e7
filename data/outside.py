"""Sets that were made or cut outside: a folder, a ZIP file, an ``.npz`` file or a release, read as they are.

Of a release any form will do (`released`).

A folder or ZIP file holds pictures, and may hold an index (``metadata.csv`` or ``index.csv``) with a column
for the file and optional ones for label and patient; what other columns say is kept as attributes. Without an
index the label is the name of the file's folder. An ``.npz`` file has ``images``, ``labels`` and perhaps
``patients``, or the keys of MedMNIST.
"""

import csv
import io
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from phantomset.data.deidentify import patient_key
from phantomset.data.errors import SourceError
from phantomset.data.pixels.pictures import unit_pictures
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.reading.labels import LabelTable
from phantomset.data.reading.tree import Member, Tree, missing, open_tree
from phantomset.data.source import Limits
from phantomset.data.synthetic_mark import NPZ_KEY

INDEXES = ("metadata.csv", "index.csv")
FILE_COLUMNS = ("file_name", "file", "filename", "path", "image")
LABEL_COLUMNS = ("label", "class", "finding")
PATIENT_COLUMNS = ("patient", "patient_id", "subject", "subject_id")
UNLABELLED = "unlabelled"

_PAIRS = (
    ("images", "labels"),
    ("train_images", "train_labels"),
    ("val_images", "val_labels"),
    ("test_images", "test_labels"),
)
_WANTED = "a folder, a ZIP file, an .npz file or a release"


@dataclass(slots=True)
class OutsideSet:
    """What was read.

    Attributes:
        images: one ``(H, W)`` or ``(H, W, 3)`` float32 in [0, 1] each.
        labels: class of each image, as text.
        patients: patient of each image in one spelling; None where the set does not say.
        attributes: further columns of the index, by name, a cell an image.
        unreadable: files that could not be read, by reason code.
    """

    images: list[np.ndarray] = field(default_factory=list[np.ndarray])
    labels: list[str] = field(default_factory=list[str])
    patients: list[str] | None = None
    attributes: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    unreadable: Counter[str] = field(default_factory=Counter[str])

    def take(self, rows: list[int]) -> "OutsideSet":
        """Return the images at the given positions."""
        return OutsideSet(
            [self.images[row] for row in rows],
            [self.labels[row] for row in rows],
            None if self.patients is None else [self.patients[row] for row in rows],
            {column: [cells[row] for row in rows] for column, cells in self.attributes.items()},
            self.unreadable,
        )


def read_set(path: Path, name: str) -> OutsideSet:
    """Return a set; ``name`` ("synthetic", "train", ...) is what messages call it.

    Raises:
        SourceError: it is missing, holds no image, or its index or arrays do not fit.
    """
    try:
        marked = name == "synthetic"
        found = _read_release(path, marked) or _pooled([_read(place, marked) for place in _places_of(path)])
    except SourceError as error:
        message = str(error).removeprefix("source.path: ").removeprefix("source.labels.table: ")
        raise SourceError(f"--{name}: {message}") from None
    if not found.images:
        codes = ", ".join(f"{count:,} {code}" for code, count in sorted(found.unreadable.items()))
        raise SourceError(f"--{name}: {path} holds no image that can be read ({codes or 'it is empty'}).")
    return found


def _places_of(path: Path) -> list[Path]:
    """Return where a release keeps its arrays or PNG files, by part where it is divided; any other place is
    what it is.
    """
    if not (path / "manifest.json").is_file():
        return [path]
    if arrays := sorted(path.glob("*.npz")):
        return arrays[:1]
    parts = sorted(table.parent for table in path.glob("images/*/metadata.csv"))
    return parts or [path / "images" if (path / "images").is_dir() else path]


def _read_release(path: Path, marked: bool) -> OutsideSet | None:
    """Return a release that has neither arrays nor a table of PNG files; None for any other place."""
    if (
        not (path / "manifest.json").is_file()
        or list(path.glob("*.npz"))
        or list(path.glob("images/**/*.csv"))
    ):
        return None
    from phantomset.data import released  # here: Parquet and DICOM cost half a second

    limits, found = Limits(), OutsideSet()
    for read, label in released.entries(path, limits):
        try:
            found.images.append(released.unit_image(read(), limits, marked))
            found.labels.append(label or UNLABELLED)
        except Unfit as unfit:
            found.unreadable[unfit.code] += 1
    return found if found.images or found.unreadable else None


def _read(path: Path, marked: bool) -> OutsideSet:
    return _read_npz(path, marked) if path.is_file() and path.suffix == ".npz" else _read_tree(path, marked)


def _pooled(parts: list[OutsideSet]) -> OutsideSet:
    """Return the parts of a release as one set: there are no patients, and no columns but the label."""
    if len(parts) == 1:
        return parts[0]
    return OutsideSet(
        [image for part in parts for image in part.images],
        [label for part in parts for label in part.labels],
        unreadable=sum((part.unreadable for part in parts), Counter[str]()),
    )


# Folders and ZIP files --------------------------------------------------------------------------------


def _read_tree(path: Path, marked: bool) -> OutsideSet:
    limits = Limits()
    try:
        path.stat()
    except OSError as error:
        raise missing(path, _WANTED, error) from None
    tree = open_tree(path, limits)
    members = tree.members()
    tables = {member.key: member for member in members if member.key.rpartition("/")[2] in INDEXES}
    if len(tables) > 1:
        raise SourceError(f"{path} holds {len(tables)} indexes; one is needed, for all images.")
    pictures = [member for member in members if member.key not in tables]
    found = OutsideSet()
    index = _index(tree, next(iter(tables.values())), found) if tables else None
    if index is not None:
        index.table.fit(member.key.removeprefix(index.prefix) for member in pictures)
    for member in pictures:
        try:
            row = index.table.row(member.key.removeprefix(index.prefix)) if index is not None else {}
            pages = [page.unit for page in unit_pictures(tree.read(member), limits, marked=marked)]
        except Unfit as unfit:
            found.unreadable[unfit.code] += 1
            continue
        for page in pages:
            _add(found, page, member, row, index)
    return found


@dataclass(frozen=True, slots=True)
class _Index:
    table: LabelTable
    prefix: str
    label: str | None
    patient: str | None
    others: tuple[str, ...]


def _index(tree: Tree, member: Member, found: OutsideSet) -> _Index:
    try:
        content = tree.read(member)
        header = next(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")), list[str]())
    except (Unfit, UnicodeDecodeError, csv.Error):
        raise SourceError(f"{member.key}: cannot be read as CSV in UTF-8. Save it anew.") from None
    key, label, patient = (
        next((column for column in columns if column in header), None)
        for columns in (FILE_COLUMNS, LABEL_COLUMNS, PATIENT_COLUMNS)
    )
    if key is None:
        raise SourceError(
            f"{member.key}: has no column that names the file. Call it one of {', '.join(FILE_COLUMNS)}."
        )
    others = tuple(column for column in header if column and column not in (key, label, patient))
    columns = [column for column in (label, patient, *others) if column is not None]
    found.patients = [] if patient is not None else None
    found.attributes = {column: [] for column in others}
    prefix = member.key[: member.key.rfind("/") + 1]
    return _Index(LabelTable.read(content, key, columns), prefix, label, patient, others)


def _add(
    found: OutsideSet, page: np.ndarray, member: Member, row: dict[str, str], index: _Index | None
) -> None:
    """Put one picture into the set; one without a patient, where others have one, is unreadable."""
    patient = None
    if index is not None and index.patient is not None:
        patient = patient_key(row[index.patient])
        if patient is None:
            found.unreadable["NO_PATIENT"] += 1
            return
    folder = member.key.rpartition("/")[0].rpartition("/")[2]
    label = folder if index is None or index.label is None else row[index.label]
    found.images.append(page)
    found.labels.append(label or UNLABELLED)
    if found.patients is not None and patient is not None:
        found.patients.append(patient)
    for column in found.attributes:
        found.attributes[column].append(row[column])


# Arrays -----------------------------------------------------------------------------------------------


def _read_npz(path: Path, marked: bool) -> OutsideSet:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except OSError as error:
        raise missing(path, _WANTED, error) from None
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        raise SourceError(
            f"{path} is damaged, holds Python objects, or is no .npz file. Save plain arrays anew."
        ) from None
    if not marked and NPZ_KEY in arrays:
        raise SourceError(f"{path} says that a trained model made its images (MARKED_SYNTHETIC).")
    names = arrays.get("label_names")
    found = OutsideSet(patients=[] if "patients" in arrays else None)
    pairs = [pair for pair in _PAIRS if pair[0] in arrays]
    if not pairs:
        raise SourceError(f"{path} has no array 'images' or 'train_images'; found {', '.join(arrays)[:200]}.")
    for images, labels in pairs:
        _add_array(found, arrays[images], arrays.get(labels), names, images)
    if found.patients is not None:
        patients = arrays["patients"].reshape(-1)
        if len(pairs) > 1 or len(patients) != len(found.images):
            raise SourceError(
                f"{path}: 'patients' has {len(patients):,} entries for {len(found.images):,} images."
            )
        found.patients = [patient_key(str(patient)) or "" for patient in patients.tolist()]
    return found


def _add_array(found: OutsideSet, images: np.ndarray, labels: Any, names: Any, key: str) -> None:
    fits = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
    if images.dtype != np.uint8 or not fits:
        raise SourceError(
            f"{key} is {images.dtype} {images.shape}; uint8 (images, height, width) or "
            "(images, height, width, 1 or 3) is needed."
        )
    flat = np.zeros(len(images), np.int64) if labels is None else np.asarray(labels).reshape(-1)
    if len(flat) != len(images):
        raise SourceError(f"{key} has {len(images):,} images and {len(flat):,} labels; one each is needed.")
    if names is not None and flat.dtype.kind in "iu" and len(flat):
        if not 0 <= int(flat.min()) <= int(flat.max()) < len(names):
            raise SourceError(f"{key}: label_names has {len(names)} names, and labels go beyond them.")
        flat = np.asarray(names)[flat]
    grey = images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images
    found.images.extend(grey.astype(np.float32) / np.float32(255))
    found.labels.extend(UNLABELLED if labels is None else str(label) for label in flat.tolist())
