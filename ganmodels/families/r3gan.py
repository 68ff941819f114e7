"""R3GAN: a conditional GAN from a relativistic pairing loss and two gradient penalties, and no tricks.

Huang, Gokaslan, Kuleshov & Tompkin, "The GAN is dead; long live the GAN! A modern GAN baseline", NeurIPS
2024. Written from the paper. What differs, for images of 8 to 256 px and a few CPU cores: plain 3x3 residual
blocks instead of inverted bottlenecks, no stage at full size (the critic starts with a patch stem, the
generator ends with a smooth tail), exact penalties at every 4th step with fourfold weight, and a generator
whose smallest map is a linear function of noise and class. The paper scales the channels of a learned map
instead: with 64 channels that left out a third of what is real (docs/decisions/0030).

Not to be confused with the relativistic *average* GAN (Jolicoeur-Martineau, ICLR 2019), which compares with
the mean score; here each real image is paired with one fake of the same class.
"""

from functools import partial
from itertools import pairwise
from typing import cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from phantomset.data.records import ImageSpec
from phantomset.ganmodels.blocks import duel
from phantomset.ganmodels.blocks.geometry import Pyramid, pyramid
from phantomset.ganmodels.blocks.latent import from_latent, latent_shape
from phantomset.ganmodels.blocks.penalty import squared_gradient
from phantomset.ganmodels.blocks.residual import SLOPE, ResidualBlock, scale_weights
from phantomset.ganmodels.blocks.schedule import cosine
from phantomset.ganmodels.family import Batch, Family, FamilySettings, Networks, Player, PrivateGame, Width

WIDTHS = {1: (64,), 2: (64, 48), 3: (96, 64, 48), 4: (128, 96, 64, 48), 5: (192, 128, 96, 64, 48)}
"""Channels of the stages by number of doublings, smallest map first: 28 and 32 px have two stages."""

TAIL_WIDTH = 16
"""Channels of the generator's tail at full size."""

BEYOND = 0.01
"""What is left of an excess over the pixels' range, where the output is bounded: it shows the way back."""

SMALLEST_PX, LARGEST_PX = 8, 256


class Settings(FamilySettings):
    """Settings of ``model.settings`` for ``family: r3gan``."""

    latent: int = Field(64, ge=2, le=1024, description="dimensions of the noise and of the class embedding")
    widths: tuple[Width, ...] | None = Field(
        None, description="channels of the stages, smallest map first; by size when not given"
    )
    bounded: bool = Field(
        False,
        description="hold the output to the pixels' range: for images with a wholly black or white ground",
    )
    gamma_start: float | None = Field(
        None, gt=0, description="weight of the gradient penalties at the start; by size when not given"
    )
    gamma_end_share: float = Field(0.1, gt=0, le=1, description="gamma at the end, as a share of the start")
    penalty_every: int = Field(4, ge=1, le=16, description="steps from one penalty to the next")
    learning_rate_start: float = Field(1e-3, gt=0, lt=1, description="Adam's step at the start, both players")
    learning_rate_end: float = Field(2.5e-4, gt=0, lt=1, description="Adam's step at the end, both players")
    warm_up_share: float = Field(0.02, ge=0, le=0.5, description="share of the budget with a rising step")
    matrix_step: float | None = Field(
        None,
        gt=0,
        le=10,
        description="step of Muon for the critic's matrices, as a multiple of Adam's; Adam when not given",
    )


