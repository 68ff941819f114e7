"""The contract between the engine and a family: networks, games, sampling. One file a family."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from phantomset.data.records import ImageSpec

Networks = Mapping[str, nn.Module]


class FamilySettings(BaseModel):
    """Base of each family's ``Settings``: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Batch:
    """What a loss sees.

    Real images ``(B, C, H, W)`` float in [-1, 1] on the device, labels ``(B,)`` int64, and ``progress`` in
    [0, 1], the share of the budget that is spent.
    """

    images: Tensor
    labels: Tensor
    progress: float
    step: int


@dataclass(frozen=True, slots=True)
class Player:
    """One optimiser, the networks that it may change, and a loss.

    ``loss(networks, batch, rng, shared) -> dict of scalars``: the entry "loss" is minimised, the others are
    statistics. ``shared`` is a dictionary that lives for one step: what one player leaves there (the fakes of
    the critic's step), the next may use.
    """

    name: str
    networks: tuple[str, ...]
    loss: Callable[[Networks, Batch, torch.Generator, dict[str, Tensor]], dict[str, Tensor]]
    learning_rate: Callable[[float], float]
    betas: Callable[[float], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Family:
    """A generator family, as its file exports it under the name ``FAMILY``.

    Attributes:
        name: the file's name and the recipe's ``model.family``.
        Settings: the pydantic model of ``model.settings``.
        build: ``(settings, spec, class_count) -> networks``, weights drawn from torch's global generator,
            which the engine seeds.
        players: ``(settings) -> players in the order of a step``.
        sample: ``(networks, settings, labels (B,) int64, rng) -> (B, C, H, W) float, nominally [-1, 1]``.
        averaged: names of the networks of which the engine keeps the exponential moving average.
        check: ``(settings, spec) -> message or None``: why the family cannot make images of this spec.
    """

    name: str
    Settings: type[FamilySettings]
    build: Callable[[Any, ImageSpec, int], dict[str, nn.Module]]
    players: Callable[[Any], tuple[Player, ...]]
    sample: Callable[[Networks, Any, Tensor, torch.Generator], Tensor]
    averaged: tuple[str, ...]
    check: Callable[[Any, ImageSpec], str | None]
    paper: str
