"""vanilla: the first GAN, two multilayer perceptrons, with the class beside the noise and beside the image.

Goodfellow et al., "Generative adversarial nets", NeurIPS 2014, section 3, with the non-saturating loss of its
last paragraph; labels as in Mirza & Osindero, "Conditional generative adversarial nets", 2014.

For teaching. No convolution knows that neighbouring pixels belong together, so samples carry grain, and mode
collapse is normal: publish from r3gan.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from phantomset.data.records import ImageSpec
from phantomset.ganmodels.blocks import duel
from phantomset.ganmodels.blocks.latent import from_latent, latent_shape
from phantomset.ganmodels.blocks.towers import unfit_size
from phantomset.ganmodels.family import Family, FamilySettings, Player, Width

SLOPE = 0.2


class Settings(FamilySettings):
    """Settings of ``model.settings`` for ``family: vanilla``."""

    latent: int = Field(64, ge=2, le=1024, description="dimensions of the noise and of the class embedding")
    widths: tuple[Width, ...] = Field((256, 512), min_length=1, description="hidden layers of the generator")
    learning_rate: float = Field(2e-4, gt=0, lt=1, description="Adam's step, both players")


class Perceptron(nn.Module):
    """Linear layers with leaky rectifiers between them; a class embedding joins the input."""

    def __init__(self, inputs: int, widths: tuple[int, ...], outputs: int, latent: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, latent)
        sizes = (inputs + latent, *widths)
        hidden = [
            layer
            for a, b in zip(sizes, widths, strict=False)
            for layer in (nn.Linear(a, b), nn.LeakyReLU(SLOPE))
        ]
        self.layers = nn.Sequential(*hidden, nn.Linear(sizes[-1], outputs))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return ``(B, outputs)`` for ``(B, inputs)``."""
        return self.layers(torch.cat([x, self.embedding(labels)], dim=1))


class Generator(nn.Module):
    """``G(z, y)``: noise and class embedding to pixels."""

    def __init__(self, settings: Settings, spec: ImageSpec, class_count: int) -> None:
        super().__init__()
        self.shape = spec.shape
        pixels = spec.channels * spec.height * spec.width
        self.body = Perceptron(settings.latent, settings.widths, pixels, settings.latent, class_count)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return images ``(B, C, H, W)`` in [-1, 1] for noise ``(B, latent)``."""
        return torch.tanh(self.body(z, labels).float()).unflatten(1, self.shape)


class Critic(nn.Module):
    """``D(x, y)``: pixels and class embedding to one score, the log-odds of being real."""

    def __init__(self, settings: Settings, spec: ImageSpec, class_count: int) -> None:
        super().__init__()
        pixels = spec.channels * spec.height * spec.width
        self.body = Perceptron(pixels, settings.widths[::-1], 1, settings.latent, class_count)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return scores ``(B,)`` float32."""
        return self.body(images.flatten(1), labels).float().squeeze(1)


def build(settings: Settings, spec: ImageSpec, class_count: int) -> dict[str, nn.Module]:
    """Return the two networks with fresh weights from torch's global generator."""
    return {
        "generator": Generator(settings, spec, class_count),
        "critic": Critic(settings, spec, class_count),
    }


def players(settings: Settings) -> tuple[Player, ...]:
    """Return the critic, who moves first, and the generator: the non-saturating game."""
    rates = settings.learning_rate, settings.learning_rate
    return duel.non_saturating(settings.latent, rates, (0.5, 0.999))


FAMILY = Family(
    name="vanilla",
    Settings=Settings,
    build=build,
    players=players,
    averaged=("generator",),
    check=unfit_size,
    paper="Goodfellow et al., 'Generative adversarial nets', NeurIPS 2014",
    noise_shape=latent_shape,
    sample=from_latent,
    private=duel.private_game,
    has_sign=True,
)
