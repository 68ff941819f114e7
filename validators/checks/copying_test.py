"""P7. What do the copy statistics of the literature say? Reported, never a pass: they miss single copies."""

from collections.abc import Sequence

import numpy as np
import torch

from phantomset.validators.context import DENSITY_SPACE, Context
from phantomset.validators.finding import Check, Finding
from phantomset.validators.measures.copying import (
    authentic_share,
    closer_share,
    copying_test,
    identifiable_share,
    neighbour_ratio,
)


def _run(context: Context) -> Sequence[Finding]:
    context.need(2, "train", "holdout")  # what has no neighbour of its own kind cannot be compared
    space, evidence = context.spaces[DENSITY_SPACE], context.evidence

    def encode(images: np.ndarray) -> np.ndarray:
        return space.candidates(images, torch.float32)[:, 0].numpy()

    train, holdout, synthetic = (
        encode(part.images) for part in (evidence.train, evidence.holdout, evidence.synthetic)
    )
    share = len(train) / (len(train) + len(holdout))
    n = len(synthetic)
    return [
        _reported(
            "C_T, data-copying statistic",
            copying_test(train, holdout, synthetic, context.rng("copying_test")),
            0.0,
            "strongly negative means copying",
            n,
            unit="z",
        ),
        _reported(
            "AuthPct against train",
            authentic_share(train, synthetic),
            authentic_share(holdout, synthetic),
            "higher is called more authentic",
            n,
        ),
        _reported(
            "NNDR against train, 5% quantile",
            neighbour_ratio(train, synthetic),
            neighbour_ratio(holdout, synthetic),
            "higher is called more private",
            n,
        ),
        _reported(
            "DCR share, closer to train than to holdout",
            closer_share(train, holdout, synthetic),
            share,
            "lower is called more private",
            n,
        ),
        _reported(
            "identifiability of training images",
            identifiable_share(train, synthetic),
            identifiable_share(holdout, synthetic),
            "lower is called more private",
            len(train),
        ),
    ]


def _reported(
    metric: str, value: float, baseline: float, direction: str, n: int, unit: str = "share"
) -> Finding:
    """Return a figure with the same one for the holdout, or for a clean set, as its baseline."""
    return Finding(
        check="copying_test",
        metric=metric,
        axis="privacy",
        status="REPORTED",
        value=value,
        unit=unit,
        bounds=(0, 1) if unit == "share" else None,
        direction=direction,
        n=n,
        baseline=baseline,
        restricted=True,
    )


CHECK = Check(
    name="copying_test",
    question="What do the copy statistics of the literature say?",
    axis="privacy",
    required=False,
    run=_run,
    source="Meehan et al. 2020 (C_T); Alaa et al. 2022 (AuthPct); Platzer and Reutterer 2021 (DCR, NNDR); "
    "Yoon et al. 2020 (identifiability)",
)
