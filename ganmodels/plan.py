"""What a training run is asked to do, and what it tells while it does it."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from phantomset.data.errors import ModelError

Precision = Literal["auto", "bf16", "fp32"]
Augment = Literal["none", "shift", "affine", "adaptive"]
ClassSampling = Literal["natural", "equal"]

CHECK_STEPS = 20
"""Steps from one look at the statistics to the next: at batch 64 every 1,280 images."""


@dataclass(frozen=True, slots=True)
class PrivacyPlan:
    """Differential privacy of a run: what is promised to each patient, and by which means.

    Attributes:
        epsilon: what the whole run may cost; None where the noise is given.
        noise_multiplier: standard deviation of the noise over ``clip_norm``; None where epsilon is given.
        delta: the chance for which epsilon does not hold; below one over the number of patients.
        clip_norm: longest gradient of one image.
        critic_steps: steps of the critic for one of the generator.
        secret: root of noise and sampling. Who knows it can take the noise away again: it follows from the
            project key, never from the recipe, and is written nowhere.
    """

    epsilon: float | None
    noise_multiplier: float | None
    delta: float = 1e-5
    clip_norm: float = 1.0
    critic_steps: int = 5
    secret: int = 0


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How long, how and by which seed to train.

    Attributes:
        budget_images: real images shown to the critic, rounded up to whole batches.
        batch_size: real images in a step; at least four for each class.
        seed: root of every stream of chance in the run.
        precision: of the activations; weights are always float32. "auto" is bf16 where the device computes
            with it natively.
        threads: CPU threads; what torch is set to when None. Bits follow from the number of parts of a batch,
            which is chosen from the threads when a run begins and stored with it.
        checkpoint_every_images: a twentieth of the budget when None.
        augment: what the critic sees: images as they are (none), moved (shift), moved, turned and scaled
            (affine), or that for as many of them as the critic's certainty asks for (adaptive). Never
            mirrored: the heart is on one side.
        class_sampling: "natural", as the classes come, or "equal", every class as often as every other.
        members: generators that share the budget, see `ensemble`; None: by the budget.
        split: digest of the split that the images come from; only recorded.
        held_out_share: of the split's training part that is not among the images; only recorded.
        privacy: differential privacy; None: none.
    """

    budget_images: int
    batch_size: int = 64
    seed: int = 0
    precision: Precision = "auto"
    threads: int | None = None
    checkpoint_every_images: int | None = None
    augment: Augment = "none"
    class_sampling: ClassSampling = "natural"
    members: int | None = None
    split: str = ""
    held_out_share: float = 0.0
    privacy: PrivacyPlan | None = None

    @property
    def steps(self) -> int:
        """Steps in the budget."""
        return -(-self.budget_images // self.batch_size)

    @property
    def checkpoint_steps(self) -> int:
        """Steps from one checkpoint to the next: whole checks, so that a resume begins with fresh means."""
        images = self.checkpoint_every_images or self.budget_images // 20
        return max(1, round(images / self.batch_size / CHECK_STEPS)) * CHECK_STEPS


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the run stands.

    Attributes:
        images_seen: real images shown so far.
        budget_images: images at the end.
        images_per_second: speed since the last check of the statistics.
        seconds_left: at that speed.
        statistics: means since the last check, by name; the same numbers as a line of ``train.jsonl``.
        events: what the stability detectors met since the last Progress, each with ``code``, ``images``,
            ``message`` and ``advice``.
        done: the budget is spent, or the run was given up (an event says so).
    """

    images_seen: int
    budget_images: int
    images_per_second: float
    seconds_left: float
    statistics: dict[str, float] = field(default_factory=dict)
    events: tuple[dict[str, Any], ...] = ()
    done: bool = False


def device_of(name: str) -> torch.device:
    """Return the torch device.

    Raises:
        ModelError: it is neither ``cpu`` nor ``cuda``, or there is no CUDA device.
    """
    kind = name.split(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ModelError(f"device: {name!r} is not known; cpu or cuda expected.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            "device: cuda was asked for, but torch finds no CUDA device. Use --device cpu or auto."
        )
    return torch.device(name)


def is_bf16(precision: Precision, device: torch.device) -> bool:
    """Return whether activations are bfloat16: as asked, or by what the device computes natively.

    Without native instructions bf16 is emulated and several times slower than float32.
    """
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
