"""The toy of 25 Gaussians: which losses find all modes of a set that is plain to see."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from phantomset.ganmodels.blocks.schedule import cosine
from phantomset.ganmodels.families import r3gan, vanilla
from phantomset.ganmodels.family import Batch, Player

DEVIATION = 0.05
MODES = torch.cartesian_prod(torch.arange(-2.0, 3), torch.arange(-2.0, 3))
STEPS, BATCH = 3_000, 256


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    sizes = (inputs, 128, 128, 128)
    hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.LeakyReLU(0.2))]
    return nn.Sequential(*hidden, nn.Linear(128, outputs))


class Points(nn.Module):
    """Noise to points of the plane, as images of two channels and one pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.body = _perceptron(2, 2)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return ``(B, 2, 1, 1)``."""
        return self.body(z)[:, :, None, None]


class Judge(nn.Module):
    """Points to scores."""

    def __init__(self) -> None:
        super().__init__()
        self.body = _perceptron(2, 1)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return ``(B,)``."""
        return self.body(images.flatten(1)).squeeze(1)


def _found(players: tuple[Player, ...], seed: int) -> int:
    """Return the modes found: 20 of 2,500 samples within four standard deviations."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    networks: dict[str, nn.Module] = {"generator": Points(), "critic": Judge()}
    optimisers = {
        player.name: torch.optim.Adam(networks[player.name].parameters(), betas=(0.0, 0.9), fused=True)
        for player in players
    }
    labels = torch.zeros(BATCH, dtype=torch.int64)
    for step in range(STEPS):
        picked = MODES[torch.randint(25, (BATCH,), generator=rng)]
        real = picked + DEVIATION * torch.randn(BATCH, 2, generator=rng)
        batch, shared = Batch(real[:, :, None, None], labels, step / STEPS, step), {}
        for player in players:
            parameters = list(networks[player.name].parameters())
            loss = player.loss(networks, batch, rng, shared)["loss"]
            for parameter, slope in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad = slope
            optimisers[player.name].param_groups[0]["lr"] = cosine(1e-3, 1e-4, step / STEPS)
            optimisers[player.name].step()
    with torch.no_grad():
        made = networks["generator"](torch.randn(2_500, 2, generator=rng), labels)[:, :, 0, 0]
    distance, mode = torch.cdist(made, MODES).min(dim=1)
    return int((np.bincount(mode[distance < 4 * DEVIATION].numpy(), minlength=25) >= 20).sum())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_penalties_find_the_modes(seed: int) -> None:
    """r3gan's loss (gamma 0.1, at every step) finds 22 of 25 modes, the plain one at most 18."""
    settings = r3gan.Settings(latent=2, gamma_start=0.1, gamma_end_share=1.0, penalty_every=1)
    assert _found(r3gan.players(settings), seed) >= 22
    assert _found(vanilla.players(vanilla.Settings(latent=2)), seed) <= 18
