"""Each output form holds the set and nothing else, and the same set gives the same bytes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from phantomset.data import catalogue
from phantomset.data.errors import ReleaseError
from phantomset.data.records import ImageSet
from phantomset.pipelines.publisher import About, Publisher, class_folders, divided

from .drafts import images

NAMES = catalogue.names("phantomset.pipelines.publishers")
ABOUT = About("tiny", "0" * 64, "CC-BY-4.0")
SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


def publisher(name: str) -> Publisher:
    return catalogue.load("phantomset.pipelines.publishers", name)


def written(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_set_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    """Two writings of one set agree in every file: no host or chance is in them."""
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        publisher(name).write(images(9, 3), ABOUT, tmp_path / place)
    assert written(tmp_path / "a") == written(tmp_path / "b")
    assert written(tmp_path / "a")


@pytest.mark.parametrize("name", NAMES)
def test_the_bytes_do_not_depend_on_the_day(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written while the clock says another year, the bytes are the same (zip stamps its members)."""
    import time

    (tmp_path / "a").mkdir()
    publisher(name).write(images(4, 3), ABOUT, tmp_path / "a")
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(2_000_000_000))
    (tmp_path / "b").mkdir()
    publisher(name).write(images(4, 3), ABOUT, tmp_path / "b")
    assert written(tmp_path / "a") == written(tmp_path / "b")


@pytest.mark.parametrize("name", NAMES)
def test_patients_are_not_written(name: str, tmp_path: Path) -> None:
    """The patient codes of a set change no byte: a publisher writes pixels, labels and names alone."""
    synthetic = images(6, 3)
    coded = ImageSet(synthetic.images, synthetic.labels, np.arange(6), synthetic.label_names)
    for place, what in (("a", synthetic), ("b", coded)):
        (tmp_path / place).mkdir()
        publisher(name).write(what, ABOUT, tmp_path / place)
    assert written(tmp_path / "a") == written(tmp_path / "b")


def test_no_publisher_can_reach_the_store() -> None:
    """Importing every publisher loads neither the store of real images nor ingest."""
    script = (
        "import sys; from phantomset.data import catalogue\n"
        f"for name in {NAMES!r}: catalogue.load('phantomset.pipelines.publishers', name)\n"
        "assert not {'phantomset.data.store', 'phantomset.data.ingest', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize(
    ("labels", "folders"),
    [
        (("normal", "pneumonia"), ("normal", "pneumonia")),  # plain and in order: as they are
        (("b", "a"), ("0-b", "1-a")),  # not in text order: ImageFolder would swap the indices
        (("A", "a"), ("0-A", "1-a")),  # one folder where case does not count
        (("No Finding", "Mass"), ("0-No-Finding", "1-Mass")),
        (("../../etc", "x"), ("0-etc", "1-x")),
        (("", "x"), ("0", "1-x")),
        (("CON", "x"), ("0-CON", "1-x")),  # a device on Windows
        (("Ödem", "x"), ("0-Odem", "1-x")),
    ],
)
def test_folder_names_are_safe_and_in_label_order(labels: tuple[str, ...], folders: tuple[str, ...]) -> None:
    """Labels that are safe, distinct and sorted are kept; all others get their index in front."""
    assert class_folders(labels) == folders


def test_twelve_classes_sort_by_number() -> None:
    """With more than ten classes the index is padded, so that folder 10 does not come before folder 2."""
    folders = class_folders(tuple(str(n) for n in range(12)))
    assert list(folders) == sorted(folders)
    assert folders[2] == "02-2"
    assert len(set(folders)) == 12


def test_every_class_is_divided_alike() -> None:
    """Of 10, 20 and 5 images a class, 60:20:20 gives 6+12+3, 2+4+1 and 2+4+1, and each image once."""
    labels = np.repeat([0, 1, 2], [10, 20, 5])
    synthetic = images(35, 3)
    synthetic = ImageSet(synthetic.images, labels, synthetic.patients, synthetic.label_names)
    parts = divided(synthetic, SHARES, "0" * 64)
    assert list(parts) == ["train", "validation", "test"]
    counts = [np.bincount(labels[positions]).tolist() for positions in parts.values()]
    assert counts == [[6, 12, 3], [2, 4, 1], [2, 4, 1]]
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(35))


def test_the_set_decides_its_parts() -> None:
    """The same set is always divided in the same way, another set in another; no shares, no parts."""
    synthetic = images(60, 3)
    first, again, other = (divided(synthetic, SHARES, digest * 64) for digest in "001")
    assert all(np.array_equal(first[part], again[part]) for part in first)
    assert not np.array_equal(first["test"], other["test"])
    assert divided(synthetic, {}, "0" * 64) == {}


def test_an_empty_part_is_refused() -> None:
    """A part without an image would be a promise that a reader cannot load."""
    with pytest.raises(ReleaseError, match=r"publish\.splits: test would have no image"):
        divided(images(4, 3), {"train": 0.9, "test": 0.1}, "0" * 64)
