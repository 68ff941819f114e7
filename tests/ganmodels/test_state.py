"""What a run keeps."""

import pytest
import torch

from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSpec
from phantomset.ganmodels.families import r3gan
from phantomset.ganmodels.state import State, average_decay
from phantomset.ganmodels.step import warm_up


def _state() -> State:
    return State(r3gan.FAMILY, r3gan.Settings(), ImageSpec(1, 8, 8), 2, 0, torch.device("cpu"))


@pytest.mark.parametrize(
    ("images_seen", "half_life"),
    [(64, 3.2), (1_000, 50), (100_000, 5_000), (200_000, 10_000), (10**6, 10_000)],
)
def test_average_half_life(images_seen: int, half_life: float) -> None:
    """5% of the images shown, at most 10,000: after so many images half of the old average is left."""
    steps = half_life / 64
    assert average_decay(images_seen, 64) ** steps == pytest.approx(0.5)


def test_average_moves_by_the_decay() -> None:
    """new average = decay * average + (1 - decay) * weight, for each weight."""
    state = _state()
    with torch.no_grad():
        for parameter in state.networks["generator"].parameters():
            parameter.fill_(3.0)
        for parameter in state.averages["generator"].parameters():
            parameter.fill_(1.0)
    state.average(images_seen=100_000, batch_size=5_000)  # one half-life
    assert all(torch.allclose(p, torch.tensor(2.0)) for p in state.averages["generator"].parameters())


def test_every_moment_is_kept_from_the_start() -> None:
    """A state of step 0 already names step, first and second moment of every weight of both players."""
    names = set(_state().tensors())
    weights = {name.removeprefix("network.") for name in names if name.startswith("network.")}
    for weight in weights:
        player = weight.split(".")[0]
        assert {f"optimiser.{player}.{weight}.{m}" for m in ("step", "exp_avg", "exp_avg_sq")} <= names
    assert {f"average.{weight}" for weight in weights if weight.startswith("generator")} <= names


def test_foreign_tensors_are_refused() -> None:
    """A checkpoint with a tensor too few, or of another shape, does not load and says which."""
    state = _state()
    tensors = {name: tensor.clone() for name, tensor in state.tensors().items()}
    name = "network.critic.head.bias"
    with pytest.raises(ModelError, match=r"1 tensors do not fit.*critic\.head\.bias"):
        state.load({key: tensor for key, tensor in tensors.items() if key != name})
    with pytest.raises(ModelError, match=r"critic\.head\.bias"):
        state.load({**tensors, name: torch.zeros(3)})


@pytest.mark.parametrize(
    ("step", "steps", "factor"),
    [
        (0, 10_000, 1 / 200),
        (99, 10_000, 0.5),
        (199, 10_000, 1.0),
        (49, 1_000, 0.5),
        (100, 1_000, 1.0),
        (4, 40, 0.5),
    ],
)
def test_warm_up(step: int, steps: int, factor: float) -> None:
    """2% of 10,000 steps is 200; of 1,000 steps the floor is 100; of 40 steps a quarter, 10."""
    assert warm_up(step, steps, 0.02) == pytest.approx(factor)


def test_no_warm_up() -> None:
    """A share of 0 starts at full rate."""
    assert warm_up(0, 1_000, 0.0) == 1.0
