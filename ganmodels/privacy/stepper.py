"""Steps that keep differential privacy: DP-SGD for the critic, and a generator that never meets a real image.

Abadi et al., "Deep learning with differential privacy", CCS 2016; many steps of the critic for one of the
generator as in Bie, Kamath & Zhang, "Private GANs, revisited", TMLR 2023. A real image enters in one place:
in a pair with one fake, whose gradient is shortened before it is added to the others; noise is added to the
sum. Everything else (the penalty, the generator's loss, the labels it is asked for, the detectors) is made
from weights, fakes and public chance alone, so it costs nothing (post-processing).
"""

import copy
from dataclasses import replace

import torch
from torch import Tensor
from torch.func import functional_call

from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSet
from phantomset.ganmodels import recovery
from phantomset.ganmodels.augment import augmentation
from phantomset.ganmodels.family import Batch, Draw, Family, FamilySettings, Networks
from phantomset.ganmodels.plan import PrivacyPlan, TrainingPlan
from phantomset.ganmodels.privacy import accountant
from phantomset.ganmodels.privacy.clipping import clipped_sum
from phantomset.ganmodels.privacy.feed import PatientFeed
from phantomset.ganmodels.privacy.hidden import HiddenNoise
from phantomset.ganmodels.shards import Crew
from phantomset.ganmodels.stability import Check
from phantomset.ganmodels.step import Shard, Stepper

EXAMPLES = 16
"""Images whose gradients are computed at once. Always as many: the number decides the order of sums."""


