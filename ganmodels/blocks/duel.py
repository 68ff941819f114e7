"""What a game of one critic and one generator needs, whichever loss they play."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from phantomset.ganmodels.family import Batch, Loss, Networks, Player, PrivateGame


def noise(batch: Batch, size: int, rng: torch.Generator) -> Tensor:
    """Return standard normal noise ``(B, size)`` for a batch."""
    return torch.randn(len(batch.images), size, generator=rng, device=rng.device)


def scores(
    networks: Networks, batch: Batch, fakes: Tensor, shared: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the critic's scores of the real images and of the fakes, each ``(B,)``.

    The fakes are kept with their graph for the generator's step; the critic's own step stops there.
    """
    both = batch.augment(torch.cat([batch.images, fakes.detach()]))
    real, fake = networks["critic"](both, batch.labels.repeat(2)).chunk(2)
    keep(shared, fakes, real, fake)
    return real, fake


def keep(shared: dict[str, Tensor], fakes: Tensor, real: Tensor, fake: Tensor) -> None:
    """Leave what the generator's step and the detectors read."""
    shared["fakes"], shared["real_scores"], shared["fake_scores"] = fakes, real.detach(), fake.detach()


def fooled(networks: Networks, batch: Batch, shared: dict[str, Tensor]) -> Tensor:
    """Return the critic's scores ``(B,)`` of the fakes of its own step, differentiable in the generator."""
    return networks["critic"](batch.augment(shared["fakes"]), batch.labels)


def duel(
    critic: Loss,
    generator: Loss,
    rates: tuple[float, float],
    betas: tuple[float, float],
    warm_up_share: float = 0.0,
) -> tuple[Player, Player]:
    """Return the two players, the critic first, with constant Adam settings.

    Args:
        critic: its loss.
        generator: its loss.
        rates: learning rates of critic and generator.
        betas: of Adam, for both.
        warm_up_share: of the budget, for both.
    """

    def player(name: str, loss: Loss, rate: float) -> Player:
        return Player(name, (name,), loss, lambda _: rate, lambda _: betas, warm_up_share)

    return player("critic", critic, rates[0]), player("generator", generator, rates[1])


def non_saturating(
    latent: int, rates: tuple[float, float], betas: tuple[float, float]
) -> tuple[Player, Player]:
    """Return the players of Goodfellow et al. (NeurIPS 2014, section 3), with f(t) = log(1 + e^t).

    ``rates`` are the learning rates of critic and generator.

    The critic minimises ``E f(-D(x)) + E f(D(G))``, the generator ``E f(-D(G))``, which has a slope where
    ``-E f(D(G))`` has none.
    """

    def critic_loss(
        networks: Networks, batch: Batch, rng: torch.Generator, shared: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        fakes = networks["generator"](noise(batch, latent, rng), batch.labels)
        real, fake = scores(networks, batch, fakes, shared)
        loss = functional.softplus(-real).mean() + functional.softplus(fake).mean()
        return {"loss": loss, "real_sign": real.detach().sign().mean()}

    def generator_loss(
        networks: Networks, batch: Batch, _: torch.Generator, shared: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        return {"loss": functional.softplus(-fooled(networks, batch, shared)).mean()}

    return duel(critic_loss, generator_loss, rates, betas)


def private_game(
    settings: Any,  # noqa: ARG001 - the contract's form
    penalty: Loss | None = None,
    penalty_every: int = 1,
) -> PrivateGame:
    """Return the same game for differential privacy; `non_saturating` has this form already but for clipping.

    The zero of the scores is not free, so the generator needs no real score beside its own.
    """

    def critic(real: Tensor, fake: Tensor) -> Tensor:
        return functional.softplus(-real) + functional.softplus(fake)

    def generator(fake: Tensor) -> Tensor:
        return functional.softplus(-fake)

    return PrivateGame(critic, generator, penalty, penalty_every)
