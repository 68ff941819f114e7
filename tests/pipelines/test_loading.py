"""`ReleaseDataset`: the pixels and labels that were published, from either form, part by part."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from phantomset.data import catalogue
from phantomset.data.errors import ReleaseError
from phantomset.data.records import ImageSet
from phantomset.data.workspace import write_json
from phantomset.pipelines.publisher import About, divided
from phantomset.pipelines.releases.loading import ReleaseDataset

from .drafts import LABELS, images

SHARES = {"train": 0.5, "validation": 0.25, "test": 0.25}


def written(folder: Path, form: str, synthetic: ImageSet, shares: dict[str, float] | None = None) -> Path:
    """Write a set in one form, as a release holds it."""
    parts = divided(synthetic, shares or {}, "a" * 64)
    folder.mkdir()
    publisher = catalogue.load("phantomset.pipelines.publishers", form)
    publisher.write(synthetic, About("tiny", "a" * 64, "CC0-1.0", parts), folder)
    write_json(folder / "labels.json", {"names": list(synthetic.label_names)})
    return folder


@pytest.mark.parametrize("form", ["npz", "parquet"])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_comes_back_as_it_was(form: str, channels: int, tmp_path: Path) -> None:
    """Pixels ``(C, H, W)`` uint8 and labels, in the order of the set; class names by label."""
    made = images(12, 1, channels=channels)
    found = ReleaseDataset(written(tmp_path / "v1", form, made))
    assert (len(found), found.classes) == (12, LABELS)
    assert found.labels.tolist() == made.labels.tolist()
    for index in range(12):
        pixels, label = found[index]
        assert pixels.dtype == torch.uint8
        assert np.array_equal(pixels.numpy(), made.images[index])
        assert label == made.labels[index]


@pytest.mark.parametrize("form", ["npz", "parquet"])
def test_the_parts_share_the_set(form: str, tmp_path: Path) -> None:
    """train, validation and test hold the images that they were given, and no other."""
    made = images(24, 1)
    folder = written(tmp_path / "v1", form, made, SHARES)
    parts = divided(made, SHARES, "a" * 64)
    for part, positions in parts.items():
        found = ReleaseDataset(folder, part)
        assert len(found) == len(positions)
        assert np.array_equal(np.stack([pixels for pixels, _ in found]), made.images[positions])  # type: ignore[arg-type]
    with pytest.raises(ReleaseError, match="no part 'val'; there are train, validation, test"):
        ReleaseDataset(folder, "val")


@pytest.mark.parametrize("form", ["npz", "parquet"])
def test_a_loader_takes_it(form: str, tmp_path: Path) -> None:
    """torch's DataLoader makes batches of it, and it can be sent to a worker process."""
    made = images(10, 1)
    found = pickle.loads(pickle.dumps(ReleaseDataset(written(tmp_path / "v1", form, made))))  # noqa: S301
    batches = list(DataLoader(found, batch_size=4))
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    assert np.array_equal(torch.cat([pixels for pixels, _ in batches]).numpy(), made.images)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    """No release, a missing form, an empty part, a damaged file: a message, never a traceback."""
    with pytest.raises(ReleaseError, match=r"cannot be read \(FileNotFoundError\)"):
        ReleaseDataset(tmp_path)
    folder = written(tmp_path / "v1", "folder", images(6, 1))
    with pytest.raises(ReleaseError, match="no part 'train' in the form npz or parquet"):
        ReleaseDataset(folder)
    whole = written(tmp_path / "v2", "npz", images(6, 1))
    with pytest.raises(ReleaseError, match="no part 'test'"):
        ReleaseDataset(whole, "test")
    (archive,) = whole.glob("*.npz")
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(ReleaseError, match="verify it"):
        ReleaseDataset(whole)
