"""What is held before training: that it can be done, that it ends in a set, that the plan is the plan."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phantomset.data.errors import InputError, ModelError
from phantomset.data.records import Cohort, ImageSpec, Record, Split
from phantomset.ganmodels.engine import FEWEST_IMAGES, Probe
from phantomset.pipelines import stages
from phantomset.pipelines.cli import launch
from phantomset.pipelines.recipe import Recipe
from phantomset.pipelines.recipes.recipe_file import RecipeFile
from phantomset.pipelines.stages import Job
from phantomset.pipelines.synthesis import making, needs
from phantomset.pipelines.synthesis.wanted import require_known


def cohort_of(*counts: int) -> tuple[Cohort, Split]:
    """Return a cohort with so many images of each class, all of them to train on, each its own patient."""
    labels = np.repeat(np.arange(len(counts)), counts)
    records = tuple(
        Record(f"d{place}", f"o{place}", int(label), f"s{place}", f"g{place}")
        for place, label in enumerate(labels)
    )
    names = tuple(f"class {label}" for label in range(len(counts)))
    cohort = Cohort("c", ImageSpec(1, 8, 8), names, records, len(records), {}, {}, has_patients=True)
    return cohort, Split("s", "c", tuple(range(len(records))), (), ())


def test_a_class_of_sixteen_is_not_held_out(small: Callable[..., Recipe]) -> None:
    """Whatever the seed, each class keeps the 16 images that the engine asks for, and what is required before
    training is what is learned: 16 and 200 images train."""
    cohort, split = cohort_of(FEWEST_IMAGES, 200)
    for seed in range(40):
        recipe = small(seed=seed)
        learned, held = making.learned_and_held_out(recipe, cohort, split)
        counts = np.bincount([cohort.records[place].label for place in learned])
        assert counts.tolist() == [FEWEST_IMAGES, 200 - len(held)]
        assert len(held) == 10
        making.require_fit(recipe, cohort, split)


def test_a_set_too_small_to_hold_out_of_says_so(
    job: Callable[..., Job], small: Callable[..., Recipe]
) -> None:
    """Under eight images to hold out nothing looks for over-fitting: an event says it, with advice, also when
    the training is found again."""
    recipe = small(model={"held_out_share": 0.0, "budget": {"images": 80}, "batch_size": 40})
    for _ in range(2):
        outcome = stages.run(job(recipe), "train")
        assert outcome.checkpoint is not None
        (event,) = outcome.checkpoint.events
        assert (event["code"], event["images"]) == ("not-watched", 0)
        assert "more images" in event["advice"]
    watched = stages.run(job(), "train").checkpoint
    assert watched is not None
    assert watched.events == ()


@pytest.mark.parametrize(("family", "has_critic"), [("r3gan", True), ("vae", False), ("diffusion", False)])
def test_only_a_critic_is_watched(small: Callable[..., Recipe], family: str, has_critic: bool) -> None:
    """A family without a critic has none that could over-fit, and held-out images are what watches one."""
    recipe = small(model={"family": family})
    assert bool(making._unwatched(recipe, ())) == has_critic
    assert making._unwatched(recipe, (1, 2)) == ()


@pytest.mark.parametrize(("family", "classes"), [("cyclegan", 2), ("pix2pix", 1)])
def test_a_family_that_translates_is_refused_before_training(
    small: Callable[..., Recipe], family: str, classes: int
) -> None:
    """It makes no images from nothing: there would be no set after hours of training."""
    cohort, split = cohort_of(*[40] * classes)
    with pytest.raises(ModelError, match=f"{family}: translates images and makes none.*phantomset translate"):
        making.require_fit(small(model={"family": family}), cohort, split)


@pytest.mark.parametrize(
    ("budget", "images"),
    [
        ({"images": 40_000_000, "minutes": 1}, 60_000),
        ({"images": 1_000, "minutes": 1}, 1_000),
        ({"minutes": 1}, 60_000),
        ({"images": 1_000}, 1_000),
    ],
)
def test_a_budget_ends_with_what_is_spent_first(
    small: Callable[..., Recipe],
    budget: dict[str, float],
    images: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """At 1,000 images a second a minute is 60,000 images; the estimate says what the training will do."""
    recipe = small(model={"budget": budget, "batch_size": 40})
    assert making.images_to_show(recipe, 1_000.0) == images
    monkeypatch.setattr(needs, "probe", lambda *_: Probe(1_000.0, 1, 1))
    told = launch.dry_run(RecipeFile(recipe, ()), launch.Machinery(tmp_path / "place", "cpu", 1))
    assert told["training"].startswith(f"{images:,} images at about 1,000 images/s")


def test_a_slow_sampler_is_in_the_time_of_training(small: Callable[..., Recipe]) -> None:
    """12,800 images are 200 steps with a sheet of 64 at every 20th, and 512 images show the spectrum at last:
    at 100 images a second and a twentieth of a second an image, 128 + (10 x 64 + 512) / 20 seconds."""
    recipe = small(model={"budget": {"images": 12_800}, "batch_size": 64, "members": 1})
    assert needs.training_seconds(recipe, Probe(100.0, 1, 1, 0.05), 12_800) == pytest.approx(128 + 57.6)


TRANSLATES = {
    "model": {"family": "pix2pix", "batch_size": 16, "budget": {"images": 64}, "settings": {"width": 8}},
    "translate": {"task": "denoise"},
}


PRIVATE = {
    "family": "r3gan",
    "batch_size": 16,
    "budget": {"images": 64},
    "privacy": {"noise_multiplier": 1.0},
}


@pytest.mark.parametrize(
    ("changes", "until", "told", "refused"),
    [
        ({}, "publish", ["training", "set"], ""),
        ({}, "generate", ["training", "set"], ""),
        ({}, "train", ["training"], ""),
        ({}, "ingest", [], ""),
        ({}, "translate", [], "no section translate"),
        (TRANSLATES, "publish", [], "never published"),
        (TRANSLATES, "translate", ["training"], ""),
        ({"model": PRIVATE, "generate": {"count": 30, "classes": "uniform"}}, "train", ["training"], ""),
        ({"generate": {"count": 30, "through": "f" * 16}}, "generate", [], "no translation 'f{16}'"),
    ],
    ids=str,
)
def test_the_estimate_is_of_what_will_be_done(
    small: Callable[..., Recipe],
    tmp_path: Path,
    changes: dict[str, object],
    until: Any,
    told: list[str],
    refused: str,
) -> None:
    """A run's makes a set, a translation's does not; either refuses the other's recipe; nothing is made."""
    recipe = small(**changes)
    asked = RecipeFile(recipe, ()), launch.Machinery(tmp_path / "place", "cpu", 1), until
    if refused:
        with pytest.raises(InputError, match=refused):
            launch.dry_run(*asked)
        return
    answer = launch.dry_run(*asked)
    assert [name for name in answer if name in ("training", "set")] == told
    assert answer.get("training", "").startswith(f"{recipe.model.budget.images} images" if told else "")
    assert not (tmp_path / "place").exists()


def test_exact_numbers_and_a_condition_that_excludes_them(small: Callable[..., Recipe]) -> None:
    """One normal and nine with pneumonia, of the normal ones only: refused. Shares are shared out anew."""
    names, where = ("normal", "pneumonia"), {"label": "normal"}
    asked = {"count": 10, "classes": {"normal": 1, "pneumonia": 9}, "where": where}
    with pytest.raises(ModelError, match=r"9 of 'pneumonia', which generate\.where leaves out"):
        require_known(small(generate=asked), names)
    for classes in ({"normal": 10, "pneumonia": 0}, {"normal": 0.1, "pneumonia": 0.9}, "uniform"):
        recipe = small(generate=asked | {"classes": classes})
        require_known(recipe, names)
        labels = making.wanted_labels(recipe, names, np.array([0, 1]))
        assert labels.tolist() == [0] * 10
