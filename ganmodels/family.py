"""The contract between the engine and a family: networks, games, sampling. One file a family."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from phantomset.data.records import ImageSpec

Networks = Mapping[str, nn.Module]

Width = Annotated[int, Field(ge=1, le=4096)]
"""Channels or units of a layer."""

CRITIC = "critic"
"""Name of the player that tells real from made, whatever its networks are called."""


class FamilySettings(BaseModel):
    """Base of each family's ``Settings``: frozen; unknown keys and numbers without end are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def require_default(self, *names: str, unless: str) -> None:
        """Hold that settings which are not heeded stay as they are.

        Raises:
            ValueError: one of them was changed; ``unless`` says what would heed it.
        """
        for name in names:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is heeded with {unless} alone; leave it out, or set that")


def unchanged(images: Tensor) -> Tensor:
    """Return the images themselves: the augmentation called ``none``."""
    return images


def nothing(_: Networks) -> None:
    """Do nothing before a step."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a loss sees in one step: a batch, or a part of one.

    Attributes:
        images: real images ``(B, C, H, W)`` float in [-1, 1] on the device, as they are, not augmented.
        labels: ``(B,)`` int64.
        progress: in [0, 1], the spent share of the budget; held where the ladder holds the fall of gamma.
        step: counts from 0, by the moves of each player.
        penalty_scale: factor on every penalty's weight; 1 until the recovery ladder raises it.
        augment: random changes, differentiable, for all that the critic sees, real and fake alike. What is
            done to one side alone would leak into the generator's images.
        is_careful: the recovery ladder asks for penalties at every step.
        counts: images of each class, known without a look at the device; () where nobody counted.
    """

    images: Tensor
    labels: Tensor
    progress: float
    step: int
    penalty_scale: float = 1.0
    augment: Callable[[Tensor], Tensor] = unchanged
    is_careful: bool = False
    counts: tuple[int, ...] = ()

    def count_of(self, label: int) -> int:
        """How many images are of a class."""
        return self.counts[label] if self.counts else int((self.labels == label).sum())


