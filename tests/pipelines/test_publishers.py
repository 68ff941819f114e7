"""Each output form holds the set and nothing else, and is read back by the library it was made for."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from phantomset.data import catalogue
from phantomset.data.records import ImageSet
from phantomset.pipelines.publisher import About, Publisher, class_folders

from .drafts import images

NAMES = catalogue.names("phantomset.pipelines.publishers")
ABOUT = About("tiny", "0" * 64, "CC-BY-4.0")
ODD = ("T2/FLAIR", "a:b", 'say "x", y', "שלום", "x" * 200, "NUL", "..", "a\nb")


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


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("labels", [("a", "b", "c"), ODD], ids=["plain", "odd"])
def test_torchvision_reads_the_folder(labels: tuple[str, ...], channels: int, tmp_path: Path) -> None:
    """ImageFolder finds the pixels, and its class index is the label, also beside a missing class."""
    from torchvision.datasets import ImageFolder

    synthetic = images(3 * len(labels), 4, labels=labels, channels=channels, side=8)
    synthetic = synthetic.take(synthetic.labels != 1)  # class 1 is missing
    publisher("folder").write(synthetic, ABOUT, tmp_path)
    found = ImageFolder(str(tmp_path / "images"), allow_empty=True)
    assert len(found.classes) == len(labels)
    by_name = {Path(path).name: label for path, label in found.samples}
    assert [by_name[f"{index:06d}.png"] for index in range(len(synthetic))] == synthetic.labels.tolist()
    for path, _ in found.samples:
        expected = synthetic.images[int(Path(path).stem)]
        with Image.open(path) as image:
            pixels = np.asarray(image)
        assert np.array_equal(pixels if channels == 3 else pixels[..., None], expected.transpose(1, 2, 0))


@pytest.mark.parametrize("labels", [("a", "b"), ODD], ids=["plain", "odd"])
def test_the_table_names_each_image_once(labels: tuple[str, ...], tmp_path: Path) -> None:
    """metadata.csv has file_name and label alone, lists every PNG once, and keeps odd labels unchanged."""
    synthetic = images(2 * len(labels), 4, labels=labels, side=8)
    publisher("folder").write(synthetic, ABOUT, tmp_path)
    table = pd.read_csv(tmp_path / "images" / "metadata.csv", dtype=str, keep_default_na=False)
    assert list(table.columns) == ["file_name", "label"]
    assert list(table["label"]) == [labels[index] for index in synthetic.labels]
    there = {path.relative_to(tmp_path / "images").as_posix() for path in tmp_path.rglob("*.png")}
    assert sorted(table["file_name"]) == sorted(there)


def test_each_png_says_that_it_is_synthetic(tmp_path: Path) -> None:
    """The XMP packet is well-formed XML with IPTC's digital source type; samples are named in order."""
    publisher("folder").write(images(3, 4), ABOUT, tmp_path)
    for path in tmp_path.rglob("*.png"):
        with Image.open(path) as image:
            image.load()
            packet = image.info["xmp"].decode() if isinstance(image.info["xmp"], bytes) else image.info["xmp"]
            assert image.info["Sample"] == path.stem
        rdf = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
        described = next(ElementTree.fromstring(packet).iter(rdf))  # noqa: S314 - written three lines above
        key = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
        assert described.attrib[key].endswith("/digitalsourcetype/trainedAlgorithmicMedia")


@pytest.mark.parametrize("channels", [1, 3])
def test_numpy_reads_the_archive_without_pickle(channels: int, tmp_path: Path) -> None:
    """The npz has MedMNIST's keys, shapes and types, holds the whole set as train, and no pickled object."""
    synthetic = images(5, 4, channels=channels)
    publisher("npz").write(synthetic, ABOUT, tmp_path)
    with np.load(tmp_path / "tiny.npz", allow_pickle=False) as arrays:
        assert arrays["train_images"].dtype == np.uint8
        last = arrays["train_images"] if channels == 3 else arrays["train_images"][..., None]
        assert np.array_equal(last, synthetic.images.transpose(0, 2, 3, 1))
        assert np.array_equal(arrays["train_labels"], synthetic.labels[:, None])
        assert arrays["val_images"].shape == (0, *arrays["train_images"].shape[1:])
        assert arrays["test_labels"].shape == (0, 1)
        assert tuple(arrays["label_names"]) == synthetic.label_names


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
