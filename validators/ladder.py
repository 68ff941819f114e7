"""The ladder of altered copies: what a leak may look like, from the exact copy to a hint of it."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from scipy import ndimage

Alteration = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""``(image (C, H, W) float64 in [0, 255], another training image, rng) -> image``."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One kind of altered copy.

    Attributes:
        name: as the power statement names it.
        alter: makes the copy.
        dose: how many copies must be noticed: 1, 10, or 0 where it is reported and not required.
    """

    name: str
    alter: Alteration
    dose: int


def _scale(image: np.ndarray) -> float:
    """How many times larger than 28 px the image is: blur and bending are meant in that unit."""
    return min(image.shape[1:]) / 28


def exact(image: np.ndarray, _other: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
    """Return the image itself."""
    return image


def noise(level: float) -> Alteration:
    """Return Gaussian noise of that many grey levels."""
    return lambda image, _other, rng: image + level * rng.standard_normal(image.shape)


def jpeg(quality: int) -> Alteration:
    """Return compression by JPEG and back."""

    def alter(image: np.ndarray, _other: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
        from PIL import Image

        pixels = to_uint8(image)
        picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        stream = BytesIO()
        picture.save(stream, format="JPEG", quality=quality)
        decoded = np.asarray(Image.open(stream), np.float64)
        return decoded[None] if decoded.ndim == 2 else decoded.transpose(2, 0, 1)

    return alter


def blur(width: float) -> Alteration:
    """Return a Gaussian blur, width in pixels at 28 px."""
    return lambda image, _other, _rng: ndimage.gaussian_filter(
        image, (0, width * _scale(image), width * _scale(image))
    )


def contrast(factor: float) -> Alteration:
    """Return contrast times a factor around the image's mean."""
    return lambda image, _other, _rng: (image - image.mean()) * factor + image.mean()


def shift(down: int, right: int) -> Alteration:
    """Return the image moved by whole pixels, its edge repeated."""
    return lambda image, _other, _rng: ndimage.shift(image, (0, down, right), order=0, mode="nearest")


def mirror(image: np.ndarray, _other: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
    """Return the image mirrored left to right."""
    return image[:, :, ::-1]


def mirrored(alter: Alteration) -> Alteration:
    """Return an alteration, then mirrored."""
    return lambda image, other, rng: mirror(alter(image, other, rng), other, rng)


def warp(degrees: float = 0.0, zoom: float = 1.0) -> Alteration:
    """Return the image turned and enlarged about its middle."""

    def alter(image: np.ndarray, _other: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
        angle = np.deg2rad(degrees)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
        middle = (np.array(image.shape[1:]) - 1) / 2
        grid = np.indices(image.shape[1:]).reshape(2, -1) - middle[:, None]
        where = (turn @ grid + middle[:, None]).reshape(2, *image.shape[1:])
        return np.stack([ndimage.map_coordinates(x, where, order=1, mode="nearest") for x in image])

    return alter


def elastic(strength: float) -> Alteration:
    """Return a smooth random bending; no pixel moves farther than ``strength``, in pixels at 28 px."""

    def alter(image: np.ndarray, _other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = image.shape[1:]
        smooth = 4 * _scale(image)
        fields = [ndimage.gaussian_filter(rng.standard_normal((height, width)), smooth) for _ in range(2)]
        farthest = max(np.hypot(*fields).max(), 1e-9)
        fields = [strength * _scale(image) / farthest * field for field in fields]
        grid = np.mgrid[:height, :width].astype(np.float64)
        where = [grid[axis] + fields[axis] for axis in range(2)]
        return np.stack([ndimage.map_coordinates(x, where, order=1, mode="nearest") for x in image])

    return alter


def blend(share: float) -> Alteration:
    """Return a mixture with another training image."""
    return lambda image, other, _rng: share * image + (1 - share) * other


def patch(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return another image with a half-size window of this one pasted in."""
    height, width = image.shape[1] // 2, image.shape[2] // 2
    top, left = rng.integers(image.shape[1] - height + 1), rng.integers(image.shape[2] - width + 1)
    pasted = other.copy()
    pasted[:, top : top + height, left : left + width] = image[:, top : top + height, left : left + width]
    return pasted


def disguise(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the image shifted by a pixel, with noise of 5 grey levels and less contrast."""
    moved = contrast(0.75)(shift(1, -1)(image, other, rng), other, rng)
    return noise(5)(moved, other, rng)


LADDER: tuple[Rung, ...] = (
    Rung("exact", exact, 1),
    Rung("noise 2/255", noise(2), 1),
    Rung("JPEG quality 50", jpeg(50), 1),
    Rung("blur 0.7 px", blur(0.7), 1),
    Rung("contrast 0.75", contrast(0.75), 1),
    Rung("shift 1 px", shift(1, 0), 1),
    Rung("shift 2 px", shift(2, -2), 1),
    Rung("mirror", mirror, 1),
    Rung("elastic 1 px", elastic(1), 1),
    Rung("blend 70/30", blend(0.7), 1),
    Rung("rotation 4 degrees", warp(degrees=4), 1),
    Rung("rotation 4 degrees, mirrored", mirrored(warp(degrees=4)), 1),
    Rung("zoom 1.1", warp(zoom=1.1), 1),
    Rung("zoom 1.1, mirrored", mirrored(warp(zoom=1.1)), 1),
    Rung("noise 10/255", noise(10), 10),
    Rung("shift, noise and contrast", disguise, 10),
    Rung("blend 50/50", blend(0.5), 10),
    Rung("noise 25/255", noise(25), 0),
    Rung("blur 1.5 px", blur(1.5), 0),
    Rung("patch", patch, 0),
)
"""From the closest to the faintest. Shifts are in pixels of the image; blur and bending at 28 px."""


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Return an image rounded and clipped to uint8."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def make_copies(
    rung: Rung, images: np.ndarray, positions: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return altered copies ``(K, C, H, W)`` uint8 of the images at ``positions (K,)``."""
    others = rng.integers(len(images), size=len(positions))
    return np.stack(
        [
            to_uint8(rung.alter(images[i].astype(np.float64), images[j].astype(np.float64), rng))
            for i, j in zip(positions, others, strict=True)
        ]
    )
