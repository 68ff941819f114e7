"""The attack family over several draws of R and H: one lucky or unlucky draw shall not decide."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from phantomset.data.records import ImageSet
from phantomset.validators.finding import Evidence

DRAWS = 5
"""The split as it was registered, and four more."""


def redrawn(evidence: Evidence, rng: np.random.Generator) -> Evidence:
    """Return the evidence with the patients of R and H shared out anew, as many to each as before; T stays.

    Patients were dealt to T, H and R by chance, so each draw is as good a comparison for T as the first.
    """
    pool = _joined(evidence.holdout, evidence.reference)
    patients = rng.permutation(np.unique(pool.patients))
    is_holdout = np.isin(pool.patients, patients[: len(np.unique(evidence.holdout.patients))])
    return replace(evidence, holdout=pool.take(is_holdout), reference=pool.take(~is_holdout))


def crossed(p: Sequence[float]) -> float:
    """Return one p-value of several of the same hypothesis, however they depend on each other.

    Twice the median, at most 1: Meinshausen, Meier & Bühlmann, "p-values for high-dimensional regression",
    JASA 2009, theorem 3.1 with gamma = 1/2.

    >>> crossed([0.001, 0.2, 0.004, 0.003, 0.02]), crossed([0.7])
    (0.008, 1.0)
    """
    return float(min(1.0, 2 * np.median(p)))


def _joined(one: ImageSet, other: ImageSet) -> ImageSet:
    columns = {
        name: np.concatenate([values, other.attributes[name]])
        for name, values in one.attributes.items()
        if name in other.attributes
    }
    return ImageSet(
        images=np.concatenate([one.images, other.images]),
        labels=np.concatenate([one.labels, other.labels]),
        patients=np.concatenate([one.patients, other.patients]),
        label_names=one.label_names,
        attributes=columns,
    )
