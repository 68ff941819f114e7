"""Parquet files with the images inside: Hugging Face ``datasets``, pandas and pyarrow read them.

::

    data/train-00000-of-00001.parquet     image: struct {bytes, path}; label: int64

The schema's metadata holds the features in the form of Hugging Face, class names included. A file has at most
`FILE_IMAGES` images.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow  # pyright: ignore[reportMissingTypeStubs]
import pyarrow.parquet  # pyright: ignore[reportMissingTypeStubs]

from phantomset.data.records import ImageSet
from phantomset.pipelines.marked_png import png_reader
from phantomset.pipelines.publisher import About, Publisher

pa: Any = pyarrow
pq: Any = pyarrow.parquet

FILE_IMAGES = 100_000
GROUP_IMAGES = 1_000
"""Images that are held in memory at once, and in one row group: what a reader of one image must read."""


def write(synthetic: ImageSet, about: About, folder: Path) -> None:
    """Write ``data/<part>-<n>-of-<N>.parquet``."""
    (folder / "data").mkdir()
    schema = _schema(synthetic.label_names)
    for part, positions in about.parts_of(synthetic).items():
        read = png_reader(synthetic, about, folder, part)
        files = max(1, -(-len(positions) // FILE_IMAGES))
        for number in range(files):
            own = positions[number * FILE_IMAGES : (number + 1) * FILE_IMAGES]
            path = folder / "data" / f"{part}-{number:05d}-of-{files:05d}.parquet"
            # PNG files do not shrink further; labels do, by their dictionary.
            with pq.ParquetWriter(path, schema, compression="none", use_dictionary=["label"]) as file:
                for start in range(0, len(own), GROUP_IMAGES):
                    group = own[start : start + GROUP_IMAGES]
                    file.write_table(_table(read, group, synthetic.labels[group], schema))


def _table(read: Callable[[int], bytes], positions: np.ndarray, labels: np.ndarray, schema: Any) -> Any:
    images = [{"bytes": read(index), "path": f"{index:06d}.png"} for index in positions.tolist()]
    return pa.table({"image": images, "label": labels}, schema=schema)


def _schema(label_names: tuple[str, ...]) -> Any:
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "label": {"names": list(label_names), "_type": "ClassLabel"},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([("image", image), ("label", pa.int64())], metadata=metadata)


PUBLISHER = Publisher(
    name="parquet",
    summary="Parquet files with the images inside, in `data/`",
    loading="""\
from datasets import load_dataset                                  # Hugging Face
images = load_dataset("parquet", data_files="data/train-*.parquet", split="train")

import pandas as pd                                                # pandas: image["bytes"] is a PNG file
table = pd.read_parquet("data")""",
    write=write,
)
