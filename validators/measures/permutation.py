"""Label permutation over patients: top-r counts, vote shares, and the least p of a whole family.

Every statistic has one form, ``t = Σ_i L_i w_i`` with L_i = 1 for training patients and w fixed before
labels are looked at, so one set of permuted labels serves the whole family.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
import torch
from scipy import stats

ENOUGH = 50
"""When so many permutations were as extreme as what was seen, no more are drawn: p is that over their number.
No decision at .05 or below changes by it, for 999 permutations or more."""

DRAWN_AT_ONCE = 512
TOPS = (8, 16, 32)
"""How many of the highest scores are looked at."""


@dataclass(frozen=True, slots=True)
class Column:
    """One statistic of the family.

    Attributes:
        name: what it is, such as "hp top-16".
        weights: ``(n,)``, one a patient, chosen without the labels.
        top: r where the weights mark the r highest scores; 0 for any other weights.
    """

    name: str
    weights: np.ndarray
    top: int = 0


@dataclass(frozen=True, slots=True)
class MinP:
    """The family's answer.

    Attributes:
        p: chance of so small a least p under permuted labels, in [1 / (B + 1), 1].
        column_p: the columns' own p-values ``(C,)`` on a common scale (never to be read alone).
        best: name of the column with the least.
    """

    p: float
    column_p: np.ndarray
    best: str


def top_count_p(hits: int, r: int, patients: int, train: int) -> float:
    """Return P(at least ``hits`` of the ``r`` top patients are training patients), hypergeometric."""
    return float(stats.hypergeom.sf(hits - 1, patients, train, r))


def smallest_count(alpha: float, train_share: float) -> int:
    """Return ``⌈ln(alpha) / ln(share)⌉``: how many exposed patients, all on top, a rank test needs."""
    return int(np.ceil(np.log(alpha) / np.log(train_share)))


def exact_p(weights: np.ndarray, is_train: np.ndarray) -> float:
    """Return the permutation p of ``Σ_T w`` over all relabelings; for small sets (at most 10^6 of them)."""
    observed, train = weights[is_train].sum(), int(is_train.sum())
    sums = [weights[list(pick)].sum() for pick in combinations(range(len(weights)), train)]
    return float(np.mean(np.asarray(sums) >= observed - 1e-12))


def top_columns(name: str, scores: np.ndarray, sizes: Sequence[int] = TOPS) -> list[Column]:
    """Return the columns that mark the r highest scores ``(n,)``, for each r of ``sizes`` up to half of n.

    Ties are broken by position: the caller puts patients into an order that does not depend on their labels.
    """
    order, columns = np.argsort(-scores, kind="stable"), []
    for r in sizes:
        if 2 * r <= len(scores):
            weights = np.zeros(len(scores), np.float32)
            weights[order[:r]] = 1
            columns.append(Column(f"{name} top-{r}", weights, top=r))
    return columns


def rank_column(name: str, scores: np.ndarray) -> Column:
    """Return the column whose sum over T is the rank sum of Mann and Whitney."""
    return Column(name, stats.rankdata(scores).astype(np.float32) / len(scores))


def null_sums(weights: np.ndarray, train: int, draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield blocks ``(B, C)`` of sums of the columns ``weights (n, C)`` over random choices of patients."""
    matrix = torch.from_numpy(np.ascontiguousarray(weights, dtype=np.float32))
    base = np.zeros(len(weights), np.int8)
    base[:train] = 1
    for start in range(0, draws, DRAWN_AT_ONCE):
        labels = np.tile(base, (min(DRAWN_AT_ONCE, draws - start), 1))
        rng.permuted(labels, axis=1, out=labels)
        yield (torch.from_numpy(labels).float() @ matrix).numpy()


def column_p(sums: np.ndarray, columns: Sequence[Column], train: int) -> np.ndarray:
    """Return p-values ``(B, C)`` of sums ``(B, C)``: hypergeometric for top-r, normal for the others.

    Only a common scale: the family's p comes from permutation.
    """
    p = np.empty(sums.shape)
    for j, column in enumerate(columns):
        n = len(column.weights)
        if column.top:
            p[:, j] = _top_table(column.top, n, train)[np.rint(sums[:, j]).astype(int)]
        else:
            mean = train * column.weights.mean(dtype=np.float64)
            variance = train * (n - train) / (n - 1) * column.weights.var(dtype=np.float64)
            # Weights that are all equal say nothing about labels.
            p[:, j] = stats.norm.sf((sums[:, j] - mean) / np.sqrt(variance)) if variance > 1e-20 else 1.0
    return p


@lru_cache(maxsize=64)
def _top_table(r: int, patients: int, train: int) -> np.ndarray:
    """Return ``top_count_p`` of 0..r hits."""
    return stats.hypergeom.sf(np.arange(r + 1) - 1, patients, train, r)


def min_p(columns: Sequence[Column], is_train: np.ndarray, draws: int, rng: np.random.Generator) -> MinP:
    """Return the least column p, calibrated by patient-label permutation.

    Args:
        columns: the family, weights ``(n,)`` each.
        is_train: ``(n,)`` bool, by patient.
        draws: B, at least 9999 for a verdict, 999 in controls.

    Source: Westfall and Young 1993 (min-p): exact under exchangeable labels, whatever the correlation; Besag
    and Clifford 1991: exact although it stops early where nothing alarms.
    """
    return min_p_of_each([columns], is_train, draws, rng)[0]


def min_p_of_each(
    families: Sequence[Sequence[Column]], is_train: np.ndarray, draws: int, rng: np.random.Generator
) -> list[MinP]:
    """Return `min_p` of several families under the same permuted labels."""
    columns = [column for family in families for column in family]
    weights = np.stack([column.weights for column in columns], axis=1)
    train = int(is_train.sum())
    observed = column_p(is_train.astype(np.float32)[None] @ weights, columns, train)[0]
    ends = np.cumsum([len(family) for family in families]).tolist()
    own = [slice(end - len(family), end) for end, family in zip(ends, families, strict=True)]
    least = np.array([observed[here].min() for here in own])
    below = np.zeros((len(families), 0), bool)
    for sums in null_sums(weights, train, draws, rng):
        null = column_p(sums, columns, train)
        # Sums are float32: equal columns must not differ by their last digit.
        some = np.stack([null[:, here].min(1) for here in own]) <= least[:, None] * (1 + 1e-6)
        below = np.concatenate([below, some], axis=1)
        if (below.sum(1) >= ENOUGH).all():
            break
    return [
        MinP(_sequential_p(row, draws), observed[here], family[int(observed[here].argmin())].name)
        for row, here, family in zip(below, own, families, strict=True)
    ]


def _sequential_p(below: np.ndarray, draws: int) -> float:
    """Return p from which permutations were as extreme as what was seen, in the order of their drawing."""
    hits = np.flatnonzero(below)
    if len(hits) >= ENOUGH:
        return ENOUGH / float(hits[ENOUGH - 1] + 1)
    return (1 + len(hits)) / (draws + 1)
