"""A folder, or a ZIP file, of pictures: PNG, JPEG, BMP, TIFF; 8 and 16 bit; grey and colour."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from phantomset.data.file_source import FileSource, part_key
from phantomset.data.pixels.pictures import unit_pictures
from phantomset.data.reading.paths import PathSettings, files, fingerprint
from phantomset.data.records import RawImage
from phantomset.data.source import ReadContext


class Settings(PathSettings, frozen=True):
    """``source: {format: folder, ...}``.

    Attributes:
        bits: how many bits 16-bit pictures use.
    """

    format: Literal["folder"] = "folder"
    bits: int = Field(default=16, ge=8, le=16)


def decode(
    content: bytes, settings: Settings, context: ReadContext, waived: frozenset[str]
) -> Iterator[RawImage]:
    """Yield the pictures of one file: one, or the pages of a TIFF file."""
    del waived
    for index, page in enumerate(unit_pictures(content, context.limits, settings.bits)):
        key, is_part = part_key(index, page.total), page.total > 1
        yield RawImage(key, page.unit, None, None, dropped=page.passed_over, is_part=is_part)


SOURCE = FileSource("folder", Settings, files, decode, fingerprint)
