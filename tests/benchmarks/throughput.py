"""Training speed: the engine against a plain loop over the same networks, in turns.

    python tests/benchmarks/throughput.py [--threads 1] [--rounds 3] [--seconds 8] [--size-px 28] [--monai]
        [--widths 128 96]

The plain loop is what the paper's description gives when typed in: float32, NCHW, exact penalties at every
step, images through a DataLoader, fresh fakes for each player, Adam as it comes. Each loop has a process of
its own, since the engine also tells the process how to keep memory; they take turns, so that a machine that
is busy elsewhere slows all. Rates are in images a second of wall time and of CPU time. ``--monai`` adds
MONAI's GanTrainer over the same networks and batch, without penalties and with exact R1 and R2 in its loss;
it needs pytorch-ignite.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

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
ROUND = 4
"""Steps between two looks at the clock: one of the engine's has a penalty."""

MONAI_GAMMA = {"monai": 0.0, "monai_penalised": 10.0}

Run = Callable[[float], int]
"""Trains for some seconds and returns how many steps that were."""


def images_of_noise(size_px: int) -> ImageSet:
    """Return 2,048 grey images of noise in two classes: speed does not depend on what is seen."""
    pixels = np.random.default_rng(0).integers(0, 256, (2048, 1, size_px, size_px), dtype=np.uint8)
    labels = np.arange(2048, dtype=np.int64) % 2
    return ImageSet(pixels, labels, labels, ("a", "b"))


def fresh_networks(images: ImageSet, settings: r3gan.Settings) -> dict[str, nn.Module]:
    """Return r3gan's networks for the images."""
    torch.manual_seed(0)
    return r3gan.build(settings, ImageSpec(*images.images.shape[1:]), 2)


class PlainLoop:
    """The same game without any of the engine's means."""

    def __init__(self, images: ImageSet, settings: r3gan.Settings) -> None:
        networks = fresh_networks(images, settings)
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


def timed(step: Callable[[], None]) -> Run:
    """Return what repeats a step in whole rounds."""

    def run(seconds: float) -> int:
        begun, steps = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            for _ in range(ROUND):
                step()
            steps += ROUND
        return steps

    return run


@contextmanager
def loop(name: str, images: ImageSet, settings: r3gan.Settings, threads: int) -> Iterator[Run]:
    """Give one contestant, ready to run."""
    torch.set_num_threads(threads)
    if name == "plain":
        yield timed(PlainLoop(images, settings).step)
    elif name in MONAI_GAMMA:
        networks = fresh_networks(images, settings)
        real = torch.from_numpy(images.images).float() / 127.5 - 1
        gamma = MONAI_GAMMA[name]
        yield MonaiGan(networks["generator"], networks["critic"], real, settings.latent, BATCH, gamma).run
    else:
        plan, device = TrainingPlan(1_000_000, BATCH, threads=threads), torch.device("cpu")
        shards = shard_count(threads, BATCH, device)
        with Crew(threads) as crew:
            stepper = Stepper(images, r3gan.FAMILY, settings, plan, device, crew, shards)
            yield timed(stepper.step)


def contestant(pipe: Connection, name: str, size_px: int, widths: list[int] | None, threads: int) -> None:
    """Run for as many seconds as each message says; answer with rates and peak memory. 0 ends it."""
    settings = r3gan.Settings(widths=None if widths is None else tuple(widths))
    with loop(name, images_of_noise(size_px), settings, threads) as run:
        run(1.0)  # the first steps choose kernels
        pipe.send("ready")
        while seconds := pipe.recv():
            wall, cpu = time.perf_counter(), time.process_time()
            shown = run(seconds) * BATCH
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            pipe.send((shown / (time.perf_counter() - wall), shown / (time.process_time() - cpu), peak))


def main() -> None:
    """Print the rates of all, how often the engine's they go into it, and the peak memory of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--size-px", type=int, default=28)
    parser.add_argument("--widths", type=int, nargs="+", help="channels of the stages; default: r3gan's")
    parser.add_argument("--monai", action="store_true", help="also MONAI's GanTrainer")
    arguments = parser.parse_args()
    names = ["engine", "plain", *(MONAI_GAMMA if arguments.monai else ())]
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for name in names:
        pipes[name], theirs = context.Pipe()
        work = (theirs, name, arguments.size_px, arguments.widths, arguments.threads)
        context.Process(target=contestant, args=work, daemon=True).start()
        pipes[name].recv()  # ready
    rows: dict[str, list[tuple[float, float, int]]] = {name: [] for name in names}
    for _ in range(arguments.rounds):
        for name, pipe in pipes.items():
            pipe.send(arguments.seconds)
            rows[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(0)
    best = {name: [statistics.median(column) for column in zip(*rows[name], strict=True)] for name in names}
    result = {
        "threads": arguments.threads,
        "size_px": arguments.size_px,
        **{
            name: {"images_per_second": round(wall), "per_cpu_second": round(cpu), "peak_mib": round(peak)}
            for name, (wall, cpu, peak) in best.items()
        },
        "engine_over": {name: round(best["engine"][0] / best[name][0], 2) for name in names[1:]},
        "engine_over_by_cpu": {name: round(best["engine"][1] / best[name][1], 2) for name in names[1:]},
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
