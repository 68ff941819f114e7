"""How much of held-out images' variety samples cover: by this the best state of a failed run is told."""

import torch
from torch import Tensor
from torch.nn import functional

NEIGHBOURS = 5
"""The ball of a real image reaches to so many of the others."""

PIXELS_SIDE = 14
"""Side to which images are averaged in pixel space."""

LEVELS = 3
"""Halvings of the texture's wavelet transform."""


def coverage(made: Tensor, real: Tensor) -> float:
    """Return the coverage of real images by made ones, mean of pixel and texture space, 0 to 1; high is good.

    Both ``(N, C, H, W)`` uint8, real ones at least two. Coverage is the share of real images in whose ball
    lies a made one: Naeem et al., "Reliable fidelity and diversity metrics for generative models", ICML 2020.
    """
    spaces = (_pixels, _texture)
    return sum(covered(space(real), space(made)) for space in spaces) / len(spaces)


def covered(real: Tensor, made: Tensor, neighbours: int = NEIGHBOURS) -> float:
    """Return the share of rows of ``real (N, D)`` that have a row of ``made (M, D)`` as near as a neighbour.

    Both are scaled by the deviations of ``real``.
    """
    scale = real.std(dim=0) + 1e-6
    real, made = real / scale, made / scale
    nearest = torch.cdist(real, real).sort(dim=1).values[:, 1:]  # without the image itself
    radius = nearest[:, min(neighbours, len(real) - 1) - 1]
    return float((torch.cdist(real, made).min(dim=1).values <= radius).float().mean())


def _pixels(images: Tensor) -> Tensor:
    height, width = images.shape[2:]
    side = min(height, PIXELS_SIDE), min(width, PIXELS_SIDE)
    return functional.adaptive_avg_pool2d(images.float(), side).flatten(1)


def _texture(images: Tensor) -> Tensor:
    """Return the log energy of Haar's three details at each level in 2 x 2 cells, of the mean channel."""
    x, rows = images.float().mean(dim=1, keepdim=True), list[Tensor]()
    for _ in range(LEVELS):
        if min(x.shape[2:]) < 2:
            break
        x = x[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]
        a, b, c, d = (x[:, :, down::2, right::2] for down in (0, 1) for right in (0, 1))
        details = torch.cat([a - b + c - d, a + b - c - d, a - b - c + d], dim=1) / 2
        rows.append((functional.adaptive_avg_pool2d(details.square(), 2) + 1).log().flatten(1))
        x = (a + b + c + d) / 2
    return torch.cat(rows, dim=1)
