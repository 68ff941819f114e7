"""cgan: the classic conditional GAN, as the baseline that everybody knows.

Mirza & Osindero, "Conditional generative adversarial nets", 2014, in the shape of DCGAN (Radford et al., ICLR
2016): transposed convolutions in the generator, the class embedding beside the noise. The critic is that of
Miyato & Koyama, "cGANs with projection discriminator", ICLR 2018, with spectral norm and the hinge loss, and
learns faster than the generator (Heusel et al., "two time-scale update rule", NeurIPS 2017).

Group norm (Wu & He, ECCV 2018) stands where DCGAN has batch norm, with which a sample would depend on the
others in its batch and parts of a batch could not be computed apart. Adam has no momentum, where DCGAN has
0.5. Trials with both of DCGAN's choices collapsed on radiographs; which is to blame was not separated.

Not to be confused with AC-GAN, whose extra classifier pushes samples away from the border between classes.
It has no gradient penalty and collapses more easily than r3gan: compare with it, publish from r3gan.
"""

from functools import partial
from itertools import pairwise
from typing import cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from phantomset.data.records import ImageSpec
from phantomset.ganmodels.blocks.geometry import pyramid
from phantomset.ganmodels.blocks.spectral import SpectralConv2d, SpectralLinear, sharpen
from phantomset.ganmodels.family import Batch, Family, FamilySettings, Networks, Player

WIDTHS = {1: (64,), 2: (128, 64), 3: (256, 128, 64), 4: (512, 256, 128, 64)}
"""Channels of the maps by number of doublings, smallest map first: they halve as the size doubles."""

GROUPS = 8
SLOPE = 0.2
SMALLEST_PX, LARGEST_PX = 8, 128


class Settings(FamilySettings):
    """Settings of ``model.settings`` for ``family: cgan``."""

    latent: int = Field(64, ge=2, le=1024, description="dimensions of the noise and of the class embedding")
    learning_rate_generator: float = Field(2e-4, gt=0, lt=1, description="Adam's step for the generator")
    learning_rate_critic: float = Field(4e-4, gt=0, lt=1, description="Adam's step for the critic")
    warm_up_share: float = Field(0.02, ge=0, le=0.5, description="share of the budget with a rising step")


class Generator(nn.Module):
    """``G(z, y)``: noise and class embedding side by side, then doubled up to the image."""

    def __init__(self, settings: Settings, spec: ImageSpec, class_count: int) -> None:
        super().__init__()
        self.pyramid = pyramid(spec)
        widths = WIDTHS[self.pyramid.doublings]
        rows, columns = self.pyramid.start
        self.embedding = nn.Embedding(class_count, settings.latent)
        self.first = nn.Linear(2 * settings.latent, widths[0] * rows * columns, bias=False)
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, width) for width in widths)
        # Kernel 4, stride 2: every output pixel is covered equally often, which keeps the checkerboard small.
        self.doublings = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, stride=2, padding=1, bias=b == spec.channels)
            for a, b in zip(widths, (*widths[1:], spec.channels), strict=True)
        )
        for layer in (self.first, *self.doublings):
            nn.init.normal_(cast(Tensor, layer.weight), 0.0, 0.02)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return images ``(B, C, H, W)`` in [-1, 1] for noise ``(B, latent)``."""
        x = self.first(torch.cat([z, self.embedding(labels)], dim=1))
        x = x.unflatten(1, (-1, *self.pyramid.start)).contiguous(memory_format=torch.channels_last)
        for norm, doubling in zip(self.norms, self.doublings, strict=True):
            x = doubling(functional.relu(norm(x)))
        return self.pyramid.crop(torch.tanh(x.float()))


class Critic(nn.Module):
    """``D(x, y) = v . phi(x) + e_y . phi(x)``, every layer with spectral norm 1."""

    def __init__(self, settings: Settings, spec: ImageSpec, class_count: int) -> None:
        super().__init__()
        self.pyramid = pyramid(spec)
        widths = (spec.channels, *WIDTHS[self.pyramid.doublings][::-1])
        self.halvings = nn.ModuleList(
            SpectralConv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths)
        )
        area = self.pyramid.start[0] * self.pyramid.start[1]
        self.features = SpectralLinear(widths[-1] * area, settings.latent)
        self.score = SpectralLinear(settings.latent, 1)
        self.embedding = nn.Embedding(class_count, settings.latent)
        self.embedding.weight.data.mul_(settings.latent**-0.5)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return scores ``(B,)`` float32."""
        x = self.pyramid.pad(images)
        for halving in self.halvings:
            x = functional.leaky_relu(halving(x), SLOPE)
        with torch.autocast(images.device.type, enabled=False):
            features = functional.leaky_relu(self.features(x.flatten(1).float()), SLOPE)
            return self.score(features).squeeze(1) + (features * self.embedding(labels)).sum(dim=1)


