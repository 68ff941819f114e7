"""The one training loop: any family, resumable to the bit, time counted in images."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phantomset.data.catalogue import load
from phantomset.data.digest import digest_of
from phantomset.data.errors import ModelError
from phantomset.data.records import ImageSet, ImageSpec
from phantomset.data.workspace import write_atomically
from phantomset.ganmodels import checkpoint, stability
from phantomset.ganmodels.family import Family, FamilySettings
from phantomset.ganmodels.generate import Sampler
from phantomset.ganmodels.grid import contact_sheet
from phantomset.ganmodels.plan import CHECK_STEPS, Progress, TrainingPlan, device_of, is_bf16
from phantomset.ganmodels.shards import Crew, shard_count
from phantomset.ganmodels.step import Stepper

__all__ = ["Progress", "TrainingPlan", "budget_images", "images_per_second", "train"]

FORMAT = 2
"""Version of the checkpoint's content; raised when an older checkpoint no longer continues to equal bits."""

FEWEST_IMAGES = 16
"""Images that a class needs: with fewer a conditional generator copies them or fails."""

FEWEST_PER_BATCH = 4
"""Images that a batch needs for each class."""

GRID_COLUMNS = 10
REPORT_SECONDS = 1.0


def train(
    images: ImageSet,
    family: str,
    settings: FamilySettings,
    plan: TrainingPlan,
    folder: Path,
    device: str = "cpu",
) -> Iterator[Progress]:
    """Train in ``folder`` and yield where the run stands, about once a second; the last has ``done=True``.

    If the folder holds an unfinished run with the same images, settings and plan, it goes on from there, on
    the same machine to the very bits of a run that never stopped; a finished one yields its end at once.
    Stopping (closing the iterator, Ctrl-C, an orchestrator's exception) saves first.

    Raises:
        ModelError: the family cannot train on these images, the device is missing, or the folder holds
            another run or only damaged checkpoints.
        WorkspaceError: the folder cannot be written.
    """
    target = device_of(device)
    chosen = check(images, family, settings, plan)
    stored, differing = checkpoint.settle_identity(folder, identity(images, family, settings, plan, target))
    with Crew(_threads(plan)) as crew:
        stepper = Stepper(images, chosen, settings, plan, target, crew, stored["machine"]["shards"])
        yield from Run(images, chosen, settings, plan, folder, target, stepper, crew).go(differing)


