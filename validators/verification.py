"""A verification model: do two images show the same patient? Learned from R, where patients repeat."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from phantomset.data.records import ImageSet
from phantomset.validators.measures.axes import principal, shrunk_axes
from phantomset.validators.measures.neighbours import BLOCK_ELEMENTS
from phantomset.validators.measures.rates import auc
from phantomset.validators.pictures import pixels, unit

COMPONENTS = 50
FIT_SHARE = 2 / 3
"""Of R's patients with several images; the others say how good the model is."""

LEAST_FIT, LEAST_ASKED = 40, 20
"""Patients with several images, to learn from and to be asked about."""

MOST_ASKED = 3000
SHRINKAGE = 0.1


@dataclass(frozen=True, slots=True)
class Verifier:
    """How much likelier two images are if they show one patient, in the components of R's images.

    Attributes:
        mean, axes: to components in which images of one patient vary alike in all directions, ``(D,)`` and
            ``(D, K)``, float64.
        between: ``(K,)`` how far patients differ there, as variances.
        auc: how well it tells same from different patients of R whom it did not learn from, in [0, 1].
        pairs: pairs of the same patient behind that figure.
    """

    mean: Tensor
    axes: Tensor
    between: Tensor
    auc: float = 0.5
    pairs: int = 0

    def embed(self, images: np.ndarray) -> Tensor:
        """Return components ``(N, K)`` float64."""
        return (_vectors(images) - self.mean) @ self.axes

    def likeness(self, left: Tensor, right: Tensor) -> Tensor:
        """Return log-likelihood ratios ``(N, M)`` of embedded images, same against different patient.

        Without the constant that all pairs share. Two Gaussians of variance 1 around a patient, and patients
        of variance ``between``: Ioffe 2006, "Probabilistic linear discriminant analysis".
        """
        total, joint = self.between + 1, 2 * self.between + 1
        own = (total / joint - 1 / total) / 2
        alone = [(part.square() * own).sum(1) for part in (left, right)]
        return (left * (self.between / joint)) @ right.T - alone[0][:, None] - alone[1]


def fit_verifier(reference: ImageSet, rng: np.random.Generator) -> Verifier | None:
    """Return the model of all of R, with the AUC on held-out patients of one that was fitted on the others.

    None where too few patients repeat.
    """
    patients, counts = np.unique(reference.patients, return_counts=True)
    repeated = rng.permutation(patients[counts > 1])
    cut = int(FIT_SHARE * len(repeated))
    if cut < LEAST_FIT or len(repeated) - cut < LEAST_ASKED:
        return None
    asked = np.isin(reference.patients, repeated[cut:])
    single = rng.permutation(patients[counts == 1])
    held = np.isin(reference.patients, single[: len(single) // 3]) | asked
    rows = np.flatnonzero(held)
    rows = np.sort(rng.choice(rows, min(MOST_ASKED, len(rows)), replace=False))
    area, pairs = _same_against_different(_fit(reference.take(~held)), reference.take(rows))
    return replace(_fit(reference), auc=area, pairs=pairs)


def _vectors(images: np.ndarray) -> Tensor:
    return unit(pixels(images, torch.float64).flatten(1))


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
    # The scale of the variances is that of the degrees of freedom.
    inside *= (len(inside) / max(1.0, float((counts - 1).sum()))) ** 0.5
    values, vectors = shrunk_axes(inside, SHRINKAGE)
    whitening = vectors / values.sqrt()
    spread, turn = torch.linalg.eigh(whitening.T @ (y.T @ y / len(y)) @ whitening)
    return Verifier(mean, axes @ whitening @ turn, (spread - 1).clamp_min(0))


def _same_against_different(model: Verifier, asked: ImageSet) -> tuple[float, int]:
    """Return the AUC over all pairs of images, and how many are of one patient."""
    embedded, patients = model.embed(asked.images), asked.patients
    likeness = model.likeness(embedded, embedded).numpy()
    one, other = np.triu_indices(len(embedded), 1)
    same = patients[one] == patients[other]
    values = likeness[one, other]
    return auc(values[same], values[~same]), int(same.sum())


def met_again(model: Verifier, real: np.ndarray, synthetic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how surely each real image's patient is met in the set, and in which image.

    Greatest log ratio ``(N,)`` float64, and position in the set ``(N,)``.
    """
    x, s = model.embed(real), model.embed(synthetic)
    rows = max(1, BLOCK_ELEMENTS // len(s))
    values, images = zip(*(model.likeness(part, s).max(1) for part in x.split(rows)), strict=True)
    return torch.cat(values).numpy(), torch.cat(images).numpy()
