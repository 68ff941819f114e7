"""The contract that every family holds, whichever files lie in the folder."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from phantomset.data.catalogue import names
from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSet, ImageSpec
from phantomset.ganmodels.engine import check, train
from phantomset.ganmodels.family import Batch, Draw, Family, FamilySettings
from phantomset.ganmodels.generate import generate
from phantomset.ganmodels.plan import TrainingPlan
from phantomset.ganmodels.shards import Crew
from phantomset.ganmodels.state import State
from phantomset.ganmodels.step import Stepper
from phantomset.ganmodels.translate import translate

from .cases import DEFAULTS, PACKAGE, VARIANTS, Case
from .conftest import draw_bars

Bars = Callable[..., ImageSet]
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 60, 80), (1, 8, 8), (1, 33, 21), (1, 9, 100)]
LARGE = [(3, 256, 256), (1, 200, 256)]

SLOW_LEARNERS = {"cyclegan", "diffusion", "pix2pix", "stylegan2"}
"""Families whose training test takes over 10 CPU-seconds."""


@pytest.fixture(params=DEFAULTS + VARIANTS, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    """Each family in turn, with its defaults and with other settings."""
    return request.param


@pytest.fixture
def family(case: Case) -> Family:
    """The family of the case."""
    return case.family


@pytest.fixture
def settings(case: Case) -> FamilySettings:
    """The settings of the case."""
    return case.settings


def _batch(images: ImageSet, device: str) -> Batch:
    signal = torch.from_numpy(images.images).float() / 127.5 - 1
    return Batch(signal.to(device), torch.from_numpy(images.labels).to(device), 0.0, step=0)


def _stacked(family: Family, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The shape of a training image: for pairs, both in its channels."""
    return (shape[0] * family.stacks, *shape[1:])


def _state(case: Case, shape: tuple[int, int, int], device: str, seed: int = 0) -> State:
    spec = ImageSpec(*_stacked(case.family, shape))
    return State(case.family, case.settings, spec, 2, seed, torch.device(device))


def test_names_agree(family: Family) -> None:
    """The name in the recipe is the name of the file, and each family names its paper and defaults."""
    assert family.name in names(PACKAGE)
    assert family.paper
    family.Settings()
    with pytest.raises(ValueError, match="widht"):
        family.Settings.model_validate({"widht": 1})


def test_numbers_out_of_range_are_refused(family: Family) -> None:
    """No setting takes a number below 0 or without end, and no layer has no channels."""
    numbers = [
        name
        for name, value in family.Settings.model_fields.items()
        if any(kind in str(value.annotation) for kind in ("int", "float"))
    ]
    assert numbers
    for name in numbers:
        is_tuple = "tuple" in str(family.Settings.model_fields[name].annotation)
        for bad in (-1, math.inf, math.nan, *([0] if is_tuple else [])):
            with pytest.raises(ValueError, match=name):
                family.Settings.model_validate({name: [bad, bad] if is_tuple else bad})


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("cyclegan", {"mode": "contrastive", "cycle_weight": 3}, "cycle_weight is heeded with mode: cycle"),
        ("cyclegan", {"patches": 64}, "patches is heeded with mode: contrastive"),
        ("cgan", {"auxiliary_weight": 3}, "auxiliary_weight is heeded with head: auxiliary"),
        ("diffusion", {"guidance": 2, "label_dropout": 0}, "guidance needs label_dropout"),
    ],
)
def test_what_is_not_heeded_is_refused(name: str, given: dict[str, object], message: str) -> None:
    """A setting of another mode would be lost in silence."""
    with pytest.raises(ValueError, match=message):
        Case(name).family.Settings.model_validate(given)


