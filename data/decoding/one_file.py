"""One file to canonical images: what a worker process does, and nothing that needs the store."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from phantomset.data.digest import digest_of
from phantomset.data.errors import SourceError
from phantomset.data.file_source import FileSource, Listed, Readable
from phantomset.data.keys import pseudonym
from phantomset.data.pixels.canonical import (
    ImageSettings,
    canonical,
    digest_of_pixels,
    final_spacing,
    picture_of,
)
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.reading.tree import content_name, unpacked
from phantomset.data.records import RawImage, Rejected
from phantomset.data.source import ReadContext, SourceSettings
from phantomset.data.splitting.duplicates import thumbnail

FORMAT = 7
"""Version of what is remembered of an image; an older cohort or journal is made anew."""

_TEXT = "BURNED_IN_TEXT"
_NO_PIXELS = np.zeros((0, 0), dtype=np.float32)
_LEAST_CONTENT = 0.01
"""A slice of which fewer pixels than this share differ from the most frequent value shows next to nothing."""


@dataclass(frozen=True, slots=True)
class Finished:
    """An image whose pixels are canonical, or a rejection.

    Attributes:
        item: the image without its own pixels, or the rejection.
        pixels: ``(C, H, W) uint8``; None for a rejection, and where the store has them already.
        digest: their name; empty for a rejection.
        origin: digest of the image as the source gave it, before any crop or change of size.
        thumbnail: ``(1, 32, 32) uint8`` by which near-copies are told, after any black-out; None as
            for ``pixels``.
        thumbnail_digest: its name; empty for a rejection.
        side_px: the smaller side of that image.
    """

    item: RawImage | Rejected
    pixels: np.ndarray | None = None
    digest: str = ""
    origin: str = ""
    thumbnail: np.ndarray | None = None
    thumbnail_digest: str = ""
    side_px: int = 0

    def told(self, listed: Listed) -> "Finished":
        """Return it with what is known of its file: where it lies, and what its path and row say."""
        item, key = self.item, listed.member.key + self.item.key
        if isinstance(item, Rejected):
            return replace(self, item=replace(item, key=key, size_bytes=listed.member.size_bytes))
        changes: dict[str, Any] = {
            "key": key,
            "label": item.label if listed.label is None else listed.label,
            "subject": item.subject if listed.subject is None else pseudonym("patient", listed.subject),
            "attributes": item.attributes | listed.attributes,
            "dropped": item.dropped | listed.dropped,
            "links": item.links | {kind: pseudonym(kind, name) for kind, name in listed.links.items()},
        }
        return replace(self, item=replace(item, **changes))

    def keyed(self) -> "Finished":
        """Return it with keyed names for the patient and for what links images: no other leaves memory."""
        item = self.item
        if isinstance(item, Rejected):
            return self
        subject = None if item.subject is None else pseudonym("patient", item.subject)
        links = {kind: pseudonym(kind, name) for kind, name in item.links.items()}
        return replace(self, item=replace(item, subject=subject, links=links))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker says of one file.

    Attributes:
        finished: its images or its rejection, with the key of the part alone; None where the content is the
            one that is known already.
        content: keyed name of its bytes; empty where it could not be read, or the outcome may change.
        read: the bytes' name in the fingerprint of the input, never stored; empty where they were not read.
    """

    finished: list[Finished] | None
    content: str = ""
    read: bytes = b""


def finish(
    items: Iterable[RawImage | Rejected],
    image: ImageSettings,
    neighbours: float = 1,
    screen: Callable[[RawImage], RawImage] | None = None,
) -> Iterator[Finished]:
    """Yield each image with its canonical pixels; what cannot have them becomes a rejection.

    Of the parts of one file (frames, slices, pages) those that show next to nothing are left out, and those
    that correlate with the last one that was kept by more than ``neighbours``. ``screen`` searches those that
    are kept for text.

    Raises:
        SourceError: an image's sides do not fit the recipe.
    """
    last: np.ndarray | None = None
    for item in items:
        if isinstance(item, Rejected):
            yield Finished(item)
            continue
        try:
            picture = picture_of(item.pixels) if item.pixels.ndim == 2 else None
            pixels = canonical(item.pixels, image, picture)
            if item.is_part:
                _hold_content(pixels)
                _hold_apart(pixels, last, neighbours)
                last = pixels
            shown = item if screen is None else screen(item)
            if shown.pixels is not item.pixels:
                pixels, picture = canonical(shown.pixels, image), None
        except Unfit as unfit:
            blank = item.is_part and unfit.code == "CONSTANT_IMAGE"
            yield Finished(Rejected(item.key, "LOW_CONTENT" if blank else unfit.code))
            continue
        spacing = final_spacing(item.spacing_mm, item.pixels.shape, image)
        known = replace(shown, pixels=_NO_PIXELS, stored=None, spacing_mm=spacing)
        small = thumbnail(np.moveaxis(np.atleast_3d(shown.pixels), -1, 0), picture)[None]
        names = (digest_of_pixels(pixels), digest_of(item.pixels))
        yield Finished(known, pixels, *names, small, digest_of_pixels(small), min(item.pixels.shape[:2]))


def decode_file(
    source: FileSource,
    tree: Readable,
    listed: Listed,
    settings: SourceSettings,
    image: ImageSettings,
    context: ReadContext,
) -> Answer:
    """Return all images of one file, or one rejection; patients and links by keyed names.

    Raises:
        SourceError: an image's sides do not fit the recipe.
    """
    name, read = "", b""
    try:
        if listed.code is not None:
            raise Unfit(listed.code)
        content = tree.read(listed.member)
        read = content_name(content)
        name = pseudonym("content", digest_of(read, sorted(listed.waived)))
        if name == listed.known:
            return Answer(None, name, read)
        found = source.decode(unpacked(content, context.limits), settings, context, listed.waived)
        screen = None if _TEXT in listed.waived else context.screen
        finished: list[Finished] = []
        for each in finish(found, image, settings.neighbours, screen):
            if isinstance(each.item, Rejected) and each.item.code == _TEXT:
                raise Unfit(_TEXT)  # a name on one frame is a name on all
            finished.append(each.keyed())
        return Answer(finished, name, read)
    except Unfit as unfit:
        code = unfit.code
    except SourceError:
        raise
    except MemoryError:
        code, name = "TOO_MANY_PIXELS", ""
    except Exception:  # one file must not end a run of thousands, and a traceback may carry its values
        code, name = "INTERNAL_ERROR", ""
    return Answer([Finished(Rejected("", code))], name, read)


def _hold_content(pixels: np.ndarray) -> None:
    """Refuse a slice at the edge of a volume, where there is hardly anything to see."""
    counts = np.bincount(pixels.ravel(), minlength=256)
    if pixels.size - int(counts.max()) < _LEAST_CONTENT * pixels.size:
        raise Unfit("LOW_CONTENT")


def _hold_apart(pixels: np.ndarray, last: np.ndarray | None, most: float) -> None:
    """Refuse a slice that is nearly its neighbour again."""
    if last is None or most >= 1:
        return
    if np.corrcoef(pixels.ravel(), last.ravel())[0, 1] > most:
        raise Unfit("NEIGHBOUR_THINNED")
