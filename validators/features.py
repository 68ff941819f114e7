"""The representations in which images are compared. Whatever is fitted, is fitted on R alone.

A representation turns an image into vectors: one as a candidate; as a query one for each way in which it
may have been moved (variants), and one for each part that may match alone (parts). The distance of two
images is the least over variants and parts.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor

from phantomset.validators.finding import EvidenceError
from phantomset.validators.ladder import Rung, blend, blur, elastic, make_copies, noise, to_uint8
from phantomset.validators.measures.axes import principal, shrunk_axes
from phantomset.validators.measures.neighbours import nearest
from phantomset.validators.mirrors import folded
from phantomset.validators.policy import LEAST_REFERENCE
from phantomset.validators.wavelets import wavelet_features

LARGEST_PX = 32
"""Larger images are averaged down to this: copies are found there as well, and noise is not."""

SMALLEST_PX = 12
BLUR_PX = 1.2
REACH_PX = 2
SHIFTS = (2 * REACH_PX + 1) ** 2
COMPONENTS = 50
WHITE_COMPONENTS, SCAN_COMPONENTS = 200, 100
LEARNED_COMPONENTS, MOST_ALTERED = 80, 1000
ALTERATIONS = (elastic(1.5), elastic(2.5), blur(0.7), blur(1.2), noise(8), blend(0.7), blend(0.6))
"""What a generator that learned an image by heart makes of it: bent, soft, grainy, mixed with another."""

STEEP, STEEP_WHITE = 2.0, 5.0
"""Where edges bend down, in units of the image's median: a frame or a marker must not outweigh anatomy."""

MARGIN_PX = 3
POSES = (
    *((0, zoom) for zoom in (0.8, 0.87, 0.93, 1.07, 1.13, 1.2, 1.27)),
    *((degrees, 1.0) for degrees in (-12, -8, -4, 4, 8, 12, 90, 180, 270)),
)
"""Degrees and zoom; a copy between two neighbours lies within half a pixel of one of them."""

STILL = (0, 1.0)
STEPS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
BLURS_PX = (0.7, 1.0, 1.4, 1.9)
"""Of a blurred copy the edges are those of the blurred original, and of no other image."""

COARSE_PX, LEAST_IMAGES = 12, 10

Encoder = Callable[[np.ndarray, torch.dtype], Tensor]


@dataclass(frozen=True, slots=True)
class Space:
    """One representation.

    Attributes:
        name: as findings name it.
        queries: uint8 images ``(N, C, H, W)`` to ``(N, V, P, D)``: V variants, P parts.
        candidates: uint8 images to ``(M, P, D)``.
        scales: ``(P,)``, what a distance in each part is divided by.
        moves: queries have variants; without, a query is encoded as a candidate is, V = 1.
        mirrors: vectors are `folded`, and each variant stands for its mirror image as well.
        coarse: a cheaper space; where given, only the candidates that are nearest in it are looked at.
    """

    name: str
    queries: Encoder
    candidates: Encoder
    scales: tuple[float, ...] = (1.0,)
    moves: bool = False
    mirrors: bool = False
    coarse: "Space | None" = None


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


def fit_spaces(reference: np.ndarray) -> tuple[Space, ...]:
    """Return the eleven representations, fitted on the reference images ``(N, C, H, W)`` uint8.

    ``pix`` pixels, ``hp`` high-pass (`edges`), ``scan`` and ``scanhp`` the same two at the best of shifts and
    mirror (50 variants), ``scanpca`` so too, as directions in 100 whitened components, ``affine`` high-pass
    at the best of zoom, turn, blur, mirror and 1 px (200 variants), ``patch`` the best of nine local
    high-pass windows, ``pca`` 50 whitened components, ``white`` direction of the high-pass in 200 whitened
    components, ``learned`` direction in 80 components, whitened by what alterations of R's images change,
    ``tex`` two-layer wavelet texture.

    Raises:
        ValueError: images that `pixels` refuses; an `EvidenceError` for fewer than 10 images.
    """
    if len(reference) < LEAST_IMAGES:
        raise EvidenceError(
            f"The reference has {len(reference)} images; {LEAST_IMAGES} at the very least are needed to fit "
            f"a representation, and {LEAST_REFERENCE} reference patients."
        )
    return (
        _simple("pix", lambda images, dtype: unit(pixels(images, dtype).flatten(1))),
        _simple("hp", lambda images, dtype: unit(edges(images, dtype).flatten(1))),
        _scan("scan", pixels),
        _scan("scanhp", edges),
        _scan_pca(reference),
        _affine(),
        _patch(reference),
        _simple("pca", _fit_components(reference)),
        _simple("white", _fit_white(reference)),
        _simple("learned", _fit_learned(reference)),
        _simple("tex", _fit_texture(reference)),
    )


