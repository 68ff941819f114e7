"""cyclegan: two domains without pairs; an image of one is turned into one of the other.

Zhu, Park, Isola & Efros, "Unpaired image-to-image translation using cycle-consistent adversarial networks",
ICCV 2017: a translator and a critic each way, and what is translated there and back must be what it was.
With ``mode: contrastive``, Park, Efros, Zhang & Zhu, "Contrastive learning for unpaired image-to-image
translation" (CUT), ECCV 2020: one way only, and a patch must resemble the patch from which it came more than
others of its image; half the memory and time.

Class 0 is domain A, class 1 is domain B. Each image of a batch is translated to the other domain, so losses
are means over images and a batch may hold the domains in any share. There is no pool of earlier fakes; the
family's page has what one brought. Adam's step is five times the paper's, which shows one image at a time: in
batches the same images are fewer steps.

The cycle can hide the old image in fine grain, and findings are invented or removed where the domains differ
in them: labels are NOT preserved. The translation of a patient's image is that patient's image.
"""

from functools import partial
from typing import Any, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from phantomset.data.records import ImageSpec
from phantomset.ganmodels.blocks.geometry import Pyramid
from phantomset.ganmodels.blocks.patch import PatchCritic, instance_norm
from phantomset.ganmodels.blocks.towers import unfit_size
from phantomset.ganmodels.family import Batch, Family, FamilySettings, Networks, Player

FEATURES = 256
"""Dimensions in which patches are compared."""


class Settings(FamilySettings):
    """Settings of ``model.settings`` for ``family: cyclegan``."""

    mode: Literal["cycle", "contrastive"] = Field(
        "cycle", description="CycleGAN both ways, or CUT from A to B"
    )
    width: int = Field(32, ge=4, le=256, description="channels at full size; four times as many inside")
    blocks: int = Field(6, ge=1, le=16, description="residual blocks; the paper has 6, and 9 at 256 px")
    cycle_weight: float = Field(10.0, ge=0, le=1e3, description="weight of coming back unchanged")
    identity_weight: float = Field(
        0.5, ge=0, le=10, description="that of leaving the own domain alone, of it"
    )
    patches: int = Field(256, ge=16, le=1024, description="patches compared in each layer (contrastive)")
    temperature: float = Field(0.07, gt=0, le=1, description="of the comparison of patches (contrastive)")
    learning_rate: float = Field(
        1e-3,
        gt=0,
        lt=1,
        description="Adam's step; falls to 0 in the second half; the paper has 0.0002 at batch size 1",
    )

    @model_validator(mode="after")
    def _nothing_is_lost(self) -> "Settings":
        if self.mode == "cycle":
            self.require_default("patches", "temperature", unless="mode: contrastive")
        else:
            self.require_default("cycle_weight", "identity_weight", unless="mode: cycle")
        return self


