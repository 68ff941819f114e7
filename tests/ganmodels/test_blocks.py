"""Parts that families share, against closed forms."""

import math
from collections.abc import Callable

import pytest
import torch

from phantomset.data.records import ImageSpec
from phantomset.ganmodels.blocks.geometry import pyramid
from phantomset.ganmodels.blocks.penalty import squared_gradient
from phantomset.ganmodels.blocks.residual import ResidualBlock
from phantomset.ganmodels.blocks.schedule import cosine
from phantomset.ganmodels.blocks.spectral import SpectralConv2d, SpectralLinear, sharpen


def test_penalty_of_a_linear_critic_is_the_square_of_its_weights() -> None:
    """For D(x) = w.x the gradient is w everywhere, so its square is ||w||^2, and R1 = gamma/2 ||w||^2."""
    weights = torch.arange(12.0).reshape(1, 3, 4).requires_grad_()
    images = torch.randn(5, 1, 3, 4, requires_grad=True)
    squared = squared_gradient((weights * images).sum(dim=(1, 2, 3)), images)
    assert torch.allclose(squared, torch.full((5,), float(sum(n * n for n in range(12)))))
    (slope,) = torch.autograd.grad(squared.mean() / 2, weights)
    assert torch.allclose(slope, weights.detach())  # d/dw ||w||^2 / 2 = w


def test_penalty_of_a_quadratic_critic_differs_by_image() -> None:
    """For D(x) = ||x||^2 / 2 the gradient is x itself."""
    images = torch.randn(4, 2, 3, 3, requires_grad=True)
    squared = squared_gradient(images.square().sum(dim=(1, 2, 3)) / 2, images)
    assert torch.allclose(squared, images.square().sum(dim=(1, 2, 3)))


def test_penalty_in_mixed_precision_agrees_with_float32() -> None:
    """On one batch the bfloat16 penalty lies within 5% of the float32 one: no rounding noise in it."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 16, 3), torch.nn.LeakyReLU(0.2), torch.nn.Conv2d(16, 8, 3))
    images = torch.randn(32, 1, 12, 12, requires_grad=True)
    exact = squared_gradient(net(images).sum(dim=(1, 2, 3)), images).mean()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = squared_gradient(net(images).float().sum(dim=(1, 2, 3)), images).mean()
    assert rounded.item() == pytest.approx(exact.item(), rel=0.05)


@pytest.mark.parametrize(
    ("progress", "value"), [(0.0, 10.0), (0.5, 5.5), (1.0, 1.0), (-1.0, 10.0), (2.0, 1.0)]
)
def test_cosine_at_its_ends_and_middle(progress: float, value: float) -> None:
    """From 10 to 1: the start at 0, the mean at a half, the end at 1; outside it is clipped."""
    assert cosine(10.0, 1.0, progress) == pytest.approx(value)


@pytest.mark.parametrize(
    ("height", "width", "doublings", "start"),
    [
        (28, 28, 2, (7, 7)),
        (32, 32, 2, (8, 8)),
        (64, 64, 3, (8, 8)),
        (128, 128, 4, (8, 8)),
        (60, 80, 3, (8, 10)),
        (80, 60, 3, (10, 8)),
        (8, 8, 1, (4, 4)),
        (33, 21, 2, (9, 6)),
        (256, 256, 5, (8, 8)),
    ],
)
def test_pyramid_of_any_size(height: int, width: int, doublings: int, start: tuple[int, int]) -> None:
    """28 px starts at 7 and is never padded to 32; other sizes round the start map up."""
    shape = pyramid(ImageSpec(1, height, width))
    assert (shape.doublings, shape.start) == (doublings, start)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (60, 80), (33, 21), (9, 15)])
def test_padding_and_cropping_are_inverse(height: int, width: int) -> None:
    """What is padded to the pyramid's grid and cropped again is the same image; padding repeats the edge."""
    shape = pyramid(ImageSpec(1, height, width))
    images = torch.randn(2, 3, height, width)
    padded = shape.pad(images)
    assert padded.shape[2:] == shape.padded
    assert torch.equal(shape.crop(padded), images)
    assert torch.isin(padded, images).all()


def test_residual_block_starts_as_the_identity() -> None:
    """Its last convolution is zero at the start; its first has gain sqrt(2) / sqrt(blocks)."""
    torch.manual_seed(0)
    block = ResidualBlock(64, blocks=2)
    x = torch.randn(2, 64, 5, 5)
    assert torch.equal(block(x), x)
    deviation = block.first.weight.std().item() * math.sqrt(64 * 9)
    assert deviation == pytest.approx(math.sqrt(2) / math.sqrt(2), rel=0.02)


@pytest.mark.parametrize("make", [lambda: SpectralConv2d(3, 8, 4, 2, 1), lambda: SpectralLinear(20, 6)])
def test_spectral_layers_have_singular_value_one(make: Callable[[], SpectralConv2d | SpectralLinear]) -> None:
    """After enough power iterations the largest singular value of the used matrix is 1, by its SVD."""
    torch.manual_seed(0)
    layer = make()
    for _ in range(1000):
        sharpen(layer)
    largest = torch.linalg.matrix_norm(layer.normalised().flatten(1), ord=2)
    assert largest.item() == pytest.approx(1.0, abs=1e-3)


def test_spectral_layers_do_not_move_by_being_used() -> None:
    """A forward pass leaves the singular vector alone: parts of a batch run side by side."""
    layer = SpectralLinear(20, 6)
    before = layer.direction.clone()
    layer(torch.randn(3, 20))
    assert torch.equal(layer.direction, before)
