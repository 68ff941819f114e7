"""Everything that a training run changes, as named tensors and counters: what a checkpoint must hold."""

import copy
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSpec
from phantomset.data.seeds import seed_of
from phantomset.ganmodels.family import Family, FamilySettings, Player
from phantomset.ganmodels.optimiser import Optimiser, matrices_of

HALF_LIFE_IMAGES = 10_000
"""Half-life of the generator's moving average, once the run is long enough."""

HALF_LIFE_SHARE = 0.05
"""Half-life as a share of the images shown so far, so that the average forgets the first noise quickly."""


@dataclass(slots=True)
class Counters:
    """What is counted and remembered besides tensors; all of it goes into a checkpoint.

    Attributes:
        step: batches shown; one with `batches` of them counts as many.
        learning_rate_scale: 1 until a roll-back lowers it.
        penalty_scale: 1 until a roll-back raises it.
        roll_backs: how many there were.
        skipped: batches whose loss or gradient was not finite.
        good_step: step of the newest checkpoint that followed clean checks only.
        restarted_images: images seen when a roll-back last led to the start, for want of a good state.
        lost_images: the most images that a roll-back to the start threw away.
        best: step of the checkpoint whose samples covered most of the held-out images, and the share that
            they left out: a run that is given up ends with it. Where none are held out, that whose samples
            lay most nearly as far apart as real images, and how far off; then a good state goes first. Empty
            before the first.
        clean_checks: checks in a row without a finding.
        streaks: detector -> checks in a row that it fired.
        class_pairs: label -> sums of the distances of its last pairs of fakes, of real images, and how many.
        spreads: the last spreads of the fakes, newest last, for "falling".
        history: of the last quarter of the run, one row a check: penalty, pair accuracy, spread.
        overfits: of the last checks: how far held-out images score below training images, the standard error
            of that, and how far fakes do.
        sketches: of the last contact sheets: spread, and the mean image in 16 parts.
        augment_share: share of the images that is augmented besides what the plan asks for.
        held_progress: where the ladder holds the fall of the penalty's gamma; None: nowhere.
        batches: batches in a step; 1 until the ladder asks for more.
        is_grain_met: samples carried grain, and the ladder asks for penalties at every step since.
        parts: parts of a batch, once memory did not suffice for the usual number; 0 until then.
        given_up: the run ended early because roll-backs did not help.
        accountant: differentially private steps: noise multiplier, sampling rate, how many. A roll-back takes
            none of them back.
        events: what happened, in order.
    """

    step: int = 0
    learning_rate_scale: float = 1.0
    penalty_scale: float = 1.0
    roll_backs: int = 0
    skipped: int = 0
    good_step: int = 0
    restarted_images: int = 0
    lost_images: int = 0
    best: list[float] = field(default_factory=list[float])
    clean_checks: int = 0
    streaks: dict[str, int] = field(default_factory=dict)
    class_pairs: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    spreads: list[float] = field(default_factory=list)
    history: list[list[float]] = field(default_factory=list)
    overfits: list[list[float]] = field(default_factory=list)
    sketches: list[list[float]] = field(default_factory=list)
    augment_share: float = 0.0
    held_progress: float | None = None
    batches: int = 1
    is_grain_met: bool = False
    parts: int = 0
    given_up: bool = False
    accountant: list[list[float]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return a deep copy as what JSON knows."""
        return asdict(self)


class State:
    """Networks, their moving averages, one optimiser for each player, and counters."""

    def __init__(
        self,
        family: Family,
        settings: FamilySettings,
        spec: ImageSpec,
        class_count: int,
        seed: int,
        device: torch.device,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, "weights"))
            networks = family.build(settings, spec, class_count)
        self.networks: dict[str, nn.Module] = {
            name: network.to(device).to(memory_format=torch.channels_last).train()
            for name, network in networks.items()
        }
        self.averages: dict[str, nn.Module] = {
            name: copy.deepcopy(self.networks[name]).eval().requires_grad_(False)
            for name in family.averaged
            if name in self.networks
        }
        self.players = family.players(settings)
        self.parameters = {player.name: self._parameters(player) for player in self.players}
        self.optimisers = {player.name: self._optimiser(player) for player in self.players}
        self.counters = Counters()

    def _parameters(self, player: Player) -> dict[str, nn.Parameter]:
        return {
            f"{name}.{key}": parameter
            for name in player.networks
            for key, parameter in self.networks[name].named_parameters()
        }

    def _optimiser(self, player: Player) -> Optimiser:
        parameters = self.parameters[player.name]
        if player.matrix_step is None:
            return Optimiser(parameters)
        networks = {name: self.networks[name] for name in player.networks}
        matrices = [f"{name}.{key}" for name, network in networks.items() for key in matrices_of(network)]
        return Optimiser(parameters, matrices, player.matrix_step)

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor of the state by name; they share memory with the state."""
        named = {
            f"{kind}.{name}.{key}": value
            for kind, modules in (("network", self.networks), ("average", self.averages))
            for name, module in modules.items()
            for key, value in module.state_dict().items()
        }
        for player, optimiser in self.optimisers.items():
            named |= {f"optimiser.{player}.{key}": value for key, value in optimiser.tensors().items()}
        return named

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Copy the named tensors into the state.

        Raises:
            ModelError: a name or a shape does not fit the networks.
        """
        own = self.tensors()
        wrong = sorted(set(own) ^ set(tensors)) or [
            name for name, value in own.items() if value.shape != tensors[name].shape
        ]
        if wrong:
            raise ModelError(
                f"checkpoint: {len(wrong)} tensors do not fit the networks, {wrong[0]} first. "
                "It is of another version; remove its folder to train anew."
            )
        for name, value in own.items():
            value.copy_(tensors[name])

    @torch.no_grad()
    def average(self, images_seen: int, batch_size: int) -> None:
        """Move the averages towards the networks, after a step that ended with ``images_seen``."""
        move = get_ema_multi_avg_fn(average_decay(images_seen, batch_size))
        for name, average in self.averages.items():
            network = self.networks[name]
            move(list(average.parameters()), list(network.parameters()), 0)
            for kept, new in zip(average.buffers(), network.buffers(), strict=True):
                kept.copy_(new)


def average_decay(images_seen: int, batch_size: int) -> float:
    """Return by how much the moving average is kept in one step: ``0.5 ** (batch / half-life)``.

    Half-life = min(10,000 images, 5% of the images shown). Karras et al., "Analyzing and improving the
    training dynamics of diffusion models", count it in images too.
    """
    half_life = min(HALF_LIFE_IMAGES, HALF_LIFE_SHARE * images_seen)
    return 0.5 ** (batch_size / max(half_life, 1e-8))
