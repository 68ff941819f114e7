"""Which patients are looked at apart: each class, each value of an attribute, and those unlike all others."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from phantomset.validators.context import DENSITY_SPACE, Context
from phantomset.validators.measures.neighbours import nearest
from phantomset.validators.policy import LEAST_OUTLIERS, OUTLIER_SHARE

MOST_VALUES = 12
"""An attribute with more values than this is a number or a name, not a set of subgroups."""

OUTLIERS = "outliers"


@dataclass(frozen=True, slots=True)
class Subgroup:
    """Some of the real images.

    Attributes:
        name: such as "class: nodule", "PatientSex: F", "outliers".
        rows: ``(N,)`` bool, which images of T and H. Chosen without looking at who is in T.
        only_class: the class, where the subgroup is one.
    """

    name: str
    rows: np.ndarray
    only_class: str | None = None


def subgroups(context: Context) -> list[Subgroup]:
    """Return every class, every value of every attribute with a few values, and the outlier stratum."""
    return [*_classes(context), *by_attribute(context), _outliers(context)]


def _classes(context: Context) -> Iterator[Subgroup]:
    """Yield the classes; of a cohort with one class there is nothing to look at apart."""
    train, holdout = context.evidence.train, context.evidence.holdout
    labels = np.concatenate([train.labels, holdout.labels])
    present = np.unique(labels)
    if len(present) > 1:
        for label in present.tolist():
            name = train.label_names[label]
            yield Subgroup(f"class: {name}", labels == label, name)


def by_attribute(context: Context) -> Iterator[Subgroup]:
    """Yield the values of each attribute that has a few."""
    train, holdout = context.evidence.train.attributes, context.evidence.holdout.attributes
    for column in sorted(train.keys() & holdout.keys()):
        cells = np.concatenate([train[column], holdout[column]])
        values = [value for value in np.unique(cells).tolist() if value]
        if 2 <= len(values) <= MOST_VALUES:
            for value in values:
                yield Subgroup(f"{column}: {value}", cells == value)


def _outliers(context: Context) -> Subgroup:
    """Return the patients whose images lie farthest from every reference image, in the component space."""
    space, members = context.spaces[DENSITY_SPACE], context.members

    def encode(images: np.ndarray) -> np.ndarray:
        return space.candidates(images, torch.float32)[:, 0].numpy()

    apart = nearest(encode(context.real), encode(context.evidence.reference.images))[0][:, 0]
    smaller = min(context.train_patients, context.holdout_patients) / members.patients
    count = max(int(np.ceil(LEAST_OUTLIERS / smaller)), int(np.ceil(OUTLIER_SHARE * members.patients)))
    chosen = np.argsort(-members.greatest(apart), kind="stable")[:count]
    return Subgroup(OUTLIERS, np.isin(members.owner, chosen))
