"""P7. What do the copy statistics of the literature say? Reported, never a pass: they miss single copies."""

from collections.abc import Sequence

import numpy as np
import torch

from phantomset.validators.context import DENSITY_SPACE, Context
from phantomset.validators.finding import Check, Finding
from phantomset.validators.measures.copying import authentic_share, copying_z


def _run(context: Context) -> Sequence[Finding]:
    space, evidence = context.spaces[DENSITY_SPACE], context.evidence

    def encode(images: np.ndarray) -> np.ndarray:
        return space.candidates(images, torch.float32)[:, 0].numpy()

    train, holdout, synthetic = (
        encode(part.images) for part in (evidence.train, evidence.holdout, evidence.synthetic)
    )
    return [
        Finding(
            check="copying_test",
            metric="C_T, data-copying statistic Z_U",
            axis="privacy",
            status="REPORTED",
            value=copying_z(train, holdout, synthetic),
            unit="z",
            direction="strongly negative means copying",
            n=len(synthetic),
            baseline=0.0,
            restricted=True,
        ),
        Finding(
            check="copying_test",
            metric="AuthPct against train",
            axis="privacy",
            status="REPORTED",
            value=authentic_share(train, synthetic),
            unit="share",
            bounds=(0, 1),
            direction="higher is called more authentic",
            n=len(synthetic),
            baseline=authentic_share(holdout, synthetic),
            restricted=True,
        ),
    ]


CHECK = Check(
    name="copying_test",
    question="What do the copy statistics of the literature say?",
    axis="privacy",
    required=False,
    run=_run,
    source="Meehan et al. 2020 (C_T); Alaa et al. 2022 (AuthPct)",
)
