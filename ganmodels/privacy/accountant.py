"""How much privacy a number of noisy steps has spent: Rényi differential privacy, by Opacus.

Mironov, Talwar & Zhang, "Rényi differential privacy of the sampled Gaussian mechanism", 2019, for what a
step costs at each order; Balle et al., "Hypothesis testing interpretations and Rényi differential privacy",
AISTATS 2020, theorem 21, for what the orders promise together. Neighbours are two cohorts of which one has
one patient more. The bound holds for whoever sees every step, so for the last weights and their images too.
"""

import warnings
from collections.abc import Sequence
from typing import Any

from phantomset.data.errors import ModelError
from phantomset.data.records import Guarantee

ORDERS = (*(1 + step / 10 for step in range(1, 100)), *range(11, 64), 64, 80, 96, 128, 192, 256, 384, 512)
"""Orders at which a run is followed; the best of them is taken."""

TOLERANCE = 0.01
"""How far under the epsilon that was asked for a run may end, as a share of it."""


def counted(history: list[list[float]], noise_multiplier: float, rate: float) -> list[list[float]]:
    """Return a history of ``[noise multiplier, sampling rate, steps]`` with one step more.

    >>> counted([[1.5, 0.01, 7]], 1.5, 0.01)
    [[1.5, 0.01, 8]]
    """
    if history and history[-1][:2] == [noise_multiplier, rate]:
        return [*history[:-1], [noise_multiplier, rate, history[-1][2] + 1]]
    return [*history, [noise_multiplier, rate, 1]]


def spent(history: Sequence[Sequence[float]], delta: float) -> float:
    """Return the epsilon that holds for a history at this delta: infinite without noise, 0 without steps."""
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(noise, rate, int(steps)) for noise, rate, steps in history]
    with warnings.catch_warnings():
        # It warns where the best order is the last one: a bound all the same, if not the tightest.
        warnings.simplefilter("ignore", UserWarning)
        return max(0.0, accountant.get_epsilon(delta, alphas=list(ORDERS)))


def noise_for(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """Return the smallest noise multiplier, to within `TOLERANCE`, whose ``steps`` cost at most ``epsilon``.

    Raises:
        ModelError: no noise is large enough.
    """
    from opacus.accountants.utils import get_noise_multiplier

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return get_noise_multiplier(
                target_epsilon=epsilon,
                target_delta=delta,
                sample_rate=rate,
                steps=steps,
                epsilon_tolerance=TOLERANCE * epsilon,
                alphas=list(ORDERS),
            )
    except ValueError:
        raise ModelError(
            f"model.privacy: no noise keeps {steps:,} steps under epsilon {epsilon:g} at delta {delta:g}. "
            "Ask for a larger epsilon or delta, or a smaller model.budget."
        ) from None


def guarantee(privacy: dict[str, Any], history: Sequence[Sequence[float]]) -> Guarantee:
    """Return what a run kept, from its identity's section ``privacy`` and the history in its checkpoint."""
    return Guarantee(
        epsilon=spent(history, privacy["delta"]),
        delta=privacy["delta"],
        clip_norm=privacy["clip_norm"],
        history=tuple((float(noise), float(rate), int(steps)) for noise, rate, steps in history),
    )
