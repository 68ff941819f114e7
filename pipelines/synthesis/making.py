"""Training and sampling of one recipe, each result under the digest of everything that decides it."""

import contextlib
import json
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from phantomset.data import catalogue
from phantomset.data.digest import digest_of
from phantomset.data.errors import ModelError, WorkspaceError
from phantomset.data.ingest import require_classes
from phantomset.data.keys import pseudonym
from phantomset.data.records import Checkpoint, Cohort, ImageSet, ImageSpec, Split, SyntheticSet
from phantomset.data.seeds import seed_of, stream
from phantomset.data.store.training_cache import image_set
from phantomset.data.workspace import Workspace, write_json
from phantomset.pipelines.compute import Machine, steadier
from phantomset.pipelines.draft import set_digest
from phantomset.pipelines.recipe import FAMILIES, Recipe
from phantomset.pipelines.synthesis import sets
from phantomset.pipelines.synthesis.wanted import require_known, wanted_labels
from phantomset.pipelines.versions import code_digest

if TYPE_CHECKING:
    from phantomset.ganmodels.engine import Progress
    from phantomset.ganmodels.family import Family, FamilySettings
    from phantomset.ganmodels.plan import PrivacyPlan
    from phantomset.validators.weights import Weights

NAME = 16
"""Digits of a digest that name a folder: short enough to read, and 2**64 is still enough."""

FEWEST_HELD_OUT = 8
"""Images below which nothing can be said of the critic."""

PROBE_SECONDS = 1.0
"""How long a number of threads is tried before training."""


def require_fit(recipe: Recipe, cohort: Cohort, split: Split) -> None:
    """Hold, before anything is trained, that the recipe's model and classes fit the cohort.

    Raises:
        SourceError: no labels, or one class.
        ModelError: the family cannot be trained on these images by this plan, or a class is asked for that
            the cohort does not have.
        RecipeError: weights of an extractor are missing, or are not those that the recipe names.
    """
    from phantomset.ganmodels import engine

    require_sampling(recipe)
    require_classes(cohort)
    require_known(recipe, cohort.label_names)
    unknown = sorted(set(recipe.gate.leave_out) - set(cohort.label_names))
    if unknown or len(cohort.label_names) - len(recipe.gate.leave_out) < 1:
        raise ModelError(
            f"gate.leave_out: names {', '.join(map(repr, unknown)) or 'every class'}; the source has "
            f"{', '.join(cohort.label_names)}, and one at least must remain"
        )
    _require_subgroups(recipe, cohort)
    learned, _ = learned_and_held_out(recipe, cohort, split)
    labels = np.array([cohort.records[position].label for position in learned], dtype=np.int64)
    _, patients = np.unique([cohort.records[each].subject for each in learned], return_inverse=True)
    # The engine asks for labels, patients and shapes; a broadcast zero has the shape and no memory.
    shapes = np.broadcast_to(np.uint8(0), (len(labels), *cohort.spec.shape))
    seen = ImageSet(shapes, labels, patients, cohort.label_names)
    engine.check(seen, recipe.model.family, settings_of(recipe), asked(recipe, None, split))
    if recipe.gate.extractors:
        from phantomset.validators.weights import load

        for brought in weights_of(recipe):
            load(brought)


def _require_subgroups(recipe: Recipe, cohort: Cohort) -> None:
    """Hold that each attribute that is there for the gate alone makes subgroups.

    Raises:
        ModelError: it has one value, or more than the gate looks at.
    """
    from phantomset.validators.subgroups import MOST_VALUES

    for name in recipe.gate.subgroups:
        values = {record.attributes.get(name, "") for record in cohort.records} - {""}
        if not 2 <= len(values) <= MOST_VALUES:
            raise ModelError(
                f"gate.subgroups: {name!r} has {len(values)} value{'s' * (len(values) != 1)}, and the gate "
                f"looks at the patients of each of 2 to {MOST_VALUES} apart. Cut numbers by source.bands, or "
                "leave it out of source.attributes."
            )


def require_size(recipe: Recipe) -> None:
    """Hold, before anything is read, that the recipe's family makes images of the recipe's size.

    Raises:
        ModelError: it cannot.
    """
    family = cast("Family", catalogue.load(FAMILIES, recipe.model.family))
    spec = recipe.image.spec
    stacked = ImageSpec(spec.channels * family.stacks, spec.height, spec.width)
    reason = family.check(settings_of(recipe), stacked)
    if reason:
        raise ModelError(f"{family.name}: {reason}")


def require_sampling(recipe: Recipe) -> None:
    """Refuse a family that only translates: after its training there would be nothing to make.

    Raises:
        ModelError: it makes no images from nothing.
    """
    family = recipe.model.family
    if catalogue.load(FAMILIES, family).sample is None:
        raise ModelError(
            f"{family}: translates images and makes none from nothing. Use `phantomset translate`, or "
            "another model.family."
        )


