"""The ladder of what to do about failing training, and what the user is told.

Rung 0 skips a batch without finite numbers (`Stepper`). Rung 1 makes the critic's work harder. Rung 2 goes
back to the last good state with smaller steps and a stronger penalty; from the third time on with fresh
moments, a shorter memory and two batches a step, from the fifth in float32 with penalties at every step.
After the eighth the run ends with the best state that it had.
"""

import math
from typing import Any

from phantomset.ganmodels.family import Family
from phantomset.ganmodels.state import Counters

MOST_ROLL_BACKS = 8
"""After so many the run is given up."""

FRESH_FROM, CAREFUL_FROM = 3, 5
"""The roll-back from which moments start anew, and that from which numbers are exact."""

SHORT_MEMORY = 0.9
"""Largest beta2 once moments started anew."""

LARGER_BATCH = 2
"""Batches in a step once moments started anew: less noise in what they are made of."""

SHARE_STEP, LARGEST_SHARE = 0.1, 0.6
"""How much more is augmented at a time, and the most; below 0.8 nothing leaks (Karras et al. 2020)."""

STRONGEST_PENALTY = 4.0
"""Factor on the penalty to which rung 1 goes; roll-backs go on."""

SIGN_TARGET = 0.6
"""Mean sign of D(x) that the adaptive augmentation steers to: Karras et al. 2020, section 3.1."""

ADAPTIVE_IMAGES = 500_000
"""Images over which the adaptive share can go from 0 to 1, in a run that is as long; else the whole run."""

TOO_LATE = "too little of the run is left to go back: it ends as it is"

ADVICE = {
    "skipped-batch": "Usually a passing accident. If it comes again, lower the learning rate.",
    "divergence": "The engine went back to the last good state with a smaller learning rate. If it comes "
    "again, set a smaller one in model.settings.",
    "collapse": "The generator repeats itself; the engine went back, if enough of the run was left. If it "
    "comes again, {instead}, or give more images for each class.",
    "steep-critic": "The critic grew too steep; the engine went back, with smaller steps and a stronger "
    "penalty. If it comes again, give more images, a smaller budget, or a larger gamma_start.",
    "late-blow-up": "Late in the run the critic got away; the engine went back, holds the penalty where it "
    "was and asks for it at every step. If it comes again, use a smaller budget.",
    "critic-wins": "The critic tells every pair apart; the engine makes its work harder. If it stays, lower "
    "the critic's learning rate, or give more images.",
    "over-fit": "The critic knows the training images by heart; the engine makes its work harder. Give more "
    "images, or a smaller budget, and expect the privacy checks to look hard.",
    "not-watched": "With few images the critic soon knows them by heart. Give more images, or a larger "
    "model.held_out_share, and expect the privacy checks to look hard.",
    "stall": "Nothing changes any more and the samples are too alike. Stop, and {instead}, or a larger "
    "learning rate.",
    "narrow-samples": "The samples are far more alike than real images. Train longer, or {instead}.",
    "noise-drift": "The samples carry grain that real images lack. Once the engine goes back, and asks a "
    "family that has a gradient penalty for it at every step. If it comes again, use a smaller budget, or "
    "{instead}.",
    "out-of-memory": "The result is as good, but not equal to that of a run that had the memory; training is "
    "slower. A smaller model.batch_size or image.size_px needs less.",
    "given-up": "Do not publish from this run. Take smaller steps, or {instead}.",
    "not-bit-identical": "The result is as good, but not equal to that of a run that never stopped.",
    "damaged-checkpoint": "Check the disk.",
}
"""What to do about each event, in plain words."""

DEFAULT = "r3gan"
"""The family that others are sent to."""


def instead_of(family: Family) -> str:
    """Return what a user of the family may take instead."""
    if family.sample is None:
        return "use more images of each side"
    return "use its default settings" if family.name == DEFAULT else f"use family {DEFAULT} with its defaults"


def event(code: str, images_seen: int, message: str, instead: str = "") -> dict[str, Any]:
    """Return an event with its advice; ``instead`` is what `instead_of` says."""
    advice = ADVICE[code].format(instead=instead)
    return {"code": code, "images": images_seen, "message": message, "advice": advice}


def strengthen(counters: Counters, is_penalised: bool = True) -> str:
    """Take rung 1, and say so: more augmentation, and twice the penalty where the family has one."""
    counters.augment_share = min(LARGEST_SHARE, counters.augment_share + SHARE_STEP)
    if counters.penalty_scale < STRONGEST_PENALTY:
        counters.penalty_scale *= 2.0
    counters.overfits, counters.spreads = [], []
    said = f"augmentation + {counters.augment_share:g}"
    return f"{said}, penalty x {counters.penalty_scale:g}" if is_penalised else said


def climb(
    counters: Counters,
    step: int,
    gap: float,
    holds: float | None = None,
    can_grow: bool = True,
    is_penalised: bool = True,
) -> str:
    """Take the next rung of roll-backs, and say so.

    Args:
        counters: of the run.
        step: gone back to.
        gap: mean distance of real and fake scores; over 1,000 halving takes too many roll-backs.
        holds: progress at which the fall of gamma is held from now on, after a late blow-up.
        can_grow: a step may be made from more than one batch.
        is_penalised: the family has a gradient penalty; of one that has none nothing is said of it.
    """
    counters.roll_backs += 1
    counters.learning_rate_scale *= 0.1 if gap > 1000 else 0.25 if is_fresh(counters) else 0.5
    counters.penalty_scale *= 2.0
    counters.batches = LARGER_BATCH if is_fresh(counters) and can_grow else 1
    counters.clean_checks = 0
    counters.streaks, counters.class_pairs = {}, {}
    counters.spreads, counters.history, counters.overfits = [], [], []
    if holds is not None:
        counters.held_progress = min(holds, counters.held_progress or math.inf)
    said = [
        f"roll-back {counters.roll_backs} to step {step}: learning rate x {counters.learning_rate_scale:g}"
    ]
    said += [f"penalty x {counters.penalty_scale:g}"] if is_penalised else []
    said += ["fresh moments"] if is_fresh(counters) else []
    said += [f"batch x {counters.batches}"] if counters.batches > 1 else []
    said += ["penalty at every step"] if is_penalised and is_careful(counters) else []
    said += ["float32"] if counters.roll_backs >= CAREFUL_FROM else []
    return ", ".join(said)


def is_fresh(counters: Counters) -> bool:
    """Return whether a roll-back now drops the moments too."""
    return counters.roll_backs >= FRESH_FROM


def is_careful(counters: Counters) -> bool:
    """Return whether penalties are asked for at every step."""
    return counters.roll_backs >= CAREFUL_FROM or counters.held_progress is not None or counters.is_grain_met


def adapt(counters: Counters, sign: float, images: int, budget: int) -> None:
    """Move the adaptive share of augmented images, after ``images`` with a mean sign of D(x).

    A critic that is sure of its real images over-fits: the share rises; else it falls. Karras et al.,
    "Training generative adversarial networks with limited data", NeurIPS 2020, section 3.1.
    """
    step = images / min(ADAPTIVE_IMAGES, budget)
    moved = counters.augment_share + (step if sign > SIGN_TARGET else -step)
    counters.augment_share = min(LARGEST_SHARE, max(0.0, moved))
