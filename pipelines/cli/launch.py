"""From a command to a run: workspace and lock, machine, watcher, with or without the orchestrator."""

import contextlib
import os
import shutil
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from phantomset.data import inputs
from phantomset.data.digest import digest_of
from phantomset.data.errors import InputError
from phantomset.data.workspace import Workspace
from phantomset.pipelines import compute, stages
from phantomset.pipelines.cli import console
from phantomset.pipelines.ledger import RunLedger
from phantomset.pipelines.places import held, remember, require_writable, workspace_path
from phantomset.pipelines.recipe import Recipe
from phantomset.pipelines.recipes import recipe_file
from phantomset.pipelines.recipes.recipe_file import RecipeFile
from phantomset.pipelines.releases import terms
from phantomset.pipelines.stages import Job, Outcome, Stage, Watch, require_run
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
        return runner(machinery.plain, job.workspace).run(job, until), job.workspace, job.ledger


def translate(chosen: RecipeFile, machinery: Machinery, watch: Watch) -> translation.Translated:
    """Run the translation of a recipe and return what it made; all of it restricted.

    Raises:
        InputError: as `launch`; or the recipe has no section ``translate``.
        Interrupted: stopped from outside; the same command resumes.
    """
    with _job(chosen, machinery, watch, is_published=False) as job:
        return runner(machinery.plain, job.workspace).translate(job)


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


def runner(plain: bool, workspace: Workspace) -> ModuleType:
    """Return whose ``run`` and ``translate`` run the stages: plain functions, or the same under Prefect."""
    if plain:
        return stages
    compute.quiet_prefect(workspace.root / "prefect")
    from phantomset.pipelines import flows

    return flows


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


def require_sound(recipe: Recipe, until: Stage | Literal["translate"]) -> None:
    """Hold what can be told of a recipe before anything is opened or made.

    Raises:
        InputError: a run up to that stage, or a translation, would be refused.
    """
    if until == "translate" or (until == "ingest" and recipe.translate is not None):
        translation.require_family(recipe)
    else:
        require_run(recipe)
        making.require_sampling(recipe)
    if until == "publish":
        terms.require(recipe.publish.model_dump())
    making.require_size(recipe)
    inputs.require(recipe.source)


def dry_run(
    chosen: RecipeFile, machinery: Machinery, until: Stage | Literal["translate"] = "publish"
) -> dict[str, str]:
    """Check recipe, source, machine and workspace without making anything, and say what a run would take.

    Files are not opened: what is in them, such as classes, is checked before a training.

    Args:
        chosen: the recipe.
        machinery: on what.
        until: the last stage, or that it is for `translate`.

    Raises:
        InputError: something is wrong, as `launch` or `translate` would find.
    """
    recipe = chosen.recipe
    require_sound(recipe, until)
    machine = compute.choose(machinery.device, machinery.threads, machinery.workers)
    place = workspace_path(machinery.workspace)
    require_writable(place)
    if recipe.generate.through is not None:
        translation.require_there(Workspace(place), recipe.generate.through)
    answer = {
        "recipe": f"{recipe.name} ({recipe.digest[:12]})",
        "device": f"{machine.device}, {machine.threads} threads",
    }
    if until != "ingest":
        answer |= _estimate(recipe, machine, is_drawn=until not in ("train", "translate"))
    return answer | {"workspace": str(place)}


def _estimate(recipe: Recipe, machine: compute.Machine, is_drawn: bool) -> dict[str, str]:
    """Return what a training takes, and the set where one is drawn: time, memory, disk."""
    probe = needs.probe(recipe, machine)
    speed = probe.images_per_second
    images = making.images_to_show(recipe, speed)
    seconds = needs.training_seconds(recipe, probe, images)
    count, spec = recipe.generate.count, recipe.image.spec
    # The set as arrays, twice in a release, and reports; checkpoints of the members, one of which trains.
    made = 3 * count * spec.channels * spec.height * spec.width if is_drawn else 0
    checkpoints = needs.checkpoints_on_disk(needs.most_members(recipe, images)) * probe.state_bytes
    answer = {"training": f"{images:,} images at about {speed:,.0f} images/s: {console.duration(seconds)}"}
    if is_drawn:
        answer["set"] = f"{count:,} images of {spec.shape}: {console.duration(count * probe.draw_seconds)}"
    also = " and its translations" if recipe.translate is not None else ""
    return answer | {
        "memory": f"about {round(probe.peak_bytes / 1e6):,} MB while training, and the cohort's pixels",
        "disk": f"about {round((made + 5e6 + checkpoints) / 1e6):,} MB besides the cohort{also}",
    }


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
    require_sound(chosen.recipe, "publish" if chosen.recipe.translate is None else "translate")
    workspace = Workspace.open(workspace_path(machinery.workspace))
    remember(chosen.recipe, workspace)
    compute.quiet_prefect(None)
    from phantomset.pipelines import flows

    flows.serve(chosen.recipe, cron, workspace.root, machinery.device)
