"""The exam of feature spaces: what a sound one passes, and what each fault of one is called."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from phantomset.validators import qualification
from phantomset.validators.checks.extractors import CHECK
from phantomset.validators.context import Context
from phantomset.validators.finding import Rules
from phantomset.validators.measures.frechet import frechet
from phantomset.validators.measures.kernel import kid
from phantomset.validators.qualification import Exam, blurred, chequered, flattened, qualify
from phantomset.validators.wavelets import wavelet_features

from .conftest import make_evidence, smooth_images

RUNGS = ("blur", "noise", "contrast", "chequerboard", "few distinct images")
HOLDOUT = smooth_images(130, 0, seed=3)


def texture(images: np.ndarray) -> np.ndarray:
    return 10 * wavelet_features(torch.from_numpy(images).float() / 255)


def examined(features: qualification.Features, classes: bool = False) -> Exam:
    return qualify(features, HOLDOUT, np.random.default_rng(1), classes)


def test_a_sound_space_sees_every_rung_in_order() -> None:
    """Three steps each, farther and farther by both distances; the last beyond twice the greatest null."""
    exam = examined(texture)
    assert exam.missed == ()
    for seen in (exam.frechet, exam.kernel):
        assert seen is not None
        assert tuple(seen) == RUNGS
        assert all(later > earlier for steps in seen.values() for earlier, later in pairwise(steps))
    assert exam.frechet is not None
    assert min(steps[-1] for steps in exam.frechet.values()) > 2
    assert exam.null > 0 < exam.kernel_null
    assert 1 <= exam.unsteadiness <= 10
    assert examined(texture) == exam


def test_ratios_are_distances_over_the_greatest_of_random_parts() -> None:
    """The chequerboard's strongest step and both nulls, from the plain measures."""
    rng = np.random.default_rng(1)
    chosen = rng.permutation(len(HOLDOUT))
    few = len(chosen) // 2
    real = texture(HOLDOUT.images[chosen])
    altered = texture(chequered(HOLDOUT.images[chosen][:few], 8))
    exam = examined(texture)
    assert exam.frechet is not None
    assert exam.kernel is not None
    assert exam.frechet["chequerboard"][-1] == pytest.approx(frechet(real[few:], altered) / exam.null)
    assert exam.kernel["chequerboard"][-1] == pytest.approx(kid(real[few:], altered) / exam.kernel_null)
    rng.standard_normal(HOLDOUT.images[:few].shape)  # the noise, then the choices of distinct images
    for _ in range(qualification.DISTINCT_DRAWS):
        rng.permutation(few)
    orders = [np.arange(len(real)), *(rng.permutation(len(real)) for _ in range(19))]
    parts = [(real[order[few:]], real[order[:few]]) for order in orders]
    assert exam.null == pytest.approx(max(frechet(*pair) for pair in parts))
    assert exam.kernel_null == pytest.approx(max(kid(*pair) for pair in parts))


@pytest.mark.parametrize(
    ("by_frechet", "by_kernel", "missed"),
    [
        ((0.5, 1.1, 2.1), (-0.5, 0.2, 0.9), []),
        ((0.5, 1.1, 2.0), (-0.5, 1.2, 3.0), ["blur"]),
        ((1.2, 1.1, 2.1), (0.1, 0.2, 3.0), ["blur step by step"]),
        ((0.9, 0.8, 2.1), (0.3, 0.2, 3.0), []),
        ((0.5, 1.1, 2.1), (0.1, 4.0, 3.0), ["blur step by step"]),
        ((0.5, 3.0, 3.0), (0.1, 0.2, 3.0), ["blur step by step"]),
        ((), (), ["blur"]),
        ((float("nan"),) * 3, (0.1, 0.2, 3.0), ["blur"]),
    ],
)
def test_what_a_rung_asks(by_frechet: tuple, by_kernel: tuple, missed: list[str]) -> None:
    """More than 2 at last by Fréchet; strictly farther by both, unless both steps are below 1."""
    others = dict.fromkeys(RUNGS[1:], (0.9, 1.1, 2.1))
    assert qualification._missed({"blur": by_frechet, **others}, {"blur": by_kernel, **others}) == missed


def test_the_middle_step_must_be_seen_on_four_rungs() -> None:
    """Two of six may lie within real-real distances, or one of five."""
    far, near = (0.9, 1.1, 2.1), (0.5, 1.0, 2.1)
    five = {**dict.fromkeys(RUNGS[:4], far), RUNGS[4]: near}
    assert qualification._missed(five, five) == []
    assert qualification._missed({**five, "blur": near}, five) == ["the middle step of 4 rungs"]
    six = {**five, "class left out": far, "blur": near}
    assert qualification._missed(six, six) == []


def test_a_collapsed_space_is_told() -> None:
    """Different images with the same features, as from an encoder that knows one kind of image alone."""
    assert "different images at different places" in examined(lambda x: np.round(texture(x) / 20)).missed


