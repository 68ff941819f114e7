"""The door to training: any family, resumable to the bit, time counted in images. The loop is in `run`."""

import resource
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phantomset.data.catalogue import load
from phantomset.data.digest import digest_of
from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSet, ImageSpec
from phantomset.ganmodels import checkpoint, ensemble, processes
from phantomset.ganmodels.family import Draw, Family, FamilySettings
from phantomset.ganmodels.generate import CHUNK, Sampler
from phantomset.ganmodels.memory import enough_memory, is_out_of_memory
from phantomset.ganmodels.plan import Augment, Progress, TrainingPlan, device_of, is_bf16
from phantomset.ganmodels.privacy.stepper import PrivateStepper, require_private
from phantomset.ganmodels.run import Run
from phantomset.ganmodels.shards import Crew, shard_count
from phantomset.ganmodels.step import Stepper

__all__ = ["Probe", "Progress", "TrainingPlan", "budget_images", "images_per_second", "probe", "train"]

FORMAT = 8
"""Version of the checkpoint's content; raised when an older checkpoint no longer continues to equal bits."""

FEWEST_IMAGES = 16
"""Images that a class needs: with fewer a conditional generator copies them or fails."""

COPIES = 3
"""Copies of the state that a real run holds besides: the last check's, and two while it is saved."""

DRAWN = 8
"""Images that are made to see what one takes."""

DRAWING_SECONDS = 20.0
"""As long a probe may draw to see what memory that takes; of slower families training alone is measured."""

FEWEST_PER_BATCH = 4
"""Images that a batch needs for each class."""


def train(
    images: ImageSet,
    family: str,
    settings: FamilySettings,
    plan: TrainingPlan,
    folder: Path,
    device: str = "cpu",
    held_out: ImageSet | None = None,
) -> Iterator[Progress]:
    """Train in ``folder`` and yield where the run stands, about once a second; the last has ``done=True``.

    If the folder holds an unfinished run with the same images, settings and plan, it goes on from there, on
    the same CPU to the very bits of a run that never stopped (on a GPU that is not promised); a finished one
    yields its end at once. Stopping (closing the iterator, Ctrl-C, an orchestrator's exception) saves first.
    Under ``torchrun`` its processes train one model together, see `processes`.

    Args:
        images: to learn.
        family: name of the family.
        settings: of the family.
        plan: how long, how, by which seed.
        folder: of the run.
        device: ``cpu`` or ``cuda``.
        held_out: images of other patients that no step learns from: the critic's scores of them show whether
            it over-fits. Not looked at under ``plan.privacy``.

    Raises:
        ModelError: the family cannot train on these images, the device is missing, memory does not suffice,
            or the folder holds another run or only damaged checkpoints.
        WorkspaceError: the folder cannot be written.
    """
    chosen = check(images, family, settings, plan)
    _require_variety(images, family)
    plan = replace(plan, members=ensemble.member_count(plan, chosen, len(images)))

    target = processes.own_device(device_of(device))

    def one(plan: TrainingPlan, folder: Path) -> Iterator[Progress]:
        return _train_one(images, chosen, settings, plan, folder, target, held_out)

    with processes.joined(folder, target) as own:
        if processes.count() > plan.batch_size:
            raise ModelError(
                f"train: {processes.count()} processes for a batch of {plan.batch_size} images; start at "
                "most as many processes as a batch has images."
            )
        if plan.members == 1:
            yield from one(plan, own)
        else:
            described = identity(images, chosen.name, settings, plan, target, held_out)
            checkpoint.settle_identity(own, described)
            yield from ensemble.train_in_turn(plan, own, one)


def _train_one(
    images: ImageSet,
    chosen: Family,
    settings: FamilySettings,
    plan: TrainingPlan,
    folder: Path,
    target: torch.device,
    held_out: ImageSet | None,
) -> Iterator[Progress]:
    described = identity(images, chosen.name, settings, plan, target, held_out)
    stored, differing = checkpoint.settle_identity(folder, described)
    differing = [name for name in differing if name != "shards"]  # those of the first start hold
    with enough_memory("train"), Crew(_threads(plan)) as crew:
        shards = stored["machine"]["shards"]
        if processes.count() > shards:
            raise ModelError(
                f"train: {processes.count()} processes for a batch of {shards} parts; start at most "
                f"{shards}. The number of parts is settled when a run begins."
            )
        stepper = _stepper(images, chosen, settings, plan, target, crew, shards, held_out, stored)
        yield from Run(images, chosen, settings, plan, folder, target, stepper, crew, held_out).go(differing)


