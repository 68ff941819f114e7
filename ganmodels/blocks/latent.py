"""Noise as one vector an image: what most families draw from."""

from typing import Any

from torch import Tensor

from phantomset.data.records import ImageSpec
from phantomset.ganmodels.family import Draw, Networks


def latent_shape(settings: Any, _: ImageSpec) -> tuple[int, ...]:
    """Return the shape of one image's noise: ``(settings.latent,)``."""
    return (settings.latent,)


def from_latent(networks: Networks, _: Any, draw: Draw) -> Tensor:
    """Return what ``generator`` makes of noise and labels, one image for each label, ``(B, C, H, W)``."""
    return networks["generator"](draw.truncated, draw.labels)
