"""The translation of a patient's image is that patient's image: the gate must say so."""

import numpy as np
import pytest
from scipy import ndimage

from phantomset.data.records import ImageSet
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


@pytest.mark.long
def test_translated_training_images_fail(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training images put through a translator are blocked as what they are."""
    monkeypatch.setattr(classifier, "STEPS", 8)
    monkeypatch.setattr(lessons, "SEEDS", 1)
    translated = with_synthetic(evidence, harmonised(evidence.train))
    verdict = audit.judge(translated, Rules(fidelity="demo"), 0)
    assert verdict.status == "FAIL"
    assert verdict.axes["privacy"] == "FAIL"
