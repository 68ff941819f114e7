"""Layers with an equalised learning rate: weights of variance 1, scaled when they are used.

Karras, Aila, Laine & Lehtinen, "Progressive growing of GANs", ICLR 2018, section 4.1. Adam's steps do not
depend on the size of a gradient, so every weight of every layer then learns at the same speed.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class EqualLinear(nn.Module):
    """``(B, inputs) -> (B, outputs)``.

    Args:
        inputs: columns.
        outputs: columns.
        bias: where the bias starts.
        rate: factor on the layer's learning rate.
    """

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.scale, self.rate = rate * inputs**-0.5, rate

    def forward(self, x: Tensor) -> Tensor:
        """Return the linear map of ``x``."""
        return functional.linear(x, self.weight * self.scale, self.bias * self.rate)


class EqualConv2d(nn.Module):
    """``(B, inputs, h, w) -> (B, outputs, h, w)``, an odd kernel, the size kept."""

    def __init__(self, inputs: int, outputs: int, kernel: int, has_bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if has_bias else None
        self.scale, self.padding = (inputs * kernel**2) ** -0.5, kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of ``x``."""
        return functional.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)
