"""The games, against their formulas worked out by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from phantomset.data.records import ImageSpec
from phantomset.ganmodels.families import cgan, dcgan, diffusion, r3gan, stylegan2, vae, vanilla
from phantomset.ganmodels.family import Batch, Draw, Family, FamilySettings


class Scale(nn.Module):
    """A generator whose images are the first noise value everywhere."""

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return ``(B, 1, 2, 2)``."""
        return z[:, :1, None, None].expand(-1, 1, 2, 2)


class Sum(nn.Module):
    """A critic with the score ``weight * sum of pixels``."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return ``(B,)``."""
        return self.weight * images.sum(dim=(1, 2, 3))


def _play(step: int) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Return both players' numbers for weight 0.5 and a real image of 1s, and the fakes' noise."""
    networks = {"generator": Scale(), "critic": Sum(0.5)}
    batch = Batch(torch.ones(4, 1, 2, 2), torch.zeros(4, dtype=torch.int64), progress=0.0, step=step)
    settings, shared = r3gan.Settings(gamma_start=3.0), {}
    critic = r3gan.critic_loss(settings, networks, batch, torch.Generator().manual_seed(0), shared)
    generator = r3gan.generator_loss(networks, batch, torch.Generator(), shared)
    return critic, generator, shared["fakes"][:, 0, 0, 0]


def test_relativistic_pairing() -> None:
    """Critic: E log(1 + exp(D(G) - D(x))); generator: the same with the pair turned round."""
    critic, generator, noise = _play(step=1)
    pairs = [(2.0, 0.5 * 4 * value) for value in noise.tolist()]  # D(x) = 0.5 * 4 pixels of 1
    expected = sum(math.log1p(math.exp(fake - real)) for real, fake in pairs) / 4
    turned = sum(math.log1p(math.exp(real - fake)) for real, fake in pairs) / 4
    assert critic["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert generator["loss"].item() == pytest.approx(turned, rel=1e-5)


def test_the_generator_meets_the_moved_critic_and_pairs_by_what_it_said_before() -> None:
    """Weight 0.5 gives the real image 2; after the critic's move to 0.25 a fake of value v scores v."""
    networks = {"generator": Scale(), "critic": Sum(0.5)}
    batch = Batch(torch.ones(4, 1, 2, 2), torch.zeros(4, dtype=torch.int64), progress=0.0, step=1)
    shared: dict[str, Tensor] = {}
    r3gan.critic_loss(r3gan.Settings(), networks, batch, torch.Generator().manual_seed(0), shared)
    networks["critic"].weight.data.fill_(0.25)
    lost = r3gan.generator_loss(networks, batch, torch.Generator(), shared)["loss"]
    values = shared["fakes"][:, 0, 0, 0].tolist()
    expected = sum(math.log1p(math.exp(2.0 - value)) for value in values) / 4
    assert lost.item() == pytest.approx(expected, rel=1e-5)


def test_both_penalties_every_fourth_step_with_fourfold_weight() -> None:
    """R1 = R2 = gamma/2 ||w||^2 = 3/2 * (4 pixels * 0.25): four times at step 0, not at all at step 1."""
    with_penalty, without = _play(step=0)[0], _play(step=1)[0]
    assert with_penalty["squared_gradient"].item() == pytest.approx(1.0)
    extra = with_penalty["loss"].item() - without["loss"].item()
    assert extra == pytest.approx(4 * (1.5 + 1.5), rel=1e-5)
    assert "squared_gradient" not in without


@pytest.mark.parametrize(("side", "gamma"), [(28, 10.0), (32, 10.0), (64, 28.28), (128, 80.0)])
def test_gamma_by_size(side: int, gamma: float) -> None:
    """10 up to 32 px, then 2 to the 1.5 for each doubling; a tenth of it at the end of the run."""
    images = torch.zeros(1, 1, side, side)
    assert r3gan.gamma(r3gan.Settings(), images, 0.0) == pytest.approx(gamma, rel=1e-3)
    assert r3gan.gamma(r3gan.Settings(), images, 1.0) == pytest.approx(gamma / 10, rel=1e-3)


