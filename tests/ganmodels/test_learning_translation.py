"""Each family that translates learns it on real radiographs: images never seen come near to their answers."""

from pathlib import Path

import numpy as np
import pytest

from phantomset.data.records import ImageSet
from phantomset.ganmodels.engine import train
from phantomset.ganmodels.families import cyclegan, pix2pix
from phantomset.ganmodels.plan import TrainingPlan
from phantomset.ganmodels.translate import translate


@pytest.mark.slow
def test_pairs_are_learned(datasets: Path, device: str, tmp_path: Path) -> None:
    """Noisy radiographs to clean ones: the error on images never seen falls below half of the noise's."""
    with np.load(datasets / "pneumoniamnist.npz", allow_pickle=False) as stored:
        clean = stored["train_images"][:1_000, None]
    noise = np.random.default_rng(0).normal(0, 30, clean.shape)
    noisy = np.clip(clean + noise, 0, 255).round().astype(np.uint8)
    pairs = np.concatenate([noisy, clean], axis=1)
    labels = np.zeros(len(pairs), np.int64)
    settings = pix2pix.Settings(width=16)
    learn = ImageSet(pairs[:800], labels[:800], np.arange(800), ("pair",))
    plan = TrainingPlan(12_800, batch_size=16, threads=1)
    for _ in train(learn, "pix2pix", settings, plan, tmp_path, device):
        pass
    made = translate(tmp_path, noisy[800:], labels[800:], 0, device)

    def error(images: np.ndarray) -> float:
        return float(np.abs(images.astype(float) - clean[800:]).mean())

    assert error(made) < error(noisy[800:]) / 2


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["cycle", "contrastive"])
def test_domains_are_learned(mode: str, datasets: Path, device: str, tmp_path: Path) -> None:
    """Dark radiographs to bright ones without pairs: each comes nearer to its own brightened self than any
    one image, a constant grey too, is to all of them, and nearer than to a stranger's by a quarter.
    """
    with np.load(datasets / "pneumoniamnist.npz", allow_pickle=False) as stored:
        images = stored["train_images"][:800, None]
    dark, bright = images[:400] // 2, 128 + images[400:] // 2
    pixels, labels = np.concatenate([dark, bright]), np.repeat([0, 1], 400)
    learn = ImageSet(pixels, labels, np.arange(800), ("dark", "bright"))
    settings = cyclegan.Settings(mode=mode, width=8, blocks=2, learning_rate=1e-3)
    for _ in train(learn, "cyclegan", settings, TrainingPlan(6_400, 16, threads=1), tmp_path, device):
        pass
    made = translate(tmp_path, dark[:100], np.zeros(100, np.int64), 0, device)
    answer = 128.0 + dark[:100]
    nearest = np.median(answer, axis=0)  # of all single images that with the least mean absolute error

    def error(images: np.ndarray) -> float:
        return float(np.abs(images - answer).mean())

    assert error(made) < error(nearest)
    assert error(made) < 0.75 * error(np.roll(made, 1, axis=0))
