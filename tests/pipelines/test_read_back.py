"""Each output form is read back by the library it was made for: equal pixels, labels and counts."""

import gc
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from phantomset.pipelines.publisher import class_folders
from phantomset.pipelines.publishers import npz

from .forms import MISSING, ODD, agree, plain_or_odd, published, whole_or_split


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


@whole_or_split
@plain_or_odd
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


@whole_or_split
@plain_or_odd
def test_hugging_face_reads_the_folder(
    labels: tuple[str, ...], channels: int, split: bool, tmp_path: Path, offline: Path
) -> None:
    """``imagefolder`` gives the images with the label of metadata.csv, as the index of its class."""
    import datasets

    synthetic, about = published("folder", tmp_path, labels, channels, split)
    names = datasets.ClassLabel(names=list(synthetic.label_names))
    features = datasets.Features(image=datasets.Image(), label=names)
    found = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "images"), features=features, cache_dir=str(offline)
    )
    assert set(found) == set(about.parts_of(synthetic))
    for part, positions in about.parts_of(synthetic).items():
        agree([(np.asarray(row["image"]), row["label"]) for row in found[part]], synthetic, positions)


@whole_or_split
@plain_or_odd
def test_hugging_face_reads_the_parquet_files(
    labels: tuple[str, ...], channels: int, split: bool, tmp_path: Path, offline: Path
) -> None:
    """A folder of them loads as it is: parts, pixels, and labels with all names, the missing one too."""
    import datasets

    synthetic, about = published("parquet", tmp_path, labels, channels, split)
    found = datasets.load_dataset(str(tmp_path), cache_dir=str(offline))
    assert set(found) == set(about.parts_of(synthetic))
    for part, positions in about.parts_of(synthetic).items():
        assert found[part].features["label"].names == list(labels)
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
@whole_or_split
@plain_or_odd
def test_webdataset_reads_the_shards(
    labels: tuple[str, ...], channels: int, split: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of 4 samples give every image once with its class index; members of a sample are adjacent."""
    import webdataset as wds

    from phantomset.pipelines.publishers import webdataset

    monkeypatch.setattr(webdataset, "SHARD_IMAGES", 4)
    synthetic, about = published("webdataset", tmp_path, labels, channels, split)
    for part, positions in about.parts_of(synthetic).items():
        shards = sorted(map(str, (tmp_path / "shards").glob(f"{part}-*.tar")))
        assert len(shards) == -(-len(positions) // 4)
        stream = wds.WebDataset(shards, shardshuffle=False, empty_check=False).decode("pil")
        loaded = [(np.asarray(image), label) for image, label in stream.to_tuple("png", "cls")]
        # to_tuple's pictures are RGB, whatever the file holds
        agree([(pixels[..., :channels], label) for pixels, label in loaded], synthetic, positions)


@pytest.mark.filterwarnings("ignore:NvImgCodec:UserWarning")  # MONAI tries a decoder for CUDA
@whole_or_split
@plain_or_odd
def test_monai_reads_the_datalist(
    labels: tuple[str, ...], channels: int, split: bool, tmp_path: Path
) -> None:
    """Each list of the datalist leads MONAI's own reader to the images, rows first, with their labels."""
    from monai.data import load_decathlon_datalist
    from monai.transforms import LoadImage

    synthetic, about = published("monai", tmp_path, labels, channels, split)
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
    assert described["labels"] == {str(index): label for index, label in enumerate(labels)}
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


@plain_or_odd
@whole_or_split
def test_numpy_reads_the_archive_without_pickle(
    labels: tuple[str, ...], channels: int, split: bool, tmp_path: Path
) -> None:
    """The npz has MedMNIST's keys, shapes and types for all three parts, and no pickled object."""
    synthetic, about = published("npz", tmp_path, labels, channels, split)
    with np.load(tmp_path / "tiny.npz", allow_pickle=False) as arrays:
        for part, key in npz.KEYS.items():
            pixels, codes = arrays[f"{key}_images"], arrays[f"{key}_labels"]
            assert pixels.dtype == np.uint8
            assert pixels.shape[1:] == ((9, 9) if channels == 1 else (9, 9, 3))
            assert codes.shape == (len(pixels), 1)
            positions = about.parts_of(synthetic).get(part, np.arange(0))
            agree(list(zip(pixels, codes[:, 0], strict=True)), synthetic, positions)
        assert tuple(arrays["label_names"]) == labels


@plain_or_odd
@whole_or_split
def test_medmnist_reads_the_archive(
    labels: tuple[str, ...], channels: int, split: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MedMNIST's own class, told of one more data set, gives each part's pictures with their labels."""
    monkeypatch.setenv("HOME", str(tmp_path))  # where it makes a folder when imported
    from medmnist.dataset import INFO, MedMNIST2D

    synthetic, about = published("npz", tmp_path, labels, channels, split)
    parts = about.parts_of(synthetic)
    counts = {key: len(parts.get(part, ())) for part, key in npz.KEYS.items()}
    monkeypatch.setitem(INFO, "tiny", {"n_samples": counts})
    kind = type("Tiny", (MedMNIST2D,), {"flag": "tiny"})
    for part, key in npz.KEYS.items():
        found = kind(split=key, root=str(tmp_path))
        loaded = [(np.asarray(image), label[0]) for image, label in (found[i] for i in range(len(found)))]
        agree(loaded, synthetic, parts.get(part, np.arange(0)))


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


def _pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def _decoded(content: bytes) -> np.ndarray:
    from io import BytesIO

    with Image.open(BytesIO(content)) as image:
        return np.asarray(image)
