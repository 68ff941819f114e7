"""DCGAN's two towers: from a vector up to an image, and from an image down to a map.

Radford, Metz & Chintala, "Unsupervised representation learning with deep convolutional generative adversarial
networks", ICLR 2016. Group norm (Wu & He, ECCV 2018) stands where DCGAN has batch norm, with which a sample
would depend on the others in its batch and parts of a batch could not be computed apart.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from phantomset.data.records import ImageSpec
from phantomset.ganmodels.blocks.geometry import pyramid
from phantomset.ganmodels.blocks.spectral import SpectralConv2d
from phantomset.ganmodels.family import FamilySettings

WIDTHS = {1: (64,), 2: (128, 64), 3: (256, 128, 64), 4: (512, 256, 128, 64), 5: (512, 256, 128, 64, 32)}
"""Channels of the maps by number of doublings, smallest map first: they halve as the size doubles."""

GROUPS = 8
SLOPE = 0.2
SMALLEST_PX, LARGEST_PX = 8, 256

Halving = Callable[[int, int], nn.Module]


class UpTower(nn.Module):
    """A vector ``(B, inputs)`` to an image ``(B, C, H, W)`` by transposed convolutions, without a limit."""

    def __init__(self, inputs: int, spec: ImageSpec) -> None:
        super().__init__()
        self.pyramid = pyramid(spec)
        widths = WIDTHS[self.pyramid.doublings]
        rows, columns = self.pyramid.start
        self.first = nn.Linear(inputs, widths[0] * rows * columns, bias=False)
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, width) for width in widths)
        # Kernel 4, stride 2: every output pixel is covered equally often, which keeps the checkerboard small.
        self.doublings = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, stride=2, padding=1, bias=b == spec.channels)
            for a, b in zip(widths, (*widths[1:], spec.channels), strict=True)
        )
        for layer in (self.first, *self.doublings):
            nn.init.normal_(cast(Tensor, layer.weight), 0.0, 0.02)

    def forward(self, vector: Tensor) -> Tensor:
        """Return the image, float32, before any squashing."""
        x = self.first(vector).unflatten(1, (-1, *self.pyramid.start))
        x = x.contiguous(memory_format=torch.channels_last)
        for norm, doubling in zip(self.norms, self.doublings, strict=True):
            x = doubling(functional.relu(norm(x)))
        return self.pyramid.crop(x.float())


class DownTower(nn.Module):
    """An image ``(B, C, H, W)``, padded, to a vector ``(B, self.outputs)`` by strided convolutions.

    Args:
        spec: of the images.
        halving: ``(inputs, outputs) -> layer`` that halves the map.
        planes: extra input channels, such as one for the class.
    """

    def __init__(self, spec: ImageSpec, halving: Halving, planes: int = 0) -> None:
        super().__init__()
        self.pyramid = pyramid(spec)
        widths = (spec.channels + planes, *WIDTHS[self.pyramid.doublings][::-1])
        self.halvings = nn.ModuleList(halving(a, b) for a, b in pairwise(widths))
        self.outputs = widths[-1] * self.pyramid.start[0] * self.pyramid.start[1]

    def forward(self, images: Tensor) -> Tensor:
        """Return the flattened last map."""
        x = self.pyramid.pad(images)
        for halving in self.halvings:
            x = functional.leaky_relu(halving(x), SLOPE)
        return x.flatten(1)


def normed_halving(inputs: int, outputs: int) -> nn.Module:
    """Return a strided convolution and a group norm."""
    layer = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
    nn.init.normal_(layer.weight, 0.0, 0.02)
    return nn.Sequential(layer, nn.GroupNorm(GROUPS, outputs))


def spectral_halving(inputs: int, outputs: int) -> nn.Module:
    """Return a strided convolution with spectral norm 1."""
    return SpectralConv2d(inputs, outputs, 4, stride=2, padding=1)


def unfit_size(_: FamilySettings, spec: ImageSpec) -> str | None:
    """Return why a pyramid of doublings cannot make images of this size, or None."""
    if min(spec.height, spec.width) < SMALLEST_PX or max(spec.height, spec.width) > LARGEST_PX:
        return (
            f"makes images of {SMALLEST_PX} to {LARGEST_PX} px a side; these are "
            f"{spec.height} x {spec.width}. Choose another image.size_px."
        )
    return None
