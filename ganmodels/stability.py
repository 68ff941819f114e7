"""Detectors of failing training; what is done about it is in `recovery`.

Thresholds rest on one or two failed runs each. Divergence lies two orders above what healthy runs of the
default family showed. Collapse is less sharp: a slow starter can look collapsed for 15,000 images and
recover. All read what the step computed anyway.
"""

import math
import statistics
from dataclasses import dataclass

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

PERSISTENCE = {
    "divergence": 2,
    "collapse": 3,
    "steep-critic": 3,
    "late-blow-up": 3,
    "critic-wins": 5,
    "over-fit": 1,
}
"""Checks in a row before a detector acts."""

STEEP_PENALTY = 0.2
"""Gradient penalty, gamma times the squared gradient, above which the critic steepens faster than the penalty
holds it; 0.005 to 0.04 in health, 0.2 a quarter of the way into a run that ended at 50.
"""

BLOW_UP = 50.0
"""How many times its own median the penalty is in a late blow-up; a healthy one rises up to 15 times."""

PAIRS_IN_HEALTH = (0.3, 0.85)
"""Mean share of pairs that the critic tells apart, over 10 checks late in a run."""

OVERFIT_IMAGES = 20_000
OVERFIT_SHARE = 0.5
"""Of the way from fakes to training images, how far held-out images lie from the latter in an over-fit."""

MEMORY = 10
"""Checks over which the noisy figures are averaged."""

LONGEST_HISTORY = 200
"""Checks that a late blow-up is measured against: a quarter of the run, at most so many."""

LARGEST_LOSS = 1000.0
"""Losses are means of order 1, the largest, of image translation, of order 100."""

SKETCHES = 6
"""Checkpoints in a quarter of a run, both ends counted."""

NARROW, NARROW_CLASS = 0.5, 0.35
"""Spread of all fakes, and of those of one class, under which they are too alike; so ended, a run warns."""

ENOUGH_PAIRS = 84
"""Pairs of one class that its spread is read from: 14 images in one batch have as many, fewer in several."""

DRIFT_IMAGES = 100_000
DRIFT_LIMIT = 0.3
"""Excess of power at the highest frequencies, log10, above which samples carry grain; healthy: within 0.1."""


@dataclass(frozen=True, slots=True)
class Check:
    """What one batch showed; None where the family has no such thing: no scores, no fakes in training.

    Attributes:
        gap: mean ``|D(x) - D(G)|``.
        pair_accuracy: share of pairs with ``D(x) > D(G)``, 0 to 1; 0.35 to 0.95 in health.
        spread: mean pairwise distance of the fakes over that of the real images; near 1 in health.
        class_spread: the smallest spread of a class, see `class_spreads`.
    """

    gap: float | None = None
    pair_accuracy: float | None = None
    spread: float | None = None
    class_spread: float | None = None


@torch.no_grad()
def look(
    real: Tensor,
    labels: Tensor,
    shared: dict[str, Tensor],
    counters: Counters,
    wanted: Tensor | None = None,
) -> Check:
    """Return the check of one step; remembers in ``counters`` how far apart the images of each class lay.

    Fakes are compared with real images of the class that they should be like, equally many of each class.

    Args:
        real: images ``(B, C, H, W)``.
        labels: their classes ``(B,)``.
        shared: what the losses left.
        counters: of the run.
        wanted: ``(B,)`` the class that each fake should be of, -1 where none is made; None: ``labels``.
    """
    wanted = labels if wanted is None else wanted
    reals, fakes = _also_in(labels, wanted), _also_in(wanted, labels)
    if int(reals.sum()) < 2:  # a batch by chance of one domain
        return Check()
    gap = accuracy = spread = class_spread = None
    if "real_scores" in shared:
        difference = shared["real_scores"][reals].float() - shared["fake_scores"][fakes].float()
        gap, accuracy = float(difference.abs().mean()), float((difference > 0).float().mean())
    if "fakes" in shared:
        real_rows, fake_rows = real[reals].flatten(1).float(), shared["fakes"][fakes].flatten(1).float()
        spread = _mean_distance(fake_rows) / max(_mean_distance(real_rows), 1e-12)
        counters.class_pairs = _add_pairs(
            counters.class_pairs, (real_rows, labels[reals]), (fake_rows, wanted[fakes])
        )
        class_spread = min(class_spreads(counters).values(), default=None)
    return Check(gap, accuracy, spread, class_spread)


