"""P8. Does the model itself, were it released, give patients away? It is not, so nobody has asked."""

from collections.abc import Sequence

from phantomset.validators.context import Context
from phantomset.validators.finding import Check, Finding


def _run(context: Context) -> Sequence[Finding]:
    return [
        Finding(
            check="white_box",
            metric="attacks on the model itself",
            axis="privacy",
            status="NOT_EVALUATED",
            direction="lower is better",
            n=context.train_patients,
            advice="No release carries weights, and none can: publishing a file of weights is refused. "
            "Weights are personal data until attacks on them have shown otherwise.",
        )
    ]


CHECK = Check(
    name="white_box",
    question="Does the model itself give patients away, were it released?",
    axis="privacy",
    required=False,
    run=_run,
    source="Hayes et al. 2019 (LOGAN); Chen et al. 2020 (GAN-Leaks, white box)",
)
