"""stylegan2: noise is mapped to a style, and the style scales every convolution of the generator.

Karras et al., "Analyzing and improving the image quality of StyleGAN", CVPR 2020, with the settings for
little data and the labels of Karras et al., "Training generative adversarial networks with limited data",
NeurIPS 2020 (its adaptive augmentation is the engine's: ``model.augment: adaptive``). Written from the
papers.

What differs, for images of 28 to 256 px and a few CPU cores: fewer channels; no path-length penalty, which
does nothing at 64 px and below; R1 is added to the loss at every 16th step with sixteenfold weight. Doubling
is bilinear, which is the paper's filter [1 3 3 1]; halving is a mean of 2 x 2.
"""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from phantomset.data.records import ImageSpec
from phantomset.ganmodels.blocks import duel
from phantomset.ganmodels.blocks.equalised import EqualConv2d, EqualLinear
from phantomset.ganmodels.blocks.geometry import Pyramid, pyramid
from phantomset.ganmodels.blocks.latent import latent_shape
from phantomset.ganmodels.blocks.penalty import squared_gradient
from phantomset.ganmodels.blocks.towers import unfit_size
from phantomset.ganmodels.family import Batch, Draw, Family, FamilySettings, Networks, Player

WIDTHS = (128, 64, 32, 24, 16, 16)
"""Channels by level, smallest map first; the last level is the full size."""

GROUP = 4
"""Images whose spread the critic sees together."""

GAIN = 2**0.5
SLOPE = 0.2
MEAN_STYLES = 1024
"""Styles of a class that are averaged to find its mean, to which truncation draws."""

LARGE_PX = 64
"""From here on noise inputs and style mixing help; on smaller images noise inputs do harm."""


class Settings(FamilySettings):
    """Settings of ``model.settings`` for ``family: stylegan2``."""

    latent: int = Field(512, ge=2, le=1024, description="dimensions of noise, class embedding and style")
    mapping_layers: int = Field(2, ge=1, le=8, description="layers from noise to style")
    noise_inputs: bool | None = Field(None, description="noise in every layer; by size when not given")
    style_mixing: float | None = Field(
        None, ge=0, le=1, description="share of fakes made from two styles; by size when not given"
    )
    gamma: float | None = Field(None, gt=0, description="weight of R1; by size when not given")
    penalty_every: int = Field(16, ge=1, le=64, description="steps from one penalty to the next")
    learning_rate: float = Field(2.5e-3, gt=0, lt=1, description="Adam's step, both players")