Loss = Callable[[Networks, Batch, torch.Generator, dict[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Player:
    """One optimiser, the networks that it may change, and a loss.

    ``loss(networks, batch, rng, shared) -> dict of scalars``: the entry "loss" is minimised, the others are
    statistics; all are means over the batch. ``shared`` is a dictionary that lives for one step: what one
    player leaves there (the fakes of the critic's step), the next may use. The engine's detectors read
    ``shared["fakes"]`` (B, C, H, W), ``shared["real_scores"]`` and ``shared["fake_scores"]`` (B,), where
    there are any, with fakes of the classes that `Family.becomes` tells; the statistic "penalty", gamma times
    ``||dD/dx||^2``; and "real_sign", the mean sign of D(x), where the zero of the scores means something: the
    adaptive augmentation follows it.

    The engine computes parts of a batch side by side and averages their gradients. So a loss changes nothing
    but ``shared``: no weights, and no buffers of the networks, as batch norm's running means would be.
    """

    name: str
    networks: tuple[str, ...]
    loss: Loss
    learning_rate: Callable[[float], float]
    betas: Callable[[float], tuple[float, float]]
    warm_up_share: float = 0.0
    """Share of the budget over which the engine raises the learning rate from 0."""
    matrix_step: float | None = None
    """Muon's step, in learning rates, for linear layers' and convolutions' weights; None: Adam for all."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What one call of ``sample`` makes images from.

    Attributes:
        labels: ``(B,)`` int64.
        noise: ``(B, *noise_shape)`` float32, standard normal.
        rng: for chance beyond the noise, such as StyleGAN2's noise inputs.
        truncation: in (0, 1]: 1 is all the variety that was learned, less is nearer to the mean.
        fine_noise: like ``noise``, for the fine structure alone, where a family mixes styles; else None.
    """

    labels: Tensor
    noise: Tensor
    rng: torch.Generator
    truncation: float = 1.0
    fine_noise: Tensor | None = None

    @property
    def truncated(self) -> Tensor:
        """The noise drawn in towards 0."""
        return self.noise * self.truncation

    def part(self, first: int, count: int) -> "Draw":
        """Return what ``count`` of the images are made from; further chance goes on where it stands."""
        own = slice(first, first + count)
        fine = None if self.fine_noise is None else self.fine_noise[own]
        return replace(self, labels=self.labels[own], noise=self.noise[own], fine_noise=fine)


@dataclass(frozen=True, slots=True)
class PrivateGame:
    """A family's game in the form that differential privacy asks for: no loss but one reads a real image.

    Attributes:
        critic: ``(real, fake) -> loss`` of one pair's scores: all that is made of a real image.
        generator: ``(scores of fakes (B,)) -> losses (B,)``.
        penalty: a loss of the critic on fakes alone, as `Player.loss`; its batch has labels and no images.
        penalty_every: steps from one penalty to the next; its weight grows with them.
    """

    critic: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    penalty: Loss | None = None
    penalty_every: int = 1


def not_private(settings: Any) -> PrivateGame | None:  # noqa: ARG001 - the contract's form
    """Return None: the family has no private form."""
    return None


def own_class(settings: Any, labels: Any) -> Any:  # noqa: ARG001 - the contract's form
    """Return the labels themselves: what is made for a class should be like its real images."""
    return labels


def one_critic(networks: Networks, images: Tensor, labels: Tensor) -> Tensor:
    """Return the scores ``(B,)`` of the network ``critic``."""
    return networks["critic"](images, labels)


def no_noise(settings: Any, spec: ImageSpec) -> tuple[int, ...]:  # noqa: ARG001 - the contract's form
    """Return the shape of no noise at all: a family that translates draws none."""
    return ()


@dataclass(frozen=True, slots=True)
class Family:
    """A generator family, as its file exports it under the name ``FAMILY``.

    A family samples from noise and labels, or it translates images: ``sample`` or ``translate`` is given.

    Attributes:
        name: the file's name and the recipe's ``model.family``.
        Settings: the pydantic model of ``model.settings``.
        build: ``(settings, spec, class_count) -> networks``, weights drawn from torch's global generator,
            which the engine seeds.
        players: ``(settings) -> players in the order of a step``; the one with critics is called ``critic``.
        averaged: names of the networks, where they are built, of which the engine keeps the exponential
            moving average.
        check: ``(settings, spec) -> message or None``: why the family cannot make images of this spec.
        paper: authors, title, venue and year, for the release's card.
        noise_shape: ``(settings, spec) -> shape`` of one image's noise.
        sample: ``(networks, settings, draw) -> (B, C, H, W) float, nominally [-1, 1]``.
        translate: ``(networks, settings, images (B, C, H, W), labels (B,), rng) -> (B, C', H, W)``.
        private: ``(settings) -> PrivateGame or None``: its form for differential privacy. Its players are
            ``critic`` and ``generator``, each with the network of that name, and images are scored alone.
        scores: ``(networks, images (B, C, H, W), labels (B,)) -> (B,)``: the critics' scores, not augmented;
            NaN of images for whose class there is none. Not called where no player is a critic.
        prepare: ``(networks) -> None``: called before each step, alone: here buffers may change.
        looks_at: how many images of a batch the critic sees together; 1 where each is scored alone.
        mixes_styles: ``sample`` heeds ``fine_noise``.
        becomes: ``(settings, labels (B,), tensor or array) -> labels``: the class that what is made for, or
            from, each should be of; -1 where nothing is made.
        stacks: how many images lie in the channels of one: 2 for pairs, the source first.
        classes: how many classes it takes; None: any number. What takes one uses no labels.
        augments: its losses heed ``batch.augment``.
        has_sign: its losses tell "real_sign", which the adaptive augmentation follows.
    """

    name: str
    Settings: type[FamilySettings]
    build: Callable[[Any, ImageSpec, int], dict[str, nn.Module]]
    players: Callable[[Any], tuple[Player, ...]]
    averaged: tuple[str, ...]
    check: Callable[[Any, ImageSpec], str | None]
    paper: str
    noise_shape: Callable[[Any, ImageSpec], tuple[int, ...]] = no_noise
    sample: Callable[[Networks, Any, Draw], Tensor] | None = None
    translate: Callable[[Networks, Any, Tensor, Tensor, torch.Generator], Tensor] | None = None
    private: Callable[[Any], PrivateGame | None] = not_private
    scores: Callable[[Networks, Tensor, Tensor], Tensor] = one_critic
    prepare: Callable[[Networks], None] = nothing
    looks_at: int = 1
    mixes_styles: bool = False
    becomes: Callable[[Any, Any], Any] = own_class
    stacks: int = 1
    classes: int | None = None
    augments: bool = True
    has_sign: bool = False

    def has_critic(self, settings: Any) -> bool:
        """Return whether one of the players has critics."""
        return any(player.name == CRITIC for player in self.players(settings))

    def source(self, images: Any) -> Any:
        """Return of images ``(B, C, H, W)``, tensor or array, the channels that are translated."""
        return images[:, : images.shape[1] // self.stacks]

    def target(self, images: Any) -> Any:
        """Return of images ``(B, C, H, W)``, tensor or array, the channels that are made."""
        return images[:, -(images.shape[1] // self.stacks) :]
