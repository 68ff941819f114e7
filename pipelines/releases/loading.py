"""A release as a torch ``Dataset``: images and labels from its ``.npz`` or Parquet files.

images = ReleaseDataset("releases/chest/v1")
pixels, label = images[0]                 # (C, H, W) uint8, and the index of the class
"""

import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from imagecodecs import png_decode
from torch.utils.data import Dataset

from phantomset.data.errors import ReleaseError

ARRAYS = {"train": "train", "validation": "val", "test": "test"}
"""What MedMNIST calls the parts."""


class ReleaseDataset(Dataset[tuple[torch.Tensor, int]]):
    """One part of a release in memory.

    From ``.npz`` the pixels are held as they are, ``(N, C, H, W)`` uint8; from Parquet the bytes of the PNG
    files are held, and decoded when asked for.

    Attributes:
        classes: names, by label.
        labels: ``(N,)`` int64.
    """

    def __init__(self, folder: Path | str, part: str = "train") -> None:
        """Open a part of the release in ``folder``: "train", "validation" or "test".

        Raises:
            ReleaseError: there is no such part in a form that can be read.
        """
        folder = Path(folder)
        if part not in ARRAYS:
            raise ReleaseError(f"release: there is no part {part!r}; there are {', '.join(ARRAYS)}")
        try:
            self.classes: tuple[str, ...] = tuple(json.loads((folder / "labels.json").read_bytes())["names"])
            archives = sorted(folder.glob("*.npz"))
            self._pixels, self._files, self.labels = (
                _arrays(archives[0], part) if archives else _rows(folder, part)
            )
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ReleaseError(
                f"release: {folder} cannot be read ({type(error).__name__}); verify it"
            ) from None
        self._labels: list[int] = self.labels.tolist()
        if not self._labels:
            raise ReleaseError(f"release: {folder} has no part {part!r} in the form npz or parquet")

    def __len__(self) -> int:
        """Return how many images the part has."""
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Return pixels ``(C, H, W)`` uint8 and the label."""
        if self._pixels is not None:
            return self._pixels[index], self._labels[index]
        # libpng alone: PIL looks at the format and at every mark besides.
        pixels = png_decode(self._files[index].as_py())
        pixels = pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return torch.as_tensor(pixels), self._labels[index]


def _arrays(archive: Path, part: str) -> tuple[torch.Tensor | None, Any, np.ndarray]:
    with archive.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        images = arrays[f"{ARRAYS[part]}_images"]
        labels = arrays[f"{ARRAYS[part]}_labels"][:, 0]
    channels_first = (
        images[:, None] if images.ndim == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    )
    return torch.as_tensor(channels_first), None, labels


def _rows(folder: Path, part: str) -> tuple[torch.Tensor | None, Any, np.ndarray]:
    import pyarrow.parquet  # pyright: ignore[reportMissingTypeStubs]

    library: Any = pyarrow.parquet
    files = sorted(folder.glob(f"data/{part}-*.parquet"))
    if not files:
        return None, [], np.zeros(0, np.int64)
    table = library.read_table(files)
    # Piece by piece: one array of them all could not hold more than 2 GiB.
    images = [image for piece in table["image"].chunks for image in piece.field("bytes")]
    return None, images, table["label"].to_numpy()
