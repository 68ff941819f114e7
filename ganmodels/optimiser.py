"""What moves a player's weights: Adam, and Muon for the matrices of a player that asks for it.

Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015. Jordan et al., "Muon: an optimizer for
hidden layers in neural networks", 2024: the gradient of a matrix, smoothed over the last moves, is made
nearly orthogonal, so that all directions move equally far, also those that few images ask for. torch's own
computes in bfloat16, which a processor without it emulates ten times more slowly than float32.
"""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

SMALLEST_SIDE = 16
"""Matrices with fewer rows or columns go with Adam: of so few directions none is left behind."""

MOMENTUM = 0.5
"""Of Muon. A game circles with the .95 that suits a single loss, as it does with Adam's first moment."""

ITERATIONS, COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)
"""Of Newton and Schulz, as the paper chose them: singular values end between .7 and 1.2, and quickly."""

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What Adam keeps of each weight."""


class Optimiser:
    """Weights of one player, and the moments of each.

    The moments exist from the start, so that a checkpoint of step 0 has them too. A resume without second
    moments would begin with full-size sign steps, from which the critic does not recover.

    Args:
        parameters: what is moved, by name.
        matrices: names of those that Muon moves, as `matrices_of` tells.
        matrix_step: root mean square of Muon's move of a matrix, in learning rates.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        matrices: Collection[str] = (),
        matrix_step: float = 1.0,
    ) -> None:
        self._parameters, self._matrix_step = dict(parameters), matrix_step
        self._matrices = {name: as_matrix(self._parameters[name]).detach() for name in matrices}
        self._momenta = {name: torch.zeros_like(matrix) for name, matrix in self._matrices.items()}
        others = [value for name, value in self._parameters.items() if name not in self._matrices]
        self._adam: Any = torch.optim.Adam(others, lr=0.0, betas=(0.0, 0.9), eps=1e-8, fused=True)
        for parameter in others:
            self._adam.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }

    def tensors(self) -> dict[str, Tensor]:
        """Return the moments of each weight, as ``weight.moment``; they share memory with the optimiser."""
        named = {f"{name}.momentum": momentum for name, momentum in self._momenta.items()}
        for name, parameter in self._parameters.items():
            if name not in self._matrices:
                named |= {f"{name}.{moment}": self._adam.state[parameter][moment] for moment in MOMENTS}
        return named

    @torch.no_grad()
    def step(
        self, gradients: list[Tensor], rate: float, betas: tuple[float, float], is_broken: Tensor
    ) -> None:
        """Move every weight against its gradient.

        Args:
            gradients: one a weight, of its shape, in the order of ``parameters``.
            rate: the learning rate.
            betas: Adam's decays of the first and second moment.
            is_broken: bool scalar on the device; where true, weights and moments stay as they are. It is
                not read back: that would stall a GPU.
        """
        for (name, parameter), gradient in zip(self._parameters.items(), gradients, strict=True):
            if name in self._matrices:
                self._move(name, as_matrix(gradient), rate * self._matrix_step, is_broken)
            else:
                # The fused kernel walks through memory: a gradient in another layout moves other weights.
                parameter.grad = torch.empty_like(parameter).copy_(gradient)
        group = self._adam.param_groups[0]
        group["lr"], group["betas"] = rate, betas
        # The fused kernel leaves weights and moments alone when told so.
        self._adam.found_inf, self._adam.grad_scale = is_broken.float(), None
        self._adam.step()

    def _move(self, name: str, gradient: Tensor, rate: float, is_broken: Tensor) -> None:
        """Move one matrix, with Nesterov's momentum."""
        matrix, momentum = self._matrices[name], self._momenta[name]
        momentum.lerp_(torch.where(is_broken, momentum, gradient), 1 - MOMENTUM)
        move = orthogonal(gradient.lerp(momentum, MOMENTUM)) * (rate * max(matrix.shape) ** 0.5)
        matrix.sub_(torch.where(is_broken, torch.zeros_like(move), move))


def orthogonal(matrix: Tensor) -> Tensor:
    """Return a matrix ``(M, N)`` with its singular values brought close to 1, zero ones left at 0.

    Iterations of Newton and Schulz: ``X <- a X + b (X X') X + c (X X')^2 X``, on the short side.
    """
    a, b, c = COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if is_tall else matrix
    x = x / (torch.linalg.vector_norm(x) + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x


def as_matrix(weight: Tensor) -> Tensor:
    """Return ``(O, I)`` or ``(O, I, h, w)`` as ``(O, h w I)``, sharing memory if that is channels-last."""
    return weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).flatten(1)


def matrices_of(network: nn.Module) -> list[str]:
    """Return the names of the weights of a network's linear layers and convolutions, but for small ones.

    The rows of an embedding are drawn one by one: it is no matrix in this sense.
    """
    return [
        f"{name}.weight"
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and min(as_matrix(layer.weight).shape) >= SMALLEST_SIDE
    ]
