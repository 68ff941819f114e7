"""Class folders of PNG files with a table beside them: Hugging Face ``imagefolder`` and torchvision's
``ImageFolder``.

::

    images/metadata.csv               file_name,label     one row an image, in the order of the set
    images/<class>/000000.png         8-bit grey or RGB, marked as synthetic

A class without images keeps its folder: a missing one would shift every later index in torchvision.
"""

import csv
from pathlib import Path
from xml.sax.saxutils import quoteattr

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from phantomset.data.records import ImageSet
from phantomset.pipelines.publisher import SOURCE_TYPE, About, Publisher, class_folders

XMP_KEYWORD = "XML:com.adobe.xmp"
"""Keyword of the iTXt chunk in which readers of PNG look for XMP."""


def write(synthetic: ImageSet, about: About, folder: Path) -> None:
    """Write ``images/`` with one folder a class and ``metadata.csv``."""
    root = folder / "images"
    folders = class_folders(synthetic.label_names)
    for name in folders:
        (root / name).mkdir(parents=True)
    with (root / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["file_name", "label"])
        for index, label in enumerate(synthetic.labels.tolist()):
            file_name = f"{folders[label]}/{index:06d}.png"
            pixels = synthetic.images[index]
            image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
            image.save(root / file_name, format="PNG", pnginfo=_marks(about, index), compress_level=6)
            table.writerow([file_name, synthetic.label_names[label]])


def _marks(about: About, index: int) -> PngInfo:
    """Return the chunks that say, inside each file, that the image was made by a trained model.

    Source: IPTC Photo Metadata Standard, Digital Source Type; XMP Specification Part 3, section 1.1.5 (PNG).
    """
    marks = PngInfo()
    marks.add_itxt(XMP_KEYWORD, _xmp())
    marks.add_text("Dataset", f"{about.name} {about.set_digest[:16]}")
    marks.add_text("Sample", f"{index:06d}")
    if about.licence:
        marks.add_text("License", about.licence.encode("latin-1", "replace").decode("latin-1"))
    return marks


def _xmp() -> str:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        f" Iptc4xmpExt:DigitalSourceType={quoteattr(SOURCE_TYPE)}/>"
        '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )


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