class Mapping(nn.Module):
    """``f(z, y)``: normalised noise and class embedding to a style."""

    def __init__(self, settings: Settings, class_count: int) -> None:
        super().__init__()
        size = settings.latent
        self.embedding = nn.Embedding(class_count, size)
        sizes = (2 * size, *[size] * settings.mapping_layers)
        self.layers = nn.ModuleList(EqualLinear(a, b, rate=0.01) for a, b in pairwise(sizes))

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return styles ``(B, latent)``."""
        x = torch.cat([_normalised(z), _normalised(self.embedding(labels))], dim=1)
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), SLOPE) * GAIN
        return x


class Modulated(nn.Module):
    """A convolution whose weights are scaled by a style and rescaled to unit variance: equations 1 and 3.

    Scaling the weights of each image apart would make one convolution an image. The same result comes from
    scaling the input, one convolution for all with shared weights, and scaling the output.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, latent: int, is_demodulated: bool) -> None:
        super().__init__()
        self.affine = EqualLinear(latent, inputs, bias=1.0)
        self.convolution = EqualConv2d(inputs, outputs, kernel, has_bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1))
        self.is_demodulated = is_demodulated

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Return ``(B, outputs, h, w)``, without the bias."""
        scales = self.affine(style)
        x = self.convolution(x * scales[:, :, None, None])
        if not self.is_demodulated:
            return x
        with torch.autocast(x.device.type, enabled=False):
            weights = (self.convolution.weight * self.convolution.scale).square().sum(dim=(2, 3))
            norms = torch.rsqrt(scales.float().square() @ weights.T + 1e-8)
        return x * norms[:, :, None, None]


class Layer(nn.Module):
    """A modulated convolution, noise, bias and leaky rectifier."""

    def __init__(self, inputs: int, outputs: int, latent: int, has_noise: bool) -> None:
        super().__init__()
        self.modulated = Modulated(inputs, outputs, 3, latent, is_demodulated=True)
        self.strength = nn.Parameter(torch.zeros(())) if has_noise else None

    def forward(self, x: Tensor, style: Tensor, rng: torch.Generator) -> Tensor:
        """Return ``(B, outputs, h, w)``; ``rng`` gives the noise."""
        x = self.modulated(x, style)
        if self.strength is not None:
            noise = torch.randn(len(x), 1, *x.shape[2:], generator=rng, device=rng.device)
            x = x + self.strength * noise
        return functional.leaky_relu(x + self.modulated.bias, SLOPE) * GAIN


class Generator(nn.Module):
    """``G(w)``: a learned constant, doubled; every level adds its part to the image (figure 7b)."""

    def __init__(self, settings: Settings, spec: ImageSpec, class_count: int) -> None:
        super().__init__()
        self.pyramid = pyramid(spec)
        self.mapping = Mapping(settings, class_count)
        widths, size = level_widths(self.pyramid), settings.latent
        asked, is_large = settings.noise_inputs, max(spec.height, spec.width) >= LARGE_PX
        has_noise = is_large if asked is None else asked
        self.constant = nn.Parameter(torch.randn(1, widths[0], *self.pyramid.start))
        self.firsts = nn.ModuleList(Layer(a, b, size, has_noise) for a, b in pairwise((widths[0], *widths)))
        self.seconds = nn.ModuleList(Layer(width, width, size, has_noise) for width in widths[1:])
        self.images = nn.ModuleList(Modulated(width, spec.channels, 1, size, False) for width in widths)

    def forward(self, styles: Tensor, rng: torch.Generator) -> Tensor:
        """Return images ``(B, C, H, W)``, not limited, for a style a level ``(levels, B, latent)``."""
        x = self.constant.expand(styles.shape[1], -1, -1, -1)
        x = self.firsts[0](x, styles[0], rng)
        image = self._part(0, x, styles)
        for level in range(1, len(self.firsts)):
            x = self.firsts[level](_doubled(x), styles[level], rng)
            x = self.seconds[level - 1](x, styles[level], rng)
            image = _doubled(image) + self._part(level, x, styles)
        return self.pyramid.crop(image)

    def _part(self, level: int, x: Tensor, styles: Tensor) -> Tensor:
        """Return what a level adds to the image, float32."""
        return self.images[level](x, styles[level]).float() + self.images[level].get_parameter("bias")


class Critic(nn.Module):
    """``D(x, y)``: residual halvings, the spread of each few images, projected on the class embedding."""

    def __init__(self, settings: Settings, spec: ImageSpec, class_count: int) -> None:
        super().__init__()
        self.pyramid = pyramid(spec)
        widths = level_widths(self.pyramid)[::-1]
        rows, columns = self.pyramid.start
        self.first = EqualConv2d(spec.channels, widths[0], 1)
        self.keeps = nn.ModuleList(EqualConv2d(a, a, 3) for a in widths[:-1])
        self.widens = nn.ModuleList(EqualConv2d(a, b, 3) for a, b in pairwise(widths))
        self.skips = nn.ModuleList(EqualConv2d(a, b, 1, has_bias=False) for a, b in pairwise(widths))
        self.last = EqualConv2d(widths[-1] + 1, widths[-1], 3)
        self.features = EqualLinear(widths[-1] * rows * columns, settings.latent)
        self.embedding = nn.Embedding(class_count, settings.latent)
        self.score = EqualLinear(settings.latent, settings.latent)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return scores ``(B,)`` float32; images 4i to 4i + 3 see one another."""
        x = _bent(self.first(self.pyramid.pad(images)))
        for keep, widen, skip in zip(self.keeps, self.widens, self.skips, strict=True):
            y = functional.avg_pool2d(_bent(widen(_bent(keep(x)))), 2)
            x = (y + skip(functional.avg_pool2d(x, 2))) * 0.5**0.5
        with torch.autocast(images.device.type, enabled=False):
            x = x.float()
            x = _bent(self.last(torch.cat([x, spread_plane(x)], dim=1)))
            x = self.score(_bent(self.features(x.flatten(1))))
            return (x * _normalised(self.embedding(labels))).mean(dim=1) * x.shape[1] ** 0.5


def spread_plane(x: Tensor) -> Tensor:
    """Return ``(B, 1, h, w)``: the mean standard deviation of features over each `GROUP` images in a row."""
    planes = []
    for group in x.split(GROUP):
        centred = group - group.mean(dim=0)
        spread = (centred.square().mean(dim=0) + 1e-8).sqrt().mean()
        planes.append(spread.expand(len(group), 1, *x.shape[2:]))
    return torch.cat(planes)


def level_widths(shape: Pyramid) -> tuple[int, ...]:
    """Return the channels of the levels, smallest map first."""
    return WIDTHS[: shape.doublings + 1]


