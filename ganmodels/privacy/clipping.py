"""The sum of gradients of which none is longer than a given length: what noise can hide one of."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.func import grad, vmap


def clipped_sum(
    loss: Callable[..., Tensor], parameters: Mapping[str, Tensor], examples: Sequence[Tensor], longest: float
) -> dict[str, Tensor]:
    """Return the sum over examples of each one's gradient, shortened to at most ``longest``, by name.

    The length is the Euclidean one over all parameters together. An example whose gradient is no number
    counts as 0: to leave out the whole batch for it would tell that it was there. Abadi et al., "Deep
    learning with differential privacy", CCS 2016, algorithm 1.

    Args:
        loss: ``(parameters, *one example) -> scalar``.
        parameters: by name.
        examples: tensors ``(B, ...)``, of which row i of each is example i.
        longest: length to which a gradient is shortened.
    """
    of_each = vmap(grad(loss), in_dims=(None, *(0 for _ in examples)))(dict(parameters), *examples)
    squares = torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in of_each.values()])
    lengths = squares.sum(dim=0).sqrt()
    is_number = torch.isfinite(lengths)
    share = torch.where(is_number, (longest / lengths).clamp(max=1.0), 0.0)
    return {
        name: torch.tensordot(share, _kept(gradient, is_number), dims=1) for name, gradient in of_each.items()
    }


def _kept(gradient: Tensor, is_number: Tensor) -> Tensor:
    """Return per-example gradients, 0 where they are no numbers: 0 times infinity is none either."""
    return gradient.where(is_number.view(-1, *(1 for _ in gradient.shape[1:])), 0.0)
