"""The contract that every family holds, whichever files lie in the folder."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from phantomset.data.catalogue import load, names
from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSet, ImageSpec
from phantomset.ganmodels.engine import check, train
from phantomset.ganmodels.family import Batch, Draw, Family, Player
from phantomset.ganmodels.generate import generate
from phantomset.ganmodels.plan import TrainingPlan
from phantomset.ganmodels.state import State
from phantomset.ganmodels.step import Shard, Stepper
from phantomset.ganmodels.translate import translate

from .conftest import draw_bars

PACKAGE = "phantomset.ganmodels.families"
Bars = Callable[..., ImageSet]
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 60, 80), (1, 8, 8), (1, 33, 21)]


SLOW_LEARNERS = {"cyclegan", "diffusion", "pix2pix", "stylegan2"}
"""Families whose training test takes over 10 CPU-seconds."""


@pytest.fixture(params=names(PACKAGE))
def family(request: pytest.FixtureRequest) -> Family:
    """Each family in turn."""
    return load(PACKAGE, request.param)


def _batch(images: ImageSet, device: str) -> Batch:
    signal = torch.from_numpy(images.images).float() / 127.5 - 1
    return Batch(signal.to(device), torch.from_numpy(images.labels).to(device), 0.0, step=0)


def _stacked(family: Family, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The shape of a training image: for pairs, both in its channels."""
    return (shape[0] * family.stacks, *shape[1:])


def _state(family: Family, shape: tuple[int, int, int], device: str, seed: int = 0) -> State:
    spec = ImageSpec(*_stacked(family, shape))
    return State(family, family.Settings(), spec, 2, seed, torch.device(device))


def test_names_agree(family: Family) -> None:
    """The name in the recipe is the name of the file, and each family names its paper and defaults."""
    assert family.name in names(PACKAGE)
    assert family.paper
    family.Settings()
    with pytest.raises(ValueError, match="widht"):
        family.Settings.model_validate({"widht": 1})


@pytest.mark.parametrize("shape", SHAPES)
def test_samples_and_losses(family: Family, bars: Bars, shape: tuple[int, int, int], device: str) -> None:
    """Grey and RGB, square and not, even and odd: samples have the image's shape, every loss is finite."""
    settings, stacked = family.Settings(), _stacked(family, shape)
    assert family.check(settings, ImageSpec(*stacked)) is None
    state = _state(family, shape, device)
    batch, rng, shared = _batch(bars(8, stacked), device), torch.Generator(device).manual_seed(1), {}
    for player in state.players:
        numbers = player.loss(state.networks, batch, rng, shared)
        assert all(torch.isfinite(value) for value in numbers.values())
        assert numbers["loss"].dim() == 0
    for name in ("real_scores", "fake_scores"):
        assert name not in shared or shared[name].shape == (8,)
    assert "fakes" not in shared or shared["fakes"].shape == batch.images.shape
    noise = torch.randn(8, *family.noise_shape(settings, ImageSpec(*stacked))).to(device)
    if family.sample is not None:
        made = family.sample(state.averages, settings, Draw(batch.labels, noise, rng))
    else:
        assert family.translate is not None
        source = family.source(batch.images)
        made = family.translate(state.averages, settings, source, batch.labels, rng)
    assert made.shape == (8, *shape)


def test_impossible_sizes_are_refused(family: Family) -> None:
    """An image of 4 or 2,000 px gets a sentence with the numbers, not a network."""
    for side in (4, 2000):
        reason = family.check(family.Settings(), ImageSpec(family.stacks, side, side))
        assert reason is not None
        assert str(side) in reason


def test_labels_are_never_lost_in_silence(family: Family, bars: Bars, tmp_path: Path) -> None:
    """A family that takes a number of classes refuses another, before anything is written."""
    if family.classes is None:
        return
    images = bars(96, _stacked(family, (1, 8, 8)), family.classes + 1)
    with pytest.raises(ModelError, match=f"these images have {family.classes + 1}: labels would be lost"):
        next(train(images, family.name, family.Settings(), TrainingPlan(64), tmp_path))
    assert not list(tmp_path.iterdir())