def _also_in(labels: Tensor, others: Tensor) -> Tensor:
    """Return which labels ``(B,)`` have a partner: the n-th of a class where ``others`` have n of it."""
    number = (labels[:, None] == labels).tril().sum(dim=1)
    return number <= (labels[:, None] == others).sum(dim=1)


def class_spreads(counters: Counters) -> dict[int, float]:
    """Return by label the spread of each class of which enough pairs were seen, over one batch or several."""
    return {
        int(label): fake / max(real, 1e-12)
        for label, (fake, real, count) in counters.class_pairs.items()
        if count >= ENOUGH_PAIRS
    }


def _add_pairs(
    before: dict[str, list[float]], real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor]
) -> dict[str, list[float]]:
    """Return ``before`` with the pairs of a batch, each only with others of its batch and class.

    Real images and fakes are rows and their classes, equally many of each class.

    A batch with enough pairs of a class speaks for itself. One with fewer is filled up from those before:
    all of them lose weight evenly, so the sums forget exponentially. A class of 5% has some 5 pairs in a
    batch of 64, and is judged on its last 17 checks.
    """
    kept = dict(before)
    for label in real[1].unique().tolist():
        fakes, reals = (torch.pdist(rows[labels == label]) for rows, labels in (fake, real))
        sums, count = (float(fakes.sum()), float(reals.sum())), float(len(fakes))
        if not all(map(math.isfinite, sums)):
            continue
        *old, many = before.get(str(label), [0.0, 0.0, 0.0])
        missing = min(many, max(0.0, ENOUGH_PAIRS - count))
        share = missing / many if many else 0.0
        kept[str(label)] = [new + share * past for new, past in zip(sums, old, strict=True)] + [
            count + missing
        ]
    return kept


def findings(
    check: Check,
    numbers: dict[str, float],
    counters: Counters,
    images_seen: int,
    progress: float = 0.0,
    quarter: int = LONGEST_HISTORY,
) -> set[str]:
    """Return which detectors fire on this check, before persistence; remembers figures in ``counters``.

    Args:
        check: of the last batch.
        numbers: means since the last check.
        counters: of the run.
        images_seen: so far.
        progress: share of the budget that is spent.
        quarter: checks in a quarter of the run.
    """
    fired: set[str] = set()
    penalty = numbers.get("penalty", 0.0)
    if _is_diverging(check, numbers, counters.step):
        fired.add("divergence")
    # Before the first good checkpoint the way back leads to the start, and slow starters recover alone: they
    # are given that time anew when they are led there.
    warm_up = WARM_UP_IMAGES if counters.good_step else counters.restarted_images + 3 * WARM_UP_IMAGES
    if images_seen > warm_up:
        if is_narrow(check):
            fired.add("collapse")
        if penalty > STEEP_PENALTY:
            fired.add("steep-critic")
        if _is_won(check, counters.spreads):
            fired.add("critic-wins")
        if progress > 0.5 and _is_blowing_up(check, penalty, counters.history):
            fired.add("late-blow-up")
    if _is_over_fit(numbers, counters) and images_seen > OVERFIT_IMAGES:
        fired.add("over-fit")
    if check.spread is not None and check.pair_accuracy is not None:
        counters.spreads = [*counters.spreads, check.spread][-MEMORY:]
        row = [round(value, 6) for value in (penalty, check.pair_accuracy, check.spread)]
        counters.history = [*counters.history, row][-min(quarter, LONGEST_HISTORY) :]
    return fired


def is_narrow(check: Check) -> bool:
    """Return whether the fakes lie less than half as far apart as real images, or a third in one class."""
    spreads = ((check.spread, NARROW), (check.class_spread, NARROW_CLASS))
    return any(spread is not None and spread < least for spread, least in spreads)


