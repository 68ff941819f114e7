"""Nearest neighbours are exact, also where the fast formula loses its digits."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from phantomset.validators.measures import neighbours
from phantomset.validators.measures.neighbours import nearest


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("skip_self", [False, True])
def test_agrees_with_brute_force(count: int, skip_self: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions and distances are those of scikit-learn's brute force, over many small blocks."""
    monkeypatch.setattr(neighbours, "BLOCK_ELEMENTS", 7 * 90)
    rng = np.random.default_rng(0)
    points = rng.standard_normal((90, 6))
    queries = points if skip_self else rng.standard_normal((40, 6))
    oracle = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(points)
    expected, position = oracle.kneighbors(None if skip_self else queries)
    distance, index = nearest(queries, points, count, skip_self=skip_self)
    np.testing.assert_array_equal(index, position)
    np.testing.assert_allclose(distance, expected, rtol=1e-12)


def test_a_copy_has_distance_zero() -> None:
    """Identical rows far from the origin are at distance 0 exactly, where |a|²+|b|²-2ab would say 0.06."""
    points = 1000 + np.random.default_rng(1).standard_normal((50, 8))
    distance, index = nearest(points[[7]], points)
    assert (distance[0, 0], index[0, 0]) == (0, 7)


@pytest.mark.parametrize(
    ("queries", "candidates", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 4)), "do not fit"),
        (np.zeros((2, 3)), np.zeros((0, 3)), "0 candidates"),
        (np.full((2, 3), np.nan), np.zeros((2, 3)), "not finite"),
    ],
)
def test_bad_features_are_refused(queries: np.ndarray, candidates: np.ndarray, message: str) -> None:
    """What cannot be compared raises a message."""
    with pytest.raises(ValueError, match=message):
        nearest(queries, candidates)
