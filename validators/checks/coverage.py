"""Does the synthetic set cover what real images show, and stay within it?"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from phantomset.validators.context import Context
from phantomset.validators.extractors import Extractor
from phantomset.validators.finding import Check, Finding, Status
from phantomset.validators.measures.prdc import covered, prdc
from phantomset.validators.policy import PROFILES

NEIGHBOURS = 5
LEAST_IMAGES = 50


def _run(context: Context) -> Sequence[Finding]:
    return [f for name, extractor in context.extractors.items() for f in _in_space(context, name, extractor)]


def _in_space(context: Context, name: str, extractor: Extractor) -> list[Finding]:
    parts = context.equal_features(name)
    n = len(parts["holdout"])
    if n < LEAST_IMAGES:
        advice = f"{n} images; at least {LEAST_IMAGES} synthetic and as many holdout images are needed."
        return [
            Finding(
                "coverage", "coverage of the holdout", "fidelity", "INCONCLUSIVE", None, name, advice=advice
            )
        ]
    found, ceiling = (prdc(parts["holdout"], parts[part], NEIGHBOURS) for part in ("synthetic", "train"))
    profile = PROFILES[context.rules.fidelity]
    least = profile.coverage * (ceiling.coverage if profile.coverage_is_ratio else 1.0)
    status, advice = _judge(context, extractor, found.coverage, least)
    others = [
        Finding(
            check="coverage",
            metric=metric,
            axis="fidelity",
            status="REPORTED",
            value=getattr(found, metric),
            group=name,
            unit="share",
            bounds=None if metric == "density" else (0, 1),
            direction="higher is better",
            n=n,
            baseline=getattr(ceiling, metric),
        )
        for metric in ("precision", "recall", "density")
    ]
    return [
        Finding(
            check="coverage",
            metric="coverage of the holdout",
            axis="fidelity",
            status=status,
            value=found.coverage,
            group=name,
            unit="share",
            bounds=(0, 1),
            direction="higher is better",
            limit=f">= {least:.2f}",
            n=n,
            baseline=ceiling.coverage,
            advice=advice,
            details=_map(context, name, parts) if name == next(iter(context.extractors)) else {},
        ),
        *others,
    ]


def _map(context: Context, name: str, parts: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return both sets as points of a plane, its axes the two widest directions of R; for a picture.

    Restricted: a point stands for a real image.
    """
    reference = context.features(name, "reference")
    centre = reference.mean(0)
    axes = np.linalg.svd(reference - centre, full_matrices=False)[2][:2].T
    real, made = ((parts[part] - centre) @ axes for part in ("holdout", "synthetic"))
    return {
        "holdout": np.round(real, 3).tolist(),
        "covered": covered(parts["holdout"], parts["synthetic"], NEIGHBOURS).tolist(),
        "synthetic": np.round(made, 3).tolist(),
    }


def _judge(context: Context, extractor: Extractor, coverage: float, least: float) -> tuple[Status, str]:
    if not extractor.qualified:
        # The demo's floor holds in each qualified space; the other profiles want both spaces.
        status: Status = "NOT_EVALUATED" if context.rules.fidelity == "demo" else "INCONCLUSIVE"
        return status, extractor.shortcoming
    if coverage >= least:
        return "PASS", ""
    return "FAIL", "Real images have no synthetic neighbour: train longer, or look for a collapsed class."


CHECK = Check(
    name="coverage",
    question="Does the synthetic set cover what real images show, and stay within it?",
    axis="fidelity",
    required=True,
    run=_run,
    source="Naeem et al. 2020; baseline: train against holdout at equal sizes",
)
