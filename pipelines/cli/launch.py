"""From a command to a run: workspace and lock, machine, watcher, with or without the orchestrator."""

import contextlib
import os
import shutil
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from phantomset.data import inputs
from phantomset.data.digest import digest_of
from phantomset.data.errors import InputError
from phantomset.data.workspace import Workspace
from phantomset.pipelines import compute, stages
from phantomset.pipelines.cli import console
from phantomset.pipelines.ledger import RunLedger
from phantomset.pipelines.places import held, remember, require_writable, workspace_path
from phantomset.pipelines.recipes import recipe_file
from phantomset.pipelines.recipes.recipe_file import RecipeFile
from phantomset.pipelines.releases import terms
from phantomset.pipelines.stages import Job, Outcome, Stage, Watch, require_run, run
from phantomset.pipelines.synthesis import making, needs, translation

DEMO_PATIENTS = 2_800
"""Patients of the demo's phantom cohort: at the default split, 1,120 each in train and holdout."""

LEAKY_SEED_OFFSET = 1_000_000
"""The leaky demo has other patients than the demo of the same seed: its FAIL must not stick to them."""


@dataclass(frozen=True, slots=True)
class Machinery:
    """What belongs to the machine and the caller, not to the recipe."""

    workspace: Path | None = None
    device: str = "auto"
    threads: int | None = None
    plain: bool = False
    workers: str | None = None


def launch(
    chosen: RecipeFile, machinery: Machinery, watch: Watch, until: Stage = "publish"
) -> tuple[Outcome, Workspace, RunLedger]:
    """Run a recipe up to a stage and return what it made, where, and the ledger of the run.

    Raises:
        InputError: the input, the recipe, the machine or the workspace is wrong; nothing new is left behind.
        Interrupted: stopped from outside; the same command resumes.
    """
    with _job(chosen, machinery, watch, is_published=until == "publish") as job:
        return runner(machinery.plain, job.workspace)(job, until), job.workspace, job.ledger


def translate(chosen: RecipeFile, machinery: Machinery, watch: Watch) -> translation.Translated:
    """Run the translation of a recipe and return what it made; all of it restricted.

    Raises:
        InputError: as `launch`; or the recipe has no section ``translate``.
        Interrupted: stopped from outside; the same command resumes.
    """
    with _job(chosen, machinery, watch, is_published=False) as job:
        return stages.translate(job)


@contextlib.contextmanager
def _job(chosen: RecipeFile, machinery: Machinery, watch: Watch, is_published: bool) -> Generator[Job]:
    """Open everything that a run needs, and hold the workspace's lock."""
    recipe = chosen.recipe
    inputs.require(recipe.source)  # a missing or empty source is told before a workspace is made
    if is_published:
        terms.require(recipe.publish.model_dump())  # told before hours of training, not after
    machine = compute.choose(machinery.device, machinery.threads, machinery.workers)
    with held(machinery.workspace) as workspace:
        yield Job(recipe, workspace, machine, RunLedger(workspace, recipe, chosen.overridden), watch)


def runner(plain: bool, workspace: Workspace) -> Callable[[Job, Stage], Outcome]:
    """Return what runs the stages: plain functions, or the same functions under Prefect."""
    if plain:
        return run
    compute.quiet_prefect(workspace.root / "prefect")
    from phantomset.pipelines import flows

    return flows.run


def demo_recipe(leaky: bool, seed: int | None, overrides: Sequence[str], machinery: Machinery) -> RecipeFile:
    """Return the demo's recipe; its phantom cohort is written first, where that was not done before.

    The phantoms lie as DICOM files under ``restricted/incoming/`` and are ingested like any others.
    """
    from phantomset.data.phantoms.cohort import write_phantoms

    name = "phantom-leaky" if leaky else "phantom"
    given = [f"seed={seed}", *overrides] if seed is not None else list(overrides)
    recipe = recipe_file.read(name, given).recipe
    phantom_seed = recipe.seed + (LEAKY_SEED_OFFSET if leaky else 0)
    with held(machinery.workspace) as workspace:
        folder = workspace.restricted("incoming", digest_of("phantoms", DEMO_PATIENTS, phantom_seed)[:16])
        if not folder.exists():
            part = folder.with_name(f"{folder.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            write_phantoms(part, DEMO_PATIENTS, phantom_seed)
            part.rename(folder)  # the name is the mark that the cohort is complete
    return recipe_file.read(name, [*given, f"source.path={folder}"])


def dry_run(chosen: RecipeFile, machinery: Machinery, translates: bool = False) -> dict[str, str]:
    """Check recipe, source, machine and workspace without making anything, and say what a run would take.

    Files are not opened: what is in them, such as classes, is checked before a training.

    Args:
        chosen: the recipe.
        machinery: on what.
        translates: for `translate`, not for `launch`.

    Raises:
        InputError: something is wrong, as `launch` would find.
    """
    recipe = chosen.recipe
    if translates:
        translation.require_family(recipe)
    else:
        require_run(recipe)
        making.require_sampling(recipe)
        terms.require(recipe.publish.model_dump())
    making.require_size(recipe)
    inputs.require(recipe.source)
    machine = compute.choose(machinery.device, machinery.threads, machinery.workers)
    place = workspace_path(machinery.workspace)
    require_writable(place)
    probe = needs.probe(recipe, machine)
    speed = probe.images_per_second
    images = making.images_to_show(recipe, speed)
    seconds = needs.training_seconds(recipe, probe, images)
    drawing = recipe.generate.count * probe.draw_seconds
    pixels = recipe.image.spec.channels * recipe.image.spec.height * recipe.image.spec.width
    # The set as arrays, twice in a release, and reports; checkpoints of the members, one of which trains.
    checkpoints = needs.checkpoints_on_disk(needs.most_members(recipe, images)) * probe.state_bytes
    made = 0 if translates else 3 * recipe.generate.count * pixels
    disk = made + 5e6 + checkpoints
    answer = {
        "recipe": f"{recipe.name} ({recipe.digest[:12]})",
        "device": f"{machine.device}, {machine.threads} threads",
        "training": f"{images:,} images at about {speed:,.0f} images/s: {console.duration(seconds)}",
        "set": f"{recipe.generate.count:,} images of {recipe.image.spec.shape}: {console.duration(drawing)}",
        "memory": f"about {round(probe.peak_bytes / 1e6):,} MB while training, and the cohort's pixels",
        "disk": f"about {round(disk / 1e6):,} MB besides the cohort{' and its translations' * translates}",
        "workspace": str(place),
    }
    if translates:
        del answer["set"]
    return answer


def serve(chosen: RecipeFile, cron: str, machinery: Machinery) -> None:
    """Run a recipe on a schedule, by Prefect, until interrupted.

    Raises:
        InputError: no Prefect server is named, or the schedule, the recipe or the workspace is wrong.
    """
    if "PREFECT_API_URL" not in os.environ:
        raise InputError(
            "serve: needs a Prefect server that outlives a run. Start one with `prefect server start`, and "
            "set PREFECT_API_URL to its address, such as http://127.0.0.1:4200/api"
        )
    inputs.require(chosen.recipe.source)
    workspace = Workspace.open(workspace_path(machinery.workspace))
    remember(chosen.recipe, workspace)
    compute.quiet_prefect(None)
    from phantomset.pipelines import flows

    flows.serve(chosen.recipe, cron, workspace.root, machinery.device)
