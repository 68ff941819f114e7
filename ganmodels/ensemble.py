"""Several generators that share one budget. Each is a run of its own; together they make the set, in turn.

A generator of a few thousand images learns fast what it can, and then learns them by heart: after some forty
epochs another one, from other chances, brings more than going on. What each gets wrong is its own, so errors
that all samples of one generator share are shared by 1 / K of the set: Wang, Zhang & van de Weijer,
"Ensembles of generative adversarial networks", 2016. ``docs/benchmarks.md`` has what it brings here.

The folder of such a run has a folder for each member, laid out like any run, and at the top what they have in
common: ``identity.json``, all their statistics one after the other, and the newest sheet.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from phantomset.data.errors import ModelError
from phantomset.data.seeds import seed_of
from phantomset.data.workspace import write_atomically
from phantomset.ganmodels import checkpoint
from phantomset.ganmodels.family import Family
from phantomset.ganmodels.plan import Progress, TrainingPlan

MOST = 4
"""Members that are chosen unasked."""

MEMBER_IMAGES = 100_000
"""Images that a member is shown at least, where the number of members is not asked for."""

MEMBER_EPOCHS = 40
"""How often a member may see each training image at most, where the number of members is not asked for.

Of 2,913 patients the gate let a set through after 34 times, and blocked it after 69: ``docs/benchmarks.md``.
"""


def member_count(plan: TrainingPlan, family: Family, images: int) -> int:
    """Return how many generators share the plan's budget, when there are ``images`` to learn.

    Raises:
        ModelError: several are asked for of a family that translates, or their shares are less than a batch.
    """
    if plan.members is None and plan.privacy is not None:
        return 1  # each would spend epsilon anew
    if plan.members is None:
        wanted = math.ceil(plan.budget_images / (MEMBER_EPOCHS * images)) if images else MOST
        return max(1, min(MOST, wanted, plan.budget_images // MEMBER_IMAGES)) if family.sample else 1
    if plan.members > 1 and family.sample is None:
        raise ModelError(f"{family.name}: translates, and that is for one member. Leave out model.members.")
    if plan.budget_images < plan.members * plan.batch_size:
        raise ModelError(
            f"{family.name}: a budget of {plan.budget_images} images is less than a batch of "
            f"{plan.batch_size} for each of {plan.members} members. Lower model.members or raise the budget."
        )
    return plan.members


def member_plan(plan: TrainingPlan, member: int) -> TrainingPlan:
    """Return the plan of one of ``plan.members``: an equal share of the budget, a seed of its own."""
    share = plan.budget_images // (plan.members or 1)
    seed = seed_of(plan.seed, "member", member)
    return replace(plan, budget_images=share, seed=seed, members=1)


def train_in_turn(
    plan: TrainingPlan, folder: Path, train: Callable[[TrainingPlan, Path], Iterator[Progress]]
) -> Iterator[Progress]:
    """Train the members one after the other, each with all threads; yield where the whole stands."""
    count = plan.members or 1
    seen = 0
    for member, part in enumerate(checkpoint.member_folders(folder, count)):
        own = member_plan(plan, member)
        total = count * own.steps * own.batch_size
        for step in train(own, part):
            left = total - seen - step.images_seen
            yield replace(
                step,
                images_seen=seen + step.images_seen,
                budget_images=total,
                seconds_left=left / step.images_per_second if step.images_per_second > 0 else 0.0,
                events=tuple(checkpoint.told_of(event, member, count) for event in step.events),
                done=step.done and member == count - 1,
            )
        seen += own.steps * own.batch_size
        _gather(folder, count, seen)


def _gather(folder: Path, count: int, seen: int) -> None:
    """Write the statistics of all members so far as those of one run, and the newest sheet."""
    lines: list[dict[str, Any]] = []
    for member, part in enumerate(checkpoint.member_folders(folder, count)):
        start = lines[-1]["images"] if lines else 0
        own = checkpoint.read_statistics(part)
        lines += [line | {"images": start + line["images"], "member": member} for line in own]
        sheets = sorted((part / "grids").glob("*.png"))
        if sheets:
            newest = sheets[-1].read_bytes()
            grids = folder / "grids"
            grids.mkdir(mode=0o700, exist_ok=True)
            write_atomically(grids / f"{seen:09d}.png", newest, mode=0o600)
    text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines)
    write_atomically(folder / "train.jsonl", text.encode(), mode=0o600)