def edges(images: np.ndarray, dtype: torch.dtype, steep: float = STEEP) -> Tensor:
    """Return the high-pass of uint8 images, steep edges bent down by a hyperbolic tangent.

    Unbent, two images with the same collimator frame or marker would pass for copies of each other.
    """
    return _bent(high_pass(pixels(images, dtype)), steep)


def _bent(x: Tensor, steep: float = STEEP) -> Tensor:
    usual = x.abs().flatten(1).median(1).values.clamp_min(1e-4)
    return torch.tanh(x / (steep * usual[:, None, None, None]))


def _simple(name: str, encode: Encoder) -> Space:
    """Return a space of one variant and one part from an encoder to ``(N, D)``."""
    return Space(
        name,
        queries=lambda images, dtype: encode(images, dtype)[:, None, None],
        candidates=lambda images, dtype: encode(images, dtype)[:, None],
    )


def _scan(name: str, picture: Encoder) -> Space:
    """Return a space that compares the middle of one image with every shifted, mirrored window of another."""

    def queries(images: np.ndarray, dtype: torch.dtype) -> Tensor:
        x = picture(images, dtype)
        height, width = x.shape[2] - 2 * REACH_PX, x.shape[3] - 2 * REACH_PX
        windows = x.unfold(2, height, 1).unfold(3, width, 1)  # (N, C, 5, 5, h, w)
        windows = windows.permute(0, 2, 3, 1, 4, 5).reshape(len(x), SHIFTS, -1, width)
        return _unit_folded(windows)[:, :, None]

    def candidates(images: np.ndarray, dtype: torch.dtype) -> Tensor:
        return _unit_folded(_middle(picture(images, dtype), REACH_PX))[:, None]

    return Space(name, queries, candidates, moves=True, mirrors=True)


def _unit_folded(rows: Tensor) -> Tensor:
    """Return images ``(..., C h, w)`` at `unit` length, `folded`."""
    return folded(unit(rows.flatten(-2)).unflatten(-1, rows.shape[-2:]))


def _affine() -> Space:
    """Return the space that looks for copies in another size, turned, mirrored or blurred, 1 px around each.

    The unmoved image is left to `scanhp`. Candidates are sought by their coarse pixels, in the same poses.
    """

    def altered(images: np.ndarray, dtype: torch.dtype) -> Tensor:
        x = pixels(images, dtype)
        soft = [_posed(_bent(high_pass(blurred(x, px))), MARGIN_PX, (STILL,), STEPS) for px in BLURS_PX]
        return torch.cat([_posed(_bent(high_pass(x)), MARGIN_PX, POSES, STEPS), *soft], 1)

    def small(images: np.ndarray, dtype: torch.dtype) -> Tensor:
        x = pixels(images, dtype)
        return F.adaptive_avg_pool2d(x, (min(COARSE_PX, x.shape[2]), min(COARSE_PX, x.shape[3])))

    return Space(
        "affine",
        queries=lambda images, dtype: _unit_folded(altered(images, dtype))[:, :, None],
        candidates=lambda images, dtype: _unit_folded(_middle(edges(images, dtype), MARGIN_PX))[:, None],
        moves=True,
        mirrors=True,
        coarse=Space(
            "affine, coarse",
            queries=lambda images, dtype: _unit_folded(_posed(small(images, dtype), 1, (STILL, *POSES)))[
                :, :, None
            ],
            candidates=lambda images, dtype: _unit_folded(_middle(small(images, dtype), 1))[:, None],
            moves=True,
            mirrors=True,
        ),
    )


