"""The translation of a patient's image is that patient's image: the gate must say so."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from phantomset.data.records import ImageSet
from phantomset.ganmodels.engine import train
from phantomset.ganmodels.families import pix2pix
from phantomset.ganmodels.plan import TrainingPlan
from phantomset.ganmodels.translate import translate
from phantomset.validators import audit, classifier, lessons
from phantomset.validators.finding import Evidence, Rules

from .conftest import nobody, with_synthetic


def harmonised(part: ImageSet) -> ImageSet:
    """Return images as a good translator leaves them: smoother, another contrast, the same anatomy."""
    smooth = ndimage.gaussian_filter(part.images.astype(float), (0, 0, 0.6, 0.6))
    curve = 255 * (smooth / 255) ** 0.85
    noise = 2 * np.random.default_rng(0).standard_normal(curve.shape)
    pixels = np.clip(curve + noise, 0, 255).astype(np.uint8)
    return nobody(ImageSet(pixels, part.labels, part.patients, part.label_names))


def denoised(part: ImageSet, folder: Path) -> ImageSet:
    """Return noisy copies of images as a pix2pix that was trained to clean these leaves them."""
    noise = np.random.default_rng(0).normal(0, 30, part.images.shape)
    noisy = np.clip(part.images + noise, 0, 255).round().astype(np.uint8)
    labels = np.zeros(len(part), np.int64)
    pairs = ImageSet(np.concatenate([noisy, part.images], axis=1), labels, part.patients, ("pair",))
    for _ in train(pairs, "pix2pix", pix2pix.Settings(width=8), TrainingPlan(6_400, 16, threads=1), folder):
        pass
    made = translate(folder, noisy, labels, 0)
    before, after = (np.abs(each.astype(float) - part.images).mean() for each in (noisy, made))
    assert after < before * 2 / 3, "the translator learned nothing"
    return nobody(ImageSet(made, part.labels, part.patients, part.label_names))


@pytest.mark.slow
def test_training_images_through_a_trained_translator_fail(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a pix2pix makes of training images is blocked as what it is: no set of new people."""
    monkeypatch.setattr(classifier, "STEPS", 8)
    monkeypatch.setattr(lessons, "SEEDS", 1)
    translated = with_synthetic(evidence, denoised(evidence.train, tmp_path))
    verdict = audit.judge(translated, Rules(fidelity="demo"), 0)
    assert verdict.status == "FAIL"
    assert verdict.axes["privacy"] == "FAIL"
    (copies,) = [finding for finding in verdict.findings if finding.check == "copies"]
    assert copies.status == "FAIL"


@pytest.mark.slow
def test_translated_training_images_fail(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training images put through a translator are blocked as what they are."""
    monkeypatch.setattr(classifier, "STEPS", 8)
    monkeypatch.setattr(lessons, "SEEDS", 1)
    translated = with_synthetic(evidence, harmonised(evidence.train))
    verdict = audit.judge(translated, Rules(fidelity="demo"), 0)
    assert verdict.status == "FAIL"
    assert verdict.axes["privacy"] == "FAIL"
