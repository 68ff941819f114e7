"""A MONAI datalist: ``datalist.json`` in the form of the Medical Segmentation Decathlon, over the PNG tree.

::

    datalist.json                     training, validation, test: [{"image": path, "label": index}, ...]
    images/<class>/000000.png         shared with the format ``folder``
"""

import json
from pathlib import Path
from typing import Any

from phantomset.data.records import ImageSet
from phantomset.data.synthetic_mark import SOURCE_TYPE
from phantomset.pipelines.marked_png import TREE, png_tree
from phantomset.pipelines.publisher import PARTS, About, Publisher

KEYS: dict[str, str] = dict(zip(PARTS, ("training", "validation", "test"), strict=True))
"""MONAI's names of the parts."""


def write(synthetic: ImageSet, about: About, folder: Path) -> None:
    """Write ``datalist.json`` and, where no other format did, ``images/``."""
    paths = png_tree(synthetic, about, folder)
    lists: dict[str, list[dict[str, Any]]] = {key: [] for key in KEYS.values()}
    for part, positions in about.parts_of(synthetic).items():
        lists[KEYS[part]] = [
            {"image": f"{TREE}/{path}", "label": label}
            for path, label in zip(paths[part], synthetic.labels[positions].tolist(), strict=True)
        ]
    channels = {"0": "grey"} if synthetic.images.shape[1] == 1 else {"0": "red", "1": "green", "2": "blue"}
    described = {
        "name": about.name,
        "description": "A labelled synthetic image set; no image was taken of a person.",
        "reference": SOURCE_TYPE,
        "licence": about.licence,
        "release": about.set_digest,
        "tensorImageSize": "2D",
        "modality": channels,
        "labels": {str(index): name for index, name in enumerate(synthetic.label_names)},
        "numTraining": len(lists["training"]),
        "numTest": len(lists["test"]),
    }
    text = json.dumps({**described, **lists}, indent=1, ensure_ascii=False) + "\n"
    (folder / "datalist.json").write_text(text, encoding="utf-8")


PUBLISHER = Publisher(
    name="monai",
    summary="a MONAI datalist, `datalist.json`, over the PNG files in `images/`",
    loading="""\
from monai.data import Dataset, load_decathlon_datalist             # MONAI
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
items = load_decathlon_datalist("datalist.json", False, "training", base_dir=".")
load = LoadImaged("image", "PILReader", reverse_indexing=False)    # rows first
images = Dataset(items, Compose([load, EnsureChannelFirstd("image")]))""",
    write=write,
)