class Counted:
    """An augmentation that changes nothing and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        return images


def test_what_a_family_says_of_augmentation_is_so(family: Family, bars: Bars, device: str) -> None:
    """Its losses ask for augmented images, and tell the sign of D(x), just where it says so."""
    state, rng = _state(family, (1, 8, 8), device), torch.Generator(device).manual_seed(1)
    counted, shared, told = Counted(), dict[str, torch.Tensor](), set[str]()
    batch = replace(_batch(bars(8, _stacked(family, (1, 8, 8))), device), augment=counted)
    for player in state.players:
        told |= set(player.loss(state.networks, batch, rng, shared))
    assert family.augments == (counted.asked > 0)
    assert family.has_sign == ("real_sign" in told)


@pytest.mark.parametrize("augment", ["shift", "affine", "adaptive"])
def test_an_augmentation_that_would_do_nothing_is_refused(
    family: Family, bars: Bars, augment: str, tmp_path: Path
) -> None:
    """Before anything is written, with what to set instead; what does something begins."""
    images = bars(64, _stacked(family, (1, 8, 8)), family.classes or 2)
    plan = TrainingPlan(64, batch_size=8, threads=1, augment=augment)  # type: ignore[arg-type]
    if family.augments and (augment != "adaptive" or family.has_sign):
        assert check(images, family.name, family.Settings(), plan) is family
        return
    with pytest.raises(ModelError, match=f"{family.name}: .*{augment} .*would do nothing"):
        next(train(images, family.name, family.Settings(), plan, tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_player_moves_only_its_own_weights(family: Family, bars: Bars, device: str) -> None:
    """After one player's step every other weight, and every buffer, is unchanged to the bit."""
    state = _state(family, (1, 28, 28), device)
    batch, rng, shared = (
        _batch(bars(8, _stacked(family, (1, 28, 28))), device),
        torch.Generator(device).manual_seed(1),
        {},
    )
    for player in state.players:
        before = {name: tensor.clone() for name, tensor in state.tensors().items() if "network" in name}
        own = list(state.parameters[player.name].values())
        loss = player.loss(state.networks, batch, rng, shared)["loss"]
        for parameter, gradient in zip(own, torch.autograd.grad(loss, own), strict=True):
            parameter.grad = gradient
        optimiser = state.optimisers[player.name]
        optimiser.param_groups[0]["lr"] = 1e-3
        optimiser.step()
        moved = {
            name
            for name, tensor in state.tensors().items()
            if "network" in name and not tensor.equal(before[name])
        }
        assert moved
        assert {name.split(".")[1] for name in moved} <= set(player.networks)


def test_every_weight_learns(family: Family, device: str) -> None:
    """No parameter is left without a player, and none belongs to two."""
    state = _state(family, (1, 28, 28), device)
    owned = [name for player in state.players for name in state.parameters[player.name]]
    every = [f"{key}.{name}" for key, net in state.networks.items() for name, _ in net.named_parameters()]
    assert sorted(owned) == sorted(every)


def test_a_batch_is_the_mean_of_its_parts(family: Family, bars: Bars, device: str) -> None:
    """Scores of a part of a batch equal those of the whole: no image looks at one of another group."""
    state = _state(family, (1, 28, 28), device)
    batch = _batch(bars(12, _stacked(family, (1, 28, 28))), device)
    if "critic" not in state.networks:
        pytest.skip("no critic")
    critic, cut = state.networks["critic"].eval(), 3 if family.looks_at == 1 else family.looks_at
    whole = critic(batch.images, batch.labels)
    parts = torch.cat(
        [critic(batch.images[:cut], batch.labels[:cut]), critic(batch.images[cut:], batch.labels[cut:])]
    )
    assert torch.allclose(whole, parts, atol=1e-5)


