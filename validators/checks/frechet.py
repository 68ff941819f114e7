"""How far is the synthetic set from the holdout, as Gaussians of features?"""

from collections.abc import Sequence

from phantomset.validators.context import Context
from phantomset.validators.finding import Check, EvidenceError, Finding
from phantomset.validators.measures.frechet import frechet

ROWS_PER_DIMENSION = 5


def _run(context: Context) -> Sequence[Finding]:
    findings = []
    for name, extractor in context.extractors.items():
        parts = context.equal_features(name)
        n, dimensions = parts["holdout"].shape
        enough = n >= ROWS_PER_DIMENSION * dimensions
        advice = (
            ""
            if enough
            else f"{n} images for {dimensions} features; {ROWS_PER_DIMENSION * dimensions} are needed."
        )
        if n < 2:  # of one image there is no covariance at all
            raise EvidenceError(advice)
        value, ceiling = (frechet(parts[part], parts["holdout"]) for part in ("synthetic", "train"))
        findings.append(
            Finding(
                check="frechet",
                metric="Fréchet distance to the holdout",
                axis="fidelity",
                status="REPORTED" if enough and extractor.qualified else "NOT_EVALUATED",
                group=name,
                value=value if enough else None,
                unit="squared feature units",
                direction="lower is better",
                n=n,
                baseline=ceiling if enough else None,
                advice=advice,
                details={"over_real_real": value / max(extractor.exam.null, 1e-12)},
            )
        )
    return findings


CHECK = Check(
    name="frechet",
    question="How far is the synthetic set from the holdout, as Gaussians of features?",
    axis="fidelity",
    required=False,
    run=_run,
    source="Heusel et al. 2017, on offline extractors; baseline: train against holdout at equal sizes",
)
