"""Fidelity measures against worked examples and figures of independent libraries."""

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel as sklearn_polynomial
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from phantomset.validators.measures.frechet import frechet, frechet_distance
from phantomset.validators.measures.kernel import (
    gaussian_kernel,
    kid,
    kid_permutation_p,
    mmd_biased,
    mmd_unbiased,
    polynomial_kernel,
)
from phantomset.validators.measures.prdc import prdc
from phantomset.validators.measures.vendi import vendi, vendi_from_kernel


def recipe_a() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 8))
    return x, rng.standard_normal((400, 8)) * 1.2 + 0.3


X, Y = recipe_a()


def gaussian(sign: str) -> float:
    matrices = [gaussian_kernel(a, b, 10.0) for a, b in ((X, X), (Y, Y), (X, Y))]
    return 1000 * (mmd_unbiased(*matrices) if sign == "unbiased" else mmd_biased(*matrices))


def blocks(*sizes: int) -> np.ndarray:
    kernel = np.zeros((sum(sizes), sum(sizes)))
    start = 0
    for size in sizes:
        kernel[start : start + size, start : start + size] = 1
        start += size
    return kernel


TWO_BY_TWO = np.array([[2.0, 1.0], [1.0, 2.0]])

REFERENCES = [
    # Diagonal covariances commute: (1-2)² + (2-1)² + (3-3)² added to |μ|² = 9.
    (
        "FD of diagonals",
        lambda: frechet_distance(
            np.zeros(3), np.diag([1.0, 4, 9]), np.array([1.0, 2, 2]), np.diag([4.0, 1, 9])
        ),
        11,
        1e-9,
    ),
    (
        "FD, not diagonal",
        lambda: frechet_distance(np.zeros(2), TWO_BY_TWO, np.zeros(2), np.diag([1.0, 3])),
        0.516685,
        1e-6,
    ),
    ("FD (scipy's sqrtm agrees)", lambda: frechet(X, Y), 1.383678, 1e-5),
    ("FD with itself", lambda: frechet(X, X), 0, 1e-8),
    ("KID (scikit-learn's kernel agrees)", lambda: kid(X, Y), 0.605504, 1e-6),
    # Kernel entries (1/2·0+1)³ = 1, 3.375 and 1: (1 + 1·... ) worked by hand to -2.375.
    ("KID by hand", lambda: kid(np.array([[1.0, 0], [0, 1]]), np.array([[1.0, 1], [0, 0]])), -2.375, 1e-12),
    ("KID of two halves", lambda: kid(X[:250], X[250:]), 0.007798, 1e-6),
    ("MMD² x 1000, unbiased", lambda: gaussian("unbiased"), 8.503357, 1e-5),
    ("MMD² x 1000, biased", lambda: gaussian("biased"), 8.924645, 1e-5),
    ("Vendi of 10 unlike", lambda: vendi_from_kernel(np.eye(10)), 10, 1e-6),
    ("Vendi of 10 alike", lambda: vendi_from_kernel(np.ones((10, 10))), 1, 1e-6),
    ("Vendi of blocks 2, 2, 6", lambda: vendi_from_kernel(blocks(2, 2, 6)), 2.586409, 1e-6),
    ("Vendi, cosine (vendi-score 0.0.3)", lambda: vendi(X), 7.950095, 1e-5),
]


@pytest.mark.parametrize(("name", "measure", "expected", "tolerance"), REFERENCES)
def test_reference_value(name: str, measure, expected: float, tolerance: float) -> None:
    """Each measure gives the figure that a hand or an independent library gave."""
    assert measure() == pytest.approx(expected, abs=tolerance, rel=0)


@pytest.mark.parametrize(
    ("real", "fake", "k", "expected"),
    [
        (X, Y, 5, (0.7775, 0.978, 0.53, 0.722)),
        (X, Y, 3, (0.6525, 0.952, 0.54, 0.586)),
        (X, np.repeat(X[:10], 40, axis=0), 5, (1.0, 0.0, 1.16, 0.102)),
    ],
)
def test_prdc_reference(real: np.ndarray, fake: np.ndarray, k: int, expected: tuple[float, ...]) -> None:
    """Precision, recall, density and coverage agree with the package prdc 0.2."""
    assert tuple(prdc(real, fake, k)) == pytest.approx(expected, abs=1e-9)


def test_kernel_agrees_with_scikit_learn() -> None:
    """The KID kernel is the polynomial kernel of degree 3, gamma 1/D, coefficient 1."""
    np.testing.assert_allclose(
        polynomial_kernel(X, Y), sklearn_polynomial(X, Y, degree=3, coef0=1), rtol=1e-10
    )


class Unchanged(torch.nn.Module):
    """Stands where torchmetrics would extract features: here they are given."""

    num_features = X.shape[1]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def test_frechet_and_kid_agree_with_torchmetrics() -> None:
    """Over the same features, its FID is our Fréchet distance and its polynomial MMD our KID."""
    theirs = FrechetInceptionDistance(feature=Unchanged(), normalize=True).set_dtype(torch.float64)
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    theirs.update(x, real=True)
    theirs.update(y, real=False)
    assert frechet(X, Y) == pytest.approx(theirs.compute().item(), rel=1e-6)
    assert kid(X[: len(Y)], Y) == pytest.approx(poly_mmd(x[: len(Y)], y).item(), rel=1e-6)


def test_vendi_is_the_same_from_either_gram_matrix() -> None:
    """XXᵀ and XᵀX have the same eigenvalues, so wide and tall features give one score."""
    wide = X[:5]
    unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    assert vendi(wide) == pytest.approx(vendi_from_kernel(unit @ unit.T), abs=1e-9)


def test_kid_permutation_sees_a_shift_and_not_its_absence() -> None:
    """A shift of one deviation is seen at once; two halves of one sample are not."""
    rng = np.random.default_rng(3)
    sides = np.repeat([True, False], 60)
    groups = np.repeat(np.arange(120), 2)
    same = rng.standard_normal((240, 4))
    shifted = same + np.where(sides[groups], 1.0, 0.0)[:, None]
    assert kid_permutation_p(shifted, groups, sides, 199, rng)[1] == pytest.approx(1 / 200)
    assert kid_permutation_p(same, groups, sides, 199, rng)[1] > 0.01


def test_kid_permutation_reports_the_unbiased_kid() -> None:
    """The observed figure is the unbiased KID of the two sides."""
    sides = np.repeat([True, False], [500, 400])
    value, _ = kid_permutation_p(np.vstack([X, Y]), np.arange(900), sides, 9, np.random.default_rng(0))
    assert value == pytest.approx(kid(X, Y), rel=1e-4)


@pytest.mark.parametrize("measure", [frechet, kid])
@pytest.mark.parametrize("other", [np.zeros((1, 8)), np.zeros((9, 7))])
def test_unfit_features_are_refused(measure, other: np.ndarray) -> None:
    """One row or other columns raise a message, never give a number."""
    with pytest.raises(ValueError, match="do not fit"):
        measure(X, other)
