"""Canonical pixels: geometry, one quantisation at the end, and the digest that names an image.

The order of the whole path is fixed: stored values, colour, padding, modality, window, polarity and aspect
are the source's (`dicom.pixels` for DICOM); fit, resize and quantise are done here, in float, once.
"""

import hashlib
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, field_validator

from phantomset.data.errors import SourceError
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.records import ImageSpec

VERSION = 2
"""Part of every digest: it changes whenever a step of the path changes. A reader that gave wrong values and
was mended changes `one_file.FORMAT`: its files are read anew, and the digests of all others stay."""

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in grey. Source: ITU-R BT.601."""


class ImageSettings(BaseModel):
    """The recipe's section ``image``: what every image of the cohort becomes.

    Attributes:
        size_px: side of the square, or ``[height, width]``; 8 to 2048.
        channels: 1 (colour becomes grey) or 3 (grey is repeated).
        fit: what happens to an image whose sides have another ratio than ``size_px``; nothing is ever
            stretched. "exact": it is an error; "pad": black bars; "crop": the centre is kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_px: int | tuple[int, int] = 64
    channels: Literal[1, 3] = Field(default=1)
    fit: Literal["exact", "pad", "crop"] = "exact"

    @field_validator("size_px")
    @classmethod
    def _in_range(cls, value: int | tuple[int, int]) -> int | tuple[int, int]:
        sides = (value,) if isinstance(value, int) else value
        if not all(8 <= side <= 2048 for side in sides):
            raise ValueError("must be 8 to 2048 pixels")
        return value

    @property
    def spec(self) -> ImageSpec:
        """Channels, height and width of every image."""
        height, width = (self.size_px, self.size_px) if isinstance(self.size_px, int) else self.size_px
        return ImageSpec(self.channels, height, width)


def canonical(pixels: np.ndarray, settings: ImageSettings, picture: Image.Image | None = None) -> np.ndarray:
    """Return an image ``(C, H, W) uint8`` as the cohort stores it.

    Args:
        pixels: ``(H, W)`` or ``(H, W, 3)`` float32 in [0, 1], square pixels, bright is dense.
        settings: the size, the channels and the rule for other ratios.
        picture: of grey pixels, what `picture_of` makes of them, where it was made already.

    Raises:
        Unfit: NON_FINITE or CONSTANT_IMAGE.
        SourceError: the ratio of its sides is another one and ``fit`` is "exact".
    """
    spec = settings.spec
    low, high = pixels.min(), pixels.max()  # both are NaN where any value is
    if not np.isfinite((low, high)).all():
        raise Unfit("NON_FINITE")
    if low == high:
        raise Unfit("CONSTANT_IMAGE")
    fitted = [_fit(plane, spec, settings.fit) for plane in _planes(pixels, spec.channels)]
    planes = [_resize(plane, spec, picture if plane is pixels else None) for plane in fitted]
    quantised = np.rint(np.clip(np.stack(planes), 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.repeat(quantised, spec.channels, axis=0) if len(quantised) < spec.channels else quantised


def final_spacing(spacing_mm: float | None, shape: tuple[int, ...], settings: ImageSettings) -> float | None:
    """Return the side of a pixel in mm once an image of that shape is canonical."""
    if spacing_mm is None:
        return None
    spec = settings.spec
    fitted = round(shape[1] * spec.height / spec.width)
    height = {"pad": max(shape[0], fitted), "crop": min(shape[0], fitted)}.get(settings.fit, shape[0])
    return round(spacing_mm * height / spec.height, 6)


def digest_of_pixels(image: np.ndarray) -> str:
    """Return the name of a canonical image: SHA-256 over version, dtype, shape and row-major bytes."""
    head = f"{VERSION}|{image.dtype.str}|{','.join(map(str, image.shape))}|".encode()
    return hashlib.sha256(head + image.tobytes()).hexdigest()


def _planes(pixels: np.ndarray, channels: int) -> list[np.ndarray]:
    """One plane where one is enough, so that grey is resized once."""
    if pixels.ndim == 2:
        return [pixels]
    if channels == 3:
        return [pixels[..., channel] for channel in range(3)]
    return [pixels @ _LUMA]


def _fit(plane: np.ndarray, spec: ImageSpec, rule: str) -> np.ndarray:
    """Bring the sides to the target's ratio, to the pixel."""
    height, width = plane.shape
    wanted_height = round(width * spec.height / spec.width)
    wanted_width = round(height * spec.width / spec.height)
    # one source pixel is the least by which a camera's frame can miss the ratio
    if abs(wanted_height - height) <= 1 or abs(wanted_width - width) <= 1:
        return plane
    if rule == "exact":
        raise SourceError(
            f"image: found an image of {width} x {height} px (width x height), which cannot become "
            f"{spec.width} x {spec.height} without a rule. Set image.fit to 'pad' or 'crop', or "
            "image.size_px to the ratio of your images, as [height, width]."
        )
    if rule == "crop":
        if wanted_height < height:
            top = (height - wanted_height) // 2
            return plane[top : top + max(1, wanted_height)]
        left = (width - wanted_width) // 2
        return plane[:, left : left + max(1, wanted_width)]
    if wanted_height > height:
        above = (wanted_height - height) // 2
        return np.pad(plane, ((above, wanted_height - height - above), (0, 0)))
    left = (wanted_width - width) // 2
    return np.pad(plane, ((0, 0), (left, wanted_width - width - left)))


def picture_of(plane: np.ndarray) -> Image.Image:
    """Return a plane ``(H, W)`` of floats for Pillow to resize in float32; its values are copied."""
    return Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))


def _resize(plane: np.ndarray, spec: ImageSpec, picture: Image.Image | None) -> np.ndarray:
    """Resize in float: Pillow widens its filter when it shrinks, which is the antialiasing."""
    if plane.shape == (spec.height, spec.width):
        return plane.astype(np.float32)
    shrinks = plane.shape[0] > spec.height
    method = Image.Resampling.HAMMING if shrinks else Image.Resampling.BICUBIC
    return np.asarray((picture or picture_of(plane)).resize((spec.width, spec.height), method))
