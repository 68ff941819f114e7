"""From calibrated distances to one number a patient: the attacks, and the columns of the attack family."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from phantomset.validators.measures.density import log_density
from phantomset.validators.measures.permutation import Column, rank_column, top_columns

ATTACK_SPACES = ("pix", "hp", "scanhp", "patch", "pca", "white", "tex")
"""`scan` and `affine` add little beside `scanhp`, and every column costs the family power."""

VOTES = (
    (("hp",), 1.0),
    (("scanhp",), 0.01),
    (("pca",), 1.0),
    (("learned",), 1.0),
    (("hp", "white", "pca", "learned"), 1.0),
)
"""Whose nearest-patient votes are counted, over which closest share of S. Added up, chance cancels out."""

SMALLEST_Q = 1e-9


@dataclass(frozen=True, slots=True)
class Panel:
    """Whose images the real ones are.

    Attributes:
        owner: ``(N,)`` patient of each image of T and H, 0..P-1, numbered in random order, so that ties
            broken by number do not know the labels.
        is_train: ``(P,)`` bool.
    """

    owner: np.ndarray
    is_train: np.ndarray

    @property
    def patients(self) -> int:
        """P."""
        return len(self.is_train)

    def least(self, values: np.ndarray) -> np.ndarray:
        """Return the least value over each patient's images, ``(P,)`` or ``(P, K)``."""
        order = np.argsort(self.owner, kind="stable")
        starts = np.searchsorted(self.owner[order], np.arange(self.patients))
        return np.minimum.reduceat(values[order], starts, axis=0)

    def greatest(self, values: np.ndarray) -> np.ndarray:
        """Return the greatest value over each patient's images, ``(P,)``."""
        return -self.least(-values)


def panel(train_patients: np.ndarray, holdout_patients: np.ndarray, rng: np.random.Generator) -> Panel:
    """Return the panel of T's images followed by H's, from their patients' codes.

    Raises:
        ValueError: a patient is on both sides.
    """
    train, holdout = np.unique(train_patients), np.unique(holdout_patients)
    if np.intersect1d(train, holdout).size:
        raise ValueError("a patient is in train and in holdout.")
    number = rng.permutation(len(train) + len(holdout))
    owner = np.concatenate(
        [
            number[np.searchsorted(train, train_patients)],
            number[len(train) + np.searchsorted(holdout, holdout_patients)],
        ]
    )
    is_train = np.zeros(len(number), bool)
    is_train[number[: len(train)]] = True
    return Panel(owner, is_train)


def subset(members: Panel, rows: np.ndarray) -> Panel:
    """Return the panel of some images, whole patients, numbered in the same order."""
    kept, owner = np.unique(members.owner[rows], return_inverse=True)
    return Panel(owner, members.is_train[kept])


@dataclass(frozen=True, slots=True)
class Nearer:
    """Which patients some images are nearer to than the images that stay: few, so only these are kept.

    Attributes:
        among: how many images there are.
        image: ``(E,)`` position among them.
        patient: ``(E,)``.
        q: ``(E,)`` least over the patient's images.
    """

    among: int
    image: np.ndarray
    patient: np.ndarray
    q: np.ndarray

    @classmethod
    def than(cls, stays: np.ndarray, q: np.ndarray) -> "Nearer":
        """Return those of ``q (P, K)`` that are below ``stays (P,)``."""
        patient, image = np.nonzero(q < stays[:, None])
        return cls(q.shape[1], image, patient, q[patient, image])

    def lower(self, least: np.ndarray, picked: np.ndarray) -> None:
        """Lower ``least (P,)`` in place to the q of the ``picked`` images."""
        chosen = np.zeros(self.among, bool)
        chosen[picked] = True
        here = chosen[self.image]
        np.minimum.at(least, self.patient[here], self.q[here])


@dataclass(frozen=True, slots=True)
class View:
    """One space's distances of a set, reduced to patients.

    Attributes:
        head: ``(P,)`` least q over the set without its tail.
        tail: whom the images of the tail are nearer to than the head of S.
        votes: ``(M,)`` patient nearest to each synthetic image, by q.
        vote_q: ``(M,)`` and how near.
    """

    head: np.ndarray
    tail: Nearer
    votes: np.ndarray
    vote_q: np.ndarray


@dataclass(frozen=True, slots=True)
class ImageView:
    """A set as the single real images see it, for a look at some of them.

    Attributes:
        q: ``(N,)`` least calibrated distance, by space.
        closest: ``(N,)`` which synthetic image that is, by space.
        votes: real images ``(M,)`` nearest to each synthetic one and their q ``(M,)``, by space.
        log_ratio: ``(N,)`` log p_S - log p_R at each real image.
        members: whose the real images are.
    """

    q: Mapping[str, np.ndarray]
    closest: Mapping[str, np.ndarray]
    votes: Mapping[str, tuple[np.ndarray, np.ndarray]]
    log_ratio: np.ndarray
    members: Panel


