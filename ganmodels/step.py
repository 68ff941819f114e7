"""One step of the game: each player in turn, with its own optimiser, loss and schedule."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSet, ImageSpec
from phantomset.data.seeds import seed_of
from phantomset.ganmodels import processes, recovery
from phantomset.ganmodels.augment import augmentation, uniform
from phantomset.ganmodels.family import Batch, Family, FamilySettings, Player
from phantomset.ganmodels.feed import Feed
from phantomset.ganmodels.plan import TrainingPlan, is_bf16
from phantomset.ganmodels.shards import Crew
from phantomset.ganmodels.stability import Check, look
from phantomset.ganmodels.state import State

FEWEST_WARM_UP_STEPS = 100
"""Floor of the warm-up: with fewer steps a learning rate ten times too large blows up instead of calming."""

WATCHED = ("fakes", "real_scores", "fake_scores")
"""What the detectors read of ``shared``."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a batch, with its own chance and its own ``shared``, so that parts can run side by side."""

    batch: Batch
    rng: torch.Generator
    shared: dict[str, Tensor]
    share: float


class Stepper:
    """State, data and chance of a run; `step` moves them on by one batch, or more high on the ladder.

    Nothing is read back from the device in a step: on a GPU that would stall it. `read` does so, between
    checks.
    """

    can_grow = True
    """A step may be made from more than one batch."""

    def __init__(
        self,
        images: ImageSet,
        family: Family,
        settings: FamilySettings,
        plan: TrainingPlan,
        device: torch.device,
        crew: Crew,
        shards: int,
        held_out: ImageSet | None = None,
    ) -> None:
        self._spec = ImageSpec(*images.images.shape[1:])
        self.state = State(family, settings, self._spec, len(images.label_names), plan.seed, device)
        self._family, self._settings, self._classes = family, settings, len(images.label_names)
        self._plan, self._device, self._crew = plan, device, crew
        self._shards = shards
        self._is_bf16 = is_bf16(plan.precision, device)
        self._feed = Feed(images, plan.batch_size, plan.seed, plan.class_sampling, device)
        self._held_out = None
        if held_out is not None and family.has_critic(settings):
            self._held_out = Feed(held_out, plan.batch_size, plan.seed, "natural", device)
        self._numbers: dict[str, list[Tensor]] = {}
        self._last: tuple[Tensor, Tensor, list[Shard]]
        self._skips = torch.zeros((), device=device)
        self._batches = 1
        self.new_skips = 0

    @property
    def parts(self) -> int:
        """Parts in which a batch is computed."""
        return self.state.counters.parts or self._shards

    def step(self) -> None:
        """Show one batch, or `Counters.batches`, to every player in order, then move the averages."""
        counters, plan = self.state.counters, self._plan
        self._family.prepare(self.state.networks)
        self._batches = max(1, min(counters.batches, plan.steps - counters.step))
        images, labels = self._drawn()
        shards = self._split(images, labels)
        broken = [self._move(player, shards) for player in self.state.players]
        self._skips += torch.stack(broken).any()
        counters.step += self._batches
        self.state.average(counters.step * plan.batch_size, self._batches * plan.batch_size)
        self._last = images, labels, shards

    def _drawn(self) -> tuple[Tensor, Tensor]:
        """Return the images and labels of this step, one batch after the other."""
        first = self.state.counters.step
        drawn = [self._feed.batch(first + number) for number in range(self._batches)]
        if len(drawn) == 1:
            return drawn[0]
        images, labels = zip(*drawn, strict=True)
        return torch.cat(images), torch.cat(labels)

    @property
    def _step_parts(self) -> int:
        """Parts in which all images of this step are computed: of a size, whatever the ladder asks for."""
        return self.parts * self._batches

    def more_parts(self) -> int:
        """Return twice the parts, for a batch that did not fit into memory.

        Raises:
            ModelError: not even one image fits.
        """
        if 2 * self.parts > self._plan.batch_size:
            raise ModelError(
                "out of memory: not even one image at a time fits. Choose a smaller image.size_px, or a "
                "family with smaller networks."
            )
        return 2 * self.parts

    def _split(self, images: Tensor, labels: Tensor) -> list[Shard]:
        """Return the parts of a step's images that this process computes."""
        counters, plan, count = self.state.counters, self._plan, self._step_parts
        drawn = range(counters.step, counters.step + self._batches)
        known = np.array_split(np.concatenate([self._feed.labels(step) for step in drawn]), count)
        parts = zip(images.tensor_split(count), labels.tensor_split(count), known, strict=True)
        progress = counters.step / plan.steps
        if counters.held_progress is not None:
            progress = min(progress, counters.held_progress)
        return [
            Shard(
                Batch(
                    part,
                    part_labels,
                    progress,
                    counters.step // counters.batches,
                    counters.penalty_scale,
                    augmentation(
                        plan.augment,
                        uniform(self._stream("augment", counters.step, number)),
                        counters.augment_share,
                    ),
                    recovery.is_careful(counters),
                    tuple(np.bincount(part_known, minlength=self._classes).tolist()),
                ),
                self._stream("train", counters.step, number),
                {},
                len(part) / len(images),
            )
            for number, (part, part_labels, part_known) in processes.own(list(enumerate(parts)))
        ]

    def _move(self, player: Player, shards: list[Shard]) -> Tensor:
        """Move one player's weights; return, as a scalar, whether that was left out for want of numbers."""
        return self._take(player, *self._gradients(player, shards))

    def _gradients(self, player: Player, shards: list[Shard]) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the gradients of a player's loss over all parts of a batch, and its numbers."""
        parameters = list(self.state.parameters[player.name].values())
        is_mixed = self._is_bf16 and self.state.counters.roll_backs < recovery.CAREFUL_FROM

        def work(shard: Shard) -> tuple[list[Tensor], dict[str, Tensor]]:
            # Threads share autocast's cache: what one drops another casts anew, and bits would differ.
            with torch.autocast(self._device.type, torch.bfloat16, is_mixed, cache_enabled=False):
                numbers = player.loss(self.state.networks, shard.batch, shard.rng, shard.shared)
            # Gradients of these parameters only: a player cannot move, or pay for, another's weights.
            # A penalty alone may leave some out, such as a last bias: zeros for those.
            gradients = torch.autograd.grad(numbers["loss"] * shard.share, parameters, materialize_grads=True)
            return list(gradients), {name: value.detach() * shard.share for name, value in numbers.items()}

        done = self._gathered(self._crew.map(work, shards))
        gradients, numbers = done[0]
        for more, values in done[1:]:
            for total, part in zip(gradients, more, strict=True):
                total.add_(part)
            numbers = {name: numbers[name] + value for name, value in values.items()}
        return gradients, numbers

    def _gathered(
        self, done: list[tuple[list[Tensor], dict[str, Tensor]]]
    ) -> list[tuple[list[Tensor], dict[str, Tensor]]]:
        """Return gradients and numbers of all parts of a batch, from those that this process computed."""
        names, cut = list(done[0][1]), len(done[0][0])
        rows = [[*gradients, *numbers.values()] for gradients, numbers in done]
        every = processes.gathered(rows, self._step_parts)
        return [(row[:cut], dict(zip(names, row[cut:], strict=True))) for row in every]

    def _take(self, player: Player, gradients: list[Tensor], numbers: dict[str, Tensor]) -> Tensor:
        """Step along the gradients, if they and the loss are numbers; keep the statistics."""
        norm = torch.nn.utils.get_total_norm(gradients)
        is_broken = ~torch.isfinite(norm + numbers.get("loss", torch.zeros_like(norm)))
        counters, progress = self.state.counters, self.state.counters.step / self._plan.steps
        rate = (
            player.learning_rate(progress)
            * warm_up(counters.step, self._plan.steps, player.warm_up_share)
            * counters.learning_rate_scale
        )
        betas = player.betas(progress)
        if recovery.is_fresh(counters):
            betas = betas[0], min(betas[1], recovery.SHORT_MEMORY)
        self.state.optimisers[player.name].step(gradients, rate, betas, is_broken)
        for name, value in {**numbers, "gradient": norm}.items():
            key = f"{player.name}_{name}" if name in ("loss", "gradient") else name
            self._numbers.setdefault(key, []).append(value)
        return is_broken

    def _stream(self, *names: str | int) -> torch.Generator:
        return torch.Generator(self._device).manual_seed(seed_of(self._plan.seed, *names))

    def read(self) -> tuple[dict[str, float], Check]:
        """Return the means of all statistics since the last call, and the check of the last batch."""
        numbers, (images, labels, shards) = self._means(), self._last
        sizes = [len(part) for part in images.tensor_split(self._step_parts)]
        shared = {name: self._whole(name, shards, sizes) for name in WATCHED if name in shards[0].shared}
        wanted = self._family.becomes(self._settings, labels)
        if self._held_out is not None and "fakes" in shared:
            numbers |= self._compare(self._held_out, (images, labels), (shared["fakes"], wanted))
        if "fakes" in shared:
            shared["fakes"] = self._family.target(shared["fakes"])
        return numbers, look(self._family.target(images), labels, shared, self.state.counters, wanted)

    def _whole(self, name: str, shards: list[Shard], sizes: list[int]) -> Tensor:
        """Return what the parts of the last batch left under a name, in the order of its images."""
        mine = [shard.shared[name].detach() for shard in shards]
        filled = [[torch.cat([each, each[:1]])[: sizes[0]]] for each in mine]  # some are one image short
        every = processes.gathered(filled, self._step_parts)
        return torch.cat([part[:size] for (part,), size in zip(every, sizes, strict=True)])

    def _means(self) -> dict[str, float]:
        """Return the means of all statistics since the last call; count the skipped batches."""
        numbers = {name: float(torch.stack(values).float().mean()) for name, values in self._numbers.items()}
        self._numbers = {}
        skips = int(self._skips)
        self.new_skips = skips - self.state.counters.skipped
        self.state.counters.skipped = skips
        return numbers

    @torch.no_grad()
    def _compare(
        self, held_out: Feed, real: tuple[Tensor, Tensor], fakes: tuple[Tensor, Tensor]
    ) -> dict[str, float]:
        """Return how far held-out images and fakes score below the training images of the last batch.

        All are images and their classes. Compared within each class, for what a relativistic critic gives a
        class as a whole means nothing, and the classes may be mixed in other shares. Nothing is told where
        no class has two images on each side.
        """
        networks, parts = self.state.networks, self.state.counters.parts or 1

        def scores(images: Tensor, labels: Tensor) -> Tensor:
            pieces = zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True)
            return torch.cat([self._family.scores(networks, *piece) for piece in pieces if len(piece[0])])

        others = held_out.batch(self.state.counters.step)
        sides = [(scores(*side), side[1]) for side in (real, others, (fakes[0].float(), fakes[1]))]
        rows = []
        for label in real[1].unique().tolist():
            train, held, fake = (each[(labels == label) & each.isfinite()] for each, labels in sides)
            known = held_out.count_of(label)
            if min(len(train), len(held), known) < 2 or not len(fake):
                continue
            variance = train.var() / len(train) + held.var() / min(len(held), known)
            figures = torch.stack([train.mean() - held.mean(), variance, train.mean() - fake.mean()])
            rows.append((len(train), figures.double()))
        if not rows:
            return {}
        shares = torch.tensor([count for count, _ in rows], dtype=torch.float64)
        shares /= shares.sum()
        gaps, variances, fake_gaps = torch.stack([figures for _, figures in rows], dim=1).cpu()
        return {
            "held_out_gap": float(shares @ gaps),
            "held_out_error": float((shares.square() @ variances).sqrt()),
            "fake_gap": float(shares @ fake_gaps),
        }

    def is_finite(self) -> bool:
        """Return whether every weight is a finite number."""
        return all(
            bool(torch.isfinite(torch.nn.utils.get_total_norm(list(parameters.values()))))
            for parameters in self.state.parameters.values()
        )

    def load(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Go on from a checkpoint: tensors and counters."""
        self.state.load(dict(tensors))
        for name, value in counters.items():
            setattr(self.state.counters, name, value)
        self._skips.fill_(self.state.counters.skipped)
        self._numbers = {}

    def roll_back(self, good: Mapping[str, Tensor]) -> None:
        """Take the good checkpoint's tensors, each averaged network as its average. The counters go on.

        High on the ladder the optimisers' moments start anew.
        """
        is_fresh = recovery.is_fresh(self.state.counters)
        mixed = {
            name: torch.zeros_like(tensor) if is_fresh and name.startswith("optimiser.") else tensor
            for name, tensor in good.items()
        }
        for name in self.state.averages:
            prefix = f"average.{name}."
            for key in [key for key in good if key.startswith(prefix)]:
                mixed[f"network.{name}.{key.removeprefix(prefix)}"] = good[key]
        self.state.load(mixed)


def warm_up(step: int, steps: int, share: float) -> float:
    """Return the factor on the learning rate in a step: rising evenly to 1 over ``share`` of all steps.

    At least `FEWEST_WARM_UP_STEPS`, but never more than a quarter of the run.
    """
    if share <= 0:
        return 1.0
    length = max(math.ceil(share * steps), min(FEWEST_WARM_UP_STEPS, steps // 4), 1)
    return min(1.0, (step + 1) / length)
