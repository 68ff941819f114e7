"""WebDataset shards: tar files whose members with one basename are one sample.

::

    shards/train-000000.tar     000000.png  000000.cls  000001.png  000001.cls  ...

``.cls`` holds the label's index as text; ``labels.json`` beside the shards names it. A shard has at most
`SHARD_IMAGES` samples, or some `SHARD_BYTES`.
"""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from phantomset.data.records import ImageSet
from phantomset.pipelines.marked_png import png_reader
from phantomset.pipelines.publisher import About, Publisher

SHARD_IMAGES, SHARD_BYTES = 10_000, 1 << 30


def write(synthetic: ImageSet, about: About, folder: Path) -> None:
    """Write ``shards/<part>-<n>.tar``."""
    (folder / "shards").mkdir()
    for part, positions in about.parts_of(synthetic).items():
        read = png_reader(synthetic, about, folder, part)
        for number, own in enumerate(_shards(synthetic, positions)):
            path = folder / "shards" / f"{part}-{number:06d}.tar"
            with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as shard:
                for index in own.tolist():
                    _add(shard, f"{index:06d}.cls", str(synthetic.labels[index]).encode())
                    _add(shard, f"{index:06d}.png", read(index))


def _shards(synthetic: ImageSet, positions: np.ndarray) -> Iterator[np.ndarray]:
    """Cut by the raw size of the images, which no PNG of them exceeds by much: equal sets, equal shards."""
    raw = synthetic.images[0].nbytes if len(synthetic) else 1
    size = max(1, min(SHARD_IMAGES, SHARD_BYTES // raw))
    for start in range(0, max(len(positions), 1), size):
        yield positions[start : start + size]


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add one member; time, owner and mode are always the same, and so are the bytes."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    shard.addfile(member, io.BytesIO(content))


PUBLISHER = Publisher(
    name="webdataset",
    summary="WebDataset shards, in `shards/`",
    loading="""\
import glob
import webdataset as wds                                           # WebDataset
shards = sorted(glob.glob("shards/train-*.tar"))
images = wds.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("png", "cls")""",
    write=write,
)