def test_equal_images_are_no_collapse() -> None:
    """The same pixels have the same features in any space."""
    twice = HOLDOUT.take(np.arange(len(HOLDOUT)) // 2)
    assert (
        "different images at different places"
        not in qualify(texture, twice, np.random.default_rng(1), False).missed
    )


def test_a_space_of_chance_is_told() -> None:
    """Other figures for the same images: an encoder whose dropout was left on."""
    rng = np.random.default_rng(5)
    assert (
        "the same figures twice"
        in examined(lambda x: texture(x) + 1e-3 * rng.standard_normal((len(x), 48))).missed
    )


@pytest.mark.parametrize(("greatest", "told"), [(10.0, False), (10.1, True)])
def test_real_distances_that_swing_are_told(
    greatest: float, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one draw of real parts is over ten times as far as usual, twice the greatest says nothing."""
    distances = iter([*[1.0] * 19, greatest, *range(100, 1000)])
    monkeypatch.setattr(qualification, "frechet", lambda _a, _b: float(next(distances)))
    exam = examined(texture)
    assert exam.unsteadiness == greatest
    assert ("real images alike whichever are drawn" in exam.missed) == told


def test_figures_that_are_no_numbers_and_too_few_images_are_told() -> None:
    """Neither is an error."""
    assert examined(lambda x: np.full((len(x), 4), np.nan)).missed == ("real images as finite numbers",)
    few = HOLDOUT.take(np.arange(19))
    assert qualify(texture, few, np.random.default_rng(0), False).missed == (
        "enough holdout images to be qualified",
    )


def test_class_loss_is_asked_of_who_must_see_classes() -> None:
    """Half, a quarter and none of the rarest class; a holdout of one class shows nothing to lose."""
    exam = examined(texture, classes=True)
    assert exam.frechet is not None
    assert set(exam.frechet) == {*RUNGS, "class left out"}
    one = replace(HOLDOUT, labels=np.zeros(len(HOLDOUT), np.int64))
    assert "class left out" in qualify(texture, one, np.random.default_rng(1), True).missed
    real = np.arange(12.0)[:, None]
    steps = qualification._rarer(real, np.array([0] * 8 + [1] * 4))
    assert [len(part) for (part,) in steps] == [10, 9, 8]


def test_altered_images() -> None:
    """Worked by hand: contrast around the mean, a board of ±8, a blur that keeps the mean."""
    image = np.array([[[[100, 200], [100, 200]]]], np.uint8)
    assert flattened(image, 0.8).tolist() == [[[[110, 190], [110, 190]]]]
    assert chequered(image, 8).tolist() == [[[[92, 208], [108, 192]]]]
    assert blurred(HOLDOUT.images, 1.0).mean() == pytest.approx(HOLDOUT.images.mean(), rel=0.01)
    assert blurred(HOLDOUT.images, 1.0).std() < blurred(HOLDOUT.images, 0.3).std()


def test_what_nobody_sees_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classifier alone sees class loss: where it does not qualify, a kind of fault is left to nobody.

    INCONCLUSIVE but for `demo`, which asks for one space alone and says so.
    """
    monkeypatch.setattr("phantomset.validators.classifier.STEPS", 5)
    case = make_evidence(40, 40, 40, 40)
    context = Context(case, Rules(), 0)
    all_well = {
        name: replace(found, exam=replace(found.exam, missed=()))
        for name, found in context.extractors.items()
    }
    exam = all_well["classifier"].exam
    one_blind = all_well | {
        "classifier": replace(all_well["classifier"], exam=replace(exam, missed=("blur",)))
    }
    for fitted, profile, status, count in (
        (all_well, "research", "REPORTED", 0),
        (one_blind, "research", "INCONCLUSIVE", 1),
        (one_blind, "demo", "NOT_EVALUATED", 1),
    ):
        context = Context(case, Rules(fidelity=profile), 0)
        context.__dict__["_fitted"] = (fitted, None)
        (finding,) = (found for found in CHECK.run(context) if found.group == "all")
        assert (finding.status, finding.value) == (status, count)
        assert ("class left out" in finding.advice) == bool(count)


def test_an_exam_is_stored_with_the_digest_of_what_was_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both distances of every step stand beside the extractor's digest; other weights have another digest."""
    monkeypatch.setattr("phantomset.validators.classifier.STEPS", 5)
    case = make_evidence(40, 40, 40, 40)
    context, other = Context(case, Rules(), 0), Context(case, Rules(), 1)
    for finding in CHECK.run(context):
        if finding.group == "all":
            continue
        extractor = context.extractors[finding.group]
        assert finding.details["extractor"] == extractor.digest
        assert finding.details["frechet"] == extractor.exam.frechet
        assert finding.details["kernel"] == extractor.exam.kernel
    digests = [{name: found.digest for name, found in each.extractors.items()} for each in (context, other)]
    assert digests[0]["texture"] == digests[1]["texture"]
    assert digests[0]["classifier"] != digests[1]["classifier"]
    assert len({*digests[0].values(), *digests[1].values()}) == 3
