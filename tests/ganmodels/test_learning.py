"""Each family learns real radiographs: a figure ends far from where it began."""

from pathlib import Path

import numpy as np
import pytest

from phantomset.data.catalogue import load, names
from phantomset.data.records import ImageSet
from phantomset.ganmodels.engine import train
from phantomset.ganmodels.generate import generate
from phantomset.ganmodels.plan import TrainingPlan
from phantomset.ganmodels.translate import translate
from phantomset.validators.measures.prdc import prdc

PACKAGE = "phantomset.ganmodels.families"
SAMPLING = [name for name in names(PACKAGE) if load(PACKAGE, name).sample is not None]

BUDGET = {
    "vae": 6_000,
    "vanilla": 40_000,
    "dcgan": 40_000,
    "cgan": 40_000,
    "stylegan2": 8_000,
    "diffusion": 8_000,
}
"""Images shown, where some 16,000 are too few, or more than are needed."""

CHEAP = ("vae",)
"""Families whose test takes half a CPU-minute: CI runs it."""


@pytest.fixture(scope="module")
def radiographs(datasets: Path) -> tuple[ImageSet, ImageSet]:
    """1,900 PneumoniaMNIST radiographs of both classes alike to learn, 500 others to compare with."""
    with np.load(datasets / "pneumoniamnist.npz", allow_pickle=False) as stored:
        images = stored["train_images"][:, None]
        labels = stored["train_labels"].reshape(-1).astype(np.int64)
    rng = np.random.default_rng(0)
    members = [rng.permutation(np.flatnonzero(labels == label))[:1_200] for label in (0, 1)]
    parts = [
        np.concatenate([each[first:last] for each in members]) for first, last in ((0, 950), (950, 1_200))
    ]
    learn, compare = (
        ImageSet(images[part], labels[part], part.astype(np.int64), ("normal", "pneumonia")) for part in parts
    )
    return learn, compare


def _pooled(images: np.ndarray) -> np.ndarray:
    """2 x 2 means of pixels, ``(N, 196)``."""
    return images.reshape(len(images), 14, 2, 14, 2).mean(axis=(2, 4)).reshape(len(images), -1) / 255


def _contrast(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the difference of the two classes' mean images."""
    return images[labels == 1].mean(axis=0) - images[labels == 0].mean(axis=0)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in CHEAP else pytest.mark.long) for name in SAMPLING],
)
def test_it_learns(name: str, radiographs: tuple[ImageSet, ImageSet], device: str, tmp_path: Path) -> None:
    """Half of the way from the first samples to real images, by the distance of means and the spread; and a
    third of the way to the real difference between the classes, from which mixed-up labels stay away."""
    learn, compare = radiographs
    family = load(PACKAGE, name)
    real, labels = _pooled(compare.images), compare.labels
    distances, contrasts = [], []
    for budget in (64, BUDGET.get(name, 16_000)):
        plan, folder = TrainingPlan(budget, threads=1), tmp_path / str(budget)
        for _ in train(learn, name, family.Settings(), plan, folder, device):
            pass
        made = _pooled(generate(folder, labels, 0, device))
        apart = np.abs(made.mean(axis=0) - real.mean(axis=0)).mean()
        spread = np.abs(made.std(axis=0) - real.std(axis=0)).mean()
        distances.append(apart + spread)
        contrasts.append(float(np.linalg.norm(_contrast(made, labels) - _contrast(real, labels))))
    precision = prdc(real, made).precision
    figures = f"{distances=}, {contrasts=}, {precision=}"
    assert distances[1] < distances[0] / 2, figures
    assert contrasts[1] < contrasts[0] * 2 / 3, figures
    assert precision > 0.02, figures


@pytest.mark.long
def test_pairs_are_learned(datasets: Path, device: str, tmp_path: Path) -> None:
    """Noisy radiographs to clean ones: the error on images never seen falls below half of the noise's."""
    with np.load(datasets / "pneumoniamnist.npz", allow_pickle=False) as stored:
        clean = stored["train_images"][:1_000, None]
    noise = np.random.default_rng(0).normal(0, 30, clean.shape)
    noisy = np.clip(clean + noise, 0, 255).round().astype(np.uint8)
    pairs = np.concatenate([noisy, clean], axis=1)
    labels = np.zeros(len(pairs), np.int64)
    settings = load(PACKAGE, "pix2pix").Settings(width=16)
    learn = ImageSet(pairs[:800], labels[:800], np.arange(800), ("pair",))
    plan = TrainingPlan(12_800, batch_size=16, threads=1)
    for _ in train(learn, "pix2pix", settings, plan, tmp_path, device):
        pass
    made = translate(tmp_path, noisy[800:], labels[800:], 0, device)

    def error(images: np.ndarray) -> float:
        return float(np.abs(images.astype(float) - clean[800:]).mean())

    assert error(made) < error(noisy[800:]) / 2


@pytest.mark.long
@pytest.mark.parametrize("mode", ["cycle", "contrastive"])
def test_domains_are_learned(mode: str, datasets: Path, device: str, tmp_path: Path) -> None:
    """Dark radiographs to bright ones without pairs: each comes nearer to its own brightened self than any
    one image, a constant grey too, is to all of them.
    """
    with np.load(datasets / "pneumoniamnist.npz", allow_pickle=False) as stored:
        images = stored["train_images"][:800, None]
    dark, bright = images[:400] // 2, 128 + images[400:] // 2
    pixels, labels = np.concatenate([dark, bright]), np.repeat([0, 1], 400)
    learn = ImageSet(pixels, labels, np.arange(800), ("dark", "bright"))
    settings = load(PACKAGE, "cyclegan").Settings(mode=mode, width=8, blocks=2, learning_rate=1e-3)
    for _ in train(learn, "cyclegan", settings, TrainingPlan(6_400, 16, threads=1), tmp_path, device):
        pass
    made = translate(tmp_path, dark[:100], np.zeros(100, np.int64), 0, device)
    answer = 128.0 + dark[:100]
    nearest = np.median(answer, axis=0)  # of all single images that with the least mean absolute error

    def error(images: np.ndarray) -> float:
        return float(np.abs(images - answer).mean())

    assert error(made) < error(nearest)