def check(images: ImageSet, family: str, settings: FamilySettings, plan: TrainingPlan) -> Family:
    """Return the family, if it can train on these images by this plan.

    Raises:
        ModelError: it cannot; the message says why, with numbers.
        RecipeError: there is no such family.
    """
    chosen: Family = load("phantomset.ganmodels.families", family)
    classes = len(images.label_names)
    if len(images.labels) == 0 or images.labels.min() < 0 or images.labels.max() >= classes:
        raise ModelError(
            f"{family}: labels must be numbers from 0 to {classes - 1}, at least one image each."
        )
    counts = np.bincount(images.labels, minlength=classes)
    if counts.min() < FEWEST_IMAGES:
        raise ModelError(
            f"{family}: class {int(counts.argmin())} has {int(counts.min())} training images; "
            f"{FEWEST_IMAGES} are needed. Leave the class out, join it with another, or bring more images."
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
    reason = chosen.check(settings, ImageSpec(*images.images.shape[1:]))
    if reason:
        raise ModelError(f"{family}: {reason}")
    return chosen


def identity(
    images: ImageSet, family: str, settings: FamilySettings, plan: TrainingPlan, device: torch.device
) -> dict[str, Any]:
    """Return what makes a run this run ("run"), and what its last bits depend on besides ("machine")."""
    planned = asdict(plan)
    del planned["threads"]
    return {
        "run": {
            "format": FORMAT,
            "family": family,
            "settings": settings.model_dump(mode="json"),
            "data": digest_of(images.images, images.labels, list(images.label_names)),
            "spec": list(images.images.shape[1:]),
            "class_count": len(images.label_names),
            **planned,
            "precision": "bf16" if is_bf16(plan.precision, device) else "fp32",
        },
        "machine": {
            "shards": shard_count(_threads(plan), plan.batch_size, device),
            "device": device.type,
            "capability": torch.backends.cpu.get_cpu_capability(),
            "amx": bool(torch.cpu.get_capabilities().get("amx_bf16", False)),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }


class Run:
    """One run in its folder: step, check, save, report."""

    def __init__(
        self,
        images: ImageSet,
        family: Family,
        settings: FamilySettings,
        plan: TrainingPlan,
        folder: Path,
        device: torch.device,
        stepper: Stepper,
        crew: Crew,
    ) -> None:
        self._images, self._family, self._settings = images, family, settings
        self._plan, self._folder, self._device = plan, folder, device
        self._stepper, self._state, self._crew = stepper, stepper.state, crew
        spec = ImageSpec(*images.images.shape[1:])
        self._sampler = Sampler(family, settings, self._state.averages, spec, device)
        self._told = 0
        self._numbers: dict[str, float] = {}
        self._clock, self._clock_step = time.monotonic(), 0

    def go(self, differing: list[str]) -> Iterator[Progress]:
        """Yield until done, from the newest checkpoint or from the start."""
        counters = self._state.counters
        if self._resume(differing):
            yield self._progress(done=True)
            return
        # What an interruption writes is the state at the last check: an exception may strike inside a step,
        # when the weights are half moved.
        kept = self._keep()
        try:
            while counters.step < self._plan.steps and not counters.given_up:
                self._stepper.step()
                is_check = counters.step % CHECK_STEPS == 0
                if is_check:
                    self._check()
                if counters.step % self._plan.checkpoint_steps == 0 and counters.step < self._plan.steps:
                    self._save()
                    self._draw()
                if is_check:
                    kept = self._keep()
                if is_check or time.monotonic() - self._clock > REPORT_SECONDS:
                    yield self._progress()
            self._finish()
        except BaseException:
            if kept[1]["step"] > max(checkpoint.steps(self._folder), default=-1):
                checkpoint.save(self._folder, *kept)
            raise
        yield self._progress(done=True)

    def _resume(self, differing: list[str]) -> bool:
        """Load the newest checkpoint, or write that of step 0; return whether the run is over already."""
        saved, damaged = checkpoint.newest(self._folder)
        if saved is None:
            self._save()  # shows at once that the folder can be written, and is the first good state
            checkpoint.rewind_statistics(self._folder, 0)
            return False
        self._stepper.load(saved.tensors, saved.counters)
        self._clock_step = saved.step
        if saved.done:
            return True
        checkpoint.rewind_statistics(self._folder, saved.step)
        if damaged:
            message = (
                f"{len(damaged)} newer checkpoint(s) were damaged; the run goes on from step {saved.step}"
            )
            self._tell("damaged-checkpoint", message)
        if differing:
            self._tell("not-bit-identical", f"this machine differs from the first in {', '.join(differing)}")
        return False

    def _check(self) -> None:
        """Look for failure, act on it, and write a line of statistics."""
        counters = self._state.counters
        numbers, batch_check = self._stepper.read()
        seen = {name: value for name, value in asdict(batch_check).items() if value is not None}
        self._numbers = {**numbers, **seen}
        line = {key: round(value, 6) if np.isfinite(value) else None for key, value in self._numbers.items()}
        with (self._folder / "train.jsonl").open("a") as stream:
            stream.write(
                json.dumps({"step": counters.step, "images": self._seen, **line}, sort_keys=True) + "\n"
            )
        fired = stability.findings(batch_check, numbers, counters, self._seen)
        if not self._stepper.is_finite() or self._stepper.new_skips > stability.MOST_SKIPS:
            fired.add("divergence")
            counters.streaks["divergence"] = stability.PERSISTENCE["divergence"]
        acting = stability.persistent(fired, counters)
        if self._stepper.new_skips:
            self._tell("skipped-batch", f"{self._stepper.new_skips} batches were skipped: loss not finite")
        curable = [code for code in acting if code != "critic-wins"]
        if curable:
            self._roll_back(curable[0], batch_check.gap or 0.0)
        elif acting:
            self._tell(acting[0], "the critic tells nearly every pair apart and the fakes grow alike")

    def _roll_back(self, code: str, gap: float) -> None:
        """Go back to the last good checkpoint, the generator to its average; climb the ladder."""
        counters = self._state.counters
        good = checkpoint.read(self._folder, counters.good_step)
        self._stepper.roll_back(good.tensors)
        stability.climb(counters, gap)
        self._tell(
            code,
            f"roll-back {counters.roll_backs} to step {counters.good_step}: learning rate x "
            f"{counters.learning_rate_scale:g}, penalty x {counters.penalty_scale:g}",
        )
        if counters.roll_backs >= stability.MOST_ROLL_BACKS:
            counters.given_up = True
            self._tell("given-up", f"training failed again after {counters.roll_backs} roll-backs")

    def _finish(self) -> None:
        """Look at the samples' spectrum, write the last checkpoint and the last contact sheet."""
        if self._state.counters.step % CHECK_STEPS:
            self._check()
        spread = np.linspace(0, len(self._images) - 1, min(512, len(self._images))).astype(int)
        real = self._images.take(spread)
        self._numbers["noise_drift"] = stability.drift(self._sample(real.labels, "spectrum"), real.images)
        if self._numbers["noise_drift"] > stability.DRIFT_LIMIT and self._seen > stability.DRIFT_IMAGES:
            excess = self._numbers["noise_drift"]
            self._tell(
                "noise-drift", f"power at the highest frequencies is 10^{excess:.1f} times the real one"
            )
        self._save(done=True)
        self._draw()

    @property
    def _seen(self) -> int:
        return self._state.counters.step * self._plan.batch_size

    def _keep(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        tensors = {name: tensor.detach().clone() for name, tensor in self._state.tensors().items()}
        return tensors, self._state.counters.as_dict()

    def _save(self, done: bool = False) -> None:
        counters = self._state.counters
        if counters.clean_checks >= stability.GOOD_CHECKS and not done:
            counters.good_step = counters.step
        checkpoint.save(self._folder, self._state.tensors(), counters.as_dict(), done)

    def _sample(self, labels: np.ndarray, purpose: str) -> np.ndarray:
        return self._sampler.images(labels, self._plan.seed, self._crew, purpose=purpose)

    def _draw(self) -> None:
        rows = min(len(self._images.label_names), 12)
        made = self._sample(np.repeat(np.arange(rows), GRID_COLUMNS), "grid")
        grids = self._folder / "grids"
        grids.mkdir(mode=0o700, exist_ok=True)
        write_atomically(grids / f"{self._seen:09d}.png", contact_sheet(made, GRID_COLUMNS), mode=0o600)

    def _tell(self, code: str, message: str) -> None:
        self._state.counters.events.append(stability.event(code, self._seen, message))

    def _progress(self, done: bool = False) -> Progress:
        counters = self._state.counters
        now = time.monotonic()
        speed = (counters.step - self._clock_step) * self._plan.batch_size / max(now - self._clock, 1e-9)
        self._clock, self._clock_step = now, counters.step
        told, self._told = self._told, len(counters.events)
        left = (self._plan.steps - counters.step) * self._plan.batch_size
        return Progress(
            images_seen=self._seen,
            budget_images=self._plan.steps * self._plan.batch_size,
            images_per_second=speed,
            seconds_left=0.0 if done else left / max(speed, 1e-9),
            statistics=dict(self._numbers),
            events=tuple(counters.events[told:]),
            done=done,
        )


def images_per_second(
    images: ImageSet,
    family: str,
    settings: FamilySettings,
    plan: TrainingPlan,
    device: str = "cpu",
    seconds: float = 5.0,
) -> float:
    """Return the training speed on this machine now, from a throw-away run of about ``seconds``."""
    chosen, target = check(images, family, settings, plan), device_of(device)
    shards = shard_count(_threads(plan), plan.batch_size, target)
    with Crew(_threads(plan)) as crew:
        stepper = Stepper(images, chosen, settings, plan, target, crew, shards)
        for _ in range(4):  # the first steps choose kernels
            stepper.step()
        begun, first = time.monotonic(), stepper.state.counters.step
        # Whole rounds of 4: a step with a penalty costs twice one without.
        while time.monotonic() - begun < seconds:
            for _ in range(4):
                stepper.step()
        stepper.read()
        return (stepper.state.counters.step - first) * plan.batch_size / (time.monotonic() - begun)


def budget_images(minutes: float, speed: float, batch_size: int = 64) -> int:
    """Return how many images ``minutes`` last at ``speed`` images a second, in whole batches, at least one.

    Ask once for a run and keep the answer in the plan: a resume in a slower hour must change no schedule.
    """
    return max(1, int(minutes * 60 * speed) // batch_size) * batch_size


def _threads(plan: TrainingPlan) -> int:
    return plan.threads or torch.get_num_threads()