def critic_loss(
    settings: Settings, networks: Networks, batch: Batch, rng: torch.Generator, shared: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the hinge loss ``E max(0, 1 - D(x)) + E max(0, 1 + D(G))``."""
    z = torch.randn(len(batch.images), settings.latent, generator=rng, device=rng.device)
    fakes = networks["generator"](z, batch.labels)
    shared["fakes"] = fakes  # the generator's step uses them again, with their graph
    both = batch.augment(torch.cat([batch.images, fakes.detach()]))
    real, fake = networks["critic"](both, batch.labels.repeat(2)).chunk(2)
    shared["real_scores"], shared["fake_scores"] = real.detach(), fake.detach()
    return {"loss": functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()}


def generator_loss(
    networks: Networks, batch: Batch, _: torch.Generator, shared: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return ``-E D(G)``."""
    return {"loss": -networks["critic"](batch.augment(shared["fakes"]), batch.labels).mean()}


def build(settings: Settings, spec: ImageSpec, class_count: int) -> dict[str, nn.Module]:
    """Return the two networks with fresh weights from torch's global generator."""
    return {
        "generator": Generator(settings, spec, class_count),
        "critic": Critic(settings, spec, class_count),
    }


def players(settings: Settings) -> tuple[Player, ...]:
    """Return the critic, who moves first, and the generator."""

    def betas(_: float) -> tuple[float, float]:
        return 0.0, 0.9

    return (
        Player(
            name="critic",
            networks=("critic",),
            loss=partial(critic_loss, settings),
            learning_rate=lambda _: settings.learning_rate_critic,
            betas=betas,
            warm_up_share=settings.warm_up_share,
        ),
        Player(
            name="generator",
            networks=("generator",),
            loss=generator_loss,
            learning_rate=lambda _: settings.learning_rate_generator,
            betas=betas,
            warm_up_share=settings.warm_up_share,
        ),
    )


def prepare(networks: Networks) -> None:
    """Follow the critic's weights with its singular vectors."""
    sharpen(networks["critic"])


def sample(networks: Networks, settings: Settings, labels: Tensor, rng: torch.Generator) -> Tensor:
    """Return one image for each label, ``(B, C, H, W)``, from untruncated noise."""
    z = torch.randn(len(labels), settings.latent, generator=rng, device=rng.device)
    return networks["generator"](z, labels)


def check(settings: Settings, spec: ImageSpec) -> str | None:  # noqa: ARG001 - the contract's form
    """Return why images of this spec cannot be made, or None."""
    sides = (spec.height, spec.width)
    if min(sides) < SMALLEST_PX or max(sides) > LARGEST_PX:
        return (
            f"makes images of {SMALLEST_PX} to {LARGEST_PX} px a side; these are {sides[0]} x {sides[1]}. "
            "Choose another image.size_px, or family r3gan."
        )
    return None


FAMILY = Family(
    name="cgan",
    Settings=Settings,
    build=build,
    players=players,
    sample=sample,
    averaged=("generator",),
    check=check,
    paper="Mirza & Osindero, 'Conditional generative adversarial nets', 2014; Miyato & Koyama, "
    "'cGANs with projection discriminator', ICLR 2018",
    prepare=prepare,
)