def _stepper(
    images: ImageSet,
    family: Family,
    settings: FamilySettings,
    plan: TrainingPlan,
    device: torch.device,
    crew: Crew,
    shards: int,
    held_out: ImageSet | None = None,
    run: dict[str, Any] | None = None,
) -> Stepper:
    """Return what steps. Noise follows from all that decides the run: no two runs share it."""
    if plan.privacy is None:
        return Stepper(images, family, settings, plan, device, crew, shards, held_out)
    secret = int(digest_of("noise", plan.privacy.secret, run), 16)
    return PrivateStepper(images, family, settings, plan, device, crew, shards, secret)


def check(images: ImageSet, family: str, settings: FamilySettings, plan: TrainingPlan) -> Family:
    """Return the family, if it can train on these images by this plan.

    Raises:
        ModelError: it cannot; the message says why, with numbers.
        RecipeError: there is no such family.
    """
    chosen: Family = load("phantomset.ganmodels.families", family)
    classes = len(images.label_names)
    if not np.issubdtype(images.labels.dtype, np.integer):
        raise ModelError(f"{family}: labels must be whole numbers; found {images.labels.dtype}.")
    if len(images.labels) == 0 or images.labels.min() < 0 or images.labels.max() >= classes:
        raise ModelError(
            f"{family}: labels must be numbers from 0 to {classes - 1}, at least one image each."
        )
    counts = np.bincount(images.labels, minlength=classes)
    if counts.min() < FEWEST_IMAGES:
        least, *more = (int(label) for label in counts.argsort() if counts[label] < FEWEST_IMAGES)
        others = "".join(f", {images.label_names[label]!r} {counts[label]}" for label in more)
        raise ModelError(
            f"{family}: class {images.label_names[least]!r} has {counts[least]} training images{others}; "
            f"{FEWEST_IMAGES} are needed. Leave all such classes out by model.rare: leave-out, leave a "
            "condition out, join a class with another, or bring more images: of the source's only the share "
            "split.train is learned."
        )
    if plan.batch_size < FEWEST_PER_BATCH * classes:
        raise ModelError(
            f"{family}: a batch of {plan.batch_size} is too small for {classes} classes; "
            f"set model.batch_size to at least {FEWEST_PER_BATCH * classes}."
        )
    if plan.budget_images < plan.batch_size:
        raise ModelError(
            f"{family}: a budget of {plan.budget_images} images is less than one batch of {plan.batch_size}."
        )
    if chosen.classes not in (None, classes):
        raise ModelError(
            f"{family}: takes {chosen.classes} class{'es' * (chosen.classes != 1)}, and these images have "
            f"{classes}: labels would be lost in silence. Use it through `phantomset translate`."
        )
    _require_use_of(plan.augment, chosen)
    reason = chosen.check(settings, ImageSpec(*images.images.shape[1:]))
    if reason:
        raise ModelError(f"{family}: {reason}")
    if plan.privacy is not None:
        require_private(chosen, settings, plan, plan.privacy, len(np.unique(images.patients)))
    return chosen


def _require_use_of(augment: Augment, family: Family) -> None:
    """Refuse an augmentation that would do nothing.

    Raises:
        ModelError: the family augments nothing, or adaptively has nothing to follow.
    """
    if augment != "none" and not family.augments:
        raise ModelError(
            f"{family.name}: has no critic, for which images are augmented; model.augment {augment} would do "
            "nothing. Set it to none."
        )
    if augment == "adaptive" and not family.has_sign:
        raise ModelError(
            f"{family.name}: the zero of its critic's scores means nothing, and that is what model.augment "
            "adaptive goes by: it would do nothing. Set it to shift or affine, or use stylegan2."
        )


def _require_variety(images: ImageSet, family: str) -> None:
    """Refuse a class of equal images: there is nothing to learn but the one.

    Raises:
        ModelError: all images of a class are equal.
    """
    for label, name in enumerate(images.label_names):
        members = np.flatnonzero(images.labels == label)
        first = images.images[members[0]]
        if all(np.array_equal(images.images[member], first) for member in members[1:]):
            raise ModelError(
                f"{family}: all {len(members)} training images of class {name!r} are equal. "
                "Look at the source, and at image.fit; or leave the class out."
            )