def _plays(case: Case, images: ImageSet, shape: tuple[int, int, int], device: str) -> None:
    """Hold that samples have the image's shape, and that every loss of these images is finite."""
    family, settings, count = case.family, case.settings, len(images.labels)
    spec = ImageSpec(*images.images.shape[1:])
    assert family.check(settings, spec) is None
    state = _state(case, shape, device)
    batch, rng, shared = _batch(images, device), torch.Generator(device).manual_seed(1), {}
    for player in state.players:
        numbers = player.loss(state.networks, batch, rng, shared)
        assert all(torch.isfinite(value) for value in numbers.values())
        assert numbers["loss"].dim() == 0
    for name in ("real_scores", "fake_scores"):
        assert name not in shared or shared[name].shape == (count,)
    assert "fakes" not in shared or shared["fakes"].shape == batch.images.shape
    noise = torch.randn(count, *family.noise_shape(settings, spec)).to(device)
    with torch.no_grad():
        if family.sample is not None:
            made = family.sample(state.averages, settings, Draw(batch.labels, noise, rng))
        else:
            assert family.translate is not None
            source = family.source(batch.images)
            made = family.translate(state.averages, settings, source, batch.labels, rng)
    assert made.shape == (count, *shape)
    assert torch.isfinite(made).all()


class ReadBacks(TorchDispatchMode):
    """Counts what would make a GPU's host wait: values or shapes that are read from the device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, operation: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        name = operation.name().split("::")[1].split(".")[0]
        picks = given[1] if name == "index" else []
        is_mask = any(isinstance(pick, torch.Tensor) and pick.dtype == torch.bool for pick in picks)
        if is_mask or name in ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "_unique2"):
            self.seen.append(name)
        return operation(*given, **(named or {}))


def test_a_step_reads_nothing_back(case: Case, bars: Bars) -> None:
    """Every player's move, optimiser and average included, leaves the device to itself."""
    family = case.family
    images = bars(32, _stacked(family, (1, 8, 8)), family.classes or 2)
    with Crew(1) as crew:
        plan = TrainingPlan(640, batch_size=16, threads=1)
        stepper = Stepper(images, family, case.narrow, plan, torch.device("cpu"), crew, 2)
        stepper.step()  # what is set up once may look
        with ReadBacks() as seen:
            stepper.step()
    assert seen.seen == []


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_samples_and_losses(case: Case, bars: Bars, shape: tuple[int, int, int], device: str) -> None:
    """Grey and RGB, square and not, even and odd: samples have the image's shape, every loss is finite."""
    _plays(case, bars(8, _stacked(case.family, shape)), shape, device)


LARGEST = [
    Case("diffusion", changes={"sampling_steps": 2}) if each.name == "diffusion" else each
    for each in DEFAULTS
]
"""At 256 px each of diffusion's steps takes seconds, and the other sixteen show nothing more."""


@pytest.mark.slow
@pytest.mark.parametrize("shape", LARGE, ids=str)
@pytest.mark.parametrize("case", LARGEST, ids=str)
def test_the_largest_sizes(case: Case, bars: Bars, shape: tuple[int, int, int], device: str) -> None:
    """The same at 256 px, in colour and not square."""
    _plays(case, bars(4, _stacked(case.family, shape)), shape, device)


def test_impossible_sizes_are_refused(family: Family, settings: FamilySettings) -> None:
    """An image of 4 or 2,000 px gets a sentence with the numbers, not a network."""
    for side in (4, 2000):
        reason = family.check(settings, ImageSpec(family.stacks, side, side))
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


def test_what_a_family_says_of_augmentation_is_so(case: Case, bars: Bars, device: str) -> None:
    """Its losses ask for augmented images, and tell the sign of D(x), just where it says so."""
    family, state, rng = case.family, _state(case, (1, 8, 8), device), torch.Generator(device).manual_seed(1)
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


def test_a_player_moves_only_its_own_weights(case: Case, bars: Bars, device: str) -> None:
    """After one player's step every other weight, and every buffer, is unchanged to the bit."""
    state = _state(case, (1, 28, 28), device)
    batch, rng, shared = (
        _batch(bars(8, _stacked(case.family, (1, 28, 28))), device),
        torch.Generator(device).manual_seed(1),
        {},
    )
    for player in state.players:
        before = {name: tensor.clone() for name, tensor in state.tensors().items() if "network" in name}
        own = list(state.parameters[player.name].values())
        loss = player.loss(state.networks, batch, rng, shared)["loss"]
        gradients = list(torch.autograd.grad(loss, own))
        sound = torch.tensor(False, device=device)
        state.optimisers[player.name].step(gradients, 1e-3, (0.0, 0.9), sound)
        moved = {
            name
            for name, tensor in state.tensors().items()
            if "network" in name and not tensor.equal(before[name])
        }
        assert moved
        assert {name.split(".")[1] for name in moved} <= set(player.networks)


