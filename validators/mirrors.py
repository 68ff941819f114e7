"""A basis in which the mirror image of an image costs nothing."""

import torch
from torch import Tensor


def folded(x: Tensor) -> Tensor:
    """Return images ``(..., h, w)`` as vectors ``(..., D)`` in a basis in which a mirror only changes signs.

    The first half holds what a mirror keeps, the second what it turns to its opposite; lengths and angles
    stay. So the products of these halves, added and subtracted, are those with an image and with its mirror
    image: two for the price of one.
    """
    half, odd_width = x.shape[-1] // 2, x.shape[-1] % 2
    left, right = x[..., :half], x.flip(-1)[..., :half]
    middle = x[..., half : half + odd_width]
    kept = torch.cat([(left + right) * 0.5**0.5, middle], -1)
    turned = torch.cat([(left - right) * 0.5**0.5, torch.zeros_like(middle)], -1)
    return torch.cat([kept.flatten(-2), turned.flatten(-2)], -1)


def mirrored(vectors: Tensor) -> Tensor:
    """Return `folded` vectors ``(..., D)`` of the mirror images."""
    kept, turned = vectors.chunk(2, -1)
    return torch.cat([kept, -turned], -1)
