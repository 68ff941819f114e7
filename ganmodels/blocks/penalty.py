"""The gradient penalty, in its exact form."""

import torch
from torch import Tensor


def squared_gradient(scores: Tensor, images: Tensor) -> Tensor:
    """Return ``||dD(x)/dx||^2`` of each image, ``(B,)`` float32, itself differentiable.

    R1 (Mescheder et al., ICML 2018, equation 9) is ``gamma / 2`` times its mean over real images, R2 over
    fakes. The square is summed over channels and pixels, not divided by their number. Exact double
    backward: estimates by finite or random differences are cheaper at every step, but in longer runs
    they ended with grain on the images or a late blow-up, so the cost is cut by asking less often instead.

    Args:
        scores: ``(B,)``; score i depends on image i alone.
        images: ``(B, C, H, W)``, requiring gradients, from which the scores were computed.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3))