class Generator(nn.Module):
    """``G(z, y)``: noise and class to the smallest map, then doubled up to the image."""

    def __init__(self, settings: Settings, spec: ImageSpec, class_count: int) -> None:
        super().__init__()
        self.pyramid = pyramid(spec)
        widths = stage_widths(settings, self.pyramid)
        self.latent = settings.latent
        self.bounded = settings.bounded
        self.embedding = nn.Embedding(class_count, settings.latent)
        rows, columns = self.pyramid.start
        self.start = nn.Linear(2 * settings.latent, widths[0] * rows * columns)
        self.blocks = nn.ModuleList(ResidualBlock(width, len(widths)) for width in widths)
        self.bridges = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairwise(widths))
        self.tail_in = nn.Conv2d(widths[-1], TAIL_WIDTH, 1)
        self.tail_mid = nn.Conv2d(TAIL_WIDTH, TAIL_WIDTH, 3, padding=1)
        self.tail_out = nn.Conv2d(TAIL_WIDTH, spec.channels, 3, padding=1)
        for layer in (self.start, *self.bridges, self.tail_in, self.tail_out):
            scale_weights(cast(nn.Conv2d, layer), gain=1.0)
        scale_weights(self.tail_mid, gain=2.0**0.5)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return images ``(B, C, H, W)``, nominally in [-1, 1], for noise ``(B, latent)``."""
        x = self.start(torch.cat([z, self.embedding(labels)], dim=1)).unflatten(1, (-1, *self.pyramid.start))
        x = self.blocks[0](x.contiguous(memory_format=torch.channels_last))
        for bridge, block in zip(self.bridges, self.blocks[1:], strict=True):
            x = block(_doubled(bridge(x)))
        x = functional.leaky_relu(_doubled(self.tail_in(x)), SLOPE)
        x = functional.leaky_relu(self.tail_mid(x), SLOPE)
        x = self.pyramid.crop(self.tail_out(x))
        if not self.bounded:
            return x
        within = x.clamp(-1, 1)
        return within + BEYOND * (x - within)


class Critic(nn.Module):
    """``D(x, y)``: patches of 2 x 2 pixels, halved down to one vector, projected on the class embedding."""

    def __init__(self, settings: Settings, spec: ImageSpec, class_count: int) -> None:
        super().__init__()
        self.pyramid = pyramid(spec)
        widths = stage_widths(settings, self.pyramid)[::-1]
        self.stem = nn.Conv2d(4 * spec.channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width, len(widths)) for width in widths)
        self.bridges = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairwise(widths))
        area = self.pyramid.start[0] * self.pyramid.start[1]
        self.basis = nn.Parameter(torch.randn(1, widths[-1], *self.pyramid.start) * area**-0.5)
        self.head = nn.Linear(widths[-1], settings.latent)
        self.embedding = nn.Embedding(class_count, settings.latent)
        for layer in (self.stem, *self.bridges, self.head):
            scale_weights(cast(nn.Conv2d, layer), gain=1.0)
        self.embedding.weight.data.mul_(settings.latent**-0.5)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return scores ``(B,)`` float32. Only their differences mean anything: the zero is free."""
        x = self.stem(functional.pixel_unshuffle(self.pyramid.pad(images), 2))
        x = self.blocks[0](x)
        for bridge, block in zip(self.bridges, self.blocks[1:], strict=True):
            x = block(bridge(functional.avg_pool2d(x, 2)))
        # bfloat16 keeps 8 significant bits, and the loss lives on differences of scores in the 3rd digit.
        with torch.autocast(images.device.type, enabled=False):
            pooled = (x.float() * self.basis).sum(dim=(2, 3))
            return (self.head(pooled) * self.embedding(labels)).sum(dim=1)


def stage_widths(settings: Settings, shape: Pyramid) -> tuple[int, ...]:
    """Return the channels of the stages, smallest map first."""
    return settings.widths or WIDTHS[shape.doublings]


def gamma(settings: Settings, images: Tensor, progress: float) -> float:
    """Return the penalties' weight: a cosine from its start to a tenth of it.

    10 is proven at 28 px. Larger images need more, 2 to 4 times a doubling in the paper's own presets;
    between, ``10 * (side / 32)**1.5``.
    """
    side = (images.shape[2] * images.shape[3]) ** 0.5
    start = settings.gamma_start or 10.0 * max(side / 32.0, 1.0) ** 1.5
    return cosine(start, start * settings.gamma_end_share, progress)


