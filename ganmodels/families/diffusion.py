"""diffusion: a small denoising diffusion model, the second yardstick.

Karras, Aittala, Aila & Laine, "Elucidating the design space of diffusion-based generative models" (EDM),
NeurIPS 2022: its preconditioning, its distribution of noise levels in training, and Heun's method with its
steps (algorithm 1, no added noise), and against learning by heart its dropout and its augmentation, which the
network is told of, so that samples are of images as they are (appendix F.2). Labels with dropout for
guidance: Ho & Salimans, "Classifier-free diffusion guidance", 2022.

One gradient pass an image, no game. Sampling costs 2 N - 1 passes of the network. With fewer than some 500
images it learns them by heart all the same: judge it strictly.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from phantomset.data.records import ImageSpec
from phantomset.ganmodels.augment import transforms, uniform, warped
from phantomset.ganmodels.blocks.geometry import pyramid
from phantomset.ganmodels.blocks.schedule import cosine
from phantomset.ganmodels.blocks.towers import unfit_size
from phantomset.ganmodels.family import Batch, Draw, Family, FamilySettings, Networks, Player, unchanged

WIDTHS = (32, 64, 96, 128, 128, 128)
"""Channels by level, full size first: 28 px has three levels."""

GROUPS = 8
EMBEDDING = 128
MOVES_SCALE = 5.0
"""The largest moves and turns become about 1."""

LOG_MEAN, LOG_DEVIATION = -1.2, 1.2
"""Of the noise level in training, table 1 of the paper."""

LOWEST, HIGHEST, RHO = 0.002, 80.0, 7.0
"""Noise levels of sampling, and how their steps are spaced: equation 5."""


class Settings(FamilySettings):
    """Settings of ``model.settings`` for ``family: diffusion``."""

    sigma_data: float = Field(0.5, gt=0, le=2, description="standard deviation of the images in [-1, 1]")
    label_dropout: float = Field(0.1, ge=0, lt=1, description="share of images shown without their label")
    guidance: float = Field(0.0, ge=0, le=4, description="how far samples are pushed to their label")
    sampling_steps: int = Field(18, ge=2, le=256, description="steps of Heun's method")
    moved_share: float = Field(0.5, ge=0, le=1, description="share of images moved, turned and scaled")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of values dropped in each block")
    learning_rate: float = Field(1e-3, gt=0, lt=1, description="Adam's step at the start; a tenth at the end")
    warm_up_share: float = Field(0.02, ge=0, le=0.5, description="share of the budget with a rising step")

    @model_validator(mode="after")
    def _guidance_was_learned(self) -> "Settings":
        if self.guidance and not self.label_dropout:
            raise ValueError("guidance needs label_dropout above 0: it compares with images without a label")
        return self


Drop = Callable[[Tensor], Tensor]


def dropping(share: float, rng: torch.Generator) -> Drop:
    """Return dropout of a share of the values, from torch's generator: the global one is not for threads."""

    def drop(x: Tensor) -> Tensor:
        kept = torch.empty_like(x).bernoulli_(1 - share, generator=rng)
        return x * kept.div_(1 - share)

    return drop if share else unchanged


class Block(nn.Module):
    """A residual block whose second normalisation is scaled and shifted by the noise level and the class."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(GROUPS, inputs)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.affine = nn.Linear(EMBEDDING, 2 * outputs)
        self.norm_mid = nn.GroupNorm(GROUPS, outputs)
        self.last = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor, embedding: Tensor, drop: Drop) -> Tensor:
        """Return ``(B, outputs, h, w)``."""
        scale, shift = self.affine(embedding)[:, :, None, None].chunk(2, dim=1)
        y = self.norm_mid(self.first(functional.silu(self.norm_in(x))))
        return self.skip(x) + self.last(drop(functional.silu(torch.addcmul(shift, y, scale + 1))))


class Denoiser(nn.Module):
    """``D(x, sigma, y)``: a U-Net, preconditioned so that inputs and targets have unit variance."""

    def __init__(self, settings: Settings, spec: ImageSpec, class_count: int) -> None:
        super().__init__()
        self.pyramid, self.sigma_data, self.nothing = pyramid(spec), settings.sigma_data, class_count
        widths = WIDTHS[: self.pyramid.doublings + 1]
        self.embedding = nn.Embedding(class_count + 1, EMBEDDING)  # the last one: no label
        self.level = nn.Sequential(
            nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING)
        )
        self.moves = nn.Linear(6, EMBEDDING, bias=False)  # without one: images as they are
        self.register_buffer("frequencies", torch.randn(EMBEDDING // 2) * 2 * math.pi)
        self.first = nn.Conv2d(spec.channels, widths[0], 3, padding=1)
        self.downs = nn.ModuleList(Block(a, b) for a, b in pairwise((widths[0], *widths)))
        self.middle = Block(widths[-1], widths[-1])
        back = (*widths[::-1], widths[0])
        self.ups = nn.ModuleList(Block(a + a, b) for a, b in pairwise(back))
        self.norm = nn.GroupNorm(GROUPS, widths[0])
        self.last = nn.Conv2d(widths[0], spec.channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)

    def forward(self, noisy: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """Return the denoised images ``(B, C, H, W)`` float32; ``sigma`` is ``(B,)``. Equation 7."""
        return self.denoised(noisy, sigma, self.embedding(labels), unchanged)

    def denoised(self, noisy: Tensor, sigma: Tensor, about: Tensor, drop: Drop) -> Tensor:
        """Return the denoised images, told ``(B, EMBEDDING)`` what they show, and with dropout."""
        data, level = self.sigma_data, sigma[:, None, None, None]
        total = level.square() + data**2
        inner = self.raw(noisy / total.sqrt(), sigma.log() / 4, about, drop).float()
        return data**2 / total * noisy + level * data / total.sqrt() * inner

    def raw(self, images: Tensor, level: Tensor, about: Tensor, drop: Drop) -> Tensor:
        """Return the U-Net's output ``(B, C, H, W)`` for a noise level ``(B,)`` as a quarter of its log."""
        angles = level[:, None] * self.get_buffer("frequencies")
        waves = torch.cat([angles.cos(), angles.sin()], dim=1)
        embedding = functional.silu(self.level(waves) + about)
        x = self.first(self.pyramid.pad(images))
        kept: list[Tensor] = []
        for number, down in enumerate(self.downs):
            x = down(functional.avg_pool2d(x, 2) if number else x, embedding, drop)
            kept.append(x)
        x = self.middle(x, embedding, drop)
        for number, up in enumerate(self.ups):
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest") if number else x
            x = up(torch.cat([x, kept.pop()], dim=1), embedding, drop)
        return self.pyramid.crop(self.last(functional.silu(self.norm(x))))


