"""Pixels searched for text: four views of an image, one rule, and black boxes where they are asked for.

Annotations are drawn at the ends of the range of values, which a window may hide, and faint ones drown in
what lies behind them: so an image is looked at with its ground taken away, as it is shown, with all of its
stored values, and with its extremes alone.
"""

import contextlib
import signal
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np

from phantomset.data.burned_in import reader
from phantomset.data.burned_in.blackout import blacken
from phantomset.data.burned_in.reader import TextBox
from phantomset.data.burned_in.tiles import Tile, tiles
from phantomset.data.deidentify import Box, DeidentifySettings
from phantomset.data.errors import SourceError
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.records import RawImage

NOT_SCREENED = (
    "Pixels were not screened for burned-in text. DICOM files that declare it are kept out; so are secondary "
    "captures and ultrasound, unless the recipe names their device and a mask."
)

NOTHING_BURNED_IN = (
    "The recipe says of some devices that they burn in no text (deidentify.devices, mask: none): their "
    "secondary captures, ultrasound and other images that often carry some were let in without a mask."
)

BLACKENED = "burned-in text, boxes blackened"
"""What the counts of things taken away call it."""

_VIEWS = 4

_CHARACTERS, _CONFIDENCE = 3, 0.5
"""So many letters and digits, read so surely, are text; anything less is a mark for people to look at."""

_END = 0.01
"""The share of the range that counts as its end."""

_FEWEST = 24
"""Fewer pixels at the ends of the range spell nothing."""

_GROUND_SHARE = 1 / 32
"""What is wider than this share of the longer side is ground, not letters."""

_FINE, _COARSE = 384, 512
"""Sides of the windows, in pixels: letters of 8 to 32 pixels are read there, fainter ones in the finer."""

_GAIN = 2.5
"""Letters 50 grey levels off their ground become black or white."""

_SECONDS, _SECONDS_A_MEGAPIXEL = 60, 60
"""Of CPU; by the clock as many times more as a decoder has."""

_PATIENCE = 20


@dataclass(frozen=True, slots=True)
class TextScreen:
    """What becomes of text in pixels: ``quarantine`` keeps the file out, ``blacken`` covers it."""

    action: Literal["quarantine", "blacken"]

    @property
    def name(self) -> str:
        """Everything that decides its outcome."""
        return f"{self.action} with {reader.version()}, {_VIEWS} views, windows of {_FINE} and {_COARSE} px"

    @property
    def note(self) -> str:
        """The sentence for report and release."""
        fate = "was blackened" if self.action == "blacken" else "is kept out"
        return (
            f"Pixels were screened for burned-in text ({reader.version()}); an image where any was read "
            f"{fate}. Faint, tiny or handwritten text may have been missed."
        )

    def __call__(self, image: RawImage) -> RawImage:
        """Return the image, blackened where text was read; ``is_doubtful`` where there are weaker marks.

        Raises:
            Unfit: BURNED_IN_TEXT: text was read and may not be covered, or is still read when covered.
            SourceError: the weights are not those that were measured.
        """
        with _own_time(image.pixels):
            boxes, is_clean = _boxes(image, stop_at_text=self.action == "quarantine")
            if is_clean:
                return replace(image, is_doubtful=True) if boxes else image
            if self.action == "blacken":
                covered = _covered(image, boxes)
                if _boxes(covered, stop_at_text=True)[1]:
                    return covered
        raise Unfit("BURNED_IN_TEXT")


def screen_for(deidentify: DeidentifySettings, of_files: bool) -> TextScreen | None:
    """Return the screen that a recipe asks for; None where pixels are not screened.

    ``auto`` screens inputs of files where the extra is installed.

    Raises:
        SourceError: the recipe asks for it, and the extra is not installed.
    """
    action = deidentify.burned_in_text
    if action == "off" or (action == "auto" and not (of_files and reader.is_installed())):
        return None
    if not reader.is_installed():
        raise SourceError(
            f"deidentify.burned_in_text: {action} needs the extra [ocr], which is not installed. Install it "
            f"({reader.INSTALL}), or say off: the release then says that pixels were not screened."
        )
    reader.hold_weights()
    return TextScreen("quarantine" if action == "auto" else action)


