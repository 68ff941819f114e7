"""Schedules over the share of the budget that is spent: what a number is at progress 0, 1 and between."""

import math


def cosine(start: float, end: float, progress: float) -> float:
    """Return the half-cosine path from ``start`` (progress 0) to ``end`` (progress 1), flat at both ends.

    Loshchilov & Hutter, "SGDR", ICLR 2017, equation 5, one cycle. Progress outside [0, 1] is clipped.
    """
    share = min(max(progress, 0.0), 1.0)
    return end + (start - end) * (1.0 + math.cos(math.pi * share)) / 2.0