def _bent(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, SLOPE) * GAIN


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _normalised(x: Tensor) -> Tensor:
    """Return rows with a mean square of 1."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


def critic_loss(
    settings: Settings, networks: Networks, batch: Batch, rng: torch.Generator, shared: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return ``E f(-D(x)) + E f(D(G))``, and at every 16th step 16 times ``gamma/2 E ||dD(x)/dx||^2``."""
    fakes = networks["generator"](mixed_styles(settings, networks, batch, rng), rng)
    every = 1 if batch.is_careful else settings.penalty_every
    is_penalised = batch.step % every == 0
    real_images = batch.augment(batch.images).requires_grad_(is_penalised)
    # Apart, so that no group holds real images and fakes.
    real = networks["critic"](real_images, batch.labels)
    fake = networks["critic"](batch.augment(fakes.detach()), batch.labels)
    duel.keep(shared, fakes, real, fake)
    numbers = {"real_sign": real.detach().sign().mean()}
    loss = functional.softplus(-real).mean() + functional.softplus(fake).mean()
    if is_penalised:
        squared = squared_gradient(real, real_images).mean()
        penalty = batch.penalty_scale * gamma(settings, batch.images) * squared / 2
        loss = loss + every * penalty
        numbers |= {"penalty": penalty.detach(), "squared_gradient": squared.detach()}
    return {"loss": loss, **numbers}


def generator_loss(
    networks: Networks, batch: Batch, _: torch.Generator, shared: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return ``E f(-D(G))``."""
    return {"loss": functional.softplus(-duel.fooled(networks, batch, shared)).mean()}


def mixed_styles(settings: Settings, networks: Networks, batch: Batch, rng: torch.Generator) -> Tensor:
    """Return a style a level ``(levels, B, latent)``; a share of the images changes style at some level."""
    generator = cast(Generator, networks["generator"])
    mapping, levels = generator.mapping, len(generator.firsts)
    first = mapping(duel.noise(batch, settings.latent, rng), batch.labels)
    share = settings.style_mixing
    if share is None:
        share = 0.9 if max(batch.images.shape[2:]) >= LARGE_PX else 0.0
    if not share:
        return first.expand(levels, -1, -1)
    second = mapping(duel.noise(batch, settings.latent, rng), batch.labels)
    draw = torch.rand(2, len(first), generator=rng, device=rng.device)
    crossing = torch.where(draw[0] < share, 1 + (draw[1] * (levels - 1)).long(), levels)
    level = torch.arange(levels, device=rng.device)[:, None]
    return torch.where((level < crossing)[:, :, None], first, second)


def gamma(settings: Settings, images: Tensor) -> float:
    """Return the weight of R1: by size 1e-5 times the pixels of a square image, 0.01 at 32 px."""
    if settings.gamma is not None:
        return settings.gamma
    return 1e-5 * max(images.shape[2:]) ** 2


def build(settings: Settings, spec: ImageSpec, class_count: int) -> dict[str, nn.Module]:
    """Return the two networks with fresh weights from torch's global generator."""
    return {
        "generator": Generator(settings, spec, class_count),
        "critic": Critic(settings, spec, class_count),
    }


def players(settings: Settings) -> tuple[Player, ...]:
    """Return the critic, who moves first, and the generator."""
    rates = settings.learning_rate, settings.learning_rate
    return duel.duel(partial(critic_loss, settings), generator_loss, rates, betas=(0.0, 0.99))


def sample(networks: Networks, settings: Settings, draw: Draw) -> Tensor:
    """Return one image for each label, ``(B, C, H, W)``; truncation draws styles to their class's mean."""
    generator = cast(Generator, networks["generator"])
    levels = len(generator.firsts)
    styles = [generator.mapping(noise, draw.labels) for noise in _noises(draw)]
    if draw.truncation < 1:
        mean = mean_styles(generator.mapping, settings, draw.labels)
        styles = [torch.lerp(mean, style, draw.truncation) for style in styles]
    coarse = (levels + 1) // 2
    rows = [styles[0]] * coarse + [styles[-1]] * (levels - coarse)
    return generator(torch.stack(rows), draw.rng)


def _noises(draw: Draw) -> Iterator[Tensor]:
    """Yield the noise of the coarse levels, and that of the fine ones where it is another."""
    yield draw.noise
    if draw.fine_noise is not None:
        yield draw.fine_noise


def mean_styles(mapping: nn.Module, settings: Settings, labels: Tensor) -> Tensor:
    """Return the mean style of each label's class, ``(B, latent)``, over fixed noise."""
    rng = torch.Generator(labels.device).manual_seed(0)
    noise = torch.randn(MEAN_STYLES, settings.latent, generator=rng, device=labels.device)
    classes, places = labels.unique(return_inverse=True)
    means = [mapping(noise, label.expand(MEAN_STYLES)).mean(dim=0) for label in classes]
    return torch.stack(means)[places]


FAMILY = Family(
    name="stylegan2",
    Settings=Settings,
    build=build,
    players=players,
    averaged=("generator",),
    check=unfit_size,
    paper="Karras et al., 'Analyzing and improving the image quality of StyleGAN', CVPR 2020; Karras et al., "
    "'Training generative adversarial networks with limited data', NeurIPS 2020",
    noise_shape=latent_shape,
    sample=sample,
    looks_at=GROUP,
    mixes_styles=True,
    has_sign=True,
)
