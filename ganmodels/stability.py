"""Detectors of failing training, and the ladder of what to do about it.

Thresholds rest on one or two failed runs each. Divergence lies two orders above what healthy runs of the
default family showed. Collapse is less sharp: a slow starter can look collapsed for 15,000 images and
recover. All read what the step computed anyway.
"""

import math
import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phantomset.ganmodels.state import Counters

GOOD_CHECKS = 10
"""Clean checks in a row before a checkpoint counts as good."""

WARM_UP_IMAGES = 10_000
"""Before this, healthy runs look collapsed too: spread 0.5 to 0.65 at 2,000 to 8,000 images."""

MOST_SKIPS = 2
"""Batches without finite numbers from one check to the next that pass as accidents."""

MOST_ROLL_BACKS = 8
"""After so many the run is given up."""

PERSISTENCE = {"divergence": 2, "collapse": 3, "steep-critic": 3, "critic-wins": 5}
"""Checks in a row before a detector acts."""

STEEP_PENALTY = 0.2
"""Gradient penalty, gamma times the squared gradient, above which the critic steepens faster than the penalty
holds it; 0.005 to 0.04 in health, 0.2 a quarter of the way into a run that ended at 50.
"""

LARGEST_LOSS = 1000.0
"""Losses are means of order 1, the largest, of image translation, of order 100."""

DRIFT_IMAGES = 100_000
DRIFT_LIMIT = 0.3
"""Excess of power at the highest frequencies, log10, above which samples carry grain; healthy: within 0.1."""

ADVICE = {
    "skipped-batch": "Usually a passing accident. If it comes again, lower the learning rate.",
    "divergence": "The engine went back to the last good state with a smaller learning rate. If it comes "
    "again, set a smaller one in model.settings.",
    "collapse": "The generator repeats itself; the engine went back. If it comes again, use family r3gan "
    "with its defaults, or give more images for each class.",
    "steep-critic": "The critic grew too steep; the engine went back, with smaller steps and a stronger "
    "penalty. If it comes again, give more images, a smaller budget, or a larger gamma_start.",
    "critic-wins": "The critic tells every pair apart. Set model.augment to shift, or give more images.",
    "noise-drift": "The samples carry grain that real images lack. Use a smaller budget, or family r3gan "
    "with its default penalty.",
    "given-up": "Do not publish from this run. Use family r3gan with its defaults, or smaller steps.",
    "not-bit-identical": "The result is as good, but not equal to that of a run that never stopped.",
    "damaged-checkpoint": "Check the disk.",
}


@dataclass(frozen=True, slots=True)
class Check:
    """What one batch showed; None where the family has no such thing: no scores, no fakes in training.

    Attributes:
        gap: mean ``|D(x) - D(G)|``.
        pair_accuracy: share of pairs with ``D(x) > D(G)``, 0 to 1; 0.35 to 0.95 in health.
        spread: mean pairwise distance of the fakes over that of the real images; near 1 in health.
        class_spread: the smallest spread of a class with at least 8 images in the batch.
    """

    gap: float | None = None
    pair_accuracy: float | None = None
    spread: float | None = None
    class_spread: float | None = None


@torch.no_grad()
def look(real: Tensor, labels: Tensor, shared: dict[str, Tensor]) -> Check:
    """Return the check of one step, from real images ``(B, C, H, W)`` and what the losses left."""
    gap = accuracy = spread = class_spread = None
    if "real_scores" in shared:
        difference = shared["real_scores"].float() - shared["fake_scores"].float()
        gap, accuracy = float(difference.abs().mean()), float((difference > 0).float().mean())
    if "fakes" in shared:
        real_rows, fake_rows = real.flatten(1).float(), shared["fakes"].flatten(1).float()
        spread = _mean_distance(fake_rows) / max(_mean_distance(real_rows), 1e-12)
        spreads = [
            _mean_distance(fake_rows[members]) / max(_mean_distance(real_rows[members]), 1e-12)
            for members in (labels == label for label in labels.unique())
            if int(members.sum()) >= 8
        ]
        class_spread = min(spreads, default=None)
    return Check(gap, accuracy, spread, class_spread)


