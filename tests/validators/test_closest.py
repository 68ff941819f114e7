"""The pairs that an attack points at."""

from collections import Counter

import numpy as np
import pytest

from phantomset.validators.closest import PAIRS, attacked_pairs, most_alike
from phantomset.validators.context import Context
from phantomset.validators.finding import Rules

from .conftest import make_evidence, with_copies


@pytest.fixture(scope="module")
def copied() -> Context:
    """Four exact copies, one of each of the first four training patients, among 50 fresh patients."""
    return Context(with_copies(make_evidence(60, 50, 40, 50, seed=3), PAIRS), Rules(), 0)


def test_ensembles_name_the_planted_pairs(copied: Context) -> None:
    """Each copy beside the image that it is a copy of, at distance 0, and no other pair."""
    _, first = np.unique(copied.evidence.train.patients, return_index=True)
    expected = {(int(row), column) for column, row in enumerate(first[:PAIRS])}
    found = attacked_pairs(copied)
    for name in ("ens-mean", "ens-max"):
        assert {pair[:2] for pair in found[name]} == expected, name
        assert max(q for _, _, q in found[name]) < 1e-3


def test_the_density_attack_names_the_densest_training_image(copied: Context) -> None:
    """The first pair is of the training image with the greatest log ratio, whatever the space's distance."""
    row, column, q = attacked_pairs(copied)["domias"][0]
    train = copied.by_image.log_ratio[: len(copied.evidence.train)]
    assert row == train.argmax()
    assert (column, q) == (copied.by_image.closest["pca"][row], copied.by_image.q["pca"][row])


def test_vote_shares_name_whom_most_images_vote_for(copied: Context) -> None:
    """Of the training patients those with most votes, counted by hand, each with an image that votes for
    it: no patient without a vote.
    """
    nearest, q = copied.by_image.votes["hp"]
    owner = copied.members.owner
    train = owner[: len(copied.evidence.train)]
    counted = Counter(patient for patient in owner[nearest].tolist() if patient in set(train.tolist()))
    found = attacked_pairs(copied)["votes-hp"]
    most = sorted(counted.values(), reverse=True)[:PAIRS]
    assert [counted[int(owner[row])] for row, _, _ in found] == most
    for row, column, figure in found:
        assert nearest[column] == row
        voting = np.flatnonzero(owner[nearest] == owner[row])
        assert figure == q[column] == q[voting].min()


def test_pairs_of_any_score_are_of_different_training_patients(copied: Context) -> None:
    """The best image of each of the four training patients that score highest; H does not count."""
    score = np.random.default_rng(0).random(len(copied.real))
    closest = np.arange(len(copied.real)) % 7
    patients = copied.evidence.train.patients
    best = {int(who): max(np.flatnonzero(patients == who), key=lambda row: score[row]) for who in patients}
    rows = sorted(best.values(), key=lambda row: -score[row])[:PAIRS]
    assert most_alike(copied, score, closest) == [(row, row % 7, score[row]) for row in rows]
