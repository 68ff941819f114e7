"""From any image size to a pyramid of halvings and back: start map, padding, cropping."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from phantomset.data.records import ImageSpec

START_PX = 8
"""The smallest map of a pyramid is about this large: 7 x 7 for 28 px, 8 x 8 for 32 and 64 px."""


@dataclass(frozen=True, slots=True)
class Pyramid:
    """How an image of ``height x width`` is reached from its smallest map by ``doublings``.

    Attributes:
        height: pixels of the image.
        width: pixels of the image.
        doublings: how often the start map doubles; at least 1.
        start: ``(h, w)`` of the smallest map, rounded up: ``h * 2**doublings >= height``.
    """

    height: int
    width: int
    doublings: int
    start: tuple[int, int]

    @property
    def padded(self) -> tuple[int, int]:
        """``(H, W)`` of the grid that the pyramid spans; the image is its centre."""
        return (self.start[0] << self.doublings, self.start[1] << self.doublings)

    def crop(self, images: Tensor) -> Tensor:
        """Return the central ``(B, C, height, width)`` of ``(B, C, *padded)``."""
        top, left = (self.padded[0] - self.height) // 2, (self.padded[1] - self.width) // 2
        if self.padded == (self.height, self.width):
            return images
        return images[..., top : top + self.height, left : left + self.width]

    def pad(self, images: Tensor) -> Tensor:
        """Return ``(B, C, *padded)``: the image in the centre, its edge repeated around it."""
        more_rows, more_columns = self.padded[0] - self.height, self.padded[1] - self.width
        if not more_rows and not more_columns:
            return images
        top, left = more_rows // 2, more_columns // 2
        return functional.pad(images, (left, more_columns - left, top, more_rows - top), mode="replicate")


def pyramid(spec: ImageSpec) -> Pyramid:
    """Return the pyramid whose smallest map has about `START_PX` pixels on its longer side.

    28 px is 7 x 7 doubled twice, never padded to 32: that would be 1.31 times the work for nothing.
    """
    longest = max(spec.height, spec.width)
    doublings = 1
    # Halving stops where one more halving would be further from START_PX (by ratio) than staying.
    while longest / 2**doublings > START_PX * 2**0.5:
        doublings += 1
    scale = 2**doublings
    return Pyramid(spec.height, spec.width, doublings, (-(-spec.height // scale), -(-spec.width // scale)))
