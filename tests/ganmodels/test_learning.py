"""Each family learns real images: a figure ends far from where it began."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from phantomset.data.records import ImageSet
from phantomset.ganmodels.engine import train
from phantomset.ganmodels.families import r3gan
from phantomset.ganmodels.family import FamilySettings
from phantomset.ganmodels.generate import generate
from phantomset.ganmodels.plan import TrainingPlan
from phantomset.validators.measures.prdc import prdc

from .cases import DEFAULTS, Case

BUDGET = {
    "vae": 6_000,
    "vanilla": 40_000,
    "dcgan": 24_000,
    "cgan": 40_000,
    "r3gan": 10_000,
    "stylegan2": 6_400,
    "diffusion": 6_400,
}
"""Images shown, where some 16,000 are too few, or more than are needed."""

BATCH = {"diffusion": 32}
"""Images in a batch, where fewer than 64 teach more in as many."""

QUICK = {"diffusion": {"sampling_steps": 8}}
"""Settings with which samples take less time and show as well what was learned."""

LEARNERS = [
    *(Case(case.name, changes=QUICK.get(case.name, {})) for case in DEFAULTS if case.family.sample),
    Case("cgan", "auxiliary head", {"head": "auxiliary"}),
]


@pytest.fixture(scope="module")
def radiographs(datasets: Path) -> tuple[ImageSet, ImageSet]:
    """1,900 PneumoniaMNIST radiographs of both classes alike to learn, 300 others to compare with."""
    with np.load(datasets / "pneumoniamnist.npz", allow_pickle=False) as stored:
        images = stored["train_images"][:, None]
        labels = stored["train_labels"].reshape(-1).astype(np.int64)
    rng = np.random.default_rng(0)
    members = [rng.permutation(np.flatnonzero(labels == label))[:1_200] for label in (0, 1)]
    parts = [
        np.concatenate([each[first:last] for each in members]) for first, last in ((0, 950), (950, 1_100))
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


@pytest.mark.slow
@pytest.mark.parametrize("case", LEARNERS, ids=str)
def test_it_learns(case: Case, radiographs: tuple[ImageSet, ImageSet], device: str, tmp_path: Path) -> None:
    """Half of the way from the first samples to real images, by the distance of means and the spread; and a
    third of the way to the real difference between the classes, from which mixed-up labels stay away."""
    learn, compare = radiographs
    real, labels = _pooled(compare.images), compare.labels
    distances, contrasts = [], []
    for budget in (64, BUDGET.get(case.name, 16_000)):
        made = _pooled(_made(case.name, case.settings, learn, labels, budget, tmp_path / str(budget), device))
        distances.append(_distance(made, real))
        contrasts.append(float(np.linalg.norm(_contrast(made, labels) - _contrast(real, labels))))
    precision = prdc(real, made).precision
    figures = f"{distances=}, {contrasts=}, {precision=}"
    assert distances[1] < distances[0] / 2, figures
    assert contrasts[1] < contrasts[0] * 2 / 3, figures
    assert precision > 0.02, figures


def _made(
    name: str,
    settings: FamilySettings,
    learn: ImageSet,
    labels: np.ndarray,
    budget: int,
    folder: Path,
    device: str,
) -> np.ndarray:
    """Return samples of a fresh training."""
    plan = TrainingPlan(budget, BATCH.get(name, 64), threads=1)
    for _ in train(learn, name, settings, plan, folder, device):
        pass
    return generate(folder, labels, 0, device)


def _distance(made: np.ndarray, real: np.ndarray) -> float:
    """Return how far the means and the deviations of two sets of rows are apart, mean over columns."""
    means, deviations = (np.abs(of(made, axis=0) - of(real, axis=0)).mean() for of in (np.mean, np.std))
    return float(means + deviations)


@pytest.mark.slow
def test_colours_are_learned_at_64_px(datasets: Path, device: str, tmp_path: Path) -> None:
    """Moles, naevus and melanoma: means and spread of each channel, and of red over blue, half of the way."""
    learn, compare = _moles(datasets / "ham10000-nv-mel-150.zip")
    apart = []
    for budget in (64, 4_800):
        made = _made("r3gan", r3gan.Settings(), learn, compare.labels, budget, tmp_path / str(budget), device)
        apart.append([_distance(space(made), space(compare.images)) for space in (_cells, _warmth)])
    assert all(after < before / 2 for before, after in zip(*apart, strict=True)), apart


def _moles(path: Path) -> tuple[ImageSet, ImageSet]:
    """Return the 1,000 training images and every second of the 1,000 others, 64 x 64 px in colour."""
    with zipfile.ZipFile(path) as archive:
        table = pd.read_csv(archive.open("index.csv"))
        pixels = np.stack(
            [
                np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB").resize((64, 64)))
                for name in table["file"]
            ]
        ).transpose(0, 3, 1, 2)
    labels = (table["label"] == "mel").to_numpy().astype(np.int64)
    is_train = (table["split"] == "train").to_numpy()
    every = ImageSet(np.ascontiguousarray(pixels), labels, np.arange(len(labels)), ("nv", "mel"))
    return every.take(np.flatnonzero(is_train)), every.take(np.flatnonzero(~is_train)[::2])


def _cells(images: np.ndarray) -> np.ndarray:
    """Means of 8 x 8 pixels of each channel, ``(N, 192)``."""
    return images.reshape(len(images), 3, 8, 8, 8, 8).mean(axis=(3, 5)).reshape(len(images), -1) / 255


def _warmth(images: np.ndarray) -> np.ndarray:
    """Red over blue in those cells, ``(N, 64)``."""
    cells = _cells(images)
    return cells[:, :64] - cells[:, 128:]
