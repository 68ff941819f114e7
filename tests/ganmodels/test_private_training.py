"""Whole trainings under differential privacy: what they keep, tell and refuse, and what an audit finds."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.optimize import brentq
from scipy.stats import binom

from phantomset.data.catalogue import load
from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSet
from phantomset.ganmodels import checkpoint, engine
from phantomset.ganmodels.families import cgan, stylegan2, vanilla
from phantomset.ganmodels.generate import generate
from phantomset.ganmodels.plan import PrivacyPlan, Progress, TrainingPlan
from phantomset.ganmodels.privacy import accountant
from phantomset.ganmodels.privacy.stepper import PrivateStepper
from phantomset.ganmodels.shards import Crew
from phantomset.ganmodels.step import Shard, Stepper

NOISY = PrivacyPlan(epsilon=None, noise_multiplier=1.0, delta=1e-3, clip_norm=0.5, critic_steps=2, secret=5)
LAST = "checkpoint-00000040.safetensors"
Bars = Callable[..., ImageSet]


def _start(
    images: ImageSet, folder: Path, family: str = "vanilla", settings: object = None, **changes: object
) -> Iterator[Progress]:
    plan = TrainingPlan(640, batch_size=16, threads=1, privacy=NOISY, checkpoint_every_images=320)
    chosen = settings or load("phantomset.ganmodels.families", family).Settings()
    return engine.train(images, family, chosen, replace(plan, **changes), folder)  # type: ignore[arg-type]


def _files(folder: Path) -> dict[str, object]:
    """Return the content of each file of a run; of checkpoints what they say, their header has no order."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.suffix == ".safetensors":
            saved = checkpoint.read(folder, int(path.stem.split("-")[1]))
            tensors = {key: value.numpy().tobytes() for key, value in saved.tensors.items()}
            found[name] = (tensors, saved.counters, saved.done)
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


@pytest.mark.parametrize("family", ["r3gan", "dcgan", "vanilla", "cgan"])
def test_resume_equals_one_straight_run(family: str, bars: Bars, tmp_path: Path) -> None:
    """40 steps, and 20 steps + save + load + 20 steps, on one thread and on two: every file is equal."""
    images = bars(64, (1, 8, 8))
    list(_start(images, tmp_path / "straight", family))
    progress = _start(images, tmp_path / "resumed", family, threads=2)
    next(report for report in progress if report.images_seen >= 320)
    progress.close()  # type: ignore[attr-defined]
    assert not (tmp_path / "resumed" / LAST).exists()
    list(_start(images, tmp_path / "resumed", family))
    assert _files(tmp_path / "straight") == _files(tmp_path / "resumed")
    assert generate(tmp_path / "straight", np.array([0, 1]), 0).shape == (2, 1, 8, 8)


def test_what_moves_the_generator_knows_no_patient(small: ImageSet, tmp_path: Path) -> None:
    """Parts of a batch for fakes have labels drawn in public, and no counts of the patients drawn."""
    seen = list[tuple[int, ...]]()

    def looked(self: PrivateStepper) -> list[Shard]:
        shards = blind(self)
        seen.extend(shard.batch.counts for shard in shards)
        return shards

    blind = PrivateStepper._blind_shards
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PrivateStepper, "_blind_shards", looked)
        list(_start(small, tmp_path))
    assert seen
    assert set(seen) == {()}


