"""vae: a conditional variational autoencoder, the stable yardstick: full coverage, blurred.

Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014; labels as in Sohn, Lee & Yan, "Learning
structured output representation using deep conditional generative models", NeurIPS 2015; beta as in
Higgins et al., "beta-VAE", ICLR 2017. The width of the Gaussian likelihood is learned (Rybkin, Daniilidis &
Levine, "Simple and effective VAE training with calibrated decoders", ICML 2021): a fixed one is the usual
failure.

One player, no game, no collapse: choose it for very small sets, or to see what a GAN adds.
"""

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from phantomset.data.records import ImageSpec
from phantomset.ganmodels.blocks.schedule import cosine
from phantomset.ganmodels.blocks.towers import DownTower, UpTower, normed_halving, unfit_size
from phantomset.ganmodels.family import Batch, Draw, Family, FamilySettings, Networks, Player


class Settings(FamilySettings):
    """Settings of ``model.settings`` for ``family: vae``."""

    latent: int = Field(32, ge=2, le=1024, description="dimensions of the code and of the class embedding")
    beta: float = Field(1.0, gt=0, le=10, description="weight of the code's divergence from the prior")
    learning_rate: float = Field(1e-3, gt=0, lt=1, description="Adam's step at the start; a tenth at the end")
    warm_up_share: float = Field(0.02, ge=0, le=0.5, description="share of the budget with a rising step")


class Encoder(nn.Module):
    """``q(z | x, y)``: a Gaussian with a diagonal covariance."""

    def __init__(self, settings: Settings, spec: ImageSpec, class_count: int) -> None:
        super().__init__()
        self.tower = DownTower(spec, normed_halving)
        self.embedding = nn.Embedding(class_count, settings.latent)
        self.code = nn.Linear(self.tower.outputs + settings.latent, 2 * settings.latent)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the code, each ``(B, latent)`` float32."""
        features = torch.cat([self.tower(images).float(), self.embedding(labels)], dim=1)
        with torch.autocast(images.device.type, enabled=False):
            mean, log_variance = self.code(features).chunk(2, dim=1)
        return mean, log_variance.clamp(-10, 10)


class Decoder(nn.Module):
    """``p(x | z, y)``: a Gaussian around an image, of one width for all pixels."""

    def __init__(self, settings: Settings, spec: ImageSpec, class_count: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(class_count, settings.latent)
        self.tower = UpTower(2 * settings.latent, spec)
        self.log_width = nn.Parameter(torch.tensor(-1.0))

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the mean image ``(B, C, H, W)`` in [-1, 1] for codes ``(B, latent)``."""
        return torch.tanh(self.tower(torch.cat([z, self.embedding(labels)], dim=1)))


def build(settings: Settings, spec: ImageSpec, class_count: int) -> dict[str, nn.Module]:
    """Return the two networks with fresh weights from torch's global generator."""
    return {
        "encoder": Encoder(settings, spec, class_count),
        "decoder": Decoder(settings, spec, class_count),
    }


def players(settings: Settings) -> tuple[Player, ...]:
    """Return the one player, who moves both networks."""

    def loss(
        networks: Networks, batch: Batch, rng: torch.Generator, _: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the negative evidence lower bound in nats a pixel, its second term times beta."""
        mean, log_variance = networks["encoder"](batch.images, batch.labels)
        draw = torch.randn(mean.shape, generator=rng, device=rng.device)
        images = networks["decoder"](mean + draw * (log_variance / 2).exp(), batch.labels)
        log_width = networks["decoder"].get_parameter("log_width")
        error = (images - batch.images).square().mean()
        likelihood = log_width + error / (2 * (2 * log_width).exp()) + 0.5 * math.log(2 * math.pi)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
        return {
            "loss": likelihood + settings.beta * divergence / batch.images[0].numel(),
            "squared_error": error.detach(),
            "divergence": divergence.detach(),
        }

    def rate(progress: float) -> float:
        return cosine(settings.learning_rate, settings.learning_rate / 10, progress)

    networks = ("encoder", "decoder")
    return (Player("autoencoder", networks, loss, rate, lambda _: (0.9, 0.999), settings.warm_up_share),)


def noise_shape(settings: Settings, spec: ImageSpec) -> tuple[int, ...]:  # noqa: ARG001
    """Return the shape of one image's code."""
    return (settings.latent,)


def sample(networks: Networks, settings: Settings, draw: Draw) -> Tensor:  # noqa: ARG001
    """Return the mean image of a code from the prior, ``(B, C, H, W)``."""
    return networks["decoder"](draw.truncated, draw.labels)


FAMILY = Family(
    name="vae",
    Settings=Settings,
    build=build,
    players=players,
    averaged=("decoder",),
    check=unfit_size,
    paper="Kingma & Welling, 'Auto-encoding variational Bayes', ICLR 2014",
    noise_shape=noise_shape,
    sample=sample,
    augments=False,
)