class Translator(nn.Module):
    """An image to an image: two halvings, residual blocks, two doublings, mirrored borders."""

    def __init__(self, settings: Settings, spec: ImageSpec) -> None:
        super().__init__()
        width, channels = settings.width, spec.channels
        start = -(-spec.height // 4), -(-spec.width // 4)
        self.frame = Pyramid(spec.height, spec.width, doublings=2, start=start)
        self.first = _mirrored(channels, width, 7)
        self.halvings = nn.ModuleList(nn.Conv2d(a, 2 * a, 3, stride=2, padding=1) for a in (width, 2 * width))
        inner = 4 * width
        self.blocks = nn.ModuleList(
            nn.ModuleList([_mirrored(inner, inner, 3), _mirrored(inner, inner, 3)])
            for _ in range(settings.blocks)
        )
        self.doublings = nn.ModuleList(
            nn.ConvTranspose2d(a, a // 2, 3, stride=2, padding=1, output_padding=1)
            for a in (inner, 2 * width)
        )
        self.last = _mirrored(width, channels, 7)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)

    def encoded(self, images: Tensor) -> list[Tensor]:
        """Return the maps of five depths, the last one deepest."""
        x = functional.relu(instance_norm(self.first(self.frame.pad(images))))
        maps = [x]
        for halving in self.halvings:
            x = functional.relu(instance_norm(halving(x)))
            maps.append(x)
        middle = len(self.blocks) // 2
        for number, pair in enumerate(self.blocks):
            first, second = cast(nn.ModuleList, pair)
            x = x + instance_norm(second(functional.relu(instance_norm(first(x)))))
            if number == middle:
                maps.append(x)
        return [*maps, x]

    def forward(self, images: Tensor) -> Tensor:
        """Return ``(B, C, H, W)`` in [-1, 1]."""
        x = self.encoded(images)[-1]
        for doubling in self.doublings:
            x = functional.relu(instance_norm(doubling(x)))
        return torch.tanh(self.frame.crop(self.last(x).float()))


def _mirrored(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, padding_mode="reflect")


class Projector(nn.Module):
    """Patches of five depths to unit vectors ``(B, patches, FEATURES)``, a small perceptron a depth."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width = settings.width
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(size, FEATURES), nn.ReLU(), nn.Linear(FEATURES, FEATURES))
            for size in (width, 2 * width, 4 * width, 4 * width, 4 * width)
        )

    def forward(self, maps: list[Tensor], places: list[Tensor]) -> list[Tensor]:
        """Return the vectors of the given places of each map."""
        rows = [
            layer(each.flatten(2)[:, :, place].transpose(1, 2))
            for layer, each, place in zip(self.layers, maps, places, strict=True)
        ]
        return [functional.normalize(row.float(), dim=2) for row in rows]


def patch_loss(
    settings: Settings, networks: Networks, made: Tensor, source: Tensor, rng: torch.Generator
) -> Tensor:
    """Return, for each image, how badly its patches recognise where they came from, ``(B,)``; equation 3."""
    translator, projector = cast(Translator, networks["generator_ab"]), networks["projector"]
    queries, keys = translator.encoded(made), translator.encoded(source)
    places = [
        torch.randperm(each[0, 0].numel(), generator=rng, device=rng.device)[: settings.patches]
        for each in keys
    ]
    losses = []
    for query, key in zip(projector(queries, places), projector(keys, places), strict=True):
        logits = query @ key.detach().transpose(1, 2) / settings.temperature
        own = torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
        entropy = functional.cross_entropy(logits.flatten(0, 1), own.flatten(), reduction="none")
        losses.append(entropy.view(len(logits), -1).mean(dim=1))
    return torch.stack(losses).mean(dim=0)


def squares(critic: PatchCritic, images: Tensor, target: float) -> Tensor:
    """Return the mean squared distance of each image's patch scores from a target, ``(B,)``."""
    return (critic.patches(images) - target).square().mean(dim=(1, 2, 3))


def _critic(networks: Networks, domain: Literal["a", "b"]) -> PatchCritic:
    return cast(PatchCritic, networks[f"critic_{domain}"])


def _parted(batch: Batch, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the images of A, those of B, and where each image of the batch is when A stands before B."""
    order, first = batch.labels.argsort(stable=True), batch.count_of(0)
    return images[order[:first]], images[order[first:]], order.argsort()


def _mean(terms: list[Tensor], count: int) -> Tensor:
    """Return the sum of per-image terms over the batch's size: a mean over images, whatever their domain."""
    return torch.cat(terms).sum() / count


def cycle_critic_loss(
    networks: Networks, batch: Batch, _: torch.Generator, shared: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return ``E (D(x) - 1)^2 / 2 + E D(G)^2 / 2`` of both critics."""
    a, b, place = _parted(batch, batch.images)
    fake_b, fake_a = _translated(networks["generator_ab"], a), _translated(networks["generator_ba"], b)
    shared["fakes"] = torch.cat([fake_b, fake_a])[place]
    terms, scores = [], []
    for critic, real, fake in ((_critic(networks, "a"), a, fake_a), (_critic(networks, "b"), b, fake_b)):
        real_map = critic.patches(batch.augment(real)) if len(real) else real.new_zeros(0, 1, 1, 1)
        fake_map = critic.patches(batch.augment(fake.detach())) if len(fake) else real.new_zeros(0, 1, 1, 1)
        terms += [(real_map - 1).square().mean(dim=(1, 2, 3)), fake_map.square().mean(dim=(1, 2, 3))]
        scores.append((real_map.detach().mean(dim=(1, 2, 3)), fake_map.detach().mean(dim=(1, 2, 3))))
    (real_a, faked_a), (real_b, faked_b) = scores
    shared["real_scores"] = torch.cat([real_a, real_b])[place]
    shared["fake_scores"] = torch.cat([faked_b, faked_a])[place]
    return {"loss": _mean(terms, len(batch.images)) / 2}


def cycle_generator_loss(
    settings: Settings, networks: Networks, batch: Batch, _: torch.Generator, shared: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return ``E (D(G) - 1)^2``, the way there and back, and the own domain left alone; equation 3."""
    (a, b), (fake_b, fake_a) = (_parted(batch, images)[:2] for images in (batch.images, shared["fakes"]))
    terms, cycles = [], []
    # What leads back to a domain also finds its images as they are.
    for real, fake, back, critic in (
        (a, fake_b, networks["generator_ba"], _critic(networks, "b")),
        (b, fake_a, networks["generator_ab"], _critic(networks, "a")),
    ):
        if not len(real):
            continue
        cycle = (back(fake) - real).abs().mean(dim=(1, 2, 3))
        same = (back(real) - real).abs().mean(dim=(1, 2, 3))
        kept = settings.cycle_weight * (cycle + settings.identity_weight * same)
        terms.append(squares(critic, batch.augment(fake), 1.0) + kept)
        cycles.append(cycle.detach())
    return {"loss": _mean(terms, len(batch.images)), "cycle": _mean(cycles, len(batch.images))}


def contrastive_critic_loss(
    networks: Networks, batch: Batch, _: torch.Generator, shared: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return ``E (D(b) - 1)^2 / 2 + E D(G(a))^2 / 2``.

    Each image is scored once: one of B as it is, as real; one of A as what it became, as fake.
    """
    translated = networks["generator_ab"](batch.images)
    shared["fakes"] = translated
    is_b = batch.labels == 1
    seen = torch.where(is_b[:, None, None, None], batch.images, translated.detach())
    patches = _critic(networks, "b").patches(batch.augment(seen))
    shared["real_scores"] = shared["fake_scores"] = patches.detach().mean(dim=(1, 2, 3))
    error = patches - is_b.float()[:, None, None, None]
    return {"loss": error.square().mean() / 2}


def contrastive_generator_loss(
    settings: Settings, networks: Networks, batch: Batch, rng: torch.Generator, shared: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return ``E (D(G(a)) - 1)^2`` and the patch losses of A and, as identity, of B; equation 6."""
    is_a = (batch.labels == 0).float()
    fooled = squares(_critic(networks, "b"), batch.augment(shared["fakes"]), 1.0)
    patches = patch_loss(settings, networks, shared["fakes"], batch.images, rng)
    return {"loss": (is_a * fooled + patches).mean(), "patches": patches.detach().mean()}


def scores(networks: Networks, images: Tensor, labels: Tensor) -> Tensor:
    """Return the mean patch score of each image by its own domain's critic; with CUT, NaN of A."""
    seen = images.new_full((len(images),), torch.nan, dtype=torch.float32)
    for label, name in ((0, "critic_a"), (1, "critic_b")):
        if name in networks and bool((labels == label).any()):
            patches = cast(PatchCritic, networks[name]).patches(images[labels == label])
            seen[labels == label] = patches.mean(dim=(1, 2, 3)).float()
    return seen


def build(settings: Settings, spec: ImageSpec, class_count: int) -> dict[str, nn.Module]:  # noqa: ARG001
    """Return the networks with fresh weights from torch's global generator."""
    networks: dict[str, nn.Module] = {
        "generator_ab": Translator(settings, spec),
        "critic_b": PatchCritic(spec, settings.width),
    }
    if settings.mode == "contrastive":
        return {**networks, "projector": Projector(settings)}
    return {
        **networks,
        "generator_ba": Translator(settings, spec),
        "critic_a": PatchCritic(spec, settings.width),
    }


def players(settings: Settings) -> tuple[Player, ...]:
    """Return the critics, who move first, and the generators."""

    def rate(progress: float) -> float:
        return settings.learning_rate * min(1.0, 2 * (1 - progress))

    def betas(_: float) -> tuple[float, float]:
        return 0.5, 0.999

    if settings.mode == "contrastive":
        loss = partial(contrastive_generator_loss, settings)
        return (
            Player("critic", ("critic_b",), contrastive_critic_loss, rate, betas),
            Player("generator", ("generator_ab", "projector"), loss, rate, betas),
        )
    loss = partial(cycle_generator_loss, settings)
    return (
        Player("critic", ("critic_a", "critic_b"), cycle_critic_loss, rate, betas),
        Player("generator", ("generator_ab", "generator_ba"), loss, rate, betas),
    )


def translate(
    networks: Networks,
    settings: Settings,  # noqa: ARG001
    images: Tensor,
    labels: Tensor,
    rng: torch.Generator,  # noqa: ARG001 - no chance in it
) -> Tensor:
    """Return each image in the other domain; with CUT, images of B come back as they are."""
    made = images.float().clone()
    for label, name in ((0, "generator_ab"), (1, "generator_ba")):
        if name in networks and bool((labels == label).any()):
            made[labels == label] = networks[name](images[labels == label])
    return made


def becomes(settings: Settings, labels: Any) -> Any:
    """Return the other domain of each label; with CUT, -1 for B, of which nothing is made."""
    return 1 - labels if settings.mode == "cycle" else 1 - 2 * labels


def _translated(translator: nn.Module, images: Tensor) -> Tensor:
    return translator(images) if len(images) else images


FAMILY = Family(
    name="cyclegan",
    Settings=Settings,
    build=build,
    players=players,
    averaged=("generator_ab", "generator_ba"),
    check=unfit_size,
    paper="Zhu, Park, Isola & Efros, 'Unpaired image-to-image translation using cycle-consistent adversarial "
    "networks', ICCV 2017; Park, Efros, Zhang & Zhu, 'Contrastive learning for unpaired image-to-image "
    "translation', ECCV 2020",
    translate=translate,
    becomes=becomes,
    scores=scores,
    classes=2,
)