def _middle(x: Tensor, margin: int) -> Tensor:
    """Return images ``(N, C, H, W)`` without their margins, as rows ``(N, C h, w)``."""
    return x[:, :, margin : x.shape[2] - margin, margin : x.shape[3] - margin].flatten(1, 2)


def _posed(
    x: Tensor, margin: int, poses: Sequence[tuple[float, float]], steps: Sequence[tuple[int, int]] = ((0, 0),)
) -> Tensor:
    """Return the middle of images ``(N, C, H, W)`` in each pose, at each step: rows ``(N, V, C h, w)``."""
    windows = []
    for degrees, zoom in poses:
        angle = math.radians(degrees)
        turn = torch.tensor(
            [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]], dtype=x.dtype
        )
        grid = F.affine_grid((turn / zoom)[None], [1, *x.shape[1:]], align_corners=False)
        grid = grid.expand(len(x), -1, -1, -1)
        moved = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
        windows += [_middle(moved.roll(step, (2, 3)), margin) for step in steps]
    return torch.stack(windows, 1)


def _patch(reference: np.ndarray) -> Space:
    """Return the space of nine half-size high-pass windows, each in units of its own R-R 5% quantile."""

    def encode(images: np.ndarray, dtype: torch.dtype) -> Tensor:
        x = edges(images, dtype)
        height, width = x.shape[2] // 2, x.shape[3] // 2
        windows = [
            x[:, :, top : top + height, left : left + width].flatten(1)
            for top in (0, (x.shape[2] - height) // 2, x.shape[2] - height)
            for left in (0, (x.shape[3] - width) // 2, x.shape[3] - width)
        ]
        return unit(torch.stack(windows, 1))

    fitted = encode(reference, torch.float32).numpy()
    scales = []
    for part in range(fitted.shape[1]):
        gaps = nearest(fitted[:, part], fitted[:, part], skip_self=True)[0][:, 0]
        scales.append(max(float(np.quantile(gaps, 0.05)), 1e-6))
    return Space("patch", lambda images, dtype: encode(images, dtype)[:, None], encode, tuple(scales))


def _fit_components(reference: np.ndarray) -> Encoder:
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


def _directions(reference: Tensor, components: int) -> Callable[[Tensor], Tensor]:
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


def _fit_white(reference: np.ndarray) -> Encoder:
    """Return the encoder to the direction of the high-pass in 200 whitened components."""

    def bent(images: np.ndarray, dtype: torch.dtype) -> Tensor:
        return unit(edges(images, dtype, STEEP_WHITE).flatten(1))

    direction = _directions(bent(reference, torch.float64), WHITE_COMPONENTS)
    return lambda images, dtype: direction(bent(images, dtype))


def _fit_learned(reference: np.ndarray) -> Encoder:
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


def _scan_pca(reference: np.ndarray) -> Space:
    """Return the space of 50 shifts and mirrors of the whole image, as directions in 100 whitened components.

    Finds moved copies under noise. What a shift brings in at the edge repeats the edge.
    """
    direction = _directions(unit(pixels(reference, torch.float64).flatten(1)), SCAN_COMPONENTS)

    def queries(images: np.ndarray, dtype: torch.dtype) -> Tensor:
        x = pixels(images, dtype)
        height, width = x.shape[2:]
        wide = F.pad(x, (REACH_PX,) * 4, mode="replicate")
        windows = torch.stack([wide, wide.flip(3)], 1).unfold(3, height, 1).unfold(4, width, 1)
        windows = windows.permute(0, 1, 3, 4, 2, 5, 6).reshape(len(x), 2 * SHIFTS, -1)
        return direction(unit(windows))[:, :, None]

    def candidates(images: np.ndarray, dtype: torch.dtype) -> Tensor:
        return direction(unit(pixels(images, dtype).flatten(1)))[:, None]

    return Space("scanpca", queries, candidates, moves=True)


def _fit_texture(reference: np.ndarray) -> Encoder:
    """Return the encoder to wavelet features in units of R's deviations."""
    fitted = wavelet_features(pixels(reference))
    mean, deviation = fitted.mean(0), np.maximum(fitted.std(0), 1e-6)

    def encode(images: np.ndarray, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy((wavelet_features(pixels(images, dtype)) - mean) / deviation).to(dtype)

    return encode
