"""A critic that knows its training images by heart is told by images that it has never seen."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from phantomset.data.records import ImageSet
from phantomset.ganmodels import checkpoint, stability
from phantomset.ganmodels.engine import train
from phantomset.ganmodels.families import cyclegan, pix2pix, r3gan
from phantomset.ganmodels.feed import Feed
from phantomset.ganmodels.plan import Progress, TrainingPlan
from phantomset.ganmodels.shards import Crew
from phantomset.ganmodels.step import Stepper

Noise = Callable[[int, int], ImageSet]


def _events(progress: Iterator[Progress]) -> list[dict[str, Any]]:
    return [event for report in progress for event in report.events]


def test_fifty_images_are_known_by_heart(noise: Noise, tmp_path: Path) -> None:
    """34 to learn, 16 held out: the critic over-fits, more is augmented, and the advice says why."""
    plan, settings = TrainingPlan(25_600, batch_size=16, threads=1), r3gan.Settings(gamma_start=0.1)
    progress = train(noise(34, 0), "r3gan", settings, plan, tmp_path, held_out=noise(16, 1))
    over_fit = [event for event in _events(progress) if event["code"] == "over-fit"]
    assert over_fit
    assert over_fit[0]["message"].startswith("augmentation + 0.1")
    assert "more images" in over_fit[0]["advice"]
    saved, _ = checkpoint.newest(tmp_path)
    assert saved is not None
    assert saved.counters["augment_share"] >= 0.1


def _pairs(images: ImageSet) -> ImageSet:
    """Pairs of images that have nothing to do with each other: a critic can but learn them by heart."""
    pairs = np.concatenate([images.images, images.images[::-1]], axis=1)
    return ImageSet(pairs, np.zeros(len(pairs), np.int64), images.patients, ("pair",))


@pytest.mark.parametrize(
    ("name", "settings", "budget"),
    [
        ("pix2pix", pix2pix.Settings(width=16), 19_200),
        ("cyclegan", cyclegan.Settings(width=4, blocks=1), 3_840),
        ("cyclegan", cyclegan.Settings(width=4, blocks=1, mode="contrastive"), 3_840),
    ],
    ids=["pix2pix", "cycle", "contrastive"],
)
def test_a_translator_s_critics_are_watched_too(
    noise: Noise,
    name: str,
    settings: pix2pix.Settings | cyclegan.Settings,
    budget: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """34 images that have nothing in common, or pairs of them, are known by heart, and that is told."""
    monkeypatch.setattr(stability, "OVERFIT_IMAGES", 2_000)
    learn, held_out = noise(34, 0), noise(16, 1)
    if name == "pix2pix":
        learn, held_out = _pairs(learn), _pairs(held_out)
    plan = TrainingPlan(budget, batch_size=16, threads=1)
    events = _events(train(learn, name, settings, plan, tmp_path, held_out=held_out))
    assert "over-fit" in {event["code"] for event in events}


@pytest.mark.parametrize("mode", ["cycle", "contrastive"])
def test_a_translator_of_many_images_is_left_alone(
    bars: Callable[..., ImageSet], mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same of 600 images that are alike, while 20 others watch: nothing is told."""
    monkeypatch.setattr(stability, "OVERFIT_IMAGES", 2_000)
    settings = cyclegan.Settings.model_validate({"width": 4, "blocks": 1, "mode": mode})
    learn, held_out = bars(600, (1, 8, 8)), bars(20, (1, 8, 8), seed=1)
    plan = TrainingPlan(6_400, batch_size=16, threads=1)
    events = _events(train(learn, "cyclegan", settings, plan, tmp_path, held_out=held_out))
    assert "over-fit" not in {event["code"] for event in events}


def test_what_a_class_scores_as_a_whole_means_nothing(small: ImageSet, noise: Noise) -> None:
    """A critic that scores by the class alone sees no gap, in whatever shares the held-out classes come."""
    family = replace(
        r3gan.FAMILY, scores=lambda _, images, labels: 10.0 * labels + 0 * images.mean((1, 2, 3))
    )
    plan, skew = TrainingPlan(640, batch_size=16, threads=1), noise(16, 1)
    labels = np.repeat([0, 1], [4, 12])
    feed = Feed(replace(skew, labels=labels), 16, 0, "natural", torch.device("cpu"))
    with Crew(1) as crew:
        stepper = Stepper(small, family, r3gan.Settings(), plan, torch.device("cpu"), crew, 2)
        images, classes = Feed(small, 16, 0, "equal", torch.device("cpu")).batch(0)
        told = stepper._compare(feed, (images, classes), (-images, classes))
    assert told == {"held_out_gap": 0.0, "held_out_error": 0.0, "fake_gap": 0.0}


def test_a_class_with_one_held_out_image_says_nothing(small: ImageSet, noise: Noise) -> None:
    """Drawn twice, one image would seem to be two that agree."""
    feed = Feed(noise(1, 1), 16, 0, "natural", torch.device("cpu"))
    with Crew(1) as crew:
        plan = TrainingPlan(640, batch_size=16, threads=1)
        stepper = Stepper(small, r3gan.FAMILY, r3gan.Settings(), plan, torch.device("cpu"), crew, 2)
        images, classes = feed.batch(0)
        assert stepper._compare(feed, (images, classes), (-images, classes)) == {}


def test_held_out_images_change_no_weight(small: ImageSet, noise: Noise, tmp_path: Path) -> None:
    """Watching the critic on held-out images leaves every weight as it would have been."""
    plan = TrainingPlan(640, batch_size=16, threads=1)
    for name, held_out in (("without", None), ("with", noise(16, 1))):
        for _ in train(small, "r3gan", r3gan.Settings(), plan, tmp_path / name, held_out=held_out):
            pass
    ends = [load_file(tmp_path / name / "checkpoint-00000040.safetensors") for name in ("without", "with")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert "held_out_gap" in checkpoint.read_statistics(tmp_path / "with")[-1]


def test_held_out_images_score_the_same_in_parts(small: ImageSet, noise: Noise) -> None:
    """How far they score below training images is a mean over images: that of parts is that of the whole."""
    plan = TrainingPlan(640, batch_size=16, threads=1)
    feed = Feed(noise(16, 1), 16, 0, "natural", torch.device("cpu"))
    with Crew(1) as crew:
        stepper = Stepper(small, r3gan.FAMILY, r3gan.Settings(), plan, torch.device("cpu"), crew, 2)
        images, labels = feed.batch(1)
        asked = feed, (images, labels), (-images, labels)
        whole = stepper._compare(*asked)
        stepper.state.counters.parts = 5
        assert stepper._compare(*asked) == pytest.approx(whole, rel=1e-3, abs=1e-6)