def is_text(found: TextBox) -> bool:
    """Return whether a place holds text, and not only a mark such as the letter of a side."""
    return found.characters >= _CHARACTERS and found.confidence >= _CONFIDENCE


def views(image: RawImage) -> Iterator[np.ndarray]:
    """Yield uint8 pictures: as shown; all stored values from black to white; the ends of their range alone.

    A view that would show nothing new is left out.
    """
    shown = np.rint(image.pixels * 255).astype(np.uint8)
    yield shown
    stored = image.pixels if image.stored is None else image.stored()
    low, high = float(stored.min()), float(stored.max())
    if high <= low:
        return
    full = (stored - low) / (high - low)
    picture = np.rint(full * 255).astype(np.uint8)
    if np.abs(picture.astype(np.int16) - shown).max() > 2:
        yield picture
    grey = full if full.ndim == 2 else full.mean(axis=2)
    bright, dark = grey >= 1 - _END, grey <= _END
    if max(int(bright.sum()), int(dark.sum())) >= _FEWEST:
        yield np.where(bright, 255, np.where(dark, 0, 128)).astype(np.uint8)


def looks(image: RawImage) -> Iterator[tuple[np.ndarray, Tile]]:
    """Yield what is read, window by window, each with where it lies: first as shown without the ground, where
    most text is read and one place is enough, in the smaller windows that show the faintest; then every view.
    """
    for number, view in enumerate(views(image)):
        if not number:
            yield from ((flattened(tile.pixels), tile) for tile in tiles(view, _FINE))
        yield from ((tile.pixels, tile) for tile in tiles(view, _COARSE))


def flattened(shown: np.ndarray) -> np.ndarray:
    """What differs from the ground around it, with more contrast; no difference is grey 128."""
    from scipy import ndimage  # pyright: ignore[reportMissingTypeStubs]

    grey = shown.astype(np.float32) if shown.ndim == 2 else shown.mean(axis=2, dtype=np.float32)
    ground: np.ndarray = cast(Any, ndimage).gaussian_filter(grey, max(grey.shape) * _GROUND_SHARE)
    return np.clip(np.rint(128 + _GAIN * (grey - ground)), 0, 255).astype(np.uint8)


def _boxes(image: RawImage, stop_at_text: bool) -> tuple[list[TextBox], bool]:
    """The places that were found in all views, or until one holds text; and whether none does."""
    found: list[TextBox] = []
    for look, tile in looks(image):
        found += map(tile.on_picture, reader.read(look))
        if stop_at_text and any(map(is_text, found)):
            break
    return found, not any(map(is_text, found))


def _covered(image: RawImage, found: list[TextBox]) -> RawImage:
    """Blacken every place, weak ones too: beside a name stands its first letter."""
    boxes = tuple(_grown(each.box, *image.pixels.shape[:2]) for each in found)
    stored = image.stored
    dropped = image.dropped | {BLACKENED: len(boxes)}
    covered = replace(image, pixels=blacken(image.pixels, boxes), dropped=dropped)
    return covered if stored is None else replace(covered, stored=lambda: blacken(stored(), boxes))


def _grown(box: Box, height: int, width: int) -> Box:
    """A box with half of its lower side as a margin: detectors cut off the rims of letters."""
    left, top, right, bottom = box
    margin = min((right - left) * width, (bottom - top) * height) / 2
    x, y = margin / width, margin / height
    return max(0.0, left - x), max(0.0, top - y), min(1.0, right + x), min(1.0, bottom + y)


@contextlib.contextmanager
def _own_time(pixels: np.ndarray) -> Generator[None]:
    """Where a worker's alarms run, let them stand still meanwhile: reading takes longer than decoding."""
    seconds = _SECONDS + _SECONDS_A_MEGAPIXEL * pixels.size / 1e6
    allowed = {signal.ITIMER_PROF: seconds, signal.ITIMER_REAL: seconds * _PATIENCE}
    left = {timer: signal.getitimer(timer)[0] for timer in allowed}
    running = [timer for timer in allowed if left[timer]]
    for timer in running:
        signal.setitimer(timer, allowed[timer])
    try:
        yield
    finally:
        for timer in running:
            signal.setitimer(timer, left[timer])