def test_seeded(family: Family, device: str) -> None:
    """The same seed builds the same weights, another others; torch's global stream is not touched."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (_state(family, (1, 8, 8), device, seed).tensors() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


NARROW: dict[str, dict[str, Any]] = {
    "cyclegan": {"width": 8, "blocks": 2},
    "pix2pix": {"width": 8},
    "stylegan2": {"latent": 64},
}
"""Settings with which families of wide networks take seconds: that runs are equal does not depend on it."""


def _train(family: Family, folder: Path, device: str) -> ImageSet:
    images = draw_bars(64, _stacked(family, (1, 8, 8)), family.classes or 2)
    plan = TrainingPlan(320, batch_size=8, threads=1, checkpoint_every_images=160)
    settings = family.Settings(**NARROW.get(family.name, {}))
    for _ in train(images, family.name, settings, plan, folder, device):
        pass
    return images


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, device: str) -> Callable[[Family], Path]:
    """Return the folder of a family's straight run of 40 steps, trained once."""
    place = tmp_path_factory.mktemp("straight")

    def trained(family: Family) -> Path:
        if not (place / family.name).exists():
            _train(family, place / family.name, device)
        return place / family.name

    return trained


def test_save_load_and_sample_agree(
    family: Family, straight: Callable[[Family], Path], bars: Bars, device: str
) -> None:
    """What a finished run makes is the same each time it is asked for, and follows the label."""
    labels, folder = np.array([0, 1, 1, 0, 1]), straight(family)

    def made(labels: np.ndarray, seed: int) -> np.ndarray:
        if family.sample is None:
            source = family.source(bars(5, _stacked(family, (1, 8, 8))).images)
            return translate(folder, source, labels, seed, device)
        return generate(folder, labels, seed, device)

    first = made(labels, 3)
    assert first.dtype == np.uint8
    assert first.shape == (5, 1, 8, 8)
    assert np.array_equal(first, made(labels, 3))
    if family.sample is not None:
        assert not np.array_equal(first, made(labels, 4))
        assert not np.array_equal(first, made(1 - labels, 3))


def test_resume_equals_one_straight_run(
    family: Family,
    straight: Callable[[Family], Path],
    device: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """40 steps, and 40 with an end inside a random one, before a random player's move, and a new beginning:
    every tensor and statistic is equal to the bit."""
    folders, move = (straight(family), tmp_path), Stepper._move
    chance = np.random.default_rng(time.time_ns())
    last, player = (
        chance.integers(1, 40),
        chance.choice([each.name for each in family.players(family.Settings())]),
    )

    def killed(self: Stepper, mover: Player, shards: list[Shard]) -> torch.Tensor:
        if self.state.counters.step == last and mover.name == player:
            raise KeyboardInterrupt
        return move(self, mover, shards)

    monkeypatch.setattr(Stepper, "_move", killed)
    with pytest.raises(KeyboardInterrupt):
        _train(family, tmp_path, device)
    monkeypatch.undo()
    _train(family, tmp_path, device)
    ends = [load_file(folder / "checkpoint-00000040.safetensors") for folder in folders]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0]), (last, player)
    lines = [(folder / "train.jsonl").read_text() for folder in folders]
    assert lines[0] == lines[1]


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=pytest.mark.long) if name in SLOW_LEARNERS else name
        for name in names(PACKAGE)
    ],
    indirect=True,
)
def test_memorises_four_images(family: Family, bars: Bars, device: str, tmp_path: Path) -> None:
    """Shown nothing but 4 images, what it makes ends much nearer to them than it began."""
    four = bars(4, _stacked(family, (1, 8, 8)), family.classes or 2, seed=3)
    images = four.take(np.tile(np.arange(4), 16))
    labels = np.repeat([0, 1], 32)
    distances = []
    for budget in (64, 5_000):
        folder = tmp_path / str(budget)
        plan = TrainingPlan(budget, batch_size=32, threads=1)
        for _ in train(images, family.name, family.Settings(), plan, folder, device):
            pass
        if family.sample is None:
            # A pair's target, or, without pairs, the images of the other domain.
            made = translate(folder, family.source(images.images), images.labels, 0, device)
            known = four.images[:, 1:] if family.stacks == 2 else four.images
            wanted = images.labels if family.stacks == 2 else 1 - images.labels
        else:
            made, known, wanted = generate(folder, labels, seed=0, device=device), four.images, labels
        apart = (made[:, None].astype(float) - known[None]).reshape(64, 4, -1)
        roots = np.sqrt(np.square(apart).mean(axis=2))
        roots[wanted[:, None] != four.labels[None]] = math.inf
        distances.append(roots.min(axis=1).mean())
    assert distances[1] < distances[0] / 2
