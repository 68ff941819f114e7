"""A toy family whose failures are set by hand: one class that repeats itself, grain that grows.

Its images are three smooth waves of random size; the generator is the right one from the start. So what a
detector says of it is known before.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from phantomset.data.records import ImageSet, ImageSpec
from phantomset.ganmodels.family import Batch, Draw, Family, FamilySettings, Networks, Player

SIDE = 8
NEVER = 10**9


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong.

    Attributes:
        repeats: the label whose fakes are nearly one image.
        repeats_from: the step from which they are.
        grain_rate: how much grain the generator learns in a step, unless penalties come at every step.
        grain_from: the step from which it does.
        is_stubborn: it learns grain with penalties at every step too.
    """

    repeats: int = 0
    repeats_from: int = NEVER
    grain_rate: float = 0.0
    grain_from: int = 0
    is_stubborn: bool = False


def _waves(sizes: Tensor) -> Tensor:
    """Return smooth images ``(B, 1, 8, 8)`` for sizes ``(B, 3)``."""
    angle = 2 * torch.pi * torch.arange(SIDE) / SIDE  # whole waves: no edge that would fill the high bands
    across, down = angle.cos()[None, None, :], angle.sin()[None, :, None]
    parts = sizes[:, :, None, None].unbind(dim=1)
    return (0.2 * (parts[0] * across + parts[1] * down + parts[2]))[:, None]


def waves(counts: tuple[int, ...]) -> ImageSet:
    """Return real images, so many of each class."""
    rng = torch.Generator().manual_seed(0)
    labels = np.repeat(np.arange(len(counts)), counts)
    signal = _waves(torch.randn(len(labels), 3, generator=rng))
    pixels = signal.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    return ImageSet(pixels, labels, np.arange(len(labels)), tuple(f"class {k}" for k in range(len(counts))))


class _Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.grain = nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor) -> Tensor:
        checks = torch.ones(SIDE, SIDE)
        checks[::2, 1::2] = checks[1::2, ::2] = -1  # the highest frequency that there is
        return _waves(z) + self.grain * checks


class _Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor, _: Tensor) -> Tensor:
        return images.mean(dim=(1, 2, 3)) + self.zero


def toy(faults: Faults) -> Family:
    """Return the family that fails so."""

    def critic_loss(
        networks: Networks, batch: Batch, rng: torch.Generator, shared: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        fakes = networks["generator"](torch.randn(len(batch.images), 3, generator=rng))
        if batch.step >= faults.repeats_from:
            is_repeated = (batch.labels == faults.repeats)[:, None, None, None]
            fakes = torch.where(is_repeated, 0.05 * fakes, fakes)
        real, fake = (networks["critic"](each, batch.labels) for each in (batch.images, fakes.detach()))
        shared["fakes"], shared["real_scores"], shared["fake_scores"] = fakes, real.detach(), fake.detach()
        return {"loss": networks["critic"].zero.square().sum()}  # type: ignore[operator, union-attr]

    def generator_loss(
        networks: Networks, batch: Batch, _: torch.Generator, __: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        grain = networks["generator"].grain.sum()  # type: ignore[operator, union-attr]
        is_held = batch.step < faults.grain_from or (batch.is_careful and not faults.is_stubborn)
        return {"loss": grain.abs() if is_held else -grain}

    def players(_: FamilySettings) -> tuple[Player, ...]:
        rate = faults.grain_rate
        return (
            Player("critic", ("critic",), critic_loss, lambda _: 1e-3, lambda _: (0.0, 0.9)),
            Player("generator", ("generator",), generator_loss, lambda _: rate, lambda _: (0.0, 0.9)),
        )

    def sample(networks: Networks, _: FamilySettings, draw: Draw) -> Tensor:
        return networks["generator"](draw.noise)

    return Family(
        name="toy",
        Settings=FamilySettings,
        build=lambda settings, spec, count: {"generator": _Generator(), "critic": _Critic()},
        players=players,
        averaged=("generator",),
        check=lambda settings, spec: None,
        paper="none",
        noise_shape=_three,
        sample=sample,
    )


def _three(_: FamilySettings, __: ImageSpec) -> tuple[int, ...]:
    return (3,)
