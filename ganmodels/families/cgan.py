"""cgan: the classic conditional GAN, as the baseline that everybody knows.

Mirza & Osindero, "Conditional generative adversarial nets", 2014, in the shape of DCGAN (Radford et al., ICLR
2016): transposed convolutions in the generator, the class embedding beside the noise. Spectral norm, hinge
loss, and a critic that learns faster than the generator (Heusel et al., "two time-scale update rule", NeurIPS
2017). Two heads tell the critic of the class:

- ``projection`` (Miyato & Koyama, "cGANs with projection discriminator", ICLR 2018), the default;
- ``auxiliary`` (Odena et al., "Conditional image synthesis with auxiliary classifier GANs", ICML 2017): a
  classifier beside the score. It pushes samples away from the border between classes: labels look right and
  the hard cases are missing.

Adam has no momentum, where DCGAN has 0.5. Trials with batch norm and momentum collapsed on radiographs; which
is to blame was not separated. On radiographs of 28 px it is ahead of r3gan in all but texture
(docs/benchmarks.md). It has no gradient penalty: at 64 px it needs far longer.
"""

from typing import Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from phantomset.data.records import ImageSpec
from phantomset.ganmodels.blocks import duel
from phantomset.ganmodels.blocks.latent import from_latent, latent_shape
from phantomset.ganmodels.blocks.spectral import SpectralLinear, sharpen
from phantomset.ganmodels.blocks.towers import SLOPE, DownTower, UpTower, spectral_halving, unfit_size
from phantomset.ganmodels.family import Batch, Family, FamilySettings, Networks, Player, PrivateGame


class Settings(FamilySettings):
    """Settings of ``model.settings`` for ``family: cgan``."""

    latent: int = Field(64, ge=2, le=1024, description="dimensions of the noise and of the class embedding")
    head: Literal["projection", "auxiliary"] = Field("projection", description="how the critic learns of y")
    auxiliary_weight: float = Field(
        1.0, gt=0, description="weight of the auxiliary classifier's cross-entropy"
    )
    learning_rate_generator: float = Field(2e-4, gt=0, lt=1, description="Adam's step for the generator")
    learning_rate_critic: float = Field(4e-4, gt=0, lt=1, description="Adam's step for the critic")
    warm_up_share: float = Field(0.02, ge=0, le=0.5, description="share of the budget with a rising step")

    @model_validator(mode="after")
    def _nothing_is_lost(self) -> "Settings":
        if self.head == "projection":
            self.require_default("auxiliary_weight", unless="head: auxiliary")
        return self


class Generator(nn.Module):
    """``G(z, y)``: noise and class embedding side by side, then doubled up to the image."""

    def __init__(self, settings: Settings, spec: ImageSpec, class_count: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(class_count, settings.latent)
        self.tower = UpTower(2 * settings.latent, spec)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return images ``(B, C, H, W)`` in [-1, 1] for noise ``(B, latent)``."""
        return torch.tanh(self.tower(torch.cat([z, self.embedding(labels)], dim=1)))


class Critic(nn.Module):
    """Features ``phi(x)``, every layer with spectral norm 1, and what either head makes of them."""

    def __init__(self, settings: Settings, spec: ImageSpec, class_count: int) -> None:
        super().__init__()
        self.tower = DownTower(spec, spectral_halving)
        self.features = SpectralLinear(self.tower.outputs, settings.latent)
        self.score = SpectralLinear(settings.latent, 1)
        self.is_auxiliary = settings.head == "auxiliary"
        if self.is_auxiliary:
            self.classes = nn.Linear(settings.latent, class_count)
        else:
            self.embedding = nn.Embedding(class_count, settings.latent)
            self.embedding.weight.data.mul_(settings.latent**-0.5)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return scores ``(B,)`` float32: ``v . phi + e_y . phi``, or ``v . phi`` for an auxiliary head."""
        return self.judged(images, labels)[0]

    def judged(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores ``(B,)`` and the cross-entropy ``(B,)`` of the labels, 0 for projection."""
        x = self.tower(images)
        with torch.autocast(images.device.type, enabled=False):
            features = functional.leaky_relu(self.features(x.float()), SLOPE)
            score = self.score(features).squeeze(1)
            if self.is_auxiliary:
                return score, functional.cross_entropy(self.classes(features), labels, reduction="none")
            return score + (features * self.embedding(labels)).sum(dim=1), torch.zeros_like(score)


def build(settings: Settings, spec: ImageSpec, class_count: int) -> dict[str, nn.Module]:
    """Return the two networks with fresh weights from torch's global generator."""
    return {
        "generator": Generator(settings, spec, class_count),
        "critic": Critic(settings, spec, class_count),
    }


def players(settings: Settings) -> tuple[Player, ...]:
    """Return the critic, who moves first, and the generator."""

    def critic_loss(
        networks: Networks, batch: Batch, rng: torch.Generator, shared: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the hinge loss ``E max(0, 1 - D(x)) + E max(0, 1 + D(G))``, and the classifier's."""
        fakes = networks["generator"](duel.noise(batch, settings.latent, rng), batch.labels)
        both = batch.augment(torch.cat([batch.images, fakes.detach()]))
        score, entropy = cast(Critic, networks["critic"]).judged(both, batch.labels.repeat(2))
        real, fake = score.chunk(2)
        duel.keep(shared, fakes, real, fake)
        hinge = functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()
        # The classifier learns from real images alone: it would else learn to name the generator's errors.
        told = entropy.chunk(2)[0].mean()
        return {
            "loss": hinge + settings.auxiliary_weight * told,
            "real_sign": real.detach().sign().mean(),
        }

    def generator_loss(
        networks: Networks, batch: Batch, _: torch.Generator, shared: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return ``-E D(G)``, and the classifier's cross-entropy of the labels that were asked for."""
        fake, entropy = cast(Critic, networks["critic"]).judged(batch.augment(shared["fakes"]), batch.labels)
        return {"loss": -fake.mean() + settings.auxiliary_weight * entropy.mean()}

    rates = settings.learning_rate_critic, settings.learning_rate_generator
    return duel.duel(critic_loss, generator_loss, rates, (0.0, 0.9), settings.warm_up_share)


def private(settings: Settings) -> PrivateGame | None:
    """Return the hinge game of single pairs; none with an auxiliary head, which learns more than a score."""
    if settings.head == "auxiliary":
        return None
    return PrivateGame(
        critic=lambda real, fake: functional.relu(1 - real) + functional.relu(1 + fake),
        generator=lambda fake: -fake,
    )


def prepare(networks: Networks) -> None:
    """Follow the critic's weights with its singular vectors."""
    sharpen(networks["critic"])


FAMILY = Family(
    name="cgan",
    Settings=Settings,
    build=build,
    players=players,
    averaged=("generator",),
    check=unfit_size,
    paper="Mirza & Osindero, 'Conditional generative adversarial nets', 2014; Miyato & Koyama, "
    "'cGANs with projection discriminator', ICLR 2018; Odena, Olah & Shlens, 'Conditional image synthesis "
    "with auxiliary classifier GANs', ICML 2017",
    noise_shape=latent_shape,
    sample=from_latent,
    private=private,
    prepare=prepare,
    has_sign=True,
)
