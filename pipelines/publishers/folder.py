"""Class folders of PNG files with a table beside them: Hugging Face ``imagefolder`` and torchvision's
``ImageFolder``.

::

    images/metadata.csv               file_name,label     one row an image, in the order of the set
    images/<class>/000000.png         8-bit grey or RGB, marked as synthetic

A divided set has ``images/<part>/metadata.csv`` and ``images/<part>/<class>/``. A class without images keeps
its folder: a missing one would shift every later index in torchvision.
"""

import csv
from pathlib import Path

from phantomset.data.records import ImageSet
from phantomset.pipelines.marked_png import TREE, png_tree
from phantomset.pipelines.publisher import About, Publisher


def write(synthetic: ImageSet, about: About, folder: Path) -> None:
    """Write ``images/`` with one folder a class and ``metadata.csv``."""
    paths = png_tree(synthetic, about, folder)
    for part, positions in about.parts_of(synthetic).items():
        place = about.place(part)
        with (folder / TREE / place / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(["file_name", "label"])
            for label, path in zip(synthetic.labels[positions].tolist(), paths[part], strict=True):
                table.writerow([path.removeprefix(place), synthetic.label_names[label]])


PUBLISHER = Publisher(
    name="folder",
    summary="PNG files in class folders, with `images/metadata.csv`",
    loading="""\
import json
from datasets import ClassLabel, Features, Image, load_dataset     # Hugging Face
columns = Features(image=Image(), label=ClassLabel(names=json.load(open("labels.json"))["names"]))
images = load_dataset("imagefolder", data_dir="images", split="train", features=columns)

from torchvision.datasets import ImageFolder                       # torchvision: its index is the label's
images = ImageFolder("images", allow_empty=True)""",
    write=write,
)