def findings(check: Check, numbers: dict[str, float], counters: Counters, images_seen: int) -> set[str]:
    """Return which detectors fire on this check, before persistence; remembers the spread in ``counters``.

    Args:
        check: of the last batch.
        numbers: means since the last check.
        counters: of the run.
        images_seen: so far.
    """
    fired: set[str] = set()
    penalty, gap = numbers.get("penalty", 0.0), check.gap or 0.0
    spread, losses = check.spread, [value for name, value in numbers.items() if name.endswith("_loss")]
    if not all(map(math.isfinite, (gap, penalty, *losses, 1.0 if spread is None else spread))):
        fired.add("divergence")
    if counters.step > 10 and (
        gap > 50
        or penalty > 1000
        or max(map(abs, losses), default=0.0) > LARGEST_LOSS
        or (spread is not None and spread > 3)
    ):
        fired.add("divergence")
    # Before the first good checkpoint the way back leads to the start, and slow starters recover alone.
    warm_up = WARM_UP_IMAGES if counters.good_step else 3 * WARM_UP_IMAGES
    if images_seen > warm_up:
        narrow = 1.0 if check.class_spread is None else check.class_spread
        if (spread is not None and spread < 0.5) or narrow < 0.35:
            fired.add("collapse")
        if penalty > STEEP_PENALTY:
            fired.add("steep-critic")
        if _is_won(check, counters.spreads):
            fired.add("critic-wins")
    if spread is not None:
        counters.spreads = [*counters.spreads, spread][-10:]
    return fired


def _is_won(check: Check, before: list[float]) -> bool:
    """Return whether the critic tells every pair apart while the fakes grow alike."""
    if check.pair_accuracy is None or check.spread is None or len(before) < 10:
        return False
    return check.pair_accuracy > 0.97 and check.spread < 0.9 * statistics.fmean(before)


def persistent(fired: set[str], counters: Counters) -> list[str]:
    """Return the detectors that fired often enough in a row to act now, and count on in ``counters``."""
    counters.streaks = {name: counters.streaks.get(name, 0) + 1 for name in sorted(fired)}
    counters.clean_checks = 0 if fired else counters.clean_checks + 1
    acting = [name for name, streak in counters.streaks.items() if streak >= PERSISTENCE[name]]
    for name in acting:
        counters.streaks[name] = 0
    return acting


def climb(counters: Counters, gap: float) -> None:
    """Take the next rung after a roll-back: a smaller learning rate and a stronger penalty.

    From a gap over 1,000 halving takes too many roll-backs, so the rate falls tenfold.
    """
    counters.roll_backs += 1
    counters.learning_rate_scale *= 0.5 if gap <= 1000 else 0.1
    counters.penalty_scale *= 2.0
    counters.clean_checks = 0
    counters.streaks, counters.spreads = {}, []


def event(code: str, images_seen: int, message: str) -> dict[str, Any]:
    """Return an event with its advice in plain words."""
    return {"code": code, "images": images_seen, "message": message, "advice": ADVICE[code]}


def spectrum(images: np.ndarray) -> np.ndarray:
    """Return log10 of the radially averaged power of images ``(N, C, H, W)`` in 6 bands, mean over images.

    Band b covers spatial frequencies from b/6 to (b+1)/6 of the largest, the corner of the Fourier plane.
    """
    values = images.astype(np.float32).mean(axis=1) / 255.0
    power = (np.abs(np.fft.fft2(values - values.mean(axis=(1, 2), keepdims=True))) ** 2).mean(axis=0)
    rows, columns = (np.abs(np.fft.fftfreq(side)) for side in power.shape)
    radius = np.hypot(rows[:, None], columns[None, :]) / math.hypot(rows.max(), columns.max())
    bands = np.minimum((radius * 6).astype(int), 5).ravel()
    sums, counts = np.bincount(bands, power.ravel(), 6), np.bincount(bands, minlength=6)
    filled = counts > 0  # tiny images leave bands empty
    return np.log10(sums[filled] / counts[filled] + 1e-12)


def drift(samples: np.ndarray, real: np.ndarray) -> float:
    """Return the mean log10 excess of the samples' power over the real images' in the three highest bands.

    Both ``(N, C, H, W)`` uint8. 0 is equal, within 0.1 is healthy, 0.9 is grain that the eye sees.
    """
    return float((spectrum(samples) - spectrum(real))[-3:].mean())


def _mean_distance(rows: Tensor) -> float:
    """Return the mean pairwise Euclidean distance of ``(B, D)``; 0 for fewer than two rows."""
    return float(torch.pdist(rows).mean()) if len(rows) > 1 else 0.0
