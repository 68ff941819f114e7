"""The critic of image translation: it scores patches, not images.

Isola, Zhu, Zhou & Efros, "Image-to-image translation with conditional adversarial networks", CVPR 2017,
section 3.2.2: patches of 70 px, of 16 px for small images.
"""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from phantomset.data.records import ImageSpec

SLOPE = 0.2
SMALL_PX, SHORTEST_PX = 64, 24
"""Up to the first a patch is 16 px: one of 70 would be the whole image. Below the other, as a shorter side,
nothing is left of an image for the layers of a larger patch."""


class PatchCritic(nn.Module):
    """``(B, C, H, W)`` to a map of scores ``(B, 1, h, w)``; each looks at one patch.

    Args:
        spec: of the images; channels as they come in.
        width: channels after the first layer; they double, up to eight times that.
    """

    def __init__(self, spec: ImageSpec, width: int) -> None:
        super().__init__()
        sides = spec.height, spec.width
        is_small = max(sides) <= SMALL_PX or min(sides) < SHORTEST_PX
        widths = (width, 2 * width) if is_small else (width, 2 * width, 4 * width, 8 * width)
        self.first = nn.Conv2d(spec.channels, widths[0], 4, stride=2, padding=1)
        strides = [1] if is_small else [2, 2, 1]
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=stride, padding=1)
            for (a, b), stride in zip(pairwise(widths), strides, strict=True)
        )
        self.last = nn.Conv2d(widths[-1], 1, 4, padding=1)

    def patches(self, images: Tensor) -> Tensor:
        """Return the map of scores, float32."""
        x = functional.leaky_relu(self.first(images), SLOPE)
        for layer in self.layers:
            x = functional.leaky_relu(instance_norm(layer(x)), SLOPE)
        return self.last(x).float()

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002 - as every critic is called
        """Return the mean score of each image, ``(B,)`` float32."""
        return self.patches(images).mean(dim=(1, 2, 3))


def instance_norm(x: Tensor) -> Tensor:
    """Return each channel of each image with mean 0 and variance 1; no image looks at another."""
    return functional.group_norm(x, x.shape[1])
