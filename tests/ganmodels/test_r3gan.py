"""What `r3gan` alone has."""

import pytest
import torch

from phantomset.data.records import ImageSpec
from phantomset.ganmodels.families.r3gan import BEYOND, Generator, Settings


@pytest.mark.parametrize("bounded", [False, True])
def test_bounded_output_stays_within_the_pixels_range(bounded: bool) -> None:
    """Bounded: what is in [-1, 1] stays as it is, what is beyond keeps 1% of its excess, and learns by it."""
    spec = ImageSpec(1, 28, 28)
    torch.manual_seed(0)
    free = Generator(Settings.model_validate({}), spec, 2)
    held = Generator(Settings.model_validate({"bounded": bounded}), spec, 2)
    with torch.no_grad():
        free.tail_out.weight.mul_(3)  # so that a good part lies beyond
    held.load_state_dict(free.state_dict())
    z, labels = torch.randn(8, 64), torch.arange(8) % 2
    raw, made = free(z, labels), held(z, labels)
    beyond = raw.abs() > 1
    assert 0.1 < beyond.float().mean() < 0.9
    torch.testing.assert_close(made[~beyond], raw[~beyond])
    excess = raw[beyond] - raw[beyond].sign()
    expected = raw[beyond].sign() + BEYOND * excess if bounded else raw[beyond]
    torch.testing.assert_close(made[beyond], expected)
    bias = held.tail_out.bias
    assert bias is not None
    (slope,) = torch.autograd.grad(made[beyond].sum(), bias)
    assert slope.item() == pytest.approx(float(beyond.sum()) * (BEYOND if bounded else 1), rel=1e-4)
