"""The stages: plain functions, noun in, noun out. A stage whose result exists does no work."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from phantomset.data import cohorts
from phantomset.data import ingest as ingesting
from phantomset.data.digest import digest_of
from phantomset.data.errors import RecipeError
from phantomset.data.records import Checkpoint, Cohort, Split, SyntheticSet
from phantomset.data.splitting.split import split as split_cohort
from phantomset.data.workspace import Workspace
from phantomset.pipelines import residue
from phantomset.pipelines.compute import Machine
from phantomset.pipelines.draft import set_digest
from phantomset.pipelines.judgement import judging
from phantomset.pipelines.judgement.judging import Judgement
from phantomset.pipelines.ledger import Entry, RunLedger
from phantomset.pipelines.recipe import Recipe
from phantomset.pipelines.releases import release, signoff, standing, waiver
from phantomset.pipelines.report import review
from phantomset.pipelines.synthesis import making, translation
from phantomset.pipelines.synthesis.conditions import conditioned, conditions_of, without_rare

Stage = Literal["ingest", "train", "generate", "validate", "publish"]
STAGES: tuple[Stage, ...] = ("ingest", "train", "generate", "validate", "publish")
TRANSLATION_STAGES = ("ingest", "train", "translate")

Work = Callable[[], Any]
Step = Callable[[str, str, Work], Any]
"""Runs one stage: its name, what names the noun before it, and the work; an orchestrator brings its own."""

Noun = TypeVar("Noun")


def _ignore(*_: Any) -> None:
    """Let a run go on unseen."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What a run tells its caller while it works; every part may be left out.

    Attributes:
        begin: a stage begins.
        files: files that ingest has seen so far.
        training: the engine's `Progress`.
        say: one sentence of the judges.
        end: a stage ended.
    """

    begin: Callable[[str], None] = _ignore
    files: Callable[[int], None] = _ignore
    training: Callable[[Any], None] = _ignore
    say: Callable[[str], None] = _ignore
    end: Callable[[Entry], None] = _ignore


@dataclass(frozen=True, slots=True)
class Job:
    """One run: what to make, where, on what, who watches."""

    recipe: Recipe
    workspace: Workspace
    machine: Machine
    ledger: RunLedger
    watch: Watch = field(default_factory=Watch)


@dataclass(slots=True)
class Outcome:
    """The nouns of a run, as far as it went.

    Attributes:
        released: the folder of the release, where the verdict was PASS.
        blocked: the folder of the reasons, where it was not.
        awaits: the request for a sign-off, where the set passed and waits for one.
    """

    cohort: Cohort | None = None
    split: Split | None = None
    checkpoint: Checkpoint | None = None
    checkpoint_folder: Path | None = None
    synthetic: SyntheticSet | None = None
    judgement: Judgement | None = None
    released: Path | None = None
    blocked: Path | None = None
    awaits: signoff.Request | None = None
    entries: list[Entry] = field(default_factory=list[Entry])


def _directly(stage: str, reference: str, work: Work) -> Any:
    del stage, reference
    return work()


def run(job: Job, until: Stage = "publish", step: Step = _directly) -> Outcome:
    """Run the stages of a recipe up to one of them and return what they made.

    Whatever runs the stages, digests are equal. An input that is found to be wrong before training begins
    leaves nothing behind.

    Raises:
        InputError: the recipe does not fit the data, the machine or the workspace.
        Interrupted: stopped from outside; the same command resumes.
    """
    if until != "ingest":
        require_run(job.recipe)
    outcome = Outcome()

    def do(stage: Stage, reference: str, work: Callable[[], tuple[Noun, str, bool]]) -> Noun:
        return _timed(job, outcome, step, stage, reference, work)

    cohort, split = outcome.cohort, outcome.split = _taken_in(job, outcome, step)
    if until == "ingest":
        return outcome
    checkpoint = outcome.checkpoint = do("train", split.digest, lambda: train(job, cohort, split))
    outcome.checkpoint_folder = making.checkpoint_folder(job.recipe, job.workspace, split)
    if until == "train":
        return outcome
    synthetic = do("generate", checkpoint.digest, lambda: generate(job, cohort, split, checkpoint))
    outcome.synthetic = synthetic
    if until == "generate":
        return outcome
    judgement = do("validate", synthetic.digest, lambda: validate(job, cohort, split, checkpoint, synthetic))
    outcome.judgement = judgement
    if until == "validate":
        return outcome
    place = do("publish", judgement.digest, lambda: publish(job, judgement))
    if isinstance(place, signoff.Request):
        outcome.awaits = place
    elif place.is_relative_to(job.workspace.root / "releases"):
        outcome.released = place
    else:
        outcome.blocked = place
    return outcome


def require_run(recipe: Recipe) -> None:
    """Hold that a recipe is one to `run`.

    Raises:
        RecipeError: it translates.
    """
    if recipe.translate is not None:
        raise RecipeError(
            f"recipe {recipe.name}: has a section translate, and a translation of a patient's image is never "
            "published. Use `phantomset translate`; candidates go through it by generate.through."
        )


def translate(job: Job, step: Step = _directly) -> translation.Translated:
    """Ingest, train the translator, translate the training part and the holdout, and measure the anatomy.

    Raises:
        InputError: as `run`; or the recipe has no section ``translate``.
        Interrupted: stopped from outside; the same command resumes.
    """
    translation.task_of(job.recipe)
    outcome = Outcome()
    cohort, split = _taken_in(job, outcome, step)

    def learn() -> tuple[Path, str, bool]:
        folder, fresh = translation.train(
            job.recipe, job.workspace, job.machine, cohort, split, job.watch.training
        )
        return folder, folder.name, fresh

    def apply() -> tuple[translation.Translated, str, bool]:
        made = translation.apply(job.recipe, job.workspace, job.machine, cohort, split)
        _keep_training(job, made.folder / "model", made.events)
        return made, made.name, True

    folder = _timed(job, outcome, step, "train", split.digest, learn)
    return _timed(job, outcome, step, "translate", folder.name, apply)


def _taken_in(job: Job, outcome: Outcome, step: Step) -> tuple[Cohort, Split]:
    """Run the first stage; wrong input leaves nothing behind."""
    with job.workspace.nothing_left_behind(keep=job.workspace.restricted("review", residue.HITS)):
        return _timed(job, outcome, step, "ingest", job.recipe.digest, lambda: ingest(job))


def ingest(job: Job) -> tuple[tuple[Cohort, Split], str, bool]:
    """Return the cohort and its split, with the cohort's digest and whether anything was read."""
    recipe, seen = job.recipe, 0
    (translation.require_family if recipe.translate else making.require_sampling)(recipe)
    making.require_size(recipe)

    def count(files: int) -> None:
        nonlocal seen
        seen = files
        job.watch.files(files)

    workers, duplicates = job.machine.workers, recipe.duplicates
    cohort, key = ingesting.ingest(
        recipe.source, recipe.image, recipe.deidentify, job.workspace, count, workers, duplicates
    )
    if recipe.translate is None:
        split = split_cohort(cohort, recipe.split, job.workspace)
    else:
        split = translation.split_of(recipe, cohort, job.workspace)
    # Not "where files were read now": a run that died before its search ended leaves a cohort like any other.
    if not cohorts.is_searched(job.workspace, key):
        review.write(job.workspace, cohort, split, key)
        residue.hold_clean(recipe, job.workspace, cohort, key)
    cohort, split = without_rare(recipe, conditioned(cohort, conditions_of(recipe)), split)
    (translation if recipe.translate else making).require_fit(recipe, cohort, split)
    translation.require_own(recipe, job.workspace, cohort, split)
    return (cohort, split), cohort.digest, seen > 0


