"""Encoders to principal components of the reference images, in float32 or float64 as they are asked for."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from phantomset.validators.calibration import OUTLINE
from phantomset.validators.ladder import Rung, blend, blur, elastic, make_copies, noise, to_uint8
from phantomset.validators.measures.axes import principal, shrunk_axes
from phantomset.validators.pictures import edges, pixels, unit

COMPONENTS, WHITE_COMPONENTS, RIDGE_COMPONENTS = 50, 200, 100
LEARNED_COMPONENTS, MOST_ALTERED = 80, 1000
ALTERATIONS = (elastic(1.5), elastic(2.5), blur(0.7), blur(1.2), noise(8), blend(0.7), blend(0.6))
"""What a generator that learned an image by heart makes of it: bent, soft, grainy, mixed with another."""

STEEP_WHITE = 5.0
RIDGE_SHARE = 0.01
"""Variance that is added to each component before it is whitened, as a share of all: smaller ones fade."""

Encoder = Callable[[np.ndarray, torch.dtype], Tensor]
"""Turns uint8 images ``(N, C, H, W)`` into vectors ``(N, D)`` of a dtype."""


def fit_components(reference: np.ndarray) -> Encoder:
    """Return the encoder to whitened principal components, deviations floored at 5% of the first."""
    x = pixels(reference, torch.float64).flatten(1)
    mean = x.mean(0)
    count = min(COMPONENTS, len(x) - 1, x.shape[1])
    axes, deviations = principal(x - mean, count)
    floor = torch.clamp(0.05 * deviations[0], min=1e-6)
    projection = axes / torch.maximum(deviations, floor)

    def encode(images: np.ndarray, dtype: torch.dtype) -> Tensor:
        return (pixels(images, dtype).flatten(1) - mean.to(dtype)) @ projection.to(dtype)

    return encode


def fit_ridge(reference: np.ndarray) -> Encoder:
    """Return the encoder to all of an image, its components whitened as far as they exceed a ridge.

    The first `OUTLINE` coordinates are the largest components, the others what is left in pixels.
    """
    x = pixels(reference, torch.float64).flatten(1)
    mean = x.mean(0)
    axes, deviations = principal(x - mean, min(RIDGE_COMPONENTS, len(x) // 2, x.shape[1]))
    ridge = RIDGE_SHARE * (x - mean).square().sum(1).mean().clamp_min(1e-12)
    shrunk = (deviations.square() / ridge + 1).rsqrt()

    def encode(images: np.ndarray, dtype: torch.dtype) -> Tensor:
        y = (pixels(images, dtype).flatten(1) - mean.to(dtype)) / ridge.sqrt().to(dtype)
        parts = y @ axes.to(dtype)
        whitened = parts * shrunk.to(dtype)
        outline, kept = whitened[:, :OUTLINE], whitened.clone()
        kept[:, :OUTLINE] = 0
        return torch.cat([outline, y + (kept - parts) @ axes.to(dtype).T], 1)

    return encode


def directions(reference: Tensor, components: int) -> Callable[[Tensor], Tensor]:
    """Return the map from vectors ``(..., D)`` to directions ``(..., K)`` in R's whitened components.

    Whitened, unrelated images are nearly at right angles, so that even half of a copy, in a mixture of two
    images, stands out; what R does not show, such as noise, is left out.
    """
    mean = reference.mean(0)
    axes, deviations = principal(reference - mean, min(components, len(reference) // 2, len(mean)))
    projection = axes / deviations.clamp_min(max(0.05 * float(deviations[0]), 1e-9))
    return _direction(mean, projection)


def _direction(mean: Tensor, projection: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the map from vectors ``(..., D)`` to the directions ``(..., K)`` of their projections."""
    fitted = {dtype: (mean.to(dtype), projection.to(dtype)) for dtype in (torch.float32, torch.float64)}

    def encode(vectors: Tensor) -> Tensor:
        centre, matrix = fitted[vectors.dtype]
        y = (vectors - centre) @ matrix
        length = torch.linalg.vector_norm(y, dim=-1, keepdim=True)
        # An image that is R's mean has no direction; it takes the first axis.
        first = torch.eye(1, y.shape[-1], dtype=y.dtype)[0]
        return torch.where(length > 1e-6, y / length.clamp_min(1e-6), first)

    return encode


def fit_white(reference: np.ndarray) -> Encoder:
    """Return the encoder to the direction of the high-pass in 200 whitened components."""

    def bent(images: np.ndarray, dtype: torch.dtype) -> Tensor:
        return unit(edges(images, dtype, STEEP_WHITE).flatten(1))

    direction = directions(bent(reference, torch.float64), WHITE_COMPONENTS)
    return lambda images, dtype: direction(bent(images, dtype))


def fit_learned(reference: np.ndarray) -> Encoder:
    """Return the encoder to the direction in components that are whitened by what alterations change.

    Two images are near if what parts them is what bending, blur, noise and blending do to R's own images.
    """
    images = to_uint8(255 * pixels(reference).numpy())
    base = unit(pixels(images, torch.float64).flatten(1))
    mean = base.mean(0)
    axes, _ = principal(base - mean, min(LEARNED_COMPONENTS, len(base) // 2, len(mean)))
    rng, some = np.random.default_rng(0), np.arange(min(MOST_ALTERED, len(images)))
    altered = [make_copies(Rung("", alter, 0), images, some, rng) for alter in ALTERATIONS]
    changes = [(unit(pixels(x, torch.float64).flatten(1)) - base[some]) @ axes for x in altered]
    spread, turn = shrunk_axes(torch.cat(changes), 0.05)
    direction = _direction(mean, axes @ (turn / spread.sqrt()))
    return lambda images, dtype: direction(unit(pixels(images, dtype).flatten(1)))
