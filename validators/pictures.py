"""Images as the representations see them: small, in [0, 1], without slow changes of brightness."""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor

LARGEST_PX = 32
"""Larger images are averaged down to this: copies are found there as well, and noise is not."""

SMALLEST_PX = 12
BLUR_PX = 1.2
STEEP = 2.0
"""Where edges bend down, in units of the image's median: a frame or a marker must not outweigh anatomy."""


def pixels(images: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return uint8 images as ``(N, C, h, w)`` in [0, 1], averaged down to at most 32 px a side.

    Raises:
        ValueError: not uint8 ``(N, C, H, W)``, or smaller than 12 px.
    """
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(f"images are {images.dtype} {images.shape}; uint8 (N, C, H, W) expected.")
    if min(images.shape[2:]) < SMALLEST_PX:
        raise ValueError(f"images are {images.shape[2:]} px; at least {SMALLEST_PX} px are needed.")
    x = torch.from_numpy(np.ascontiguousarray(images)).to(dtype) / 255
    height, width = x.shape[2:]
    shrink = max(height, width) / LARGEST_PX
    if shrink <= 1:
        return x
    size = (max(SMALLEST_PX, round(height / shrink)), max(SMALLEST_PX, round(width / shrink)))
    return F.interpolate(x, size=size, mode="area")


def blurred(x: Tensor, deviation: float) -> Tensor:
    """Return the Gaussian blur of images ``(N, C, h, w)`` by some px, mirrored at the edges."""
    down, across = (_blur_of_lines(size, deviation, x.dtype) for size in x.shape[2:])
    return down.T @ (x @ across)


def _blur_of_lines(size: int, deviation: float, dtype: torch.dtype) -> Tensor:
    """Return the matrix ``(size, size)`` that blurs lines; ten times as fast as convolving."""
    radius = 4
    taps = torch.exp(-(torch.arange(-radius, radius + 1, dtype=dtype) ** 2) / (2 * deviation**2))
    mirrored = F.pad(torch.eye(size, dtype=dtype)[None], (radius, radius), mode="reflect")[0]
    return mirrored.unfold(1, len(taps), 1) @ (taps / taps.sum())


def high_pass(x: Tensor) -> Tensor:
    """Return images ``(N, C, h, w)`` minus their Gaussian blur of 1.2 px."""
    return x - blurred(x, BLUR_PX)


def unit(vectors: Tensor) -> Tensor:
    """Return vectors with mean 0 and length 1 along the last axis, so that brightness and contrast drop out.

    A constant vector has no pattern; it becomes the unit vector along (1, ..., 1), which is at distance √2
    from every pattern and at 0 from other constants.
    """
    centred = vectors - vectors.mean(-1, keepdim=True)
    length = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
    flat = length < 1e-6 * vectors.shape[-1] ** 0.5
    centred.div_(length.clamp_min(1e-12))
    return centred.masked_fill_(flat, vectors.shape[-1] ** -0.5) if flat.any() else centred


def edges(images: np.ndarray, dtype: torch.dtype, steep: float = STEEP) -> Tensor:
    """Return the high-pass of uint8 images, steep edges bent down by a hyperbolic tangent.

    Unbent, two images with the same collimator frame or marker would pass for copies of each other.
    """
    return bent(high_pass(pixels(images, dtype)), steep)


def bent(x: Tensor, steep: float = STEEP) -> Tensor:
    """Return a high-pass ``(N, C, h, w)`` in [-1, 1], steep edges bent down."""
    usual = x.abs().flatten(1).median(1).values.clamp_min(1e-4)
    return torch.tanh(x / (steep * usual[:, None, None, None]))
