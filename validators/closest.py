"""The pairs of a training image and a synthetic one that an attack points at, for a person to look at."""

from collections.abc import Iterator

import numpy as np

from phantomset.validators.context import DENSITY_SPACE, Context
from phantomset.validators.scores import ATTACK_SPACES, VOTES, in_standard_units, vote_counts, voters

PAIRS = 4
"""A handful of each attack: in a single representation the copy scan lists them already."""

Pair = tuple[int, int, float]
"""Positions in T and in S, and the calibrated distance."""


def attacked_pairs(context: Context) -> dict[str, list[Pair]]:
    """Return the pairs behind the training patients whom each attack ranks first, by attack.

    Of the attack family all but those in a single representation: these rank by the pairs of the copy scan.
    The ensembles name the pair of the representation in which a patient stands out most, the density attack
    the synthetic image nearest to the real one, and a vote share the closest of the images that vote.
    """
    near, view, scores = context.nearness, context.by_image, context.scores
    spaces = np.array(ATTACK_SPACES)
    apart = np.stack([in_standard_units(-np.log(near.q[name])) for name in ATTACK_SPACES])
    loudest = spaces[apart.argmax(0)]
    found = {
        name: [_nearest(context, loudest[patient], patient) for patient in _first(context, scores[name])]
        for name in ("ens-mean", "ens-max")
    }
    found["domias"] = [
        _nearest(context, DENSITY_SPACE, patient, view.log_ratio)
        for patient in _first(context, scores["domias"])
    ]
    for names, share in VOTES:
        name = f"votes-{names[0] if len(names) == 1 else 'sum'}"
        weights = sum(vote_counts(near, space, share) for space in names)
        chosen = _first(context, np.asarray(weights), least=1)
        found[name] = [min(_votes(context, names, share, who), key=lambda pair: pair[2]) for who in chosen]
    return found


def most_alike(context: Context, score: np.ndarray, closest: np.ndarray) -> list[Pair]:
    """Return the pairs of the training patients of the highest scores, ``score (N,)`` by image of T and H.

    ``closest (N,)`` is the synthetic image that an image owes its score to. The figure is the score.
    """
    chosen = _first(context, context.members.greatest(score))
    rows = [max(_rows(context, patient), key=lambda row: score[row]) for patient in chosen]
    return [(int(row), int(closest[row]), float(score[row])) for row in rows]


def _first(context: Context, score: np.ndarray, least: float = -np.inf) -> list[int]:
    """Return the training patients of the highest scores ``(P,)``, of at least ``least``."""
    order = np.argsort(-score, kind="stable")
    own = order[context.members.is_train[order] & (score[order] >= least)]
    return own[:PAIRS].tolist()


def _rows(context: Context, patient: int) -> list[int]:
    return np.flatnonzero(context.members.owner == patient).tolist()


def _nearest(context: Context, space: str, patient: int, score: np.ndarray | None = None) -> Pair:
    """Return the pair of a patient's image: the nearest in a space, or that of the highest ``score (N,)``."""
    view, rows = context.by_image, _rows(context, patient)
    by = -view.q[space] if score is None else score
    row = max(rows, key=lambda each: by[each])
    return row, int(view.closest[space][row]), float(view.q[space][row])


def _votes(context: Context, names: tuple[str, ...], share: float, patient: int) -> Iterator[Pair]:
    """Yield the votes for a patient as pairs."""
    for space in names:
        nearest, q = context.by_image.votes[space]
        chosen = voters(q, share)
        for image in chosen[context.members.owner[nearest[chosen]] == patient].tolist():
            yield int(nearest[image]), image, float(q[image])
