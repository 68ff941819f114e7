"""How far is the synthetic set from the holdout, without assuming Gaussians?"""

from collections.abc import Sequence

from phantomset.validators.context import Context
from phantomset.validators.finding import Check, Finding
from phantomset.validators.measures.kernel import kid


def _run(context: Context) -> Sequence[Finding]:
    context.need(2, "synthetic", "train", "holdout")
    findings = []
    for name, extractor in context.extractors.items():
        parts = context.equal_features(name)
        findings.append(
            Finding(
                check="kernel",
                metric="kernel distance (KID) to the holdout",
                axis="fidelity",
                status="REPORTED" if extractor.qualified else "NOT_EVALUATED",
                group=name,
                value=kid(parts["synthetic"], parts["holdout"]),
                unit="squared MMD",
                direction="lower is better; about 0 for equal distributions, negative by chance",
                n=len(parts["holdout"]),
                baseline=kid(parts["train"], parts["holdout"]),
            )
        )
    return findings


CHECK = Check(
    name="kernel",
    question="How far is the synthetic set from the holdout, without assuming Gaussians?",
    axis="fidelity",
    required=False,
    run=_run,
    source="Bińkowski et al. 2018",
)