def build(settings: Settings, spec: ImageSpec, class_count: int) -> dict[str, nn.Module]:
    """Return the one network with fresh weights from torch's global generator."""
    return {"denoiser": Denoiser(settings, spec, class_count)}


def players(settings: Settings) -> tuple[Player, ...]:
    """Return the one player."""

    def loss(
        networks: Networks, batch: Batch, rng: torch.Generator, _: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return ``E lambda(sigma) ||D(x + sigma n, sigma, y) - x||^2``, a mean over pixels; equation 2."""
        denoiser, count = cast(Denoiser, networks["denoiser"]), len(batch.images)
        sigma = (LOG_MEAN + LOG_DEVIATION * torch.randn(count, generator=rng, device=rng.device)).exp()
        is_dropped = torch.rand(count, generator=rng, device=rng.device) < settings.label_dropout
        labels = torch.where(is_dropped, denoiser.nothing, batch.labels)
        maps = transforms("affine", batch.images, uniform(rng), settings.moved_share)
        images = warped(batch.images, maps) if settings.moved_share else batch.images
        noise = torch.randn(images.shape, generator=rng, device=rng.device)
        weight = (sigma.square() + settings.sigma_data**2) / (sigma * settings.sigma_data).square()
        noisy = images + noise * sigma[:, None, None, None]
        moved = (maps - torch.eye(2, 3, device=maps.device)).flatten(1)
        about = denoiser.embedding(labels) + denoiser.moves(MOVES_SCALE * moved)
        made = denoiser.denoised(noisy, sigma, about, dropping(settings.dropout, rng))
        error = (made - images).square().mean(dim=(1, 2, 3))
        return {"loss": (weight * error).mean()}

    def rate(progress: float) -> float:
        return cosine(settings.learning_rate, settings.learning_rate / 10, progress)

    return (Player("denoiser", ("denoiser",), loss, rate, lambda _: (0.9, 0.99), settings.warm_up_share),)


def noise_shape(settings: Settings, spec: ImageSpec) -> tuple[int, ...]:  # noqa: ARG001
    """Return the shape of one image's first noise: the image's own."""
    return spec.shape


def sample(networks: Networks, settings: Settings, draw: Draw) -> Tensor:
    """Return one image for each label, ``(B, C, H, W)``, by Heun's method: algorithm 1."""
    denoiser = cast(Denoiser, networks["denoiser"])

    def slope(x: Tensor, level: float) -> Tensor:
        sigma = torch.full((len(x),), level, device=x.device)
        made = denoiser(x, sigma, draw.labels)
        if settings.guidance:
            unlabelled = denoiser(x, sigma, torch.full_like(draw.labels, denoiser.nothing))
            made = made + settings.guidance * (made - unlabelled)
        return (x - made) / level

    levels = noise_levels(settings.sampling_steps)
    x = draw.truncated * levels[0]
    for level, following in pairwise(levels):
        first = slope(x, level)
        euler = x + (following - level) * first
        x = euler if following == 0 else x + (following - level) * (first + slope(euler, following)) / 2
    return x


def noise_levels(steps: int) -> list[float]:
    """Return the noise levels of sampling, highest first, 0 last: equation 5."""
    high, low = HIGHEST ** (1 / RHO), LOWEST ** (1 / RHO)
    return [(high + step / (steps - 1) * (low - high)) ** RHO for step in range(steps)] + [0.0]


FAMILY = Family(
    name="diffusion",
    Settings=Settings,
    build=build,
    players=players,
    averaged=("denoiser",),
    check=unfit_size,
    paper="Karras, Aittala, Aila & Laine, 'Elucidating the design space of diffusion-based generative "
    "models', NeurIPS 2022",
    noise_shape=noise_shape,
    sample=sample,
    augments=False,
)