def critic_loss(
    settings: Settings, networks: Networks, batch: Batch, rng: torch.Generator, shared: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return ``E f(D(G) - D(x)) + R1 + R2`` with f = softplus (equations 2 and 8 of the paper)."""
    count = len(batch.images)
    z = torch.randn(count, settings.latent, generator=rng, device=rng.device)
    fakes = networks["generator"](z, batch.labels)
    shared["fakes"] = fakes  # the generator's step uses them again, with their graph
    both = batch.augment(torch.cat([batch.images, fakes.detach()]))
    every = 1 if batch.is_careful else settings.penalty_every
    is_penalised = batch.step % every == 0
    both.requires_grad_(is_penalised)
    scores = networks["critic"](both, batch.labels.repeat(2))
    real, fake = scores.chunk(2)
    shared["real_scores"], shared["fake_scores"] = real.detach(), fake.detach()
    loss = functional.softplus(fake - real).mean()
    if not is_penalised:
        return {"loss": loss}
    # Real images and fakes alike: with R1 alone the paper saw divergence. R1 + R2 is gamma times this mean.
    squared = squared_gradient(scores, both).mean()
    penalty = batch.penalty_scale * gamma(settings, batch.images, batch.progress) * squared
    return {
        "loss": loss + every * penalty,
        "penalty": penalty.detach(),
        "squared_gradient": squared.detach(),
    }


def generator_loss(
    networks: Networks, batch: Batch, _: torch.Generator, shared: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return ``E f(D(x) - D(G))``: the critic's loss with the pair turned round.

    D(x) is of the critic before its move. It only weighs the pair, by how surely the two were told apart:
    the slope in G is D(G)'s, of the critic as it is now.
    """
    fake = duel.fooled(networks, batch, shared)
    return {"loss": functional.softplus(shared["real_scores"] - fake).mean()}


def fake_penalty(
    settings: Settings, networks: Networks, batch: Batch, rng: torch.Generator, _: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return R2 alone: ``gamma / 2`` times ``E ||dD/dx||^2`` over fakes."""
    with torch.no_grad():
        fakes = networks["generator"](duel.noise(batch, settings.latent, rng), batch.labels)
    seen = batch.augment(fakes).requires_grad_()
    squared = squared_gradient(networks["critic"](seen, batch.labels), seen).mean()
    penalty = batch.penalty_scale * gamma(settings, seen, batch.progress) / 2 * squared
    return {"loss": penalty, "penalty": penalty.detach(), "squared_gradient": squared.detach()}


def private(settings: Settings) -> PrivateGame:
    """Return the game for differential privacy: these networks, the classic loss, the penalty on fakes.

    The pairing loss leaves the zero of the scores free, so its generator needs scores of real images. R1
    would have to be shortened with its image: at the step with fourfold weight little else would be left.
    """
    return duel.private_game(settings, partial(fake_penalty, settings), settings.penalty_every)


def build(settings: Settings, spec: ImageSpec, class_count: int) -> dict[str, nn.Module]:
    """Return the two networks with fresh weights from torch's global generator."""
    return {
        "generator": Generator(settings, spec, class_count),
        "critic": Critic(settings, spec, class_count),
    }


def players(settings: Settings) -> tuple[Player, ...]:
    """Return the critic, who moves first, and the generator."""

    def learning_rate(progress: float) -> float:
        return cosine(settings.learning_rate_start, settings.learning_rate_end, progress)

    def betas(progress: float) -> tuple[float, float]:
        return 0.0, cosine(0.9, 0.99, progress)  # beta1 must be 0: momentum makes the game circle

    return (
        Player(
            name="critic",
            networks=("critic",),
            loss=partial(critic_loss, settings),
            learning_rate=learning_rate,
            betas=betas,
            warm_up_share=settings.warm_up_share,
            matrix_step=settings.matrix_step,
        ),
        Player(
            name="generator",
            networks=("generator",),
            loss=generator_loss,
            learning_rate=learning_rate,
            betas=betas,
            warm_up_share=settings.warm_up_share,
        ),
    )


def check(settings: Settings, spec: ImageSpec) -> str | None:
    """Return why images of this spec cannot be made, or None."""
    sides = (spec.height, spec.width)
    if min(sides) < SMALLEST_PX or max(sides) > LARGEST_PX:
        return (
            f"makes images of {SMALLEST_PX} to {LARGEST_PX} px a side; these are {sides[0]} x {sides[1]}. "
            "Choose another image.size_px."
        )
    doublings = pyramid(spec).doublings
    if settings.widths is not None and len(settings.widths) != doublings:
        return (
            f"settings.widths has {len(settings.widths)} numbers; "
            f"{sides[0]} x {sides[1]} px needs {doublings}, such as {list(WIDTHS[doublings])}."
        )
    return None


def _doubled(x: Tensor) -> Tensor:
    """Return ``(B, D, 2h, 2w)``, bilinear: pixel shuffling prints a checkerboard on the images."""
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


FAMILY = Family(
    name="r3gan",
    Settings=Settings,
    build=build,
    players=players,
    averaged=("generator",),
    check=check,
    paper="Huang et al., 'The GAN is dead; long live the GAN! A modern GAN baseline', NeurIPS 2024",
    noise_shape=latent_shape,
    sample=from_latent,
    private=private,
)
