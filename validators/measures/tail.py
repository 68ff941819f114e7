"""How close is too close: a power law through the holdout's nearest distances, and what it expects."""

from dataclasses import dataclass

import numpy as np

ENOUGH = 20
"""Tail points. With 11 the exponent's lower bound is half of it, and mixtures of two images get through."""

LEAST_TAIL = 2
"""Values: a threshold, and one below it."""


def hill_exponent(smallest: np.ndarray, threshold: float) -> float:
    """Return the Hill estimate ``k / Σ log(u / v)`` of a lower tail ``P(V < v) ~ v^a``.

    Args:
        smallest: the k values below the threshold, positive.
        threshold: u, the (k+1)-th smallest value.

    Source: Hill 1975, for the lower tail. Larger means thinner.
    """
    spread = float(np.log(threshold / np.maximum(smallest, 1e-300)).sum())
    return np.inf if spread == 0 else len(smallest) / spread


@dataclass(frozen=True, slots=True)
class Tail:
    """The holdout's lower tail.

    Attributes:
        count: k, tail points.
        threshold: u, the (k+1)-th smallest holdout value.
        exponent: Hill's a.
        lower: a's lower bound ``a (1 - 1.645 / √k)``, the one that is used: it expects more hits.
        holdout: patients behind the fit.
    """

    count: int
    threshold: float
    exponent: float
    lower: float
    holdout: int

    def expected(self, distance: float, train: int) -> float:
        """Return how many of ``train`` fresh patients the tail expects at or below ``distance``.

        Source: Weissman 1978, extrapolation of an empirical tail. Used below the threshold only.
        """
        share = self.count / self.holdout
        if distance >= self.threshold:
            return train * share
        return train * share * (max(distance, 0.0) / self.threshold) ** self.lower

    def p_value(self, smallest_train: float, train: int) -> float:
        """Return ``1 - exp(-E)``: how often fresh patients would come this close."""
        return float(-np.expm1(-self.expected(smallest_train, train)))

    def alarm_distance(self, train: int, expected: float = 0.001) -> float:
        """Return τ, the distance below which fewer than ``expected`` fresh patients are expected."""
        if self.lower <= 0 or not np.isfinite(self.lower):
            return 0.0 if self.lower <= 0 else self.threshold
        return float(self.threshold * (expected * self.holdout / (train * self.count)) ** (1 / self.lower))


def fit_tail(holdout: np.ndarray) -> Tail:
    """Return the power law through the smallest of the holdout's values ``(n_H,)``.

    A twentieth of them, or of a small holdout `ENOUGH`, but never more than a tenth.

    Raises:
        ValueError: fewer than 2 values, or values that are not finite.
    """
    if len(holdout) < LEAST_TAIL or not np.isfinite(holdout).all():
        raise ValueError(f"fit_tail: {len(holdout)} values; at least {LEAST_TAIL}, all finite, are needed.")
    ordered = np.sort(holdout)
    # Floors, so that 10 tail points need 100 patients; the threshold itself is no tail point.
    twentieth, tenth = (int(np.floor(share * len(holdout) + 1e-9)) for share in (0.05, 0.1))
    count = max(1, twentieth, min(ENOUGH, tenth))
    threshold = float(ordered[count])
    exponent = hill_exponent(ordered[:count], threshold) if threshold > 0 else 0.0
    lower = max(0.0, exponent * (1 - 1.645 / np.sqrt(count)))
    return Tail(count, threshold, exponent, lower, len(holdout))
