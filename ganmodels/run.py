"""The one training loop: step, check, save, report, and recover."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phantomset.data.errors import WorkspaceError
from phantomset.data.records import ImageSet
from phantomset.data.workspace import write_atomically
from phantomset.ganmodels import checkpoint, processes, recovery, stability
from phantomset.ganmodels.family import Family, FamilySettings
from phantomset.ganmodels.memory import is_out_of_memory
from phantomset.ganmodels.plan import CHECK_STEPS, Progress, TrainingPlan
from phantomset.ganmodels.samples import Samples
from phantomset.ganmodels.shards import Crew
from phantomset.ganmodels.step import Stepper

REPORT_SECONDS = 1.0

STRENGTHENED = ("over-fit", "critic-wins")
"""Detectors that are met by making the critic's work harder; the others by going back."""


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
        held_out: ImageSet | None = None,
    ) -> None:
        self._images, self._family, self._plan, self._folder = images, family, plan, folder
        self._stepper, self._state = stepper, stepper.state
        has_critic = "critic" in self._state.networks
        self._samples = Samples(
            images, family, settings, plan, self._state.averages, device, crew, held_out, has_critic
        )
        self._told = 0
        self._numbers: dict[str, float] = {}
        self._clock, self._clock_step = time.monotonic(), 0

    def go(self, differing: list[str]) -> Iterator[Progress]:
        """Yield until done, from the newest checkpoint or from the start."""
        if self._resume(differing):
            yield self._progress(done=True)
            return
        # What an interruption writes is the state at the last check: an exception may strike inside a step,
        # when the weights are half moved.
        kept = self._keep()
        try:
            is_done = False
            while not is_done:
                try:
                    is_check, is_done = self._turn()
                except (MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
                    self._make_room(kept)
                    continue
                if is_check:
                    kept = self._keep()
                if is_check or (not is_done and time.monotonic() - self._clock > REPORT_SECONDS):
                    yield self._progress()
        except OSError as error:
            raise WorkspaceError(
                f"train: cannot write to {self._folder} ({error.strerror}). Free space there and run again: "
                "it goes on from the last checkpoint."
            ) from None
        except BaseException:
            if kept[1]["step"] > max(checkpoint.steps(self._folder), default=-1):
                checkpoint.save(self._folder, *kept)
            raise
        yield self._progress(done=True)

    def _turn(self) -> tuple[bool, bool]:
        """Step, check and save, each where it is time; return whether this was a check, and the end."""
        counters, plan = self._state.counters, self._plan
        if counters.step >= plan.steps or counters.given_up:
            self._finish()
            return False, True
        self._stepper.step()
        is_check = counters.step % CHECK_STEPS == 0
        if is_check:
            self._check()
        if counters.step % plan.checkpoint_steps == 0 and counters.step < plan.steps:
            spread = self._draw()
            self._meet_grain()
            self._rate(spread)
            self._save()
        return is_check, False

    def _make_room(self, kept: tuple[dict[str, torch.Tensor], dict[str, Any]]) -> None:
        """Go back to the last check and halve the parts of a batch, for memory did not suffice.

        Gradients of parts add up to the batch's; noise is drawn a part at a time, so chance is another.

        Raises:
            ModelError: not even one image fits.
        """
        parts = self._stepper.more_parts()
        self._stepper.load(*kept)
        self._clock, self._clock_step = time.monotonic(), self._state.counters.step
        checkpoint.rewind_statistics(self._folder, self._state.counters.step)
        self._state.counters.parts = parts
        size = -(-self._plan.batch_size // parts)
        self._tell("out-of-memory", f"a batch is computed in {parts} parts of {size} images from now on")

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
            # Left where they are they would count as the newest, and push out those that are to come.
            checkpoint.drop(self._folder, damaged)
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
        progress, quarter = counters.step / self._plan.steps, self._plan.steps // (4 * CHECK_STEPS)
        fired = stability.findings(batch_check, numbers, counters, self._seen, progress, max(1, quarter))
        if not self._stepper.is_finite() or self._stepper.new_skips > stability.MOST_SKIPS:
            fired.add("divergence")
            counters.streaks["divergence"] = stability.PERSISTENCE["divergence"]
        # The warm-up forgives fakes that are alike; as the state to come back to they will not do.
        acting = stability.persistent(fired, counters, is_good=not stability.is_narrow(batch_check))
        if self._stepper.new_skips:
            self._tell("skipped-batch", f"{self._stepper.new_skips} batches were skipped: loss not finite")
        self._act(acting, batch_check.gap or 0.0)
        if self._plan.augment == "adaptive" and "real_sign" in numbers:
            shown = CHECK_STEPS * self._plan.batch_size
            recovery.adapt(counters, numbers["real_sign"], shown, self._plan.budget_images)

    def _act(self, acting: list[str], gap: float) -> None:
        """Take one rung of the ladder for the first detector that asks for it: roll-backs come first."""
        counters = self._state.counters
        gentle = [code for code in acting if code in STRENGTHENED]
        curable = [code for code in acting if code not in STRENGTHENED]
        if curable:
            why = self._narrow_classes() if curable[0] == "collapse" else ""
            if curable[0] != "collapse" or not self._is_too_late():
                self._roll_back(curable[0], gap, why)
            elif not self._was_told(recovery.TOO_LATE):
                self._tell("collapse", f"{why}; {recovery.TOO_LATE}" if why else recovery.TOO_LATE)
        elif gentle and counters.augment_share < recovery.LARGEST_SHARE:
            self._tell(gentle[0], recovery.strengthen(counters, self._is_penalised))

    def _roll_back(self, code: str, gap: float, why: str = "") -> None:
        """Go back to the last good checkpoint, the generator to its average; climb the ladder.

        Args:
            code: of the detector.
            gap: mean distance of real and fake scores.
            why: what it saw.
        """
        counters = self._state.counters
        good = self._sound(self._way_back())
        holds = counters.good_step / self._plan.steps if code == "late-blow-up" else None
        said = recovery.climb(counters, good.step, gap, holds, self._stepper.can_grow, self._is_penalised)
        self._stepper.roll_back(good.tensors)
        if not counters.good_step:
            counters.lost_images = max(counters.lost_images, self._seen - counters.restarted_images)
            counters.restarted_images = self._seen
        self._tell(code, f"{why}; {said}" if why else said)
        if counters.roll_backs >= recovery.MOST_ROLL_BACKS:
            counters.given_up = True
            self._tell(
                "given-up",
                f"training failed again after {counters.roll_backs} roll-backs; {_ends(good.step)}",
            )

    def _sound(self, step: int) -> checkpoint.Saved:
        """Return the checkpoint of a step; where it is damaged or gone that is told, and an older returned.

        Raises:
            ModelError: none is left; or, of several processes, one would go back to another state.
        """
        if processes.count() > 1:
            return checkpoint.read(self._folder, step)
        saved, damaged = checkpoint.before(self._folder, step)
        if damaged:
            counters = self._state.counters
            counters.good_step = min(counters.good_step, saved.step)
            counters.best = [] if counters.best[:1] and counters.best[0] in damaged else counters.best
            checkpoint.drop(self._folder, damaged)
            message = f"that of step {step} was damaged or gone; the run goes back to step {saved.step}"
            self._tell("damaged-checkpoint", message)
        return saved

    @property
    def _best(self) -> int:
        """The step of the best state that is kept; 0 where there is none."""
        kept = checkpoint.steps(self._folder)
        return next((int(step) for step in self._state.counters.best[:1] if step in kept), 0)

    def _way_back(self) -> int:
        """Return the step to go back to: the last good one; to end with, the one that covers most."""
        counters = self._state.counters
        is_last = counters.roll_backs + 1 >= recovery.MOST_ROLL_BACKS
        best = self._best
        if is_last and best and (self._samples.held_out is not None or not counters.good_step):
            return best
        return counters.good_step

    def _is_too_late(self) -> bool:
        """Whether less than half of what going back throws away could be trained again before the end."""
        counters = self._state.counters
        begun = max(self._way_back() * self._plan.batch_size, counters.restarted_images)
        return (self._plan.steps - counters.step) * self._plan.batch_size < (self._seen - begun) / 2

    def _narrow_classes(self) -> str:
        """Return in words which classes repeat themselves in training; nothing where none does."""
        names, spreads = self._images.label_names, stability.class_spreads(self._state.counters)
        return self._narrow({names[label]: spread for label, spread in sorted(spreads.items())})

    def _narrow(self, spreads: dict[str, float]) -> str:
        """Return in words which of the classes lie too little apart; nothing where none does."""
        narrow = [
            f"class {name!r} {spread:.2f}"
            for name, spread in spreads.items()
            if spread < stability.NARROW_CLASS
        ]
        return f"spread of {', '.join(narrow)} times that of real images" if narrow else ""

    def _finish(self) -> None:
        """Look at the samples' spectrum, write the last checkpoint and the last contact sheet."""
        if self._state.counters.step % CHECK_STEPS:
            self._check()
        is_compared = self._samples.are_made and self._plan.privacy is None
        if is_compared:
            excess = self._numbers["noise_drift"] = self._samples.excess()
            checkpoint.amend_statistics(self._folder, noise_drift=round(excess, 6))
            if excess > stability.DRIFT_LIMIT and self._seen > stability.DRIFT_IMAGES:
                self._tell("noise-drift", _grain(excess))
        self._tell_where_nothing_is_left()
        spread = self._draw()
        narrow = [f"they lie {spread:.2f} times as far apart as real images"] * (spread < stability.NARROW)
        if is_compared and (classes := self._narrow(self._samples.class_spreads())):
            narrow.append(classes)
        if "collapse" in self._state.counters.streaks and self._was_told(recovery.TOO_LATE):
            ends = "the run ends collapsed, with too little of it left to go back"
            self._tell("given-up", "; ".join([ends, *narrow]))
        elif narrow:
            self._tell("narrow-samples", "; ".join(narrow))
        self._save(done=True)

    def _tell_where_nothing_is_left(self) -> None:
        """Give up a run that went back to its start so late that not half of what it lost was trained again.

        It ends with the best state before, if one was kept.
        """
        counters = self._state.counters
        again = self._seen - counters.restarted_images
        if counters.good_step or counters.given_up or 2 * again >= counters.lost_images:
            return
        end = self._best
        if end:
            saved = self._sound(end)
            self._stepper.roll_back(saved.tensors)
            end = saved.step
        self._tell("given-up", f"training failed with too little left to begin anew; {_ends(end)}")

    def _meet_grain(self) -> None:
        """Go back to the last good state where samples carry grain, and ask for penalties at every step.

        Once in a run: after that the penalty has no other form to change to, and the end tells what is left.
        """
        counters = self._state.counters
        is_late = self._seen > stability.DRIFT_IMAGES and counters.good_step
        if not self._samples.are_watched or not is_late or recovery.is_careful(counters):
            return
        excess = self._samples.excess()
        if excess > stability.DRIFT_LIMIT:
            counters.is_grain_met = True
            self._roll_back("noise-drift", 0.0, _grain(excess))

    @property
    def _is_penalised(self) -> bool:
        """Whether the family has a gradient penalty, which the ladder could strengthen."""
        return "penalty" in self._numbers

    @property
    def _seen(self) -> int:
        return self._state.counters.step * self._plan.batch_size

    def _keep(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        tensors = {name: tensor.detach().clone() for name, tensor in self._state.tensors().items()}
        return tensors, self._state.counters.as_dict()

    def _rate(self, spread: float) -> None:
        """Note the state that is about to be saved, if none before was as good.

        Good is what covers held-out images; without any, a spread near to 1.
        """
        counters = self._state.counters
        was_led_back = not counters.clean_checks and not counters.streaks
        if was_led_back:
            return
        held_out = self._samples.held_out
        off = abs(spread - 1) if held_out is None else 1 - self._samples.coverage(held_out)
        if np.isfinite(off) and (not counters.best or off <= counters.best[1]):
            counters.best = [counters.step, round(off, 5)]

    def _save(self, done: bool = False) -> None:
        counters = self._state.counters
        if counters.clean_checks >= stability.GOOD_CHECKS and not done:
            counters.good_step = counters.step
        checkpoint.save(self._folder, self._state.tensors(), counters.as_dict(), done)

    def _draw(self) -> float:
        """Draw a contact sheet from fixed noise; return the samples' spread over the real images'."""
        sheet, made, real = self._samples.sheet()
        grids = self._folder / "grids"
        grids.mkdir(mode=0o700, exist_ok=True)
        write_atomically(grids / f"{self._seen:09d}.png", sheet, mode=0o600)
        if self._plan.privacy is not None:  # what compares with real images would tell of them
            return 1.0
        counters, row = self._state.counters, stability.sketch(made, real)
        had_stalled = stability.has_stalled(counters)
        counters.sketches = [*counters.sketches, row][-stability.SKETCHES :]
        if stability.has_stalled(counters) and not had_stalled:
            self._tell("stall", f"samples lie {row[0]:.2f} times as far apart as real images, unchanged")
        return row[0]

    def _was_told(self, message: str) -> bool:
        return any(message in told["message"] for told in self._state.counters.events)

    def _tell(self, code: str, message: str) -> None:
        told = recovery.event(code, self._seen, message, recovery.instead_of(self._family))
        self._state.counters.events.append(told)

    def _progress(self, done: bool = False) -> Progress:
        counters = self._state.counters
        now = time.monotonic()
        speed = (counters.step - self._clock_step) * self._plan.batch_size / max(now - self._clock, 1e-9)
        self._clock, self._clock_step = now, counters.step
        told, self._told = min(self._told, len(counters.events)), len(counters.events)
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


def _ends(step: int) -> str:
    return f"it ends with the state of step {step}" if step else "no state was worth keeping"


def _grain(excess: float) -> str:
    return f"power at the highest frequencies is 10^{excess:.1f} times the real one"
