"""Rates with their uncertainty: binomial intervals, ranks, attack strength, joint upper bounds."""

from dataclasses import dataclass

import numpy as np
from scipy import stats


def clopper_pearson(hits: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval of a share, in [0, 1].

    Source: Clopper and Pearson 1934. Covers at least at its level, never less.
    """
    _check_counts(hits, trials)
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(stats.beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(stats.beta.ppf(1 - tail, hits + 1, trials - hits))
    return low, high


def upper_bound(hits: int, trials: int, level: float = 0.95) -> float:
    """Return the exact one-sided upper bound of a share, in [0, 1]."""
    _check_counts(hits, trials)
    return 1.0 if hits == trials else float(stats.beta.ppf(level, hits + 1, trials - hits))


def lower_bound(hits: int, trials: int, level: float = 0.95) -> float:
    """Return the exact one-sided lower bound of a share, in [0, 1]."""
    return 1 - upper_bound(trials - hits, trials, level)


def trials_without_hit(share: float, level: float = 0.95) -> int:
    """Return how many trials without a single hit bound a share from above, with the level's confidence."""
    return int(np.ceil(np.log(1 - level) / np.log(1 - share)))


def wilson(hits: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Return centre and half width of Wilson's score interval of a share.

    Source: Wilson 1927; the form in which Anonymeter (Giomi et al. 2023) reports attack rates.
    """
    _check_counts(hits, trials)
    z = float(stats.norm.ppf((1 + level) / 2))
    share, scale = hits / trials, 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half = z / scale * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return centre, float(half)


def excess_lower_bound(first: tuple[int, int], second: tuple[int, int], level: float = 0.95) -> float:
    """Return the one-sided lower bound of the difference of two shares, each given as (hits, trials).

    Source: Newcombe 1998, method 10: from the two Wilson intervals.
    """
    (a, half_a), (b, half_b) = (wilson(*part, level=2 * level - 1) for part in (first, second))
    share_a, share_b = first[0] / first[1], second[0] / second[1]
    return float(share_a - share_b - np.hypot(share_a - (a - half_a), (b + half_b) - share_b))


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return P(positive > negative) + P(equal) / 2, in [0, 1]; 0.5 is a blind guess.

    The Mann-Whitney U over the number of pairs. Not to be confused with accuracy.
    """
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    above = ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2
    return float(above / (len(positive) * len(negative)))


def tpr_at_fpr(positive: np.ndarray, negative: np.ndarray, rate: float) -> float:
    """Return the share of positives above the threshold that at most ``rate`` of the negatives reach.

    The threshold is a negative's score and must be passed, so ties count against the attack.
    """
    allowed = int(np.floor(rate * len(negative) + 1e-9))
    threshold = np.sort(negative)[::-1][allowed] if allowed < len(negative) else -np.inf
    return float((positive > threshold).mean())


@dataclass(frozen=True, slots=True)
class JointBound:
    """Attack figures ``(A,)`` with bounds ``(A,)``; the upper ones hold for all attacks at once, and so do
    the lower ones.
    """

    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    @property
    def worst(self) -> float:
        """The strongest attack's figure."""
        return float(self.value.max())

    @property
    def least(self) -> float:
        """What some attack of the family reaches, with the level's confidence."""
        return float(self.lower.max())

    @property
    def bound(self) -> float:
        """What no attack of the family exceeds, with the level's confidence."""
        return float(self.upper.max())


def joint_upper_bounds(
    value: np.ndarray, draws: np.ndarray, level: float = 0.95, least_deviation: float = 1e-9
) -> JointBound:
    """Return max-T bounds of A figures from their bootstrap draws, each end with the level's confidence.

    ``upper_j = value_j + c·s_j`` with c the level's quantile of ``max_j (value_j - draw_j) / s_j`` and
    s_j the bootstrap deviation; the lower end likewise, of
    ``draw_j - value_j``. One bound for the whole family: the worst of separate bounds would be too
    low, because the worst attack was chosen by looking. The greatest bound covers the worst attack's true
    figure (in 98% of simulations with ten attacks of which one leaks); the bound of one skewed figure by
    itself, such as a small TPR, would be a little short.

    Args:
        value: ``(A,)`` figures.
        draws: ``(B, A)`` the same figures on B bootstrap samples.
        level: of the bound.
        least_deviation: floor of s_j: a TPR of 0 never moves in a bootstrap, and is not known exactly.

    Source: Westfall and Young 1993, single-step max-T.
    """
    deviation = np.maximum(draws.std(0, ddof=1), least_deviation)

    def reach(gaps: np.ndarray) -> np.ndarray:
        widest = (gaps / deviation).max(1)
        return max(0.0, float(np.quantile(widest, level, method="higher"))) * deviation

    return JointBound(value, value - reach(draws - value), value + reach(value - draws))


def attack_strength(
    positive: np.ndarray, negative: np.ndarray, rate: float, draws: int, rng: np.random.Generator
) -> tuple[JointBound, JointBound]:
    """Return joint bounds of the AUC and of the TPR at FPR ``rate`` for A attacks, by a bootstrap over rows.

    Args:
        positive, negative: ``(n, A)`` scores of members and of others; rows are patients, drawn within
            their own side.
        rate: the false positive rate.
        draws: bootstrap samples B.
    """
    members, attacks = positive.shape
    others = len(negative)
    weight_p = rng.multinomial(members, np.full(members, 1 / members), size=draws).astype(np.float32)
    weight_n = rng.multinomial(others, np.full(others, 1 / others), size=draws).astype(np.float32)
    areas, rates = np.empty((draws, attacks)), np.empty((draws, attacks))
    for j in range(attacks):
        areas[:, j] = weighted_auc(positive[:, j], negative[:, j], weight_p, weight_n)
        rates[:, j] = _weighted_tpr(positive[:, j], negative[:, j], weight_p, weight_n, rate)
    area = np.array([auc(positive[:, j], negative[:, j]) for j in range(attacks)])
    hit = np.array([tpr_at_fpr(positive[:, j], negative[:, j], rate) for j in range(attacks)])
    binomial = float(np.sqrt(rate * (1 - rate) / members))
    return joint_upper_bounds(area, areas), joint_upper_bounds(hit, rates, least_deviation=binomial)


def weighted_auc(
    positive: np.ndarray, negative: np.ndarray, weight_p: np.ndarray, weight_n: np.ndarray
) -> np.ndarray:
    """Return the AUC ``(B,)`` of B samples given as weights of rows; ties count half.

    Args:
        positive, negative: ``(n,)`` and ``(m,)`` scores.
        weight_p, weight_n: ``(B, n)`` and ``(B, m)`` how often each row is in each sample. A sample without
            a positive or a negative has the AUC NaN.
    """
    order = np.argsort(negative, kind="stable")
    ordered = negative[order]
    below = np.zeros((len(weight_n), len(negative) + 1), np.float32)
    np.cumsum(weight_n[:, order], axis=1, out=below[:, 1:])
    left, right = np.searchsorted(ordered, positive), np.searchsorted(ordered, positive, side="right")
    beaten = (below[:, left] + below[:, right]) / 2
    pairs = weight_p.sum(1, dtype=np.float64) * weight_n.sum(1, dtype=np.float64)
    won = (weight_p * beaten).sum(1, dtype=np.float64)
    return np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def _weighted_tpr(
    positive: np.ndarray, negative: np.ndarray, weight_p: np.ndarray, weight_n: np.ndarray, rate: float
) -> np.ndarray:
    """Return the TPR ``(B,)`` past each sample's own threshold, with `tpr_at_fpr`'s rule."""
    order = np.argsort(-negative, kind="stable")
    allowed = np.floor(rate * len(negative) + 1e-9)
    # The threshold is the first negative, from the top, at which more than the allowed weight is reached.
    position = (np.cumsum(weight_n[:, order], axis=1) <= allowed).sum(1)
    ordered = np.append(negative[order], -np.inf)
    rank = np.argsort(-positive, kind="stable")
    passed = np.zeros((len(weight_p), len(positive) + 1), np.float32)
    np.cumsum(weight_p[:, rank], axis=1, out=passed[:, 1:])
    count = np.searchsorted(-positive[rank], -ordered[position], side="left")
    return passed[np.arange(len(passed)), count] / len(positive)


def _check_counts(hits: int, trials: int) -> None:
    if trials < 1 or not 0 <= hits <= trials:
        raise ValueError(f"a share needs 0 <= hits <= trials and trials >= 1; got {hits} of {trials}.")