def weights_of(recipe: Recipe) -> "tuple[Weights, ...]":
    """Return the extractors whose weights the recipe names, for the gate."""
    from phantomset.validators.weights import Weights

    return tuple(
        Weights(path=each.weights, **each.model_dump(exclude={"weights"})) for each in recipe.gate.extractors
    )


def learned_and_held_out(
    recipe: Recipe, cohort: Cohort, split: Split
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return which of the training part's records are learned, and which only watch the critic.

    Whole groups are held out, about ``model.held_out_share`` of the images; none where a class would be left
    with under nine tenths of its images or fewer than the engine asks for, or where fewer than eight images
    in all could be spared. None under differential privacy either: what they show would tell of the training
    images beside them.
    """
    from phantomset.ganmodels.engine import FEWEST_IMAGES

    if recipe.model.privacy is not None:
        return split.train, ()
    groups: dict[str, list[int]] = {}
    for position in split.train:
        groups.setdefault(cohort.records[position].group, []).append(position)
    labels = [cohort.records[position].label for position in split.train]
    counts = np.bincount(labels, minlength=len(cohort.label_names))
    spare = np.minimum(counts // 10, np.maximum(counts - FEWEST_IMAGES, 0))
    wanted, held = recipe.model.held_out_share * len(split.train), list[int]()
    names = sorted(groups)
    for place in stream(recipe.seed, "held-out").permutation(len(names)):
        members = groups[names[place]]
        own = np.bincount([cohort.records[each].label for each in members], minlength=len(spare))
        if len(held) + len(members) <= wanted and (own <= spare).all():
            held += members
            spare -= own
    if len(held) < FEWEST_HELD_OUT:
        return split.train, ()
    watching = set(held)
    return tuple(each for each in split.train if each not in watching), tuple(sorted(held))


def checkpoint_folder(recipe: Recipe, workspace: Workspace, split: Split) -> Path:
    """Return where the training of this recipe on this split lies, finished or not."""
    key = digest_of("train", code_digest("ganmodels"), split.digest, recipe.model, recipe.seed)
    return workspace.restricted("checkpoints", key[:NAME])


def train(
    recipe: Recipe,
    workspace: Workspace,
    machine: Machine,
    cohort: Cohort,
    split: Split,
    watch: Callable[[Any], None],
) -> tuple[Checkpoint, bool]:
    """Return the trained generator, and whether it was trained now.

    Raises:
        ModelError: the family cannot train on this data.
        Interrupted: stopped from outside; what was reached is saved.
    """
    from phantomset.ganmodels import checkpoint, engine

    folder = checkpoint_folder(recipe, workspace, split)
    learned, held = learned_and_held_out(recipe, cohort, split)

    def finished() -> Checkpoint:
        found = checkpoint.finished_checkpoint(folder)
        return replace(found, events=(*_unwatched(recipe, held), *found.events))

    if checkpoint.is_finished(folder):
        checkpoint.require_run(folder, spec=list(cohort.spec.shape), **run_of(recipe, split))
        return finished(), False
    images = image_set(workspace, cohort, learned)
    held_out = image_set(workspace, cohort, held) if held else None
    model = recipe.model
    plan = plan_of(recipe, machine, images, folder, split)
    progress = engine.train(images, model.family, settings_of(recipe), plan, folder, machine.device, held_out)
    # On any way out the engine saves where it stands.
    with contextlib.closing(cast("Generator[Progress]", progress)):
        for step in progress:
            watch(step)
    return finished(), True


def run_of(recipe: Recipe, split: Split) -> dict[str, Any]:
    """Return what the identity of this recipe's training on this split holds: the split names the images."""
    plan = asked(recipe, None, split)
    wanted = {"family": recipe.model.family, "settings": settings_of(recipe).model_dump(mode="json")}
    return wanted | {key: getattr(plan, key) for key in ("split", "held_out_share", "seed", "batch_size")}


def not_watched() -> dict[str, Any]:
    """Return the event that nothing looks for over-fitting: silence would pass for health."""
    from phantomset.ganmodels import recovery

    message = "no images are held out, so nothing shows whether the critic over-fits"
    return recovery.event("not-watched", 0, message)


def _unwatched(recipe: Recipe, held_out: tuple[int, ...]) -> tuple[dict[str, Any], ...]:
    """Return that event where there is a critic that should be watched."""
    family = cast("Family", catalogue.load(FAMILIES, recipe.model.family))
    is_told = not held_out and recipe.model.privacy is None and family.has_critic(settings_of(recipe))
    return (not_watched(),) if is_told else ()


def plan_of(recipe: Recipe, machine: Machine, images: ImageSet, folder: Path, split: Split) -> Any:
    """Return the engine's plan. Minutes become images once, and the number is kept beside the checkpoints."""
    from phantomset.ganmodels import engine

    model = recipe.model
    plan = asked(recipe, machine.threads, split)
    stored = folder / "budget.json"
    if stored.exists():
        try:
            kept = json.loads(stored.read_bytes())
            threads = None if kept["threads"] is None else int(kept["threads"])
            return replace(plan, budget_images=int(kept["budget_images"]), threads=threads)
        except (ValueError, KeyError, TypeError):
            raise ModelError(f"checkpoint: {stored} is damaged. Remove its folder to train anew.") from None

    def speed(threads: int, seconds: float) -> float:
        probed = replace(plan, threads=threads)
        return engine.images_per_second(
            images, model.family, settings_of(recipe), probed, machine.device, seconds
        )

    plan = replace(plan, threads=steadier(machine, lambda threads: speed(threads, PROBE_SECONDS)))
    if model.budget.minutes is not None:
        plan = replace(plan, budget_images=images_to_show(recipe, speed(plan.threads, 5.0)))
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        write_json(stored, {"budget_images": plan.budget_images, "threads": plan.threads}, mode=0o600)
    except OSError as error:
        raise WorkspaceError(f"checkpoint: cannot write to {folder} ({error.strerror})") from None
    return plan


def images_to_show(recipe: Recipe, speed: float) -> int:
    """Return the budget in images at ``speed`` images a second: of images and minutes what ends first."""
    from phantomset.ganmodels import engine

    budget, batch = recipe.model.budget, recipe.model.batch_size
    if budget.minutes is None:
        return budget.images or batch
    lasts = engine.budget_images(budget.minutes, speed, batch)
    return min(lasts, budget.images or lasts)


def asked(recipe: Recipe, threads: int | None, split: Split) -> Any:
    """Return the plan as the recipe asks for it; minutes alone stand at one batch until they are probed."""
    from phantomset.ganmodels.plan import TrainingPlan

    model = recipe.model
    return TrainingPlan(
        budget_images=model.budget.images or model.batch_size,
        batch_size=model.batch_size,
        seed=seed_of(recipe.seed, "train"),
        precision=model.precision,
        augment=model.augment,
        class_sampling=model.class_sampling,
        members=model.members,
        threads=threads,
        split=split.digest,
        held_out_share=model.held_out_share,
        privacy=privacy_of(recipe),
    )


def privacy_of(recipe: Recipe) -> "PrivacyPlan | None":
    """Return the plan of differential privacy. Its noise follows from the project key: a recipe is public."""
    from phantomset.ganmodels.plan import PrivacyPlan

    wanted = recipe.model.privacy
    if wanted is None:
        return None
    return PrivacyPlan(**wanted.model_dump(), secret=int(pseudonym("noise", "training"), 16))


def settings_of(recipe: Recipe) -> "FamilySettings":
    """Return the family's settings by their own type: the recipe validated them by it."""
    return cast("FamilySettings", recipe.model.settings)


def generate(
    recipe: Recipe,
    workspace: Workspace,
    machine: Machine,
    cohort: Cohort,
    split: Split,
    checkpoint: Checkpoint,
) -> tuple[SyntheticSet, bool]:
    """Return the labelled synthetic set, and whether it was made now."""
    from phantomset.ganmodels.generate import Look
    from phantomset.ganmodels.generate import generate as sample

    key = digest_of("generate", code_digest("ganmodels"), checkpoint.digest, recipe.generate, recipe.seed)
    folder = workspace.restricted("synthetic", key[:NAME])
    if folder.exists():
        return sets.load_noun(folder), False
    real = np.array([cohort.records[position].label for position in split.train], dtype=np.int64)
    labels = wanted_labels(recipe, cohort.label_names, real)
    seed = seed_of(recipe.drawn_by, "generate")
    look = Look(truncation=recipe.generate.truncation)
    images = sample(checkpoint_folder(recipe, workspace, split), labels, seed, machine.device, look)
    if recipe.generate.through is not None:
        from phantomset.pipelines.synthesis.translation import require_own, through

        require_own(recipe, workspace, cohort, split)
        images = through(workspace, recipe.generate.through, images, machine.device)
    made = ImageSet(images, labels, np.full(len(labels), -1, dtype=np.int64), cohort.label_names)
    noun = SyntheticSet(set_digest(made), checkpoint.digest, seed, len(labels), cohort.label_names)
    sets.store(workspace, folder, made, noun)
    return noun, True


def curve(folder: Path) -> tuple[dict[str, Any], ...]:
    """Return the rows of the training's statistics in order, each with ``images_seen``."""
    from phantomset.ganmodels.checkpoint import read_statistics

    return tuple({"images_seen": line["images"]} | line for line in read_statistics(folder))
