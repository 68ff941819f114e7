"""What the critic sees when images are augmented."""

import pytest
import torch

from phantomset.ganmodels.augment import SHARE, Uniform, augmentation, transforms, uniform


def _rng(seed: int = 0) -> Uniform:
    return uniform(torch.Generator().manual_seed(seed))


def test_none_is_the_identity() -> None:
    """No augmentation hands the very tensor back."""
    images = torch.randn(3, 1, 8, 8)
    assert augmentation("none", _rng())(images) is images


def test_shift_moves_by_whole_pixels() -> None:
    """Every changed image is, away from its border, the original moved by up to a seventh."""
    images = torch.randn(90, 1, 28, 28)
    moved = augmentation("shift", _rng())(images)
    changed = (moved - images).abs().amax(dim=(1, 2, 3)) > 1e-3
    assert changed.float().mean().item() == pytest.approx(SHARE["shift"], abs=0.1)
    inner = (slice(5, -5), slice(5, -5))
    for before, after in zip(images[changed][:, 0], moved[changed][:, 0], strict=True):
        gaps = [
            (torch.roll(before, (down, right), (0, 1))[inner] - after[inner]).abs().max().item()
            for down in range(-4, 5)
            for right in range(-4, 5)
        ]
        assert min(gaps) < 1e-4


def test_affine_keeps_shapes_round() -> None:
    """On an image wider than high a turn is a turn: in pixels it is a rotation times a scale."""
    images = torch.zeros(50, 1, 20, 40)
    maps = transforms("affine", images, _rng())
    to_pixels = torch.tensor([[1.0, 2.0], [0.5, 1.0]])  # x spans 40, y spans 20
    linear = maps[:, :, :2] * to_pixels
    squares = linear @ linear.transpose(1, 2)
    assert torch.allclose(squares[:, 0, 0], squares[:, 1, 1], atol=1e-5)
    assert torch.allclose(squares[:, 0, 1], torch.zeros(50), atol=1e-5)
    assert (torch.linalg.det(linear) > 0).all()  # never mirrored


def test_gradients_pass_to_the_generator() -> None:
    """The change is differentiable, and a moved image sends its gradient to where its pixels came from."""
    images = torch.randn(20, 1, 14, 14, requires_grad=True)
    augmentation("shift", _rng())(images)[..., 3:-3, 3:-3].sum().backward()
    assert images.grad is not None
    assert images.grad.flatten(1).sum(dim=1) == pytest.approx(torch.full((20,), 64.0), abs=1e-3)


def test_seeded() -> None:
    """The same generator state changes images alike, another otherwise."""
    images = torch.randn(30, 3, 16, 12)
    first = augmentation("affine", _rng(1))(images)
    assert torch.equal(first, augmentation("affine", _rng(1))(images))
    assert not torch.equal(first, augmentation("affine", _rng(2))(images))
