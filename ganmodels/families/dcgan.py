"""dcgan: two convolutional towers and the non-saturating loss, the class as a further input of both.

Radford, Metz & Chintala, "Unsupervised representation learning with deep convolutional generative adversarial
networks", ICLR 2016. The class comes in as in Mirza & Osindero, "Conditional generative adversarial nets",
2014: its embedding beside the noise, and a plane for each class beside the image's channels.

The critic has spectral norm (Miyato et al., ICLR 2018) where DCGAN has batch norm, which would let the images
of a batch look at one another; with neither, the generator repeats itself. A step for each player and no
momentum go with it. Good up to 64 px; at 128 px and above take r3gan.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from phantomset.data.records import ImageSpec
from phantomset.ganmodels.blocks import duel
from phantomset.ganmodels.blocks.latent import from_latent, latent_shape
from phantomset.ganmodels.blocks.spectral import SpectralLinear, sharpen
from phantomset.ganmodels.blocks.towers import DownTower, UpTower, spectral_halving, unfit_size
from phantomset.ganmodels.family import Family, FamilySettings, Networks, Player

CLASS_SCALE = 0.1
"""Of the class embedding at first, beside noise of scale 1: as long as that, it drowned the noise. On MNIST
images of a class then varied .16 times as much as real ones after 9,600 images; so they vary .92 times."""


class Settings(FamilySettings):
    """Settings of ``model.settings`` for ``family: dcgan``."""

    latent: int = Field(64, ge=2, le=1024, description="dimensions of the noise and of the class embedding")
    learning_rate_generator: float = Field(2e-4, gt=0, lt=1, description="Adam's step for the generator")
    learning_rate_critic: float = Field(4e-4, gt=0, lt=1, description="Adam's step for the critic")
    momentum: float = Field(0.0, ge=0, lt=1, description="Adam's beta1, both players")


class Generator(nn.Module):
    """``G(z, y)``: noise and class embedding side by side, then doubled up to the image."""

    def __init__(self, settings: Settings, spec: ImageSpec, class_count: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(class_count, settings.latent)
        nn.init.normal_(self.embedding.weight, 0.0, CLASS_SCALE)
        self.tower = UpTower(2 * settings.latent, spec)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return images ``(B, C, H, W)`` in [-1, 1] for noise ``(B, latent)``."""
        return torch.tanh(self.tower(torch.cat([z, self.embedding(labels)], dim=1)))


class Critic(nn.Module):
    """``D(x, y)``: image and planes of its class, halved down to one score, the log-odds of being real."""

    def __init__(self, spec: ImageSpec, class_count: int) -> None:
        super().__init__()
        self.class_count = class_count
        self.tower = DownTower(spec, spectral_halving, planes=class_count)
        self.score = SpectralLinear(self.tower.outputs, 1)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return scores ``(B,)`` float32."""
        is_own = labels[:, None] == torch.arange(self.class_count, device=labels.device)
        planes = is_own.to(images.dtype)[:, :, None, None].expand(-1, -1, *images.shape[2:])
        features = self.tower(torch.cat([images, planes], dim=1))
        with torch.autocast(images.device.type, enabled=False):
            return self.score(features.float()).squeeze(1)


def build(settings: Settings, spec: ImageSpec, class_count: int) -> dict[str, nn.Module]:
    """Return the two networks with fresh weights from torch's global generator."""
    return {"generator": Generator(settings, spec, class_count), "critic": Critic(spec, class_count)}


def players(settings: Settings) -> tuple[Player, ...]:
    """Return the critic, who moves first, and the generator: the non-saturating game."""
    rates = settings.learning_rate_critic, settings.learning_rate_generator
    return duel.non_saturating(settings.latent, rates, (settings.momentum, 0.999))


def prepare(networks: Networks) -> None:
    """Follow the critic's weights with its singular vectors."""
    sharpen(networks["critic"])


FAMILY = Family(
    name="dcgan",
    Settings=Settings,
    build=build,
    players=players,
    averaged=("generator",),
    check=unfit_size,
    paper="Radford, Metz & Chintala, 'Unsupervised representation learning with deep convolutional "
    "generative adversarial networks', ICLR 2016",
    noise_shape=latent_shape,
    sample=from_latent,
    prepare=prepare,
    private=duel.private_game,
    has_sign=True,
)
