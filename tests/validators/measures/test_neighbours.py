"""Nearest neighbours are exact, whatever the points and whichever precision found them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from phantomset.validators.measures import neighbours, shortlists
from phantomset.validators.measures.neighbours import nearest

STEPS = {
    "half": [torch.bfloat16, torch.float32, torch.float64],
    "single": [torch.float32, torch.float64],
    "double": [torch.float64],
}
"""Which precisions different machines try."""


@pytest.fixture(params=STEPS)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Be a machine that tries these precisions, in blocks and tiles so small that there are many."""
    monkeypatch.setattr(neighbours, "precisions", lambda _: STEPS[request.param])
    for name, value in {"BLOCK_BYTES": 2**10, "TILE": 32, "RUN": 8, "POINTS": 7}.items():
        monkeypatch.setattr(shortlists, name, value)
    return request.param


def on_each(queries: np.ndarray, candidates: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what all machines find: the same, to the bit."""
    answers = []
    for steps in STEPS.values():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(neighbours, "precisions", lambda _, steps=steps: steps)
            answers.append(nearest(queries, candidates, count))
    for distance, index in answers[1:]:
        np.testing.assert_array_equal(distance, answers[0][0])
        np.testing.assert_array_equal(index, answers[0][1])
    return answers[0]


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("skip_self", [False, True])
@pytest.mark.usefixtures("machine")
def test_agrees_with_brute_force(count: int, skip_self: bool, device: str) -> None:
    """Positions and distances are those of scikit-learn's brute force, over many small blocks."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((90, 6))
    queries = points if skip_self else rng.standard_normal((40, 6))
    oracle = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(points)
    expected, position = oracle.kneighbors(None if skip_self else queries)
    distance, index = nearest(queries, points, count, skip_self=skip_self, device=device)
    np.testing.assert_array_equal(index, position)
    np.testing.assert_allclose(distance, expected, rtol=1e-12)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 300),
    width=st.integers(1, 40),
    levels=st.integers(1, 200),
    power=st.integers(-60, 40),
    offset=st.sampled_from([0, 1, 4096]),
    single=st.booleans(),
    data=st.data(),
)
def test_equal_and_almost_equal_points(
    seed: int, size: int, width: int, levels: int, power: int, offset: int, single: bool, data: st.DataObject
) -> None:
    """On a grid, where distances are exact, among equals the first comes first, at any scale and place."""
    rng = np.random.default_rng(seed)
    queries, candidates = (offset + rng.integers(0, levels, (n, width)) for n in (30, size))
    count = data.draw(st.integers(1, size))
    squared = np.square(queries[:, None] - candidates).sum(2)
    expected = squared.argsort(1, kind="stable")[:, :count]
    kind = np.float32 if single else np.float64
    scaled = [(part * 2.0**power).astype(kind) for part in (queries, candidates)]
    distance, index = on_each(scaled[0], scaled[1], count)
    np.testing.assert_array_equal(index, expected)
    roots = np.sqrt(np.take_along_axis(squared, expected, 1)) * 2.0**power
    np.testing.assert_allclose(distance, roots, rtol=1e-14)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 2500),
    width=st.sampled_from([1, 3, 50, 700]),
    spread=st.sampled_from([1e-7, 1e-3, 0.1, 1.0]),
    far=st.sampled_from([0.0, 1.0, 1e3]),
    tail=st.sampled_from([0.0, 3.0]),
)
def test_any_clouds(seed: int, size: int, width: int, spread: float, far: float, tail: float) -> None:
    """Clusters, far ones and heavy tails: no candidate is nearer in float64 than those that are found."""
    rng = np.random.default_rng(seed)
    places = far + rng.standard_normal((3, width))
    count = min(3, size)
    queries, candidates = (
        places[rng.integers(0, 3, n)]
        + spread * rng.standard_normal((n, width)) * np.exp(tail * rng.standard_normal((n, 1)))
        for n in (20, size)
    )
    distance, index = on_each(queries, candidates, count)
    every = np.stack([np.linalg.norm(candidates - one, axis=1) for one in queries])
    np.testing.assert_allclose(distance, np.sort(every, 1)[:, :count], rtol=1e-12)
    np.testing.assert_allclose(distance, np.take_along_axis(every, index, 1), rtol=1e-12)


@pytest.mark.usefixtures("machine")
def test_a_precision_that_would_deceive(device: str) -> None:
    """Where bfloat16 alone takes another candidate for most queries, the right ones are found."""
    rng = np.random.default_rng(2)
    candidates = rng.standard_normal((50, 1, 64)) + 0.002 * rng.standard_normal((50, 8, 64))
    candidates = candidates.reshape(400, 64).astype(np.float32)
    queries = (candidates[::4] + 0.0005 * rng.standard_normal((100, 64))).astype(np.float32)
    true = np.square(queries[:, None].astype(np.float64) - candidates).sum(2).argmin(1)
    naive = neighbours.squared_distances(
        *(torch.from_numpy(part).bfloat16() for part in (queries, candidates))
    )
    assert (naive.argmin(1).numpy() != true).mean() > 0.5
    np.testing.assert_array_equal(nearest(queries, candidates, device=device)[1][:, 0], true)


@pytest.mark.parametrize("dtype", STEPS["half"])
def test_shortlists_are_short(dtype: torch.dtype) -> None:
    """Of 3,000 candidates a few are measured, in bfloat16 too, and the nearest is among them."""
    rng = np.random.default_rng(3)
    queries, candidates = (rng.standard_normal((n, 128)).astype(np.float32) for n in (50, 3000))
    search = shortlists.Search.of(queries, candidates, "cpu")
    row, column, crowded = next(search.shortlists(torch.arange(50), torch.arange(3000), 1, 3000, dtype))
    assert (len(crowded), len(row)) <= (0, 50 * 10)
    pairs = set(zip(row.tolist(), column.tolist(), strict=True))
    assert pairs >= set(enumerate(nearest(queries, candidates)[1][:, 0].tolist()))


@pytest.mark.usefixtures("machine")
def test_a_copy_has_distance_zero() -> None:
    """Identical rows far from the origin are at distance 0 exactly, where |a|²+|b|²-2ab would say 0.06."""
    points = 1000 + np.random.default_rng(1).standard_normal((50, 8))
    distance, index = nearest(points[[7]], points)
    assert (distance[0, 0], index[0, 0]) == (0, 7)


@pytest.mark.usefixtures("machine")
def test_one_point_many_times() -> None:
    """A generator that makes one image: all are equally near, the first are returned, and no row itself."""
    points = np.full((500, 30), 0.1, np.float32)
    distance, index = nearest(points, points, 3, skip_self=True)
    assert (distance == 0).all()
    assert index[[0, 1, 2, 3, 499]].tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2]]


def test_float32_products_of_fewer_digits_are_not_relied_on() -> None:
    """Where a process allows float32 products less than float32, float64 is used."""
    assert torch.float32 in shortlists.precisions("cpu")
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        assert torch.float32 not in shortlists.precisions("cpu")
    finally:
        torch.set_float32_matmul_precision(before)
    assert shortlists.precisions("cuda") == STEPS["single"]


def test_no_queries() -> None:
    """Nothing asked, nothing found."""
    assert [part.shape for part in nearest(np.zeros((0, 3)), np.zeros((4, 3)), 2)] == [(0, 2), (0, 2)]


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
