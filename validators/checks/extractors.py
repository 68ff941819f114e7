"""Do the feature extractors see what they are believed for?"""

from collections.abc import Sequence

from phantomset.validators.context import Context
from phantomset.validators.extractors import SEEN
from phantomset.validators.finding import Check, Finding


def _run(context: Context) -> Sequence[Finding]:
    findings = []
    for name, extractor in context.extractors.items():
        seen = extractor.seen or {}
        findings.append(
            Finding(
                check="extractors",
                metric="faintest fault, in units of real against real",
                axis="fidelity",
                status="REPORTED" if extractor.qualified else "NOT_EVALUATED",
                group=name,
                value=min(seen.values()) if seen else None,
                unit="ratio",
                direction="higher is better",
                limit=f"> {SEEN}",
                n=len(context.evidence.holdout),
                baseline=1.0,
                advice=""
                if extractor.qualified
                else f"{name} missed: {', '.join(extractor.missed)}. Its figures do not decide.",
                details={"seen": seen, "null": extractor.null},
            )
        )
    return findings


CHECK = Check(
    name="extractors",
    question="Do the feature extractors see what they are believed for?",
    axis="fidelity",
    required=False,
    run=_run,
    source="Stein et al. 2023 (Inception features mislead outside of their domain)",
)
