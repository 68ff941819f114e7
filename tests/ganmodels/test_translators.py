"""The games of image translation, against their formulas worked out by hand, and what detectors see."""

import math

import pytest
import torch
from torch import Tensor, nn

from phantomset.ganmodels import stability
from phantomset.ganmodels.families import cyclegan, pix2pix
from phantomset.ganmodels.family import Batch
from phantomset.ganmodels.state import Counters


class Times(nn.Module):
    """A translator that multiplies; what it encodes is the image itself."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: Tensor, *_: torch.Generator) -> Tensor:
        return self.factor * images

    def encoded(self, images: Tensor) -> list[Tensor]:
        return [images]


class Patches(nn.Module):
    """A critic whose patches are pixels: the score is the weighted sum of the channels."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.weights = torch.tensor(weights)[:, None, None]

    def patches(self, images: Tensor) -> Tensor:
        return (self.weights * images).sum(dim=1, keepdim=True)


class Directions(nn.Module):
    """A projector to what a patch is, of length 1."""

    def forward(self, maps: list[Tensor], places: list[Tensor]) -> list[Tensor]:
        rows = [
            each.flatten(2)[:, :, place].transpose(1, 2) for each, place in zip(maps, places, strict=True)
        ]
        return [row / row.norm(dim=2, keepdim=True) for row in rows]


A = [(0.2, 0.6), (-0.4, 0.8)]
B = [(1.0, -0.2)]
"""Images of two pixels."""


def _mean(pixels: tuple[float, float], of: str, factor: float, target: float = 0.0) -> float:
    """Return the mean of ``(factor x - target)^2``, or of ``|factor x|``."""
    values = [factor * x - target for x in pixels]
    return sum(v * v if of == "squares" else abs(v) for v in values) / 2


def test_both_critics_and_both_cycles() -> None:
    """Critics: E (D(x) - 1)^2 / 2 + E D(G)^2 / 2, both ways.

    Translators: E (D(G(x)) - 1)^2 + 10 (E |F(G(x)) - x| + E |F(x) - x| / 2), both ways. With G = x / 2,
    F = 3 x, D_A = x / 2 and D_B = 2 x, there and back is 3/2 x, off by x / 2; F leaves A off by 2 x, G B
    by x / 2.
    """
    networks = {
        "generator_ab": Times(0.5),
        "generator_ba": Times(3.0),
        "critic_a": Patches(0.5),
        "critic_b": Patches(2.0),
    }
    images = torch.tensor([A[0], B[0], A[1]])[:, None, None, :]
    batch = Batch(images, torch.tensor([0, 1, 0]), progress=0.0, step=0)
    settings, shared = cyclegan.Settings(), {}
    first, second = cyclegan.players(settings)
    critics = first.loss(networks, batch, torch.Generator(), shared)["loss"].item()
    translators = second.loss(networks, batch, torch.Generator(), shared)
    told = sum(_mean(a, "squares", 0.5, 1.0) + _mean(a, "squares", 2 * 0.5) for a in A)
    told += sum(_mean(b, "squares", 2.0, 1.0) + _mean(b, "squares", 0.5 * 3) for b in B)
    assert critics == pytest.approx(told / 3 / 2, rel=1e-5)
    fooled = sum(_mean(a, "squares", 2 * 0.5, 1.0) for a in A) + sum(
        _mean(b, "squares", 0.5 * 3, 1.0) for b in B
    )
    cycle = sum(_mean(x, "distance", 0.5) for x in A + B)
    same = sum(_mean(a, "distance", 2.0) for a in A) + sum(_mean(b, "distance", 0.5) for b in B)
    assert translators["cycle"].item() == pytest.approx(cycle / 3, rel=1e-5)
    assert translators["loss"].item() == pytest.approx((fooled + 10 * (cycle + same / 2)) / 3, rel=1e-5)


def _patched(*patches: tuple[float, float]) -> Tensor:
    """Return an image ``(1, 2, 1, patches)`` whose pixels have these channels."""
    return torch.tensor(patches).T[None, :, None, :]


