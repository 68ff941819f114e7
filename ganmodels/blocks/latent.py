"""Noise as one vector an image: what most families draw from."""

from typing import Any

from torch import Tensor, nn

from phantomset.data.records import ImageSpec
from phantomset.ganmodels.family import Draw, Networks

_CLASS_SCALE = 0.1
"""Of a class's embedding beside noise of scale 1. As long as the noise, the generators without a gradient
penalty made one image a class, whatever the noise: on MNIST classes varied 0.16 times (dcgan) and 0.28 times
(cgan) as much as real ones after 9,600 images; so they vary 0.92 and 0.81 times."""


def class_embedding(class_count: int, size: int) -> nn.Embedding:
    """Return an embedding of classes ``(size,)`` to stand beside noise, short enough not to drown it."""
    embedding = nn.Embedding(class_count, size)
    nn.init.normal_(embedding.weight, 0.0, _CLASS_SCALE)
    return embedding


def latent_shape(settings: Any, _: ImageSpec) -> tuple[int, ...]:
    """Return the shape of one image's noise: ``(settings.latent,)``."""
    return (settings.latent,)


def from_latent(networks: Networks, _: Any, draw: Draw) -> Tensor:
    """Return what ``generator`` makes of noise and labels, one image for each label, ``(B, C, H, W)``."""
    return networks["generator"](draw.truncated, draw.labels)
