"""Layers whose largest singular value is held at 1."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Spectral(nn.Module):
    """A weight matrix and an estimate of its first left singular vector, as Miyato et al. keep it.

    "Spectral normalization for generative adversarial networks", ICLR 2018, algorithm 1.
    """

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.normal_(weight, 0.0, 0.02))
        self.bias = nn.Parameter(torch.zeros(len(weight)))
        self.register_buffer("direction", functional.normalize(torch.randn(len(weight)), dim=0))

    @torch.no_grad()
    def sharpen(self) -> None:
        """Improve the singular vector by one power iteration. Once a step is enough: weights move little."""
        matrix, left = self.weight.flatten(1), cast(Tensor, self.direction)
        right = functional.normalize(left @ matrix, dim=0)
        left.copy_(functional.normalize(matrix @ right, dim=0))

    def normalised(self) -> Tensor:
        """Return ``W / sigma(W)`` in float32, differentiable in W, the singular vectors held fixed."""
        # bfloat16 would be off by a percent here, which the layers then multiply up.
        with torch.autocast(self.weight.device.type, enabled=False):
            matrix, left = self.weight.flatten(1), cast(Tensor, self.direction)
            right = functional.normalize(left @ matrix.detach(), dim=0)
            return self.weight / (left @ matrix @ right)


class SpectralConv2d(_Spectral):
    """A convolution ``(B, A, h, w) -> (B, D, h', w')`` with spectral norm 1, as a matrix D x (A k k)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__(nn.Parameter(torch.empty(outputs, inputs, kernel, kernel)))
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of ``x``."""
        return functional.conv2d(x, self.normalised(), self.bias, self.stride, self.padding)


class SpectralLinear(_Spectral):
    """A linear map ``(B, A) -> (B, D)`` with spectral norm 1."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Parameter(torch.empty(outputs, inputs)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the image of ``x``."""
        return functional.linear(x, self.normalised(), self.bias)


def sharpen(network: nn.Module) -> None:
    """Improve the singular vectors of all such layers of a network by one power iteration."""
    for layer in network.modules():
        if isinstance(layer, _Spectral):
            layer.sharpen()