def train(job: Job, cohort: Cohort, split: Split) -> tuple[Checkpoint, str, bool]:
    """Return the trained generator; a training that was interrupted goes on where it stopped."""
    checkpoint, made = making.train(job.recipe, job.workspace, job.machine, cohort, split, job.watch.training)
    _keep_training(job, making.checkpoint_folder(job.recipe, job.workspace, split), checkpoint.events)
    return checkpoint, checkpoint.digest, made


def _keep_training(job: Job, folder: Path, events: tuple[dict[str, Any], ...]) -> None:
    """Write a training's curve and its events into the run's own record."""
    job.ledger.keep_training(folder / "train.jsonl")
    for event in events:
        job.ledger.log("training", **event)


def generate(
    job: Job, cohort: Cohort, split: Split, checkpoint: Checkpoint
) -> tuple[SyntheticSet, str, bool]:
    """Return the labelled synthetic set."""
    synthetic, made = making.generate(job.recipe, job.workspace, job.machine, cohort, split, checkpoint)
    return synthetic, synthetic.digest, made


def validate(
    job: Job, cohort: Cohort, split: Split, checkpoint: Checkpoint, synthetic: SyntheticSet
) -> tuple[Judgement, str, bool]:
    """Return the judgement of the set, by the gate's rules and the record of earlier judgements."""
    learned, _ = making.learned_and_held_out(job.recipe, cohort, split)
    material = judging.Material(cohort, split, checkpoint, synthetic, learned)
    curve = making.curve(making.checkpoint_folder(job.recipe, job.workspace, split))
    judgement, made = judging.judge(job.recipe, job.workspace, material, curve, job.watch.say)
    job.ledger.log("verdict", status=judgement.verdict.status, suite=judgement.verdict.suite)
    if judgement.verdict.status == "FAIL":
        for sentence in standing.fallen(job.workspace, judging.failed_since()):
            job.watch.say(sentence)
    return judgement, judgement.digest, made