def test_patches_recognise_where_they_come_from() -> None:
    """The cross-entropy of each patch's cosines, over the temperature, with the patches of its source.

    Sources along the axes; one patch made of the first lies 30 degrees off, the other where it was.
    """
    settings = cyclegan.Settings(mode="contrastive", temperature=0.5)
    networks = {"generator_ab": Times(1.0), "projector": Directions()}
    source, made = _patched((2.0, 0.0), (0.0, 1.0)), _patched((3 * math.sqrt(3), 3.0), (0.0, 5.0))
    lost = cyclegan.patch_loss(settings, networks, made, source, torch.Generator().manual_seed(0))
    turned = math.log(1 + math.exp((math.sin(math.pi / 6) - math.cos(math.pi / 6)) / 0.5))
    exact = math.log(1 + math.exp((0 - 1) / 0.5))
    assert lost.tolist() == pytest.approx([(turned + exact) / 2], rel=1e-5)


def test_patches_are_vectors_of_length_one() -> None:
    """Of each depth the perceptron's answer to the channels at a place, divided by its length."""
    torch.manual_seed(0)
    projector = cyclegan.Projector(cyclegan.Settings(width=4))
    maps = [torch.randn(2, channels, 3, 3) for channels in (4, 8, 16, 16, 16)]
    vectors = projector(maps, [torch.tensor([5, 0])] * 5)
    for layer, each, found in zip(projector.layers, maps, vectors, strict=True):
        answer = layer(each[1, :, 1, 2])  # place 5 of 3 x 3 is row 1, column 2
        assert torch.allclose(found[1, 0], answer / answer.square().sum().sqrt(), atol=1e-5)


def test_the_contrastive_game() -> None:
    """Critic: E (D(b) - 1)^2 / 2 + E D(G(a))^2 / 2; translator: E (D(G(a)) - 1)^2 and the patches of both.

    The translator halves, so that patches keep their directions: cosine 1 with their own, .96 with the other
    of A's image, (.3, .4) and (.4, .3), and 0 in B's. D is the sum of the channels.
    """
    settings, shared = cyclegan.Settings(mode="contrastive"), {}
    networks = {"generator_ab": Times(0.5), "critic_b": Patches(1.0, 1.0), "projector": Directions()}
    images = torch.cat([_patched((0.3, 0.4), (0.4, 0.3)), _patched((0.6, 0.0), (0.0, 0.2))])
    batch = Batch(images, torch.tensor([0, 1]), progress=0.0, step=0)
    first, second = cyclegan.players(settings)
    critic = first.loss(networks, batch, torch.Generator(), shared)["loss"].item()
    translator = second.loss(networks, batch, torch.Generator().manual_seed(0), shared)["loss"].item()
    real = ((0.6 - 1) ** 2 + (0.2 - 1) ** 2) / 2
    assert critic == pytest.approx((0.35**2 + real) / 2 / 2, rel=1e-5)
    patches = math.log(1 + math.exp(-0.04 / 0.07)) + math.log(1 + math.exp(-1 / 0.07))
    assert translator == pytest.approx(((0.35 - 1) ** 2 + patches) / 2, rel=1e-5)


def test_pairs() -> None:
    """Critic: half of E f(-D(s, t)) + E f(D(s, G)); generator: E f(-D(s, G)) + 100 E |t - G|.

    With f(x) = log(1 + e^x).
    """
    networks = {"generator": Times(0.5), "critic": Patches(1.0, 2.0)}
    pairs = [(0.4, 0.6), (-0.2, 0.5)]  # source, target; D is s + 2 t
    batch = Batch(torch.tensor(pairs)[:, :, None, None], torch.tensor([0, 0]), progress=0.0, step=0)
    shared: dict[str, Tensor] = {}
    first, second = pix2pix.players(pix2pix.Settings())
    critic = first.loss(networks, batch, torch.Generator(), shared)["loss"].item()
    generator = second.loss(networks, batch, torch.Generator(), shared)["loss"].item()
    real = [math.log1p(math.exp(-(s + 2 * t))) for s, t in pairs]
    fake = [math.log1p(math.exp(s + 2 * s / 2)) for s, _ in pairs]
    fooled = [math.log1p(math.exp(-(s + 2 * s / 2))) for s, _ in pairs]
    error = [abs(t - s / 2) for s, t in pairs]
    assert critic == pytest.approx((sum(real) + sum(fake)) / 2 / 2, rel=1e-5)
    assert generator == pytest.approx((sum(fooled) + 100 * sum(error)) / 2, rel=1e-5)


