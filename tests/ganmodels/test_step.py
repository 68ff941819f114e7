"""What one step does to the weights."""

import copy
from collections.abc import Callable

import pytest
import torch

from phantomset.data.records import ImageSet
from phantomset.data.seeds import seed_of
from phantomset.ganmodels.families import r3gan
from phantomset.ganmodels.family import Batch
from phantomset.ganmodels.feed import Feed
from phantomset.ganmodels.optimiser import as_matrix, matrices_of, orthogonal
from phantomset.ganmodels.plan import TrainingPlan
from phantomset.ganmodels.shards import Crew
from phantomset.ganmodels.step import Stepper, warm_up

CPU = torch.device("cpu")


@pytest.mark.parametrize("matrix_step", [None, 2.0])
def test_the_first_step_moves_every_weight_against_its_own_gradient(
    bars: Callable[..., ImageSet], matrix_step: float | None
) -> None:
    """By the learning rate: Adam without momentum, bias-corrected, gives g / sqrt(g^2) in its first step.

    The step is one with gradient penalties. Their second backward pass leaves gradients of convolutions in
    another memory layout than the weights', which the fused kernel does not notice by itself. Muon moves the
    critic's matrices by the gradient made orthogonal, as far whatever the gradient's length.
    """
    images, settings = bars(64, (1, 16, 16)), r3gan.Settings(matrix_step=matrix_step)
    plan = TrainingPlan(budget_images=640, batch_size=16, threads=1, precision="fp32")
    with Crew(1) as crew:
        stepper = Stepper(images, r3gan.FAMILY, settings, plan, CPU, crew, shards=1)
        before = copy.deepcopy(stepper.state.networks)
        stepper.step()
    batch = Batch(*Feed(images, 16, plan.seed, "natural", CPU).batch(0), progress=0.0, step=0)
    rng = torch.Generator().manual_seed(seed_of(plan.seed, "train", 0, 0))
    r3gan.critic_loss(settings, before, batch, rng, {})["loss"].backward()
    rate = settings.learning_rate_start * warm_up(0, plan.steps, settings.warm_up_share)
    after = dict(stepper.state.networks["critic"].named_parameters())
    matrices = matrices_of(before["critic"]) if matrix_step else []
    for name, weight in before["critic"].named_parameters():
        assert weight.grad is not None
        if name in matrices:
            matrix, step = as_matrix(weight.grad), rate * (matrix_step or 0)
            expected = -step * max(matrix.shape) ** 0.5 * orthogonal(matrix)
            moved = as_matrix(after[name] - weight)
            assert torch.linalg.vector_norm(moved - expected) <= 0.02 * torch.linalg.vector_norm(expected)
            continue
        clear = weight.grad.abs() > 1e-5
        moved = (after[name] - weight)[clear]
        assert moved.tolist() == pytest.approx((-rate * weight.grad.sign()[clear]).tolist(), rel=0.02), name


@pytest.mark.parametrize("matrix_step", [None, 2.0])
def test_two_batches_in_a_step_are_one_batch_of_twice_the_size(
    bars: Callable[..., ImageSet], matrix_step: float | None
) -> None:
    """The gradient, which each first moment has or has a share of, is that of one batch of 32 to the bit."""
    images, moments = bars(64, (1, 16, 16)), []
    for batch_size, batches in ((16, 2), (32, 1)):
        plan = TrainingPlan(budget_images=640, batch_size=batch_size, threads=1, precision="fp32")
        with Crew(1) as crew:
            stepper = Stepper(
                images,
                r3gan.FAMILY,
                r3gan.Settings(matrix_step=matrix_step),
                plan,
                CPU,
                crew,
                shards=2 * batch_size // 16,
            )
            stepper.state.counters.batches = batches
            stepper.step()
        assert stepper.state.counters.step == batches
        tensors = stepper.state.tensors()
        moments.append({key: tensors[key] for key in tensors if key.startswith("optimiser.critic.")})
    first = [key for key in moments[0] if key.endswith(("exp_avg", "momentum"))]
    assert len(first) == len(list(stepper.state.networks["critic"].parameters()))
    assert all(torch.equal(moments[0][key], moments[1][key]) for key in first)


def test_penalties_come_as_often_whatever_the_batches(bars: Callable[..., ImageSet]) -> None:
    """Every fourth move of a player, also where each is made from two batches; an odd one out goes alone."""
    plan = TrainingPlan(budget_images=16 * 17, batch_size=16, threads=1, precision="fp32")
    with Crew(1) as crew:
        stepper = Stepper(bars(64, (1, 8, 8)), r3gan.FAMILY, r3gan.Settings(), plan, CPU, crew, shards=2)
        stepper.state.counters.batches = 2
        seen = []
        while stepper.state.counters.step < plan.steps:
            stepper.step()
            numbers, _ = stepper.read()
            seen.append((stepper.state.counters.step, "penalty" in numbers))
    penalised = [2, 10, 17]  # the first, the fifth and the ninth move end here
    assert seen == [(step, step in penalised) for step in (*range(2, 17, 2), 17)]