def _is_diverging(check: Check, numbers: dict[str, float], step: int) -> bool:
    """Return whether a figure is no number, or two orders above what healthy runs show."""
    penalty, gap = numbers.get("penalty", 0.0), 0.0 if check.gap is None else check.gap
    losses = [abs(value) for name, value in numbers.items() if name.endswith("_loss")]
    spread, loss = 1.0 if check.spread is None else check.spread, max(losses, default=0.0)
    if not all(map(math.isfinite, (gap, penalty, spread, *losses))):
        return True
    return step > 10 and (gap > 50 or penalty > 1000 or spread > 3 or loss > LARGEST_LOSS)


def _is_won(check: Check, before: list[float]) -> bool:
    """Return whether the critic tells every pair apart while the fakes grow alike."""
    if check.pair_accuracy is None or check.spread is None or len(before) < MEMORY:
        return False
    return check.pair_accuracy > 0.97 and check.spread < 0.9 * statistics.fmean(before)


def _is_blowing_up(check: Check, penalty: float, history: list[list[float]]) -> bool:
    """Return whether penalty or pairs left their own past while the fakes grow alike."""
    if check.spread is None or len(history) < 2 * MEMORY:
        return False
    penalties, pairs, spreads = (list(column) for column in zip(*history, strict=True))
    usual = statistics.median(penalties)
    low, high = PAIRS_IN_HEALTH
    is_off = (usual > 0 and penalty > BLOW_UP * usual) or not low <= statistics.fmean(pairs[-MEMORY:]) <= high
    return is_off and check.spread < 0.9 * statistics.fmean(spreads)


def _is_over_fit(numbers: dict[str, float], counters: Counters) -> bool:
    """Return whether, over some checks, held-out images look as unreal to the critic as fakes do.

    Karras et al. 2020, equation 1, r_v = (E D(train) - E D(held out)) / (E D(train) - E D(fake)). The ratio
    is noise where the critic can hardly tell real from fake, so the difference must also stand out.
    """
    if "held_out_gap" not in numbers:
        return False
    row = [numbers[name] for name in ("held_out_gap", "held_out_error", "fake_gap")]
    counters.overfits = [*counters.overfits, row][-MEMORY:]
    if len(counters.overfits) < MEMORY:
        return False
    gap, error, fake = (statistics.fmean(column) for column in zip(*counters.overfits, strict=True))
    return gap > 2 * error and gap > OVERFIT_SHARE * fake


def persistent(fired: set[str], counters: Counters, is_good: bool = True) -> list[str]:
    """Return the detectors that fired often enough in a row to act now, and count on in ``counters``.

    Args:
        fired: by this check.
        counters: of the run.
        is_good: whether the state may count as clean; in the warm-up one may not, though nothing fires.
    """
    counters.streaks = {name: counters.streaks.get(name, 0) + 1 for name in sorted(fired)}
    counters.clean_checks = counters.clean_checks + 1 if is_good and not fired else 0
    acting = [name for name, streak in counters.streaks.items() if streak >= PERSISTENCE[name]]
    for name in acting:
        counters.streaks[name] = 0
    return acting


def has_stalled(counters: Counters) -> bool:
    """Return whether a quarter of the run changed nothing in samples that are too alike: spread under 0.8."""
    if len(counters.sketches) < SKETCHES:
        return False
    first, last = counters.sketches[0], counters.sketches[-1]
    moved = max(abs(a - b) for a, b in zip(first[1:], last[1:], strict=True)) / 255
    return last[0] < 0.8 and abs(last[0] - first[0]) < 0.01 * last[0] and moved < 0.01


def sketch(samples: np.ndarray, real: np.ndarray) -> list[float]:
    """Return the samples' spread over the real images', then their mean image in 4 x 4 parts, 0 to 255.

    Both ``(N, C, H, W)`` uint8, equally many of each class.
    """
    mean = samples.astype(np.float32).mean(axis=(0, 1))
    parts = [part.mean() for band in np.array_split(mean, 4) for part in np.array_split(band, 4, axis=1)]
    return [spread(samples, real), *(round(float(part), 3) for part in parts)]


def spread(samples: np.ndarray, real: np.ndarray) -> float:
    """Return the mean pairwise distance of samples over that of real images, both ``(N, C, H, W)`` uint8."""
    rows, real_rows = (torch.from_numpy(x.reshape(len(x), -1).astype(np.float32)) for x in (samples, real))
    return round(_mean_distance(rows) / max(_mean_distance(real_rows), 1e-12), 5)


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