def test_nothing_but_shortened_gradients_comes_from_the_images(
    bars: Bars, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the sum of shortened gradients taken away, other images and labels give the same weights,
    statistics, events and contact sheets to the byte: there is no second way from a patient to the result.

    The noise would follow the data's digest; here all digests are equal.
    """
    monkeypatch.setattr(engine, "digest_of", lambda *_: "1")
    monkeypatch.setattr(
        PrivateStepper,
        "_summed",
        lambda self, *_: [torch.zeros_like(p) for p in self.state.networks["critic"].parameters()],
    )
    first = bars(64, (1, 8, 8), seed=1)
    labels = np.repeat([0, 1], [40, 24])
    other = ImageSet(255 - bars(64, (1, 8, 8), seed=2).images, labels, first.patients, first.label_names)
    for name, images in (("first", first), ("other", other)):
        list(_start(images, tmp_path / name, "r3gan"))
    assert _files(tmp_path / "first") == _files(tmp_path / "other")


def test_a_run_says_what_it_kept(small: ImageSet, tmp_path: Path) -> None:
    """The checkpoint's history has every step; the guarantee is its epsilon, at most what was asked for."""
    asked = replace(NOISY, epsilon=3.0, noise_multiplier=None)
    list(_start(small, tmp_path, privacy=asked))
    kept = checkpoint.finished_checkpoint(tmp_path).guarantee
    assert kept is not None
    ((noise, rate, steps),) = kept.history
    assert (rate, steps) == (16 / 64, 40)
    assert noise == accountant.noise_for(3.0, 1e-3, 16 / 64, 40)
    assert 0.98 * 3.0 <= kept.epsilon == accountant.spent([[noise, rate, steps]], 1e-3) <= 3.0
    assert (kept.delta, kept.clip_norm) == (1e-3, 0.5)


def test_without_privacy_nothing_is_promised(small: ImageSet, tmp_path: Path) -> None:
    """A plain run has no guarantee, and its identity knows no privacy: earlier runs keep their digests."""
    list(_start(small, tmp_path, privacy=None))
    assert checkpoint.finished_checkpoint(tmp_path).guarantee is None
    assert "privacy" not in json.loads((tmp_path / "identity.json").read_text())["run"]


def test_the_generator_waits_for_the_critic(small: ImageSet, tmp_path: Path) -> None:
    """With two steps of the critic for one of the generator, Adam counts 40 and 20."""
    list(_start(small, tmp_path))
    tensors = load_file(tmp_path / LAST)
    counts = {
        name: {
            float(t)
            for key, t in tensors.items()
            if key.startswith(f"optimiser.{name}.") and key.endswith(".step")
        }
        for name in ("critic", "generator")
    }
    assert counts == {"critic": {40.0}, "generator": {20.0}}


def test_statistics_tell_of_no_real_image(small: ImageSet, tmp_path: Path) -> None:
    """What goes to train.jsonl, and so to the report, is of fakes, of noisy gradients, and of steps."""
    list(_start(small, tmp_path, "r3gan"))
    known = {"step", "images", "generator_loss", "generator_gradient", "critic_gradient", "penalty"}
    for line in checkpoint.read_statistics(tmp_path):
        assert set(line) == known | {"squared_gradient"}


def test_steps_that_were_rolled_back_still_count(
    small: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who saw the noisy gradients saw them: after eight roll-backs 160 steps are spent, not 20."""
    monkeypatch.setattr(Stepper, "is_finite", lambda _: False)
    list(_start(small, tmp_path, budget_images=16_000))
    kept = checkpoint.finished_checkpoint(tmp_path).guarantee
    assert kept is not None
    assert [steps for _, _, steps in kept.history] == [160]


def test_another_key_is_another_run(small: ImageSet, tmp_path: Path) -> None:
    """Going on with other noise would not be the run that was stopped: refused, and the folder stays."""
    progress = _start(small, tmp_path)
    next(progress)
    progress.close()  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match="differ in privacy"):
        next(_start(small, tmp_path, privacy=replace(NOISY, secret=6)))


def test_what_would_break_the_promise_is_refused(small: ImageSet, tmp_path: Path) -> None:
    """Families without a private form, other sampling, a delta or a batch too large: a message, no folder."""
    folder = tmp_path / "run"
    for family in ("stylegan2", "vae", "diffusion"):
        with pytest.raises(ModelError, match=f"{family}: cannot be trained with model.privacy"):
            next(_start(small, folder, family))
    with pytest.raises(ModelError, match=r"cgan: cannot be trained with model\.privacy"):
        next(_start(small, folder, "cgan", cgan.Settings(head="auxiliary")))
    for change in ({"class_sampling": "equal"}, {"augment": "adaptive"}, {"precision": "bf16"}):
        with pytest.raises(ModelError, match=f"found .*{next(iter(change.values()))}"):
            next(_start(small, folder, **change))
    with pytest.raises(ModelError, match="is for one generator"):
        next(_start(small, folder, members=2))
    with pytest.raises(ModelError, match=r"0.02 with 64 training patients .* under 0.016"):
        next(_start(small, folder, privacy=replace(NOISY, delta=0.02)))
    few = ImageSet(small.images, small.labels, small.patients // 8, small.label_names)
    with pytest.raises(ModelError, match="a batch of 16 cannot be drawn from 8 training patients"):
        next(_start(few, folder))
    assert not folder.exists()


def test_an_epsilon_that_no_noise_keeps(small: ImageSet, tmp_path: Path) -> None:
    """The message says what to change: Rényi orders up to 512 cannot show a delta as small as this."""
    with pytest.raises(ModelError, match=r"no noise keeps 40 steps under epsilon 0\.05 at delta 1e-30"):
        next(
            _start(small, tmp_path, privacy=replace(NOISY, epsilon=0.05, noise_multiplier=None, delta=1e-30))
        )


def _least_epsilon(right: int, guesses: int) -> float:
    """Lower 95% bound of epsilon from so many right guesses: Steinke, Nasr & Jagielski, NeurIPS 2023.

    With epsilon-DP each guess whether a canary was in is right with odds of at most e^epsilon, so their
    number is stochastically at most binomial (theorem 5.2; delta's 2 x 100 x 1e-5 is taken from the 5%).
    """

    def chance(epsilon: float) -> float:
        return float(binom.sf(right - 1, guesses, 1 / (1 + math.exp(-epsilon)))) - (0.05 - 0.002)

    return 0.0 if chance(0.0) >= 0 else brentq(chance, 0.0, 50.0)


def test_the_bound_of_the_audit() -> None:
    """Worked: half of the guesses right show nothing; 50 of 50 show p >= .048^(1/50), so epsilon >= 2.77."""
    assert _least_epsilon(25, 50) == 0
    p = 0.048 ** (1 / 50)
    assert _least_epsilon(50, 50) == pytest.approx(math.log(p / (1 - p)))


def _audited(privacy: PrivacyPlan, seed: int) -> tuple[float, float]:
    """Stated epsilon, and its measured lower bound, by 100 canaries of noise, each learned with chance 1/2.

    An attacker with the last critic calls the 25 highest scores members and the 25 lowest strangers.
    """
    rng = np.random.default_rng(seed)
    canaries = rng.integers(0, 256, (100, 1, 8, 8), dtype=np.uint8)
    is_in = rng.random(100) < 0.5
    count = int(is_in.sum())
    images = ImageSet(canaries[is_in], np.zeros(count, np.int64), np.arange(count), ("canary",))
    settings = vanilla.Settings(widths=(128,), latent=8, learning_rate=2e-3)
    plan = TrainingPlan(300 * 16, batch_size=16, threads=1, privacy=privacy, seed=seed)
    with Crew(1) as crew:
        stepper = PrivateStepper(images, vanilla.FAMILY, settings, plan, torch.device("cpu"), crew, 2, seed)
        for _ in range(plan.steps):
            stepper.step()
    signal = torch.from_numpy(canaries).float() / 127.5 - 1
    with torch.no_grad():
        scores = stepper.state.networks["critic"](signal, torch.zeros(100, dtype=torch.int64)).numpy()
    order = np.argsort(scores)
    right = int(is_in[order[75:]].sum() + (~is_in[order[:25]]).sum())
    return accountant.spent(stepper.state.counters.accountant, privacy.delta), _least_epsilon(right, 50)


@pytest.mark.parametrize("epsilon", [1.0, 4.0])
def test_the_measured_epsilon_never_exceeds_the_stated_one(epsilon: float) -> None:
    """Planted canaries, two seeds: what an attacker shows is no more than what the run states."""
    privacy = PrivacyPlan(epsilon, None, delta=1e-5, clip_norm=1.0, critic_steps=2)
    for seed in range(2):
        stated, measured = _audited(privacy, seed)
        assert measured <= stated <= epsilon


def test_the_audit_would_notice() -> None:
    """Next to no noise: the same attacker shows an epsilon above 1, and the stated one is far above that."""
    stated, measured = _audited(PrivacyPlan(None, 0.01, delta=1e-5, clip_norm=1.0, critic_steps=2), 0)
    assert 1.0 < measured < stated


def test_a_family_without_a_private_form_says_so() -> None:
    """StyleGAN2's critic looks at four images together, so there is no gradient of one alone."""
    assert stylegan2.FAMILY.looks_at > 1
    assert stylegan2.FAMILY.private(stylegan2.Settings()) is None
