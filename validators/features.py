"""The representations in which images are compared. Whatever is fitted, is fitted on R alone.

A representation turns an image into vectors: one as a candidate; as a query one for each way in which it
may have been moved (variants), and one for each part that may match alone (parts). The distance of two
images is the least over variants and parts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor

from phantomset.validators.components import (
    Encoder,
    directions,
    fit_components,
    fit_learned,
    fit_ridge,
    fit_white,
)
from phantomset.validators.finding import EvidenceError
from phantomset.validators.measures.neighbours import nearest
from phantomset.validators.mirrors import folded
from phantomset.validators.pictures import bent, blurred, edges, high_pass, pixels, unit
from phantomset.validators.policy import LEAST_REFERENCE
from phantomset.validators.wavelets import wavelet_features

REACH_PX = 2
SHIFTS = (2 * REACH_PX + 1) ** 2
SCAN_COMPONENTS = 100
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

LINES = 5
"""With fewer, images crowd near places by chance; with more, noise moves a copy further along one of them."""

COARSE_PX, LEAST_IMAGES = 12, 10


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
        lines: distances are places on lines to so many images of R, `ByLines`; 0: distances as they are.
        coarse: a cheaper space; where given, only the candidates that are nearest in it are looked at.
    """

    name: str
    queries: Encoder
    candidates: Encoder
    scales: tuple[float, ...] = (1.0,)
    moves: bool = False
    mirrors: bool = False
    lines: int = 0
    coarse: "Space | None" = None


def fit_spaces(reference: np.ndarray) -> tuple[Space, ...]:
    """Return the twelve representations, fitted on the reference images ``(N, C, H, W)`` uint8.

    ``pix`` pixels, ``hp`` high-pass (`edges`), ``scan`` and ``scanhp`` the same two at the best of shifts and
    mirror (50 variants), ``scanpca`` so too, as directions in 100 whitened components, ``affine`` high-pass
    at the best of zoom, turn, blur, mirror and 1 px (200 variants), ``patch`` the best of nine local
    high-pass windows, ``pca`` 50 whitened components, ``white`` direction of the high-pass in 200 whitened
    components, ``learned`` direction in 80 components, whitened by what alterations of R's images change,
    ``lines`` place on the lines to five images of R, which noise does not move, ``tex`` two-layer wavelet
    texture.

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
        _simple("pca", fit_components(reference)),
        _simple("white", fit_white(reference)),
        _simple("learned", fit_learned(reference)),
        replace(_simple("lines", fit_ridge(reference)), lines=LINES),
        _simple("tex", _fit_texture(reference)),
    )


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
        soft = [_posed(bent(high_pass(blurred(x, px))), MARGIN_PX, (STILL,), STEPS) for px in BLURS_PX]
        return torch.cat([_posed(bent(high_pass(x)), MARGIN_PX, POSES, STEPS), *soft], 1)

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


def _scan_pca(reference: np.ndarray) -> Space:
    """Return the space of 50 shifts and mirrors of the whole image, as directions in 100 whitened components.

    Finds moved copies under noise. What a shift brings in at the edge repeats the edge.
    """
    direction = directions(unit(pixels(reference, torch.float64).flatten(1)), SCAN_COMPONENTS)

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
