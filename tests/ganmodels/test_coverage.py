"""Coverage of held-out images, against the suite's own measure."""

import numpy as np
import pytest
import torch

from phantomset.ganmodels.coverage import coverage, covered
from phantomset.validators.measures.prdc import prdc


def _smooth(count: int, seed: int, grain: float = 0.0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * np.arange(28) / 28
    waves = rng.normal(0, 30, (count, 1, 1, 1)) * np.sin(angle[:, None] + rng.uniform(0, 6, (count, 1, 1, 1)))
    images = 120 + waves * np.cos(2 * angle) + rng.normal(0, 2 + grain, (count, 1, 28, 28))
    return torch.from_numpy(images.round().clip(0, 255).astype(np.uint8))


def test_it_is_the_coverage_of_the_suite() -> None:
    """The share of `validators.measures.prdc`, k = 5, of the columns over the deviation of the real ones."""
    rng = torch.Generator().manual_seed(0)
    real, made = torch.randn(80, 6, generator=rng), 1.3 * torch.randn(60, 6, generator=rng) + 0.5
    scale = real.std(dim=0)
    expected = prdc((real / scale).numpy(), (made / scale).numpy(), k=5).coverage
    assert 0.2 < expected < 0.9
    assert covered(real, made) == pytest.approx(expected)


def test_copies_cover_all_and_one_image_next_to_nothing() -> None:
    """1 for the images themselves; for one image again and again only those in whose ball it lies."""
    real = _smooth(60, 0)
    assert coverage(real, real) == 1.0
    assert coverage(real[:1].expand(60, -1, -1, -1), real) < 0.2


def test_grain_costs_coverage() -> None:
    """Others of the same kind cover most of the images; with grain of five grey levels far fewer."""
    real = _smooth(200, 0)
    clean, grainy = (coverage(_smooth(200, 1, grain), real) for grain in (0.0, 5.0))
    assert clean > 0.85
    assert grainy < clean - 0.3


def test_few_and_tiny_images() -> None:
    """Two images of 8 px in three colours are enough for a figure."""
    images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    assert coverage(images, images) == 1.0
