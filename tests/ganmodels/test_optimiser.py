"""What moves the weights, beside torch's own optimisers."""

import pytest
import torch
from torch import Tensor, nn

from phantomset.data.records import ImageSpec
from phantomset.ganmodels.families import r3gan
from phantomset.ganmodels.optimiser import SMALLEST_SIDE, Optimiser, as_matrix, matrices_of, orthogonal
from phantomset.ganmodels.state import State

from .cases import DEFAULTS, VARIANTS, Case

SOUND = torch.tensor(False)


def _layer(seed: int = 0) -> nn.Conv2d:
    torch.manual_seed(seed)
    return nn.Conv2d(20, 24, 3).to(memory_format=torch.channels_last)


def _gradients(layer: nn.Module, seed: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(weight.shape, generator=rng) for weight in layer.parameters()]


@pytest.mark.parametrize("shape", [(16, 16), (24, 180), (180, 24)])
def test_all_directions_become_equally_long(shape: tuple[int, int]) -> None:
    """The singular values, from 1 down to a hundredth of it, are between .6 and 1.3; the vectors stay."""
    rng = torch.Generator().manual_seed(1)
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=rng), full_matrices=False)
    turned = orthogonal(u @ torch.logspace(0, -2, min(shape)).diag() @ v)
    within = u.mT @ turned @ v.mT
    assert within.diag().min() > 0.6 and within.diag().max() < 1.3
    assert (within - within.diag().diag()).abs().max() < 1e-3


def test_no_gradient_is_no_direction() -> None:
    """A matrix of zeros stays one: nothing is divided by its length."""
    assert orthogonal(torch.zeros(16, 20)).count_nonzero() == 0


def test_matrices_move_as_by_torchs_muon() -> None:
    """Five steps are those of `torch.optim.Muon`, which computes in bfloat16: equal to its 8 bits."""
    layer, steps, rate = _layer(), 5, 1e-2
    optimiser = Optimiser(dict(layer.named_parameters()), ["weight"])
    other = as_matrix(layer.weight).detach().clone()
    before = other.clone()
    muon = torch.optim.Muon(
        [other], rate / 0.2, weight_decay=0.0, momentum=0.5, adjust_lr_fn="match_rms_adamw"
    )
    for seed in range(steps):
        gradients = _gradients(layer, seed)
        optimiser.step(gradients, rate, (0.0, 0.9), SOUND)
        other.grad = as_matrix(gradients[0])
        muon.step()
    moved, expected = as_matrix(layer.weight) - before, other - before
    assert torch.linalg.vector_norm(moved - expected) < 0.02 * torch.linalg.vector_norm(expected)


def test_the_step_is_a_root_mean_square() -> None:
    """A move's root mean square is the rate, but for what the singular values are off 1."""
    layer = _layer()
    before = layer.weight.detach().clone()
    Optimiser(dict(layer.named_parameters()), ["weight"]).step(_gradients(layer, 0), 1e-2, (0.0, 0.9), SOUND)
    assert (layer.weight - before).square().mean().sqrt().item() == pytest.approx(1e-2, rel=0.2)


def test_the_rest_moves_as_by_torchs_adam() -> None:
    """A bias beside a matrix, five steps, to the bit."""
    layer, other = _layer(), _layer()
    optimiser = Optimiser(dict(layer.named_parameters()), ["weight"])
    adam = torch.optim.Adam([other.bias], 1e-3, betas=(0.0, 0.9), fused=True)
    for seed in range(5):
        gradients = _gradients(layer, seed)
        optimiser.step(gradients, 1e-3, (0.0, 0.9), SOUND)
        other.bias.grad = gradients[1]
        adam.step()
    assert torch.equal(layer.bias, other.bias)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_broken_batch_changes_nothing(bad: float) -> None:
    """Weights and moments of both kinds stay as they are, to the bit, and the next batch is as if alone."""
    layer, other = _layer(), _layer()
    optimisers = [Optimiser(dict(each.named_parameters()), ["weight"]) for each in (layer, other)]
    for each, optimiser in zip((layer, other), optimisers, strict=True):
        optimiser.step(_gradients(each, 0), 1e-3, (0.0, 0.9), SOUND)
    broken = [gradient.fill_(bad) for gradient in _gradients(layer, 1)]
    optimisers[0].step(broken, 1e-3, (0.0, 0.9), torch.tensor(True))
    for each, optimiser in zip((layer, other), optimisers, strict=True):
        optimiser.step(_gradients(each, 2), 1e-3, (0.0, 0.9), SOUND)
    assert all(torch.equal(a, b) for a, b in zip(layer.parameters(), other.parameters(), strict=True))
    moments = [optimiser.tensors() for optimiser in optimisers]
    assert moments[0].keys() == moments[1].keys()
    assert all(torch.equal(moments[0][name], moments[1][name]) for name in moments[0])


def test_a_gradients_layout_means_nothing() -> None:
    """A gradient in rows and one in channels-last move a convolution alike."""
    layers = [_layer(), _layer()]
    for layer, layout in zip(layers, (torch.contiguous_format, torch.channels_last), strict=True):
        weight, bias = _gradients(layer, 3)
        gradients = [weight.contiguous(memory_format=layout), bias]
        Optimiser(dict(layer.named_parameters()), ["weight"]).step(gradients, 1e-3, (0.0, 0.9), SOUND)
    assert torch.equal(layers[0].weight, layers[1].weight)


@pytest.mark.parametrize("case", DEFAULTS + VARIANTS, ids=str)
def test_a_matrix_is_the_weight_itself(case: Case) -> None:
    """In every network of every family: not a copy, whose moves would be lost. Embeddings are none."""
    spec = ImageSpec(case.family.stacks, 28, 28)
    state = State(case.family, case.settings, spec, 2, 0, torch.device("cpu"))
    for network in state.networks.values():
        named = dict(network.named_parameters())
        for name in matrices_of(network):
            assert as_matrix(named[name]).data_ptr() == named[name].data_ptr(), name
            assert min(as_matrix(named[name]).shape) >= SMALLEST_SIDE
        assert not [name for name in matrices_of(network) if "embedding" in name]


def test_r3gans_critic_alone_is_moved_so_and_only_where_asked() -> None:
    """With ``matrix_step`` its matrices have a momentum of Muon; all else, and without it all, Adam's."""
    spec = ImageSpec(1, 28, 28)
    momenta = []
    for settings in (r3gan.Settings(matrix_step=2.0), r3gan.Settings()):
        state = State(r3gan.FAMILY, settings, spec, 2, 0, torch.device("cpu"))
        momenta.append({name for name in state.tensors() if name.endswith(".momentum")})
    matrices = matrices_of(r3gan.build(r3gan.Settings(), spec, 2)["critic"])
    assert len(matrices) > 5
    assert momenta == [{f"optimiser.critic.critic.{name}.momentum" for name in matrices}, set()]