@pytest.mark.parametrize("mode", ["cycle", "contrastive"])
@pytest.mark.parametrize("is_collapsed", [False, True])
def test_translations_are_compared_with_the_domain_that_they_belong_to(mode: str, is_collapsed: bool) -> None:
    """B is a quarter as varied as A; translators that scale so have spread 1, one that makes one image 0."""
    rng = torch.Generator().manual_seed(0)
    labels = (torch.arange(64) % 3 == 0).long()
    images = (
        torch.randn(64, 1, 8, 8, generator=rng) * torch.where(labels == 1, 0.25, 1.0)[:, None, None, None]
    )
    networks = {
        "generator_ab": Times(0.0 if is_collapsed else 0.25),
        "generator_ba": Times(4.0),
        "critic_a": Patches(1.0),
        "critic_b": Patches(1.0),
    }
    settings = cyclegan.Settings.model_validate({"mode": mode})
    shared: dict[str, Tensor] = {}
    batch = Batch(images, labels, progress=0.0, step=0)
    cyclegan.players(settings)[0].loss(networks, batch, torch.Generator(), shared)
    counters = Counters()
    check = stability.look(images, labels, shared, counters, cyclegan.becomes(settings, labels))
    spreads = stability.class_spreads(counters)
    assert spreads[1] == pytest.approx(0.0 if is_collapsed else 1.0, abs=0.1)
    assert spreads.get(0, 1.0) == pytest.approx(1.0, abs=0.1)
    assert stability.is_narrow(check) == is_collapsed
    assert check.spread is not None
    assert is_collapsed or check.spread == pytest.approx(1.0, abs=0.1)


def test_the_contrastive_critic_is_watched() -> None:
    """Of B the scores of real images, of A those of what it became; as many of each as there are in both."""
    labels = torch.tensor([0, 1, 0, 1, 0])
    images = torch.tensor([0.2, 0.9, 0.4, 0.1, 0.8]).view(5, 1, 1, 1).expand(5, 1, 1, 2)
    settings, shared = cyclegan.Settings(mode="contrastive"), {}
    networks = {"generator_ab": Times(0.5), "critic_b": Patches(1.0)}
    batch = Batch(images, labels, progress=0.0, step=0)
    cyclegan.players(settings)[0].loss(networks, batch, torch.Generator(), shared)
    check = stability.look(images, labels, shared, Counters(), cyclegan.becomes(settings, labels))
    # Real .9 and .1 against .1 and .2, the first two translations of A.
    assert check.gap == pytest.approx((0.8 + 0.1) / 2)
    assert check.pair_accuracy == 0.5


def test_a_batch_of_one_domain_says_nothing() -> None:
    """With no image of B there is nothing to compare translations of A with."""
    images, labels = torch.randn(8, 1, 2, 2), torch.zeros(8, dtype=torch.int64)
    shared = {"fakes": images, "real_scores": torch.zeros(8), "fake_scores": torch.zeros(8)}
    assert stability.look(images, labels, shared, Counters(), 1 - labels) == stability.Check()


def test_of_a_pair_what_is_made_is_the_second() -> None:
    """The first channels are translated, the last ones made; of other families all are."""
    pair = torch.arange(6).view(1, 6, 1, 1)
    assert pix2pix.FAMILY.source(pair).flatten().tolist() == [0, 1, 2]
    assert pix2pix.FAMILY.target(pair).flatten().tolist() == [3, 4, 5]
    assert cyclegan.FAMILY.target(pair).flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_each_domain_has_its_own_critic() -> None:
    """Images are scored by the critic of their domain; with CUT those of A, and what nothing is, by none."""
    images, labels = torch.tensor([0.2, 0.9, 0.4]).view(3, 1, 1, 1), torch.tensor([0, 1, -1])
    networks = {"critic_a": Patches(1.0), "critic_b": Patches(10.0)}
    scores, nobody = cyclegan.FAMILY.scores, math.nan
    assert scores(networks, images, labels).tolist() == pytest.approx([0.2, 9.0, nobody], nan_ok=True)
    del networks["critic_a"]
    assert scores(networks, images, labels).tolist() == pytest.approx([nobody, 9.0, nobody], nan_ok=True)
