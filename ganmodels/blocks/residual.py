"""The residual block without normalisation."""

from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.2
"""Slope of every leaky rectifier below 0."""


class ResidualBlock(nn.Module):
    """``x + conv3x3(lrelu(conv3x3(lrelu(x))))`` on ``(B, D, h, w)``, widths unchanged, no normalisation.

    The last convolution starts at zero, so the block starts as the identity; the first starts with gain
    ``sqrt(2) * blocks**-0.5`` so that the variance does not grow with the number of blocks (Zhang et al.,
    "Fixup Initialization", ICLR 2019; used by R3GAN).
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, width, 3, padding=1)
        scale_weights(self.first, gain=(2.0 / blocks) ** 0.5)
        scale_weights(self.last, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, ``(B, D, h, w)``."""
        return x + self.last(functional.leaky_relu(self.first(functional.leaky_relu(x, SLOPE)), SLOPE))


def scale_weights(layer: nn.Conv2d | nn.Linear, gain: float) -> None:
    """Draw the layer's weights from N(0, gain^2 / fan_in) and set its bias to 0 (He et al. 2015)."""
    fan_in = layer.weight[0].numel()
    nn.init.normal_(layer.weight, 0.0, 1.0) if gain else nn.init.zeros_(layer.weight)
    layer.weight.data.mul_(gain * fan_in**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
