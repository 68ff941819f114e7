"""Training speed: the engine against a plain loop over the same networks, in one process, in turns.

    python tests/benchmarks/throughput.py [--threads 1] [--rounds 3] [--seconds 8] [--size-px 28] [--monai]

The plain loop is what the paper's description gives when typed in: float32, NCHW, exact penalties at every
step, images through a DataLoader, fresh fakes for each player, Adam as it comes. Rounds take turns, so that
a machine that is busy elsewhere slows both. Rates are in images a second of wall time and of CPU time.
``--monai`` adds MONAI's GanTrainer over the same networks and batch, without penalties and with exact R1 and
R2 in its loss; it needs pytorch-ignite.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from monai_gan import MonaiGan
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from phantomset.data.records import ImageSet, ImageSpec
from phantomset.ganmodels.blocks.penalty import squared_gradient
from phantomset.ganmodels.families import r3gan
from phantomset.ganmodels.plan import TrainingPlan
from phantomset.ganmodels.shards import Crew, shard_count
from phantomset.ganmodels.step import Stepper

BATCH = 64


def images_of_noise(size_px: int) -> ImageSet:
    """Return 2,048 grey images of noise in two classes: speed does not depend on what is seen."""
    pixels = np.random.default_rng(0).integers(0, 256, (2048, 1, size_px, size_px), dtype=np.uint8)
    labels = np.arange(2048, dtype=np.int64) % 2
    return ImageSet(pixels, labels, labels, ("a", "b"))


class PlainLoop:
    """The same game without any of the engine's means."""

    def __init__(self, images: ImageSet) -> None:
        settings = r3gan.Settings()
        torch.manual_seed(0)
        networks = r3gan.build(settings, ImageSpec(*images.images.shape[1:]), 2)
        self.generator, self.critic = networks["generator"], networks["critic"]
        self.adam = [
            torch.optim.Adam(n.parameters(), 1e-4, (0.0, 0.9)) for n in (self.generator, self.critic)
        ]
        real = torch.from_numpy(images.images).float() / 127.5 - 1
        data = TensorDataset(real, torch.from_numpy(images.labels))
        self.loader, self.batches = DataLoader(data, BATCH, shuffle=True), iter(())
        self.settings = settings

    def step(self) -> None:
        """Show one batch to both players."""
        batch = next(self.batches, None)
        if batch is None:
            self.batches = iter(self.loader)
            batch = next(self.batches)
        real, labels = batch
        self._critic(real.detach().requires_grad_(), labels)
        fake = self.generator(torch.randn(BATCH, self.settings.latent), labels)
        loss = nn.functional.softplus(self.critic(real, labels) - self.critic(fake, labels)).mean()
        self._apply(loss, 0)

    def _critic(self, real: torch.Tensor, labels: torch.Tensor) -> None:
        fake = self.generator(torch.randn(BATCH, self.settings.latent), labels).detach().requires_grad_()
        real_scores, fake_scores = self.critic(real, labels), self.critic(fake, labels)
        penalty = squared_gradient(real_scores, real).mean() + squared_gradient(fake_scores, fake).mean()
        self._apply(nn.functional.softplus(fake_scores - real_scores).mean() + 5.0 * penalty, 1)

    def _apply(self, loss: torch.Tensor, player: int) -> None:
        self.adam[player].zero_grad()
        loss.backward()
        self.adam[player].step()


def rate(step: Callable[[], None], seconds: float) -> tuple[float, float]:
    """Return images a second of wall time and of CPU time over about ``seconds``, in rounds of 4 steps."""
    wall, cpu, steps = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - wall < seconds:
        for _ in range(4):
            step()
        steps += 4
    return steps * BATCH / (time.perf_counter() - wall), steps * BATCH / (time.process_time() - cpu)


def monai(images: ImageSet, gamma: float) -> MonaiGan:
    """Return MONAI's loop over fresh networks."""
    settings = r3gan.Settings()
    torch.manual_seed(0)
    networks = r3gan.build(settings, ImageSpec(*images.images.shape[1:]), 2)
    real = torch.from_numpy(images.images).float() / 127.5 - 1
    return MonaiGan(networks["generator"], networks["critic"], real, settings.latent, BATCH, gamma)


def monai_rate(loop: MonaiGan, seconds: float) -> tuple[float, float]:
    """Return MONAI's images a second, as `rate`."""
    wall, cpu = time.perf_counter(), time.process_time()
    shown = loop.run(seconds) * BATCH
    return shown / (time.perf_counter() - wall), shown / (time.process_time() - cpu)


def main() -> None:
    """Print the rates of all, how often the engine's they go into it, and the engine's peak memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--size-px", type=int, default=28)
    parser.add_argument("--monai", action="store_true", help="also MONAI's GanTrainer")
    arguments = parser.parse_args()
    images = images_of_noise(arguments.size_px)
    plan = TrainingPlan(1_000_000, BATCH, threads=arguments.threads)
    device = torch.device("cpu")
    shards = shard_count(arguments.threads, BATCH, device)
    rates: dict[str, list[tuple[float, float]]] = {}
    peak, plain = 0, PlainLoop(images)
    loops = {"monai": monai(images, 0.0), "monai_penalised": monai(images, 10.0)} if arguments.monai else {}
    for _ in range(arguments.rounds):
        with Crew(arguments.threads) as crew:
            stepper = Stepper(images, r3gan.FAMILY, r3gan.Settings(), plan, device, crew, shards)
            rate(stepper.step, 1.0)
            rates.setdefault("engine", []).append(rate(stepper.step, arguments.seconds))
        peak = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        torch.set_num_threads(arguments.threads)
        rate(plain.step, 1.0)
        rates.setdefault("plain", []).append(rate(plain.step, arguments.seconds))
        for name, loop in loops.items():
            loop.run(1.0)
            rates.setdefault(name, []).append(monai_rate(loop, arguments.seconds))
    best = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in rates.items()
    }
    result = {
        "threads": arguments.threads,
        "size_px": arguments.size_px,
        **{f"{name}_images_per_second": round(wall) for name, (wall, _) in best.items()},
        **{f"{name}_images_per_cpu_second": round(cpu) for name, (_, cpu) in best.items()},
        **{f"engine_over_{name}": round(best["engine"][0] / wall, 2) for name, (wall, _) in best.items()},
        **{f"engine_over_{name}_cpu": round(best["engine"][1] / cpu, 2) for name, (_, cpu) in best.items()},
        "engine_peak_memory_mib": peak,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
