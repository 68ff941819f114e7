"""Toy families whose failures are set by hand: a class that repeats itself, grain, a critic that gets away.

Their images are three smooth waves of random size; the generator, or translator, is the right one from the
start. So what a detector says of it is known before.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from phantomset.data.records import ImageSet, ImageSpec
from phantomset.ganmodels.family import Batch, Draw, Family, FamilySettings, Networks, Player

SIDE = 8
NEVER = 10**9
SMALL = 0.7


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong.

    Attributes:
        repeats: the label whose fakes are nearly one image.
        repeats_from: the step from which they are.
        repeats_at_last: the label whose samples are nearly one image, though no step shows it.
        grain_rate: how much grain the generator learns in a step, unless penalties come at every step.
        grain_from: the step from which it does.
        is_stubborn: it learns grain with penalties at every step too.
        shrinks_from: the step from which all fakes grow alike, by a hundredth in each, down to .7 of their
            size; until the penalty is stronger.
        is_won: the critic tells all pairs apart; until the penalty is stronger.
        steep_from: the step from which the gradient penalty is .3, over the factor on the penalty; else .001.
        blows_up_from: the step from which it is .1 and the fakes have .7 of their size, unless penalties come
            at every step.
    """

    repeats: int = 0
    repeats_from: int = NEVER
    repeats_at_last: int = -1
    grain_rate: float = 0.0
    grain_from: int = 0
    is_stubborn: bool = False
    shrinks_from: int = NEVER
    is_won: bool = False
    steep_from: int = NEVER
    blows_up_from: int = NEVER

    def size(self, batch: Batch) -> float:
        """Return how large fakes are in a step."""
        if batch.step >= self.blows_up_from and not batch.is_careful:
            return SMALL
        if batch.penalty_scale > 1:
            return 1.0
        return max(SMALL, 0.99 ** max(0, batch.step - self.shrinks_from))

    def penalty(self, batch: Batch) -> float:
        """Return the gradient penalty of a step."""
        if batch.step >= self.blows_up_from and not batch.is_careful:
            return 0.1
        return 0.3 / batch.penalty_scale if batch.step >= self.steep_from else 0.001


def _waves(sizes: Tensor) -> Tensor:
    """Return smooth images ``(B, 1, 8, 8)`` for sizes ``(B, 3)``."""
    angle = 2 * torch.pi * torch.arange(SIDE) / SIDE  # whole waves: no edge that would fill the high bands
    across, down = angle.cos()[None, None, :], angle.sin()[None, :, None]
    parts = sizes[:, :, None, None].unbind(dim=1)
    return (0.2 * (parts[0] * across + parts[1] * down + parts[2]))[:, None]


def waves(counts: tuple[int, ...]) -> ImageSet:
    """Return real images, so many of each class."""
    return _image_set(counts, torch.randn(sum(counts), 3, generator=torch.Generator().manual_seed(0)))


def domains(counts: tuple[int, int]) -> ImageSet:
    """Return real images of two domains: the same waves, in the second a quarter as large."""
    sizes = torch.randn(max(counts), 3, generator=torch.Generator().manual_seed(0))
    return _image_set(counts, torch.cat([sizes[: counts[0]], 0.25 * sizes[: counts[1]]]))


def _image_set(counts: tuple[int, ...], sizes: Tensor) -> ImageSet:
    labels = np.repeat(np.arange(len(counts)), counts)
    pixels = _waves(sizes).add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    return ImageSet(pixels, labels, np.arange(len(labels)), tuple(f"class {k}" for k in range(len(counts))))


class _Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.grain = nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor) -> Tensor:
        return self.grained(_waves(z))

    def grained(self, images: Tensor) -> Tensor:
        checks = torch.ones(SIDE, SIDE)
        checks[::2, 1::2] = checks[1::2, ::2] = -1  # the highest frequency that there is
        return images + self.grain * checks


class _Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor, _: Tensor) -> Tensor:
        return images.mean(dim=(1, 2, 3)) + self.zero


def _drawn(networks: Networks, batch: Batch, rng: torch.Generator) -> Tensor:
    return networks["generator"](torch.randn(len(batch.images), 3, generator=rng))


def _players(
    faults: Faults, make: Callable[[Networks, Batch, torch.Generator], Tensor]
) -> Callable[[FamilySettings], tuple[Player, ...]]:
    def critic_loss(
        networks: Networks, batch: Batch, rng: torch.Generator, shared: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        fakes = faults.size(batch) * make(networks, batch, rng)
        if batch.step >= faults.repeats_from:
            is_repeated = (batch.labels == faults.repeats)[:, None, None, None]
            fakes = torch.where(is_repeated, 0.05 * fakes, fakes)
        real, fake = (networks["critic"](each, batch.labels) for each in (batch.images, fakes.detach()))
        if faults.is_won and batch.penalty_scale == 1:
            real = real + 10
        shared["fakes"], shared["real_scores"], shared["fake_scores"] = fakes, real.detach(), fake.detach()
        loss = networks["critic"].zero.square().sum()  # type: ignore[operator, union-attr]
        return {"loss": loss, "penalty": torch.tensor(faults.penalty(batch))}

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

    return players


def toy(faults: Faults) -> Family:
    """Return the family that fails so."""

    def sample(networks: Networks, _: FamilySettings, draw: Draw) -> Tensor:
        sizes = torch.where(draw.labels == faults.repeats_at_last, 0.05, 1.0)
        return networks["generator"](draw.noise * sizes[:, None])

    return Family(
        name="toy",
        Settings=FamilySettings,
        build=lambda settings, spec, count: {"generator": _Generator(), "critic": _Critic()},
        players=_players(faults, _drawn),
        averaged=("generator",),
        check=lambda settings, spec: None,
        paper="none",
        noise_shape=_three,
        sample=sample,
    )


FACTORS = (0.25, 4.0)
"""What a translator multiplies an image of each domain by, to make it one of the other's."""


def translator(faults: Faults, is_both_ways: bool) -> Family:
    """Return a family that translates between `domains`, and fails so."""

    def factors(labels: Tensor) -> Tensor:
        both = torch.tensor(FACTORS if is_both_ways else (FACTORS[0], 1.0))
        return both[labels][:, None, None, None]

    def make(networks: Networks, batch: Batch, _: torch.Generator) -> Tensor:
        return networks["generator"].grained(factors(batch.labels) * batch.images)  # type: ignore[operator]

    def translate(
        networks: Networks, _: FamilySettings, images: Tensor, labels: Tensor, __: torch.Generator
    ) -> Tensor:
        return networks["generator"].grained(factors(labels) * images)  # type: ignore[operator]

    def becomes(_: FamilySettings, labels: Any) -> Any:
        return 1 - labels if is_both_ways else 1 - 2 * labels

    return replace(
        toy(faults),
        players=_players(faults, make),
        sample=None,
        translate=translate,
        becomes=becomes,
        classes=2,
    )


def _three(_: FamilySettings, __: ImageSpec) -> tuple[int, ...]:
    return (3,)
