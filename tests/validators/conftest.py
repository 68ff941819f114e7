"""Small cohorts with known truth: smooth images, several a patient, nothing of one part in another."""

import numpy as np
import pytest
from scipy import ndimage

from phantomset.data.records import ImageSet
from phantomset.validators import controls
from phantomset.validators.context import Context
from phantomset.validators.finding import Evidence, Rules

NAMES = ("plain", "bright")


def smooth_images(patients: int, first: int, seed: int, channels: int = 1, size_px: int = 28) -> ImageSet:
    """Return one or two images a patient: the patient's own smooth pattern, and a blob for class 1."""
    rng = np.random.default_rng([seed, first])
    counts = 1 + (rng.random(patients) < 0.25)
    owner = np.repeat(np.arange(patients), counts)
    shape = (patients, channels, size_px, size_px)
    coarse = ndimage.gaussian_filter(rng.standard_normal(shape), (0, 0, 3, 3))
    fine = ndimage.gaussian_filter(rng.standard_normal(shape), (0, 0, 1.2, 1.2))
    own = 0.6 * coarse / coarse.std() + 0.4 * fine / fine.std()
    labels = rng.integers(0, 2, patients)[owner]
    y, x = np.mgrid[:size_px, :size_px] / size_px - 0.5
    blob = np.exp(-((x - 0.1) ** 2 + (y + 0.1) ** 2) / 0.02)
    again = ndimage.gaussian_filter(rng.standard_normal((len(owner), *shape[1:])), (0, 0, 1, 1))
    images = 120 + 35 * (own[owner] + 0.5 * again / again.std()) + 90 * labels[:, None, None, None] * blob
    pixels = np.clip(images + 3 * rng.standard_normal(images.shape), 0, 255).astype(np.uint8)
    return ImageSet(pixels, labels.astype(np.int64), (first + owner).astype(np.int64), NAMES)


def nobody(images: ImageSet) -> ImageSet:
    """Return the images as a synthetic set: without patients."""
    return ImageSet(images.images, images.labels, np.full(len(images), -1), images.label_names)


def make_evidence(
    train: int = 300,
    holdout: int = 300,
    reference: int = 310,
    synthetic: int = 300,
    seed: int = 0,
    **shape: int,
) -> Evidence:
    """Return evidence whose synthetic set is of fresh patients: nothing leaks."""
    sizes = (train, holdout, reference, synthetic)
    starts = np.cumsum((0, *sizes))
    parts = [smooth_images(n, int(s), seed, **shape) for n, s in zip(sizes, starts, strict=False)]
    return Evidence(parts[0], parts[1], parts[2], nobody(parts[3]))


@pytest.fixture(scope="session")
def evidence() -> Evidence:
    """A clean case: 300 patients in each part."""
    return make_evidence()


@pytest.fixture(scope="session")
def clean(evidence: Evidence) -> Context:
    """The clean case, measured once, with the sets of the controls and well-trained extractors."""
    context = Context(evidence, Rules(), 0, controls.control_sets)
    assert set(context.extractors) == {"classifier", "texture"}  # before any test shortens the training
    return context


def with_synthetic(case: Evidence, images: ImageSet) -> Evidence:
    """Return the case with another set in the place of S."""
    return Evidence(case.train, case.holdout, case.reference, nobody(images), case.has_patients)


def with_copies(case: Evidence, count: int) -> Evidence:
    """Return the case with exact copies of that many training patients among the synthetic images."""
    images = case.synthetic.images.copy()
    _, first = np.unique(case.train.patients, return_index=True)
    images[:count] = case.train.images[first[:count]]
    part = case.synthetic
    return with_synthetic(case, ImageSet(images, part.labels, part.patients, part.label_names))


@pytest.fixture(scope="session")
def leaky(evidence: Evidence) -> Context:
    """Twenty exact training images among fresh ones."""
    return Context(with_copies(evidence, 20), Rules(), 0)
