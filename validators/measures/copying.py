"""Popular copy statistics of the literature, reported for comparison and never a pass."""

import numpy as np
from scipy import stats
from sklearn.cluster import KMeans

from phantomset.validators.measures.neighbours import nearest

PER_CELL, MOST_CELLS = 100, 20
"""Images of the smallest set that a cell has, about."""

LEAST_IN_CELL = 20
"""Held-out and synthetic images: in a cell with fewer the normal limit of Z_U does not hold."""


def copying_test(
    train: np.ndarray, holdout: np.ndarray, synthetic: np.ndarray, rng: np.random.Generator
) -> float:
    """Return C_T of the data-copying test; strongly negative means copying.

    ``C_T = Σ P(π) Z_U(π) / Σ P(π)`` over the k-means cells π of T that hold enough images of H and of S, with
    P(π) the share of H in the cell and Z_U(π) `copying_z` of the three sets' images there. Distances
    are compared within a cell alone: where images lie thinly, all are far from T, copies or not. A mean over
    cells, so its deviation without copying is below 1. Features ``(N, D)`` each. With fewer than 200 images
    in a set, or where no cell holds enough of both, there is one cell: the global form.

    Source: Meehan, Chaudhuri and Dasgupta 2020, section 4.
    """
    smallest = min(map(len, (train, holdout, synthetic)))
    count = max(1, min(MOST_CELLS, smallest // PER_CELL))
    model = KMeans(count, random_state=int(rng.integers(2**31))).fit(train.astype(np.float64))
    cells = [model.predict(part.astype(np.float64)) for part in (train, holdout, synthetic)]
    weights, scores = [], []
    for cell in range(count):
        near = [part[own == cell] for part, own in zip((train, holdout, synthetic), cells, strict=True)]
        if len(near[0]) and min(map(len, near[1:])) >= LEAST_IN_CELL:
            weights.append(len(near[1]))
            scores.append(copying_z(*near))
    if not weights:
        return copying_z(train, holdout, synthetic)
    return float(np.average(scores, weights=weights))


def copying_z(train: np.ndarray, holdout: np.ndarray, synthetic: np.ndarray) -> float:
    """Return Z_U, the data-copying test in one cell, about N(0, 1) without copying.

    Strongly negative means copying. Mann-Whitney, without continuity correction, of the distances to T: are
    synthetic images nearer to the training set than held-out images are? Features ``(N, D)`` each. Blind to
    few copies in a large set.

    Not to be confused with C_T, `copying_test`, which is a mean of Z_U over cells.

    Source: Meehan, Chaudhuri and Dasgupta 2020 (the global form).
    """
    near_synthetic = nearest(synthetic, train)[0][:, 0]
    near_holdout = nearest(holdout, train)[0][:, 0]
    m, n = len(near_synthetic), len(near_holdout)
    ranks = stats.rankdata(np.concatenate([near_synthetic, near_holdout]))
    u = ranks[:m].sum() - m * (m + 1) / 2
    return float((u - m * n / 2) / np.sqrt(m * n * (m + n + 1) / 12))


def authentic_share(train: np.ndarray, synthetic: np.ndarray) -> float:
    """Return the share of synthetic images that are farther from their nearest training image than that image
    is from its own nearest neighbour; in [0, 1], higher is called more authentic.

    Not to be confused with a percentage: other libraries report 0 to 100, or minus 50 to 50.

    Source: Alaa et al. 2022.
    """
    distance, index = nearest(synthetic, train)
    spacing = nearest(train, train, skip_self=True)[0][:, 0]
    return float((distance[:, 0] > spacing[index[:, 0]]).mean())


def neighbour_ratio(real: np.ndarray, synthetic: np.ndarray) -> float:
    """Return the 5% quantile of ``d₁ / d₂``, to the nearest and second nearest real image; in [0, 1].

    Near 0 says that some synthetic images have one real image for themselves. Features ``(N, D)`` each.

    Source: NNDR as synthetic-data toolkits report it (Lowe 2004 for the ratio itself).
    """
    near = nearest(synthetic, real, 2)[0]
    return float(np.quantile(near[:, 0] / np.maximum(near[:, 1], 1e-12), 0.05))


def closer_share(train: np.ndarray, holdout: np.ndarray, synthetic: np.ndarray) -> float:
    """Return the share of synthetic images that lie closer to T than to H, in [0, 1]; ties count half.

    Source: Platzer and Reutterer 2021 (DCR share).
    """
    to_train, to_holdout = (nearest(synthetic, part)[0][:, 0] for part in (train, holdout))
    return float((to_train < to_holdout).mean() + (to_train == to_holdout).mean() / 2)


def identifiable_share(real: np.ndarray, synthetic: np.ndarray) -> float:
    """Return the share of real images with a synthetic image nearer than the next real one; in [0, 1].

    Source: Yoon et al. 2020 (ADS-GAN), without its weights by entropy.
    """
    return float((nearest(real, synthetic)[0] < nearest(real, real, skip_self=True)[0]).mean())