def test_default_recipe() -> None:
    """28 px in one channel: 526 k and 128 k weights; 1e-3 to 2.5e-4; beta2 0.9 to 0.99, no momentum."""
    torch.manual_seed(0)
    networks = r3gan.build(r3gan.Settings(), ImageSpec(1, 28, 28), 2)
    sizes = {name: sum(p.numel() for p in net.parameters()) for name, net in networks.items()}
    assert sizes == {"generator": 526_465, "critic": 127_760}
    for player in r3gan.players(r3gan.Settings()):
        assert [player.learning_rate(x) for x in (0.0, 1.0)] == pytest.approx([1e-3, 2.5e-4])
        assert player.betas(0.0) == pytest.approx((0.0, 0.9))
        assert player.betas(1.0) == pytest.approx((0.0, 0.99))


def test_critic_scores_in_float32_inside_mixed_precision() -> None:
    """The head is outside autocast: scores come as float32 though the blocks compute in bfloat16."""
    critic = r3gan.Critic(r3gan.Settings(), ImageSpec(1, 28, 28), 2)
    with torch.autocast("cpu", torch.bfloat16):
        scores = critic(torch.zeros(3, 1, 28, 28), torch.zeros(3, dtype=torch.int64))
    assert scores.dtype == torch.float32


class Judge(Sum):
    """The same with an auxiliary head that is always as sure."""

    def judged(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(B,)`` scores and the cross-entropy ``(B,)``: 1 on images of 1s, 3 on others."""
        is_ones = (images == 1).all(dim=3).all(dim=2).all(dim=1)
        return self(images, labels), torch.where(is_ones, 1.0, 3.0)


def _duel(family: Family, settings: FamilySettings, critic: nn.Module) -> tuple[Tensor, Tensor, list[float]]:
    """Return both players' losses on six real images of 1s, and the fakes' scores."""
    networks = {"generator": Scale(), "critic": critic}
    batch = Batch(torch.ones(6, 1, 2, 2), torch.zeros(6, dtype=torch.int64), progress=0.0, step=0)
    shared: dict[str, Tensor] = {}
    first, second = family.players(settings)
    lost = first.loss(networks, batch, torch.Generator().manual_seed(0), shared)["loss"]
    answered = second.loss(networks, batch, torch.Generator(), shared)["loss"]
    return lost, answered, shared["fake_scores"].tolist()


def test_hinge() -> None:
    """Critic: E max(0, 1 - D(x)) + E max(0, 1 + D(G)) + weight E CE(x); generator: -E D(G) + weight CE(G)."""
    settings = cgan.Settings(head="auxiliary", auxiliary_weight=0.5)
    critic, generator, fakes = _duel(cgan.FAMILY, settings, Judge(0.1))
    expected = 0.6 + sum(max(0.0, 1 + fake) for fake in fakes) / 6 + 0.5 * 1
    assert critic.item() == pytest.approx(expected, rel=1e-5)
    assert generator.item() == pytest.approx(-sum(fakes) / 6 + 0.5 * 3, rel=1e-5)


def test_the_auxiliary_head() -> None:
    """Logits log 1, log 2 and log 5: labels cost log 8, log 4 and log 8/5; the critic pays for those of real
    images, the generator for those that were asked of it. The classifier's slope, ``(p - one-hot) phi``, is
    that of real images alone, and the score knows no label."""
    settings = cgan.Settings(head="auxiliary", auxiliary_weight=0.5)
    torch.manual_seed(0)
    networks = cgan.build(settings, ImageSpec(1, 8, 8), 3)
    critic = networks["critic"]
    assert isinstance(critic, cgan.Critic)
    critic.classes.weight.data.zero_()
    critic.classes.bias.data = torch.tensor([1.0, 2.0, 5.0]).log()
    labels = torch.tensor([0, 0, 1, 2, 2, 2])
    batch, shared = Batch(torch.rand(6, 1, 8, 8), labels, progress=0.0, step=0), dict[str, Tensor]()
    first, second = cgan.players(settings)
    lost = first.loss(networks, batch, torch.Generator().manual_seed(0), shared)["loss"]
    answered = second.loss(networks, batch, torch.Generator(), shared)["loss"]
    real, fake = shared["real_scores"].tolist(), shared["fake_scores"].tolist()
    hinge = sum(max(0.0, 1 - score) for score in real) / 6 + sum(max(0.0, 1 + score) for score in fake) / 6
    told = (2 * math.log(8) + math.log(4) + 3 * math.log(8 / 5)) / 6
    assert lost.item() == pytest.approx(hinge + 0.5 * told, rel=1e-5)
    assert answered.item() == pytest.approx(-sum(fake) / 6 + 0.5 * told, rel=1e-5)

    with torch.no_grad():
        phi = torch.nn.functional.leaky_relu(critic.features(critic.tower(batch.images)), 0.2)
    errors = torch.tensor([1.0, 2.0, 5.0]) / 8 - torch.eye(3)[labels]
    (slope,) = torch.autograd.grad(lost, critic.classes.weight)
    assert torch.allclose(slope, 0.5 * errors.T @ phi / 6, atol=1e-6)
    assert torch.equal(critic(batch.images, labels), critic(batch.images, 2 - labels))


@pytest.mark.parametrize("family", [vanilla.FAMILY, dcgan.FAMILY], ids=lambda family: family.name)
def test_non_saturating(family: Family) -> None:
    """Critic: E f(-D(x)) + E f(D(G)); generator: E f(-D(G)); f(t) = log(1 + e^t)."""
    critic, generator, fakes = _duel(family, family.Settings(), Sum(0.1))
    real = math.log1p(math.exp(-0.4))
    assert critic.item() == pytest.approx(real + sum(math.log1p(math.exp(s)) for s in fakes) / 6, rel=1e-5)
    assert generator.item() == pytest.approx(sum(math.log1p(math.exp(-s)) for s in fakes) / 6, rel=1e-5)


def test_modulation_is_that_of_the_paper() -> None:
    """Scaled input, shared convolution, scaled output: the same as each image's own demodulated weights."""
    torch.manual_seed(0)
    layer = stylegan2.Modulated(4, 5, 3, latent=6, is_demodulated=True)
    x, style = torch.randn(3, 4, 7, 7), torch.randn(3, 6)
    weights = layer.convolution.weight * layer.convolution.scale
    for image, scales, made in zip(x, layer.affine(style), layer(x, style), strict=True):
        own = weights * scales[None, :, None, None]
        own = own / (own.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        expected = torch.nn.functional.conv2d(image[None], own, padding=1)[0]
        assert torch.allclose(made, expected, atol=1e-5)


def test_truncation_in_the_space_of_styles() -> None:
    """At a half each style lies half-way to one point a class: the mean of its class's styles, as twenty
    times as many others show it."""
    torch.manual_seed(0)
    settings = stylegan2.Settings(latent=32)
    generator = stylegan2.build(settings, ImageSpec(1, 8, 8), 2)["generator"]
    assert isinstance(generator, stylegan2.Generator)
    seen: list[Tensor] = []
    generator.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    labels, rng = torch.tensor([0, 1, 1, 0]), torch.Generator().manual_seed(1)
    noise = torch.randn(4, 32, generator=rng)
    with torch.no_grad():
        for truncation in (1.0, 0.5):
            draw = Draw(labels, noise, torch.Generator().manual_seed(2), truncation)
            stylegan2.sample({"generator": generator}, settings, draw)
        others = torch.randn(20 * stylegan2.MEAN_STYLES, 32, generator=rng)
        classes = [generator.mapping(others, torch.full((len(others),), label)) for label in (0, 1)]
    full, half = seen
    assert full.shape == half.shape == (len(generator.firsts), 4, 32)
    centres = 2 * half - full
    for label, styles in enumerate(classes):
        found = centres[:, labels == label].flatten(0, 1)
        assert torch.allclose(found, found[:1].expand_as(found), atol=1e-5)
        error = styles.std(dim=0) / stylegan2.MEAN_STYLES**0.5  # of the mean of so many
        assert ((found[0] - styles.mean(dim=0)).abs() < 5 * error).all()
        assert ((found[0] - classes[1 - label].mean(dim=0)).abs() > 5 * error).any()


def test_the_spread_plane_looks_at_four_images() -> None:
    """Features 0 and 2 in a group of two have standard deviation 1; equal ones 0; five images are 4 + 1."""
    x = torch.tensor([0.0, 2.0, 0.0, 2.0, 7.0]).view(5, 1, 1, 1).expand(5, 3, 2, 2)
    plane = stylegan2.spread_plane(x)
    assert plane.shape == (5, 1, 2, 2)
    assert plane[:, 0, 0, 0].tolist() == pytest.approx([1.0, 1.0, 1.0, 1.0, 0.0], abs=1e-3)


def test_noise_levels_of_sampling() -> None:
    """Equation 5 of the paper: from 80 down to 0.002 evenly in the 7th root, then 0."""
    levels = diffusion.noise_levels(3)
    middle = ((80 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7
    assert levels == pytest.approx([80.0, middle, 0.002, 0.0])


class Told(nn.Module):
    """A denoiser that keeps what it is told, and returns its input without noise's level."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = lambda labels: torch.zeros(len(labels), 1)
        self.moves = lambda moves: moves
        self.nothing, self.seen = 2, {}

    def denoised(self, noisy: Tensor, sigma: Tensor, about: Tensor, drop: diffusion.Drop) -> Tensor:
        """Keep the arguments; nothing is denoised."""
        self.seen = {"noisy": noisy, "sigma": sigma, "about": about, "drop": drop}
        return noisy


def _denoise(**changes: float) -> tuple[dict[str, Tensor], Told, Tensor]:
    """Return the loss of eight images of one bright line each, what the denoiser saw, and the images."""
    images = torch.zeros(8, 1, 14, 28)
    images[:, :, :, 11] = 1.0
    (player,) = diffusion.players(diffusion.Settings(**changes))
    told, batch = Told(), Batch(images, torch.zeros(8, dtype=torch.int64), progress=0.0, step=0)
    return player.loss({"denoiser": told}, batch, torch.Generator().manual_seed(0), {}), told, images


def test_denoising_weighs_every_noise_level_alike() -> None:
    """Equation 2: lambda = (s² + d²) / (s d)² times the mean square of what is left: here of variance s²."""
    numbers, told, images = _denoise(moved_share=0, dropout=0)
    sigma, left = told.seen["sigma"], (told.seen["noisy"] - images).square().mean(dim=(1, 2, 3))
    assert numbers["loss"].item() == pytest.approx(
        ((sigma**2 + 0.25) / (sigma * 0.5) ** 2 * left).mean().item(), rel=1e-5
    )
    torch.testing.assert_close(left, sigma**2, rtol=0.25, atol=0)
    assert told.seen["about"].count_nonzero() == 0
    assert told.seen["drop"](images) is images


def test_a_moved_image_is_denoised_and_the_network_told_how() -> None:
    """What is told is five times the map less the identity, and leads back to where the line was."""
    _, told, images = _denoise(moved_share=1, dropout=0)
    maps = told.seen["about"].view(-1, 2, 3) / 5 + torch.eye(2, 3)
    assert (maps != torch.eye(2, 3)).flatten(1).any(dim=1).all()
    grid = nn.functional.affine_grid(maps, list(images.shape), align_corners=False)
    moved = nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    noise = (told.seen["noisy"] - moved) / told.seen["sigma"][:, None, None, None]
    assert noise.std().item() == pytest.approx(1, abs=0.05)
    assert (noise * (moved - moved.mean())).mean().abs().item() < 0.02


def test_dropout_keeps_the_mean_and_comes_from_the_streams_own_generator() -> None:
    """A tenth of the values becomes 0, the others grow by 1 / .9; the same generator drops the same ones."""
    drop, again = (diffusion.dropping(0.1, torch.Generator().manual_seed(3)) for _ in range(2))
    x = torch.ones(200, 100)
    assert (drop(x) == 0).float().mean().item() == pytest.approx(0.1, abs=0.01)
    torch.testing.assert_close(diffusion.dropping(0.1, torch.Generator().manual_seed(3))(x), again(x))
    assert sorted(again(x).unique().tolist()) == pytest.approx([0.0, 1 / 0.9])


def test_the_evidence_bound() -> None:
    """Codes equal to the prior cost nothing; the likelihood is that of a Gaussian of the learned width."""
    settings = vae.Settings(latent=2)

    class Encoder(nn.Module):
        def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            return torch.zeros(len(images), 2), torch.zeros(len(images), 2)

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log_width = nn.Parameter(torch.tensor(0.5))

        def forward(self, z: Tensor, labels: Tensor) -> Tensor:
            return torch.zeros(len(z), 1, 2, 2)

    batch = Batch(torch.ones(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64), progress=0.0, step=0)
    (player,) = vae.players(settings)
    networks = {"encoder": Encoder(), "decoder": Decoder()}
    numbers = player.loss(networks, batch, torch.Generator().manual_seed(0), {})
    density = torch.distributions.Normal(0.0, math.exp(0.5)).log_prob(torch.tensor(1.0))
    assert numbers["divergence"].item() == 0.0
    assert numbers["loss"].item() == pytest.approx(-density.item(), rel=1e-5)