@dataclass(frozen=True, slots=True)
class SetView:
    """A set as the patients see it.

    Attributes:
        spaces: a `View` by space.
        members: the patients who look.
        kernel_head: ``(N,)`` sum of Gaussian kernels over the set without its tail, by real image.
        kernel_tail: ``(K, N)`` each kernel of the tail.
        log_reference: ``(N,)`` log p_R.
        size: M.
        tail: K, images that can give way to planted ones.
    """

    spaces: Mapping[str, View]
    members: Panel
    kernel_head: np.ndarray
    kernel_tail: np.ndarray
    log_reference: np.ndarray
    size: int
    tail: int


@dataclass(frozen=True, slots=True)
class Nearness:
    """What each patient has nearest in a set.

    Attributes:
        q: ``(P,)`` least calibrated distance, by space.
        votes: patients ``(m,)`` that the images vote for and their q ``(m,)``, by space.
        log_ratio: ``(N,)`` log p_S - log p_R at each real image.
        members: the patients.
    """

    q: Mapping[str, np.ndarray]
    votes: Mapping[str, tuple[np.ndarray, np.ndarray]]
    log_ratio: np.ndarray
    members: Panel


def whole(view: SetView) -> Nearness:
    """Return the nearness of a set as it is."""
    return planted(view, view, np.empty(0, np.int64))


def planted(view: SetView, other: SetView, picked: np.ndarray) -> Nearness:
    """Return the nearness of a set whose last images gave way to ``picked`` ones of another.

    The other set must be all tail (unless nothing is picked), and no more be picked than the tail holds.
    """
    kept, last = np.arange(view.tail - len(picked)), view.size - len(picked)
    q, votes = {}, {}
    for name, own in view.spaces.items():
        foreign, least = other.spaces[name], own.head.copy()
        own.tail.lower(least, kept)
        foreign.tail.lower(least, picked)
        q[name] = np.maximum(least, SMALLEST_Q)
        votes[name] = (
            np.concatenate([own.votes[:last], foreign.votes[picked]]),
            np.concatenate([own.vote_q[:last], foreign.vote_q[picked]]),
        )
    kernels = view.kernel_head.copy()
    for row in (*view.kernel_tail[: len(kept)], *(other.kernel_tail[image] for image in picked)):
        kernels += row
    return Nearness(q, votes, log_density(kernels, view.size) - view.log_reference, view.members)


def restricted(view: ImageView, rows: np.ndarray) -> Nearness:
    """Return the nearness of a set to some real images ``(N,) bool``; votes for other images do not count."""
    members = subset(view.members, np.flatnonzero(rows))
    owner = np.full(len(rows), -1)
    owner[rows] = members.owner
    votes = {}
    for name, (nearest, q) in view.votes.items():
        inside = rows[nearest]
        votes[name] = (owner[nearest[inside]], q[inside])
    q = {name: np.maximum(members.least(values[rows]), SMALLEST_Q) for name, values in view.q.items()}
    return Nearness(q, votes, view.log_ratio[rows], members)


def attack_scores(near: Nearness) -> dict[str, np.ndarray]:
    """Return one score a patient ``(P,)`` by attack; higher says "was trained on".

    ``-log q`` in seven representations (GAN-Leaks, full black box, calibrated: Chen et al. 2020), mean and
    maximum of these in standard units, and DOMIAS ``log p_S - log p_R`` (van Breugel et al. 2023).
    """
    scores = {name: -np.log(near.q[name]) for name in ATTACK_SPACES}
    standard = np.stack([in_standard_units(score) for score in scores.values()])
    scores["ens-mean"], scores["ens-max"] = standard.mean(0), standard.max(0)
    scores["domias"] = near.members.greatest(near.log_ratio)
    return scores


def in_standard_units(score: np.ndarray) -> np.ndarray:
    """Centre and scale by all patients alike: no label is used."""
    deviation = score.std()
    return (score - score.mean()) / deviation if deviation > 0 else np.zeros_like(score)


def concentrated_columns(scores: Mapping[str, np.ndarray], near: Nearness) -> list[Column]:
    """Return the columns that see few exposed patients: top-r counts and vote shares."""
    columns = [column for name, score in scores.items() for column in top_columns(name, score)]
    for names, share in VOTES:
        weights = sum(vote_counts(near, name, share) for name in names)
        columns.append(Column(f"{' + '.join(names)} votes {share:.0%}", np.asarray(weights, np.float32)))
    return columns


def vote_counts(near: Nearness, space: str, share: float) -> np.ndarray:
    """Return how many of the closest images of S are nearest to each patient, ``(P,)``."""
    who, q = near.votes[space]
    return np.bincount(who[voters(q, share)], minlength=near.members.patients)


def voters(q: np.ndarray, share: float) -> np.ndarray:
    """Return the images of S whose votes count: the closest share of ``q (M,)``, the nearest first."""
    return np.argsort(q, kind="stable")[: max(1, int(np.ceil(share * len(q))))]


def auc_columns(scores: Mapping[str, np.ndarray]) -> list[Column]:
    """Return the columns that see a signal spread over many patients: rank sums."""
    return [rank_column(f"{name} AUC", score) for name, score in scores.items()]
