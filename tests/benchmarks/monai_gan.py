"""MONAI's GanTrainer over phantomset's own networks: the loop that medical users would take.

Needs pytorch-ignite beside MONAI, in a throw-away environment. GanTrainer knows no labels, so the networks
get label 0 throughout: the same operations. Its loss is the classic one; ``gamma`` adds exact R1 and R2.
"""

import time
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.utils.data import DataLoader

from phantomset.ganmodels.blocks.penalty import squared_gradient


class _Unlabelled(nn.Module):
    """A network that takes labels, called without."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return what the network makes of label 0."""
        return self.network(x, torch.zeros(len(x), dtype=torch.int64))


class MonaiGan:
    """A GanTrainer that runs for as long as it is told."""

    def __init__(
        self, generator: nn.Module, critic: nn.Module, real: Tensor, latent: int, batch: int, gamma: float
    ) -> None:
        from monai.engines.trainer import GanTrainer

        self.generator, self.steps = generator, 0
        judge, made = _Unlabelled(critic), _Unlabelled(generator)

        def critic_loss(fakes: Tensor, reals: Tensor) -> Tensor:
            reals, fakes = (part.detach().requires_grad_(gamma > 0) for part in (reals, fakes))
            real_scores, fake_scores = judge(reals), judge(fakes)
            loss = softplus(-real_scores).mean() + softplus(fake_scores).mean()
            if gamma:
                squares = squared_gradient(real_scores, reals) + squared_gradient(fake_scores, fakes)
                loss = loss + gamma / 2 * squares.mean()
            return loss

        self._trainer = GanTrainer(
            device=torch.device("cpu"),
            max_epochs=10**9,
            train_data_loader=DataLoader(
                [{"image": each} for each in real], batch, shuffle=True, drop_last=True
            ),
            g_network=made,
            g_optimizer=torch.optim.Adam(generator.parameters(), 2e-4, (0.5, 0.999)),
            g_loss_function=lambda fakes: softplus(-judge(fakes)).mean(),
            d_network=judge,
            d_optimizer=torch.optim.Adam(critic.parameters(), 2e-4, (0.5, 0.999)),
            d_loss_function=critic_loss,
            d_prepare_batch=lambda each, *_, **__: each["image"],
            g_prepare_batch=lambda num_latents, latent_size, **_: torch.randn(num_latents, latent_size),
            latent_shape=latent,
            decollate=False,
        )
        from ignite.engine import Events

        self._end = 0.0
        self._trainer.add_event_handler(Events.ITERATION_COMPLETED, self._watch)

    def _watch(self, trainer: Any) -> None:
        self.steps += 1
        if time.monotonic() > self._end:
            trainer.terminate()

    def run(self, seconds: float) -> int:
        """Train on for some seconds; return how many steps that were."""
        before, self._end = self.steps, time.monotonic() + seconds
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._trainer.run()
        return self.steps - before
