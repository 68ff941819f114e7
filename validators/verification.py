"""A verification model: do two images show the same patient? Learned from R, where patients repeat."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phantomset.data.records import ImageSet
from phantomset.validators.features import edges, pixels, principal, unit
from phantomset.validators.measures.neighbours import BLOCK_ELEMENTS, squared_distances
from phantomset.validators.measures.rates import auc

COMPONENTS = 50
FIT_SHARE = 2 / 3
"""Of R's patients with several images; the others say how good the model is."""

LEAST_FIT, LEAST_ASKED = 40, 20
"""Patients with several images, to learn from and to be asked about."""

MOST_ASKED = 3000
SHRINKAGE = 0.05


@dataclass(frozen=True, slots=True)
class Verifier:
    """A learned distance between images.

    Attributes:
        mean, axes: of the components, ``(D,)`` and ``(D, K)``, float64.
        whitening: ``(K, K)``, makes the differences within a patient alike in all directions.
        auc: how well it tells same from different patients of R whom it did not learn from, in [0, 1].
        pairs: pairs of the same patient behind that figure.
    """

    mean: Tensor
    axes: Tensor
    whitening: Tensor
    auc: float = 0.5
    pairs: int = 0

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Return directions ``(N, K)`` float32 of length 1; near for images of one patient."""
        y = (_vectors(images) - self.mean) @ self.axes @ self.whitening
        return (y / torch.linalg.vector_norm(y, dim=1, keepdim=True).clamp_min(1e-9)).float().numpy()


def fit_verifier(reference: ImageSet, rng: np.random.Generator) -> Verifier | None:
    """Return the model with its AUC on held-out patients of R; None where too few patients repeat.

    Components of pixels and edges, whitened by the differences within a patient: the two-covariance form of
    linear discriminant analysis, as speaker verification uses it (Kajarekar and Stolcke 2007).
    """
    patients, counts = np.unique(reference.patients, return_counts=True)
    repeated = rng.permutation(patients[counts > 1])
    cut = int(FIT_SHARE * len(repeated))
    if cut < LEAST_FIT or len(repeated) - cut < LEAST_ASKED:
        return None
    asked = np.isin(reference.patients, repeated[cut:])
    single = rng.permutation(patients[counts == 1])
    held = np.isin(reference.patients, single[: len(single) // 3]) | asked
    model = _fit(reference.take(~held))
    rows = np.flatnonzero(held)
    rows = np.sort(rng.choice(rows, min(MOST_ASKED, len(rows)), replace=False))
    area, pairs = _same_against_different(model.embed(reference.images[rows]), reference.patients[rows])
    return Verifier(model.mean, model.axes, model.whitening, area, pairs)


def _vectors(images: np.ndarray) -> Tensor:
    x, fine = pixels(images, torch.float64), edges(images, torch.float64)
    return torch.cat([unit(x.flatten(1)), unit(fine.flatten(1))], 1)


def _fit(part: ImageSet) -> Verifier:
    x = _vectors(part.images)
    mean = x.mean(0)
    axes, _ = principal(x - mean, min(COMPONENTS, len(x) // 2))
    y = (x - mean) @ axes
    _, owner = np.unique(part.patients, return_inverse=True)
    who = torch.from_numpy(owner)
    counts = torch.bincount(who).double()
    centre = torch.zeros(len(counts), y.shape[1], dtype=y.dtype).index_add_(0, who, y) / counts[:, None]
    inside = (y - centre[who])[counts[who] > 1]
    degrees = max(1.0, float((counts - 1).sum()))
    within = inside.T @ inside / degrees
    # Few patients repeat: the covariance is drawn towards a sphere.
    sphere = torch.eye(len(within), dtype=y.dtype) * within.diagonal().mean()
    values, vectors = torch.linalg.eigh((1 - SHRINKAGE) * within + SHRINKAGE * sphere)
    return Verifier(mean, axes, vectors / values.clamp_min(1e-12).sqrt())


def _same_against_different(embedded: np.ndarray, patients: np.ndarray) -> tuple[float, int]:
    """Return the AUC over all pairs of images, and how many are of one patient."""
    likeness = embedded @ embedded.T
    one, other = np.triu_indices(len(embedded), 1)
    same = patients[one] == patients[other]
    values = likeness[one, other]
    return auc(values[same], values[~same]), int(same.sum())


def closest(model: Verifier, real: np.ndarray, synthetic: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return how near each real image's patient is met in the set: least calibrated distance q ``(N,)``.

    ``q(x, s) = d(x, s) / √(d(x, R) d(s, R))``, as for all distances here, d in the model's space.
    """
    x, s, r = (torch.from_numpy(model.embed(images)) for images in (real, synthetic, reference))
    to_r = [_least(part, r, torch.ones(len(r))) for part in (x, s)]
    scale = to_r[1].clamp_min(1e-6).rsqrt()
    return (_least(x, s, scale) * to_r[0].clamp_min(1e-6).rsqrt()).double().numpy()


def _least(queries: Tensor, candidates: Tensor, scale: Tensor) -> Tensor:
    """Return the least scaled distance ``(N,)`` of each query to any candidate."""
    rows = max(1, BLOCK_ELEMENTS // len(candidates))
    found = [
        (squared_distances(queries[start : start + rows], candidates).sqrt_() * scale).amin(1)
        for start in range(0, len(queries), rows)
    ]
    return torch.cat(found)
