"""Random changes for what the critic sees, real and fake alike, so that they do not leak into the generator.

Karras et al., "Training generative adversarial networks with limited data", NeurIPS 2020; Zhao et al.,
"Differentiable augmentation for data-efficient GAN training", NeurIPS 2020. MONAI's array transforms take one
image at a time and break the gradient to the generator; its batched `AffineTransform` layer keeps it.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from phantomset.ganmodels.family import unchanged
from phantomset.ganmodels.plan import Augment

SHARE = {"none": 0.0, "shift": 0.3, "affine": 0.5, "adaptive": 0.0}
"""Share of the images that are changed, at first; below 0.8 nothing leaks (Karras et al., section 2.2)."""

LARGEST_SHARE = 0.8

TURNED = {"affine", "adaptive"}
"""Augmentations that turn and scale besides moving."""

SHIFT_SHARE = 1 / 7
"""Largest move, as a share of the image's side: 4 px of 28."""

TURN_DEGREES = 10.0
SCALE_SHARE = 0.1


Uniform = Callable[[tuple[int, ...]], Tensor]
"""Draws float32 numbers in [0, 1) of a shape."""


def uniform(rng: torch.Generator) -> Uniform:
    """Return what draws from torch's generator, on its device."""
    return lambda shape: torch.rand(shape, generator=rng, device=rng.device)


def augmentation(name: Augment, uniform: Uniform, more: float = 0.0) -> Callable[[Tensor], Tensor]:
    """Return the function ``(B, C, H, W) -> (B, C, H, W)`` for one step; its chance is ``uniform``.

    ``more`` is added to the share of the images that are changed: the ladder's, or the adaptive one.
    """
    share = min(LARGEST_SHARE, SHARE[name] + more)
    if not share:
        return unchanged
    return lambda images: warped(images, transforms(name, images, uniform, share))


def warped(images: Tensor, maps: Tensor) -> Tensor:
    """Return images ``(B, C, H, W)`` as affine maps ``(B, 2, 3)`` move them; border pixels are repeated."""
    from monai.networks.layers.spatial_transforms import AffineTransform

    # The maps lead from the output's grid to the input's, both in [-1, 1].
    warp = AffineTransform(
        normalized=True, mode="bilinear", padding_mode="border", align_corners=False, reverse_indexing=False
    )
    return warp(images, maps)


def transforms(name: Augment, images: Tensor, uniform: Uniform, share: float | None = None) -> Tensor:
    """Return ``(B, 2, 3)`` float32 affine maps, x before y; the identity for images that stay as they are."""
    count, height, width = len(images), images.shape[2], images.shape[3]
    draw = uniform((5, count)) * 2 - 1
    changed = (draw[0] + 1) / 2 < (SHARE[name] if share is None else share)
    is_turned = name in TURNED
    # Whole pixels: a move by parts of a pixel would also blur, and the critic would learn to accept blur.
    moves = [(draw[i] * side * SHIFT_SHARE).round() * 2 / side for i, side in ((1, width), (2, height))]
    turn = draw[3] * math.radians(TURN_DEGREES) * is_turned
    scale = 1 + draw[4] * SCALE_SHARE * is_turned
    aspect = height / width  # turning happens in pixels, the map is in shares of the sides
    rows = [
        torch.stack([turn.cos() * scale, -turn.sin() * scale * aspect, moves[0]], dim=1),
        torch.stack([turn.sin() * scale / aspect, turn.cos() * scale, moves[1]], dim=1),
    ]
    identity = torch.eye(2, 3, device=draw.device).expand(count, 2, 3)
    return torch.where(changed[:, None, None], torch.stack(rows, dim=1), identity)