def test_every_weight_learns(case: Case, device: str) -> None:
    """No parameter is left without a player, and none belongs to two."""
    state = _state(case, (1, 28, 28), device)
    owned = [name for player in state.players for name in state.parameters[player.name]]
    every = [f"{key}.{name}" for key, net in state.networks.items() for name, _ in net.named_parameters()]
    assert sorted(owned) == sorted(every)


def test_a_batch_is_the_mean_of_its_parts(case: Case, bars: Bars, device: str) -> None:
    """Scores of a part of a batch equal those of the whole: no image looks at one of another group."""
    state = _state(case, (1, 28, 28), device)
    batch = _batch(bars(12, _stacked(case.family, (1, 28, 28))), device)
    if "critic" not in state.networks:
        pytest.skip("no critic")
    critic, cut = state.networks["critic"].eval(), 3 if case.family.looks_at == 1 else case.family.looks_at
    whole = critic(batch.images, batch.labels)
    parts = torch.cat(
        [critic(batch.images[:cut], batch.labels[:cut]), critic(batch.images[cut:], batch.labels[cut:])]
    )
    assert torch.allclose(whole, parts, atol=1e-5)


def test_seeded(case: Case, device: str) -> None:
    """The same seed builds the same weights, another others; torch's global stream is not touched."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (_state(case, (1, 8, 8), device, seed).tensors() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, device: str) -> Callable[[Case], Path]:
    """Return the folder of a case's finished run of 40 steps, trained once."""
    place = tmp_path_factory.mktemp("straight")

    def trained(case: Case) -> Path:
        folder, family = place / str(case), case.family
        if not folder.exists():
            images = draw_bars(64, _stacked(family, (1, 8, 8)), family.classes or 2)
            plan = TrainingPlan(320, batch_size=8, threads=1)
            for _ in train(images, case.name, case.narrow, plan, folder, device):
                pass
        return folder

    return trained


def test_save_load_and_sample_agree(
    case: Case, straight: Callable[[Case], Path], bars: Bars, device: str
) -> None:
    """What a finished run makes is the same each time it is asked for, and follows the label; half a class is
    refused."""
    labels, folder, family = np.array([0, 1, 1, 0, 1]), straight(case), case.family

    def made(labels: np.ndarray, seed: int) -> np.ndarray:
        if family.sample is None:
            source = family.source(bars(5, _stacked(family, (1, 8, 8))).images)
            return translate(folder, source, labels, seed, device)
        return generate(folder, labels, seed, device)

    first = made(labels, 3)
    assert first.dtype == np.uint8
    assert first.shape == (5, 1, 8, 8)
    assert np.array_equal(first, made(labels, 3))
    for outside in (labels + 5, labels - 1) if family.classes != 1 else ():
        with pytest.raises(ModelError, match="from 0 to"):
            made(outside, 3)
    with pytest.raises(ModelError, match="whole numbers; found float64"):
        made(labels + 0.5, 3)
    if family.sample is not None:
        assert not np.array_equal(first, made(labels, 4))
        assert not np.array_equal(first, made(1 - labels, 3))


@pytest.mark.parametrize(
    "case",
    [
        *(
            pytest.param(case, marks=pytest.mark.slow) if case.name in SLOW_LEARNERS else case
            for case in DEFAULTS
        ),
        pytest.param(VARIANTS[0], marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_memorises_four_images(case: Case, bars: Bars, device: str, tmp_path: Path) -> None:
    """Shown nothing but 4 images, what it makes ends much nearer to them than it began."""
    family = case.family
    four = bars(4, _stacked(family, (1, 8, 8)), family.classes or 2, seed=3)
    images = four.take(np.tile(np.arange(4), 16))
    labels = np.repeat([0, 1], 32)
    distances = []
    for budget in (64, 5_000):
        folder = tmp_path / str(budget)
        plan = TrainingPlan(budget, batch_size=32, threads=1)
        for _ in train(images, case.name, case.settings, plan, folder, device):
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
