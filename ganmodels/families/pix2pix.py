"""pix2pix: pairs of images; the second is made from the first.

Isola, Zhu, Zhou & Efros, "Image-to-image translation with conditional adversarial networks", CVPR 2017: a
U-Net with dropout as its only noise, a critic that scores patches of the pair, and a mean absolute error.

An image of the training set is a pair, the source's channels before the target's. Instance norm stands where
the paper has batch norm, and the networks have half its channels. Adam's step is five times the paper's 2e-4,
which is for batches of one: at 32 images a batch the paper's is far from done after 5,000 images. Pairs
that lie a few pixels apart give blur. The translation of a patient's image is that patient's image.
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
from phantomset.ganmodels.blocks.geometry import pyramid
from phantomset.ganmodels.blocks.patch import SLOPE, PatchCritic, instance_norm
from phantomset.ganmodels.blocks.towers import unfit_size
from phantomset.ganmodels.family import Batch, Family, FamilySettings, Networks, Player

WIDEST = 8
"""Channels of the smallest maps, in multiples of the width."""

DROPPED = 3
"""Smallest doublings that drop half of their channels."""


class Settings(FamilySettings):
    """Settings of ``model.settings`` for ``family: pix2pix``."""

    width: int = Field(32, ge=4, le=256, description="channels of the largest maps; they double inwards")
    absolute_weight: float = Field(100.0, ge=0, le=1e4, description="weight of the mean absolute error")
    learning_rate: float = Field(1e-3, gt=0, lt=1, description="Adam's step, both players")


class UNet(nn.Module):
    """Source to target: halved down, doubled up, each doubling sees the halving of its size."""

    def __init__(self, settings: Settings, spec: ImageSpec) -> None:
        super().__init__()
        self.pyramid, channels = pyramid(spec), spec.channels // 2
        levels = range(self.pyramid.doublings)
        widths = [settings.width * min(2**level, WIDEST) for level in levels]
        self.halvings = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise((channels, *widths))
        )
        back = [*widths[::-1], channels]
        self.doublings = nn.ModuleList(
            nn.ConvTranspose2d(a if not number else 2 * a, b, 4, stride=2, padding=1)
            for number, (a, b) in enumerate(pairwise(back))
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)

    def forward(self, source: Tensor, rng: torch.Generator) -> Tensor:
        """Return targets ``(B, C, H, W)`` in [-1, 1] for sources; ``rng`` says what is dropped."""
        x, kept = self.pyramid.pad(source), []
        for number, halving in enumerate(self.halvings):
            x = halving(functional.leaky_relu(x, SLOPE) if number else x)
            x = instance_norm(x) if number else x
            kept.append(x)
        x = kept.pop()
        for number, doubling in enumerate(self.doublings):
            if number:
                x = instance_norm(x)
                x = dropped(x, rng) if number <= DROPPED else x
                x = torch.cat([x, kept.pop()], dim=1)
            x = doubling(functional.relu(x))
        return torch.tanh(self.pyramid.crop(x.float()))


def dropped(x: Tensor, rng: torch.Generator) -> Tensor:
    """Return ``(B, D, h, w)`` with half of its values set to 0 and the others doubled, in sampling too."""
    draw = torch.rand(x.shape, generator=rng, device=x.device)
    return x * (draw < 0.5) * 2


def critic_loss(
    networks: Networks, batch: Batch, rng: torch.Generator, shared: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return ``E f(-D(s, t)) + E f(D(s, G(s)))``, a mean over patches, halved to slow the critic."""
    source = batch.images.chunk(2, dim=1)[0]
    pair = torch.cat([source, networks["generator"](source, rng)], dim=1)
    patches = cast(PatchCritic, networks["critic"]).patches(
        batch.augment(torch.cat([batch.images, pair.detach()]))
    )
    real, fake = patches.chunk(2)
    duel.keep(shared, pair, real.mean(dim=(1, 2, 3)), fake.mean(dim=(1, 2, 3)))
    return {"loss": (functional.softplus(-real).mean() + functional.softplus(fake).mean()) / 2}


def generator_loss(
    settings: Settings, networks: Networks, batch: Batch, _: torch.Generator, shared: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return ``E f(-D(s, G(s))) + weight E |t - G(s)|``; equation 4."""
    fooled = functional.softplus(
        -cast(PatchCritic, networks["critic"]).patches(batch.augment(shared["fakes"]))
    ).mean()
    error = (shared["fakes"].chunk(2, dim=1)[1] - batch.images.chunk(2, dim=1)[1]).abs().mean()
    return {"loss": fooled + settings.absolute_weight * error, "absolute_error": error.detach()}


def build(settings: Settings, spec: ImageSpec, class_count: int) -> dict[str, nn.Module]:  # noqa: ARG001
    """Return the two networks with fresh weights from torch's global generator."""
    return {"generator": UNet(settings, spec), "critic": PatchCritic(spec, settings.width)}


def players(settings: Settings) -> tuple[Player, ...]:
    """Return the critic, who moves first, and the generator."""
    rates = settings.learning_rate, settings.learning_rate
    return duel.duel(critic_loss, partial(generator_loss, settings), rates, betas=(0.5, 0.999))


def translate(
    networks: Networks,
    settings: Settings,  # noqa: ARG001
    images: Tensor,
    labels: Tensor,  # noqa: ARG001
    rng: torch.Generator,
) -> Tensor:
    """Return the targets ``(B, C, H, W)`` of sources."""
    return networks["generator"](images, rng)


def check(settings: Settings, spec: ImageSpec) -> str | None:
    """Return why images of this spec cannot be made, or None."""
    if spec.channels % 2:
        return f"needs pairs, the source's channels before the target's; these images have {spec.channels}."
    return unfit_size(settings, spec)


FAMILY = Family(
    name="pix2pix",
    Settings=Settings,
    build=build,
    players=players,
    averaged=("generator",),
    check=check,
    paper="Isola, Zhu, Zhou & Efros, 'Image-to-image translation with conditional adversarial networks', "
    "CVPR 2017",
    translate=translate,
    stacks=2,
    classes=1,
)