class PrivateStepper(Stepper):
    """A `Stepper` whose weights are differentially private in the patients.

    Args:
        secret: root of all chance that touches a real image, in place of the plan's public seed: who is
            drawn, the noise, and also which fake stands beside whom. Were that known, one patient more would
            move the partners of those who come after.

    Raises:
        ModelError: no noise keeps the epsilon.
    """

    can_grow = False  # epsilon is counted for the rate at which a batch is drawn

    def __init__(
        self,
        images: ImageSet,
        family: Family,
        settings: FamilySettings,
        plan: TrainingPlan,
        device: torch.device,
        crew: Crew,
        shards: int,
        secret: int,
    ) -> None:
        super().__init__(images, family, settings, plan, device, crew, shards)
        game, privacy = family.private(settings), plan.privacy
        if game is None or privacy is None:
            raise ModelError(f"{family.name}: cannot be trained with model.privacy in this form.")
        self._game, self._privacy, self._secret = game, privacy, secret
        self._classes = len(images.label_names)
        self._noise_shape = family.noise_shape(settings, self._spec)
        self._feed = PatientFeed(images, plan.batch_size, secret, device)
        self._is_bf16 = False
        self._sampling_rate = self._feed.rate
        self._noise = noise_multiplier(privacy, self._sampling_rate, plan.steps)
        named = {player.name: player for player in self.state.players}
        self._critic = replace(named["critic"], loss=game.penalty or named["critic"].loss)
        self._generator = replace(named["generator"], loss=self._generator_loss)

    def step(self) -> None:
        """Show a drawn batch to the critic; every ``critic_steps``-th time, move the generator too."""
        counters, plan = self.state.counters, self._plan
        self._family.prepare(self.state.networks)
        blind = self._blind_shards()
        broken = [self._move_critic(*self._feed.batch(counters.step), blind)]
        if (counters.step + 1) % self._privacy.critic_steps == 0:
            broken.append(self._move(self._generator, blind))
        self._skips += torch.stack(broken).any()
        counters.accountant = accountant.counted(counters.accountant, self._noise, self._sampling_rate)
        counters.step += 1
        self.state.average(counters.step * plan.batch_size, plan.batch_size)

    def read(self) -> tuple[dict[str, float], Check]:
        """Return the means of all statistics since the last call, and a check that has seen no real image."""
        return self._means(), Check()

    def _blind_shards(self) -> list[Shard]:
        """Return parts of a batch without images, its labels drawn evenly and not from the patients."""
        count, step = self._plan.batch_size, self.state.counters.step
        rng = self._stream("labels", step)
        labels = torch.randint(self._classes, (count,), generator=rng, device=self._device)
        shards = self._split(torch.empty(count, 0, device=self._device), labels)
        # How many of each class the feed told of is the drawn patients'.
        return [replace(shard, batch=replace(shard.batch, counts=())) for shard in shards]

    def _move_critic(self, images: Tensor, labels: Tensor, blind: list[Shard]) -> Tensor:
        """Move the critic by the noisy mean of shortened gradients, and by the penalty on fakes."""
        counters, privacy = self.state.counters, self._privacy
        gradients = self._summed(images, labels)
        noise = self._hidden_noise("noise")
        for gradient in gradients:
            gradient.add_(noise.normal(gradient.shape), alpha=self._noise * privacy.clip_norm).div_(
                self._plan.batch_size
            )
        numbers: dict[str, Tensor] = {}
        every = 1 if recovery.is_careful(counters) else self._game.penalty_every
        if self._game.penalty is not None and counters.step % every == 0:
            penalties, numbers = self._gradients(self._critic, blind)
            del numbers["loss"]  # of fakes alone it says nothing, and of real images nobody may know
            for gradient, penalty in zip(gradients, penalties, strict=True):
                gradient.add_(penalty, alpha=every)
        return self._take(self._critic, gradients, numbers)

    def _summed(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        """Return the sum of the shortened gradients of all pairs, one tensor a parameter."""
        critic = self.state.networks["critic"]
        parameters = {name: value.detach() for name, value in critic.named_parameters()}
        totals = {name: torch.zeros_like(value) for name, value in parameters.items()}

        def work(part: tuple[Tensor, ...]) -> dict[str, Tensor]:
            own = copy.deepcopy(critic)  # functional_call changes the module it calls: threads must not share

            def loss(weights: dict[str, Tensor], image: Tensor, fake: Tensor, label: Tensor) -> Tensor:
                pair = torch.stack([image, fake]), torch.stack([label, label])
                return self._game.critic(*functional_call(own, weights, pair))

            return clipped_sum(loss, parameters, part, self._privacy.clip_norm)

        if len(images):
            examples = self._pairs(images, labels)
            parts = zip(*(example.split(EXAMPLES) for example in examples), strict=True)
            for summed in self._crew.map(work, list(parts)):
                for name, total in totals.items():
                    total.add_(summed[name])
        return list(totals.values())

    @torch.no_grad()
    def _pairs(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return real images, a fake of each one's class, and the labels; both kinds changed alike."""
        noise = self._hidden_noise("latent").normal((len(labels), *self._noise_shape))
        # No private family draws more than the noise: a stream of torch's could be guessed.
        unused = self._stream("fakes", self.state.counters.step)
        fakes = self._fakes(self.state.networks, labels, noise, unused)
        share = self.state.counters.augment_share
        augment = augmentation(self._plan.augment, self._hidden_noise("augment").uniform, share)
        real, fake = augment(torch.cat([images, fakes.float()])).chunk(2)
        return real, fake, labels

    def _hidden_noise(self, name: str) -> HiddenNoise:
        return HiddenNoise(self._secret, name, self.state.counters.step, self._device)

    def _fakes(self, networks: Networks, labels: Tensor, noise: Tensor, rng: torch.Generator) -> Tensor:
        assert self._family.sample is not None  # noqa: S101 - a family that translates has no private game
        return self._family.sample(networks, self._settings, Draw(labels, noise, rng))

    def _generator_loss(
        self, networks: Networks, batch: Batch, rng: torch.Generator, _: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the generator's loss of fakes for labels that no patient gave."""
        noise = torch.randn(len(batch.labels), *self._noise_shape, generator=rng, device=self._device)
        fakes = self._fakes(networks, batch.labels, noise, rng)
        scores = networks["critic"](batch.augment(fakes), batch.labels)
        return {"loss": self._game.generator(scores).mean()}


def noise_multiplier(privacy: PrivacyPlan, rate: float, steps: int) -> float:
    """Return the noise of a run, as asked for or by the epsilon that its steps may cost.

    Raises:
        ModelError: no noise keeps the epsilon.
    """
    if privacy.noise_multiplier is not None:
        return privacy.noise_multiplier
    assert privacy.epsilon is not None  # noqa: S101 - a plan names one of the two
    return accountant.noise_for(privacy.epsilon, privacy.delta, rate, steps)


def require_private(
    family: Family, settings: FamilySettings, plan: TrainingPlan, privacy: PrivacyPlan, patients: int
) -> None:
    """Hold that a family can be trained by this plan so that the promise means something.

    Raises:
        ModelError: the family has no private form, something would look at real images beside the clipped
            gradients, or delta or the batch is too large for so few patients.
    """
    if family.private(settings) is None:
        raise ModelError(
            f"{family.name}: cannot be trained with model.privacy in this form; "
            "r3gan, dcgan, vanilla, and cgan with head projection can."
        )
    if plan.class_sampling != "natural" or plan.augment == "adaptive" or plan.precision == "bf16":
        raise ModelError(
            "model.privacy: goes with class_sampling natural, augment none, shift or affine, and precision "
            f"auto or fp32; found {plan.class_sampling}, {plan.augment} and {plan.precision}."
        )
    if plan.members not in (None, 1):
        raise ModelError(
            f"model.privacy: is for one generator, and model.members asks for {plan.members}: each would "
            "spend the same epsilon anew. Leave out model.members."
        )
    if privacy.delta * patients >= 1:
        raise ModelError(
            f"model.privacy.delta: {privacy.delta:g} with {patients:,} training patients would let a patient "
            f"be given away whole; it must be under {1 / patients:.2g}."
        )
    if plan.batch_size > patients:
        raise ModelError(
            f"model.privacy: a batch of {plan.batch_size} cannot be drawn from {patients:,} training "
            "patients, one image each. Set a smaller model.batch_size."
        )