def publish(job: Job, judgement: Judgement) -> tuple[Path | signoff.Request, str, bool]:
    """Return the folder of the release, of the reasons where the verdict is not PASS and nothing is waived,
    or a request where people must sign first and have not."""
    request = request_of(job.recipe, judgement)
    draft = judgement.draft
    if judgement.verdict.status != "PASS":
        waived = waiver.held(job.workspace, request) if judgement.is_waivable else None
        if waived is None:
            if judgement.is_waivable:
                waiver.offer(job.workspace, request)
            return release.block(job.workspace, draft), judgement.digest, True
        job.ledger.log("waiver", until=waived.until)
        draft = replace(draft, waiver=waived)
    signed = signoff.given(job.workspace, request)
    if request.needed:
        job.ledger.log("sign-off", needed=request.needed, given=len(signed))
    if len(signed) < request.needed:
        signoff.ask(job.workspace, request)
        return request, judgement.digest, False
    judging.remember(judgement)  # before it leaves: a set on the record that never left does no harm
    made = release.publish(job.workspace, draft, job.ledger.folder.name if job.ledger.folder else "")
    return made.path, str(made.manifest["set"]), made.fresh


def request_of(recipe: Recipe, judgement: Judgement) -> signoff.Request:
    """Return what people are asked to sign, waive or answer: this verdict, on this set, under this recipe."""
    draft = judgement.draft
    about = digest_of("sign-off", judgement.verdict.digest, set_digest(draft.synthetic), draft.recipe_digest)
    needed = signoff.NEEDED[recipe.gate.sign_off]
    return signoff.Request(recipe.name, judgement.digest, about, needed, str(judgement.report))


def _timed(
    job: Job,
    outcome: Outcome,
    step: Step,
    stage: str,
    reference: str,
    work: Callable[[], tuple[Noun, str, bool]],
) -> Noun:
    """Run one stage, write down what it took, and return its noun."""
    job.watch.begin(stage)
    wall, cpu = time.monotonic(), time.process_time()
    noun, digest, made = step(stage, reference, work)
    entry = Entry(stage, digest, made, round(time.monotonic() - wall, 3), round(time.process_time() - cpu, 3))
    job.ledger.add(entry)
    outcome.entries.append(entry)
    job.watch.end(entry)
    return noun