def identity(
    images: ImageSet,
    family: str,
    settings: FamilySettings,
    plan: TrainingPlan,
    device: torch.device,
    held_out: ImageSet | None = None,
) -> dict[str, Any]:
    """Return what makes a run this run ("run"), and what its last bits depend on besides ("machine")."""
    planned = asdict(plan)
    del planned["threads"], planned["privacy"]
    if plan.privacy is not None:
        key = digest_of("noise", plan.privacy.secret)[:16]  # another key goes on with other noise
        planned["privacy"] = {**asdict(replace(plan.privacy, secret=0)), "key": key}
    if held_out is not None:
        planned["held_out"] = digest_of(held_out.images, held_out.labels)
    return {
        "run": {
            "format": FORMAT,
            "family": family,
            "settings": settings.model_dump(mode="json"),
            "data": digest_of(images.images, images.labels, list(images.label_names)),
            "spec": list(images.images.shape[1:]),
            "class_count": len(images.label_names),
            **planned,
            "precision": "bf16" if plan.privacy is None and is_bf16(plan.precision, device) else "fp32",
        },
        "machine": {
            "shards": max(shard_count(_threads(plan), plan.batch_size, device), processes.count()),
            "device": device.type,
            "capability": torch.backends.cpu.get_cpu_capability(),
            "amx": bool(torch.cpu.get_capabilities().get("amx_bf16", False)),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }


@dataclass(frozen=True, slots=True)
class Probe:
    """What a throw-away run of a few seconds showed.

    Attributes:
        images_per_second: the training speed on this machine now.
        state_bytes: of networks, moments and averages: a checkpoint's size.
        peak_bytes: of memory while training, the program itself included, without the training images: on a
            GPU that of the device.
        draw_seconds: what one image takes to be made from nothing; 0 where the family only translates.
    """

    images_per_second: float
    state_bytes: int
    peak_bytes: int
    draw_seconds: float = 0.0


def images_per_second(
    images: ImageSet,
    family: str,
    settings: FamilySettings,
    plan: TrainingPlan,
    device: str = "cpu",
    seconds: float = 5.0,
) -> float:
    """Return the training speed on this machine now, from a throw-away run of about ``seconds``."""
    return probe(images, family, settings, plan, device, seconds, is_drawn=False).images_per_second


def probe(
    images: ImageSet,
    family: str,
    settings: FamilySettings,
    plan: TrainingPlan,
    device: str = "cpu",
    seconds: float = 5.0,
    is_drawn: bool = True,
) -> Probe:
    """Return speed and need of memory, from a throw-away run of about ``seconds``.

    With ``is_drawn`` also of drawing as many images at once as a finished run does.

    Raises:
        ModelError: the family cannot train on these images, or memory does not suffice for one of them.
    """
    chosen, target = check(images, family, settings, plan), device_of(device)
    shards = shard_count(_threads(plan), plan.batch_size, target)
    with enough_memory("train"), Crew(_threads(plan)) as crew:
        stepper = _stepper(images, chosen, settings, plan, target, crew, shards)
        _steps(stepper)  # the first choose kernels
        begun, first = time.monotonic(), stepper.state.counters.step
        # Whole rounds of 4: a step with a penalty costs twice one without.
        while time.monotonic() - begun < seconds:
            _steps(stepper)
        stepper.read()
        speed = (stepper.state.counters.step - first) * plan.batch_size / (time.monotonic() - begun)
        size = sum(tensor.nbytes for tensor in stepper.state.tensors().values())
        spec = ImageSpec(*images.images.shape[1:])
        drawing = _draw_seconds(chosen, settings, stepper, spec, target)
        if is_drawn and chosen.sample is not None and drawing * CHUNK < DRAWING_SECONDS:
            labels = np.zeros(CHUNK * _threads(plan), np.int64)
            Sampler(chosen, settings, stepper.state.averages, spec, target).images(labels, 0, crew)
        return Probe(speed, size, _peak_bytes(target) + COPIES * size, drawing)


@torch.inference_mode()
def _draw_seconds(
    family: Family, settings: FamilySettings, stepper: Stepper, spec: ImageSpec, device: torch.device
) -> float:
    """Return what an image takes to be made, from a few; the first call, which chooses kernels, is left out
    where it is short."""
    if family.sample is None:
        return 0.0
    labels = torch.zeros(DRAWN, dtype=torch.int64, device=device)
    noise = torch.randn(DRAWN, *family.noise_shape(settings, spec), device=device)
    draw = Draw(labels, noise, torch.Generator(device).manual_seed(0))
    seconds = 0.0
    for _ in range(2):
        begun = time.monotonic()
        family.sample(stepper.state.averages, settings, draw).cpu()
        seconds = time.monotonic() - begun
        if seconds > 1:
            break
    return seconds / DRAWN


def _steps(stepper: Stepper) -> None:
    """Do four steps, a batch in as many parts as fit into memory; of a throw-away run, nothing is undone."""
    wanted = stepper.state.counters.step + 4
    while stepper.state.counters.step < wanted:
        try:
            stepper.step()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            stepper.state.counters.parts = stepper.more_parts()


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def budget_images(minutes: float, speed: float, batch_size: int = 64) -> int:
    """Return how many images ``minutes`` last at ``speed`` images a second, in whole batches, at least one.

    Ask once for a run and keep the answer in the plan: a resume in a slower hour must change no schedule.
    """
    return max(1, int(minutes * 60 * speed) // batch_size) * batch_size


def _threads(plan: TrainingPlan) -> int:
    return plan.threads or torch.get_num_threads()
