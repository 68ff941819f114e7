"""Sets made elsewhere: four forms, one content; what is wrong is told by name and never guessed at."""

import csv
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phantomset.data.errors import SourceError
from phantomset.data.outside import UNLABELLED, OutsideSet, read_set

LABELS = ("normal", "nodule", "normal", "nodule")
PATIENTS = ("p1", "p2", "P1 ", "p3")


def pictures(count: int = 4, side: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    stream = BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def index(names: list[str]) -> bytes:
    rows = [
        f"{name},{label},{patient},F" for name, label, patient in zip(names, LABELS, PATIENTS, strict=True)
    ]
    return "\n".join(["file_name,label,patient,PatientSex", *rows]).encode()


def as_folder(root: Path) -> Path:
    names = [f"{label}/{n}.png" for n, label in enumerate(LABELS)]
    for name, image in zip(names, pictures(), strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(image))
    (root / "metadata.csv").write_bytes(index(names))
    return root


def as_zip(root: Path) -> Path:
    names = [f"{n}.png" for n in range(4)]
    with zipfile.ZipFile(root.with_suffix(".zip"), "w") as archive:
        for name, image in zip(names, pictures(), strict=True):
            archive.writestr(f"set/{name}", png(image))
        archive.writestr("set/index.csv", index(names))
    return root.with_suffix(".zip")


def as_npz(root: Path) -> Path:
    path = root.with_suffix(".npz")
    np.savez(path, images=pictures(), labels=np.array(LABELS), patients=np.array(PATIENTS))
    return path


def as_release(root: Path) -> Path:
    as_folder(root / "images")
    (root / "manifest.json").write_text("{}")
    (root / "README.md").write_text("a card")
    return root


def contents(found: OutsideSet) -> list[tuple[int, str, str]]:
    assert found.patients is not None
    return sorted(
        (round(float(image.sum()) * 255), label, patient)
        for image, label, patient in zip(found.images, found.labels, found.patients, strict=True)
    )


def test_four_forms_have_one_content(tmp_path: Path) -> None:
    """Folder, ZIP file with an index among its pictures, .npz, release: one content."""
    forms = [make(tmp_path / make.__name__) for make in (as_folder, as_zip, as_npz, as_release)]
    read = [read_set(path, "train") for path in forms]
    assert all(contents(found) == contents(read[0]) for found in read)
    assert len(set(read[0].patients or ())) == 3  # one spelling of "p1" and "P1 "
    assert read[0].attributes == {"PatientSex": ["F"] * 4}
    assert not any(found.unreadable for found in read)


def test_labels_come_from_folders_where_there_is_no_index(tmp_path: Path) -> None:
    """Without an index nobody is a patient; pictures at the top have no label."""
    as_folder(tmp_path / "set")
    (tmp_path / "set" / "metadata.csv").unlink()
    (tmp_path / "set" / "top.png").write_bytes(png(pictures()[0]))
    found = read_set(tmp_path / "set", "train")
    assert found.patients is None
    assert sorted(found.labels) == sorted([*LABELS, UNLABELLED])


def test_the_keys_of_medmnist_are_pooled(tmp_path: Path) -> None:
    """Three parts, labels as a column of numbers named by label_names."""
    arrays = {
        f"{part}_{kind}": pictures(2) if kind == "images" else np.array([[0], [1]])
        for part in ("train", "val", "test")
        for kind in ("images", "labels")
    }
    np.savez(tmp_path / "set.npz", **arrays, label_names=np.array(["a", "b"]))
    assert read_set(tmp_path / "set.npz", "train").labels == ["a", "b"] * 3


def test_a_corrupt_picture_is_counted(tmp_path: Path) -> None:
    """What cannot be read is told by its code; the others are read."""
    as_folder(tmp_path / "set")
    broken = tmp_path / "set" / "normal" / "0.png"
    broken.write_bytes(broken.read_bytes()[:60])
    found = read_set(tmp_path / "set", "train")
    assert len(found.images) == 3
    assert sum(found.unreadable.values()) == 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((3, 12, 12))}, "images is float64"),
        ({"images": np.zeros((3, 12, 12, 2), np.uint8)}, "1 or 3"),
        ({"images": pictures(), "labels": np.array([1, 2])}, "4 images and 2 labels"),
        ({"images": pictures(), "patients": np.array(["a"])}, "1 entries for 4 images"),
        ({"images": pictures(), "labels": np.array([0, 1, 2, 0]), "label_names": np.array(["a"])}, "1 names"),
        ({"images": pictures(), "labels": np.array([{}] * 4, dtype=object)}, "holds Python objects"),
        ({"scans": pictures()}, "no array 'images'"),
        ({"images": pictures(0)}, "no image that can be read"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    """Floats, channels, lengths, objects: one message that names the option, what was found and expected."""
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(SourceError, match=f"^--holdout: .*{message}"):
        read_set(tmp_path / "set.npz", "holdout")


def test_places_that_hold_no_set(tmp_path: Path) -> None:
    """Missing, empty, damaged, or with an index that names no file: the option is named."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 nothing")
    (tmp_path / "indexed").mkdir()
    (tmp_path / "indexed" / "a.png").write_bytes(png(pictures()[0]))
    with (tmp_path / "indexed" / "index.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["what", "label"], ["a.png", "x"]])
    for name, message in (
        ("missing", "does not exist|no such|missing"),
        ("empty", "empty"),
        ("broken.npz", "damaged"),
        ("indexed", "no column that names the file"),
    ):
        with pytest.raises(SourceError, match=f"(?i)^--train: .*({message})"):
            read_set(tmp_path / name, "train")
