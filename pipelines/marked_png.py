"""A published image as a PNG file that says, inside itself, that a trained model made it."""

from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from phantomset.data.records import ImageSet
from phantomset.data.synthetic_mark import SOURCE_TYPE
from phantomset.pipelines.publisher import About, class_folders

XMP_KEYWORD = "XML:com.adobe.xmp"
"""Keyword of the iTXt chunk in which readers of PNG look for XMP."""

TREE = "images"
"""The folder of the tree of PNG files in a release."""


def png_bytes(pixels: np.ndarray, about: About, index: int) -> bytes:
    """Return an image ``(C, H, W)`` uint8, C 1 or 3, as the bytes of a marked PNG file.

    Source: IPTC Photo Metadata Standard, Digital Source Type; XMP Specification Part 3, section 1.1.5 (PNG).
    """
    marks = PngInfo()
    marks.add_itxt(XMP_KEYWORD, _xmp())
    marks.add_text("Dataset", f"{about.name} {about.set_digest[:16]}")
    marks.add_text("Sample", f"{index:06d}")
    if about.licence:
        marks.add_text("License", about.licence.encode("latin-1", "replace").decode("latin-1"))
    stream = BytesIO()
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    image.save(stream, format="PNG", pnginfo=marks, compress_level=6)
    return stream.getvalue()


def png_tree(synthetic: ImageSet, about: About, folder: Path) -> dict[str, list[str]]:
    """Write ``images/`` with one folder a class, and return the files' paths below it, by part.

    ``images/<class>/000000.png`` is numbered by the position in the set; a divided set has
    ``images/<part>/<class>/``. A class without images keeps its folder. Formats that need the tree share one:
    what is there already is not written again.
    """
    root = folder / TREE
    is_new = not root.exists()
    folders = class_folders(synthetic.label_names)
    paths: dict[str, list[str]] = {}
    for part, positions in about.parts_of(synthetic).items():
        for name in folders:
            (root / about.place(part) / name).mkdir(parents=True, exist_ok=True)
        paths[part] = [
            f"{about.place(part)}{folders[synthetic.labels[index]]}/{index:06d}.png" for index in positions
        ]
        for index, path in zip(positions.tolist(), paths[part], strict=True) if is_new else ():
            (root / path).write_bytes(png_bytes(synthetic.images[index], about, index))
    return paths


def png_reader(synthetic: ImageSet, about: About, folder: Path, part: str) -> Callable[[int], bytes]:
    """Return what gives the PNG file of a position in a part: read from the tree where a format wrote it.

    Reading a file is much quicker than making it, and the bytes are the same.
    """
    folders = class_folders(synthetic.label_names)
    root: Path = folder / TREE / about.place(part)

    def read(index: int) -> bytes:
        try:
            return (root / folders[int(synthetic.labels[index])] / f"{index:06d}.png").read_bytes()
        except FileNotFoundError:
            return png_bytes(synthetic.images[index], about, index)

    return read


@cache
def _xmp() -> str:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        f" Iptc4xmpExt:DigitalSourceType={quoteattr(SOURCE_TYPE)}/>"
        '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )
