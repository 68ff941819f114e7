"""What a recipe's training needs of a machine, before anything is read: its speed, memory and disk."""

from typing import TYPE_CHECKING

import numpy as np

from phantomset.data import catalogue
from phantomset.data.records import ImageSet
from phantomset.data.seeds import stream
from phantomset.pipelines.compute import Machine
from phantomset.pipelines.recipe import FAMILIES, Recipe
from phantomset.pipelines.synthesis import making

if TYPE_CHECKING:
    from phantomset.ganmodels.engine import Probe


def probe(recipe: Recipe, machine: Machine) -> "Probe":
    """Return a recipe's training speed on this machine now, and what it needs, tried on images of noise."""
    from phantomset.ganmodels import engine
    from phantomset.ganmodels.plan import TrainingPlan

    model, spec = recipe.model, recipe.image.spec
    count = max(64, 2 * model.batch_size)
    noise = stream(0, "speed").integers(0, 256, (count, *spec.shape), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % 2
    images = ImageSet(noise, labels, np.arange(count), ("a", "b"))
    if recipe.translate is not None:
        from phantomset.pipelines.synthesis.translation_sets import blank_training_set

        images = blank_training_set(recipe.translate, images)
    plan = TrainingPlan(
        64,
        model.batch_size,
        precision=model.precision,
        augment=model.augment,
        threads=machine.threads,
        privacy=making.privacy_of(recipe),
    )
    return engine.probe(images, model.family, making.settings_of(recipe), plan, machine.device, seconds=3.0)


def training_seconds(recipe: Recipe, found: "Probe", images: int) -> float:
    """Return how long a training of so many images takes by a probe, with the samples that it looks at.

    Each member draws a contact sheet at each of its checkpoints and at its end, and once what its spectrum is
    told by. How many classes there are is not known yet, so the last look at each (14 samples) is not in it.
    """
    from phantomset.ganmodels.generate import CHUNK
    from phantomset.ganmodels.plan import TrainingPlan
    from phantomset.ganmodels.samples import SPECTRUM_SAMPLES

    members = most_members(recipe, images)
    plan = TrainingPlan(max(1, images // members), recipe.model.batch_size)
    sheets = -(-plan.steps // plan.checkpoint_steps)
    drawn = members * (sheets * CHUNK + SPECTRUM_SAMPLES)
    return images / found.images_per_second + drawn * found.draw_seconds


def most_members(recipe: Recipe, budget_images: int) -> int:
    """Return how many generators may share the budget: the images to learn are not counted yet."""
    from phantomset.ganmodels.ensemble import member_count
    from phantomset.ganmodels.plan import TrainingPlan

    model = recipe.model
    if model.privacy is not None:
        return 1
    plan = TrainingPlan(budget_images, model.batch_size, members=model.members)
    return member_count(plan, catalogue.load(FAMILIES, model.family), images=0)


def checkpoints_on_disk(members: int) -> int:
    """Return how many lie on disk as a rule while the last member trains.

    Of each that is finished the newest two; of the one that trains the best or the last good as well.
    """
    return 2 * members + 1
