"""Images turned into others: restored, or harmonised to another domain, and measured for changed anatomy.

A translation of a patient's image is that patient's image. It stays in the restricted part, and may feed
training; nothing here publishes. What may be published is a translation of a synthetic candidate:
``generate.through`` puts it between sampling and the gate, and the gate judges what comes out. It looks for
copies of the images that the recipe's generator learned from, so a translator may have learned from no other.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, cast

import numpy as np

from phantomset.data.digest import digest_of
from phantomset.data.errors import ModelError, SplitError, WorkspaceError
from phantomset.data.records import Cohort, ImageSet, Split
from phantomset.data.seeds import seed_of
from phantomset.data.splitting.split import split as split_cohort
from phantomset.data.store.training_cache import image_set
from phantomset.data.workspace import Workspace, write_atomically, write_json
from phantomset.pipelines.compute import Machine
from phantomset.pipelines.recipe import Recipe, TranslateSettings
from phantomset.pipelines.synthesis import making
from phantomset.pipelines.synthesis.translation_sets import PAIR, sources, training_set, watching_set
from phantomset.pipelines.versions import code_digest

LEARNED = "learned.json"
"""In the folder of a translation: the split, and the positions of the records that were learned from."""

KEPT_FLOOR = 0.5
"""Share of the agreement between an image and its own translation, beyond that of strangers, under which the
user is warned: half of what could be kept is gone. A rule of thumb, no proof that less is safe."""

CHANGED = (
    "anatomy changed: edges of the translations agree too little with those of their sources. Findings may "
    "be invented or removed, so labels no longer hold; look at the pictures before you use them."
)
WORSE = (
    "worse than before: edges of the translations agree less with the truth than those of their sources did. "
    "Train longer, or bring more images; look at the pictures before you use them."
)


@dataclasses.dataclass(frozen=True, slots=True)
class Translated:
    """What a translation run made.

    Attributes:
        name: of its folder under ``restricted/translations``; what ``generate.through`` takes.
        folder: that folder: the model, ``translations.npz`` (images, labels, patients), a picture, figures.
        count: images translated.
        figures: medians over the holdout's images.
        events: of the training, oldest first.
        warning: what the user must know; None where anatomy was kept, or came nearer to the truth.
    """

    name: str
    folder: Path
    count: int
    figures: dict[str, float]
    events: tuple[dict[str, Any], ...]
    warning: str | None

    @property
    def is_given_up(self) -> bool:
        """Whether the training was given up: nothing may go through it."""
        return any(event["code"] == "given-up" for event in self.events)


def task_of(recipe: Recipe) -> TranslateSettings:
    """Return the section ``translate``.

    Raises:
        ModelError: the recipe has none.
    """
    if recipe.translate is None:
        raise ModelError(
            f"translate: recipe {recipe.name} has no section translate. Add one, such as "
            "translate: {task: denoise}; see docs/how-to/translate-images.md"
        )
    return recipe.translate


def split_of(recipe: Recipe, cohort: Cohort, workspace: Workspace) -> Split:
    """Return the split that a run has, so that its candidates may go through what is learned here.

    Where every patient has images of both sides of a pair no run can split the cohort by class. It is then
    split as one class.
    """
    try:
        return split_cohort(cohort, recipe.split, workspace)
    except SplitError:
        records = tuple(dataclasses.replace(record, label=0) for record in cohort.records)
        mixed = dataclasses.replace(cohort, records=records, label_names=("image",))
        return split_cohort(mixed, recipe.split, workspace)


def require_family(recipe: Recipe) -> None:
    """Hold, before anything is read, that the family is one for the task.

    Raises:
        ModelError: it is not, or the recipe has no section ``translate``.
    """
    task = task_of(recipe).task
    wanted = "cyclegan" if task == "domains" else "pix2pix"
    if recipe.model.family != wanted:
        raise ModelError(f"translate.task {task} takes model.family {wanted}, not {recipe.model.family}.")


def require_fit(recipe: Recipe, cohort: Cohort, split: Split) -> None:
    """Hold, before anything is trained, that task, family and cohort fit one another.

    Raises:
        ModelError: they do not.
    """
    from phantomset.ganmodels import engine

    task = task_of(recipe)
    # The engine asks for labels and shapes only; a broadcast zero has the shape and no memory.
    shape, count = cohort.spec.shape, len(split.train)
    labels = np.array([cohort.records[position].label for position in split.train], dtype=np.int64)
    blank = np.broadcast_to(np.uint8(0), (count, *shape))
    pairs = _pairs(cohort, split.train)
    seen = ImageSet(blank, labels, np.zeros_like(labels), cohort.label_names, pairs)
    if task.task in ("denoise", "upscale"):
        stacked = np.broadcast_to(np.uint8(0), (count, 2 * shape[0], *shape[1:]))
        learn = ImageSet(stacked, np.zeros_like(labels), seen.patients, ("pair",))
    else:
        learn = training_set(task, seen)
    engine.check(learn, recipe.model.family, making.settings_of(recipe), making.asked(recipe, None, split))


def _folder(recipe: Recipe, workspace: Workspace, split: Split) -> Path:
    """Return where the translation of this recipe on this split lies, finished or not."""
    key = digest_of(
        "translate", code_digest("ganmodels"), split.digest, recipe.model, recipe.translate, recipe.seed
    )
    return workspace.restricted("translations", key[: making.NAME])


def train(
    recipe: Recipe,
    workspace: Workspace,
    machine: Machine,
    cohort: Cohort,
    split: Split,
    watch: Callable[[Any], None],
) -> tuple[Path, bool]:
    """Train the translator; return its folder, and whether it was trained now.

    It learns from what a run of the recipe learns from, and what such a run holds out watches its critics.

    Raises:
        ModelError: the family cannot train on this data.
        WorkspaceError: the results cannot be written.
    """
    task, folder = task_of(recipe), _folder(recipe, workspace, split)
    learned, held = making.learned_and_held_out(recipe, cohort, split)
    _note(folder, {"split": split.digest, "learned": learned})
    learn = training_set(task, image_set(workspace, cohort, learned))
    watching = watching_set(task, image_set(workspace, cohort, held)) if held else None
    return folder, _train(recipe, machine, split, (learn, watching), folder / "model", watch)


def apply(recipe: Recipe, workspace: Workspace, machine: Machine, cohort: Cohort, split: Split) -> Translated:
    """Translate the training part and the holdout by the trained translator, and measure what changed.

    Raises:
        ModelError: it is not trained, or damaged.
        WorkspaceError: the results cannot be written.
    """
    task, folder = task_of(recipe), _folder(recipe, workspace, split)
    _, held = making.learned_and_held_out(recipe, cohort, split)
    is_watched = bool(held) and watching_set(task, image_set(workspace, cohort, held)) is not None
    parts = [image_set(workspace, cohort, part) for part in (split.train, split.holdout)]
    shown = [sources(task, part) for part in parts]
    made = [_translate(recipe, machine, folder / "model", part) for part, _ in shown]
    figures = measure(shown[1][0].images, made[1], shown[1][1])
    _store(folder, [part for part, _ in shown], made, figures)
    events = (*(() if is_watched else (making.not_watched(),)), *_events(folder))
    count = sum(len(each) for each in made)
    return Translated(folder.name, folder, count, figures, events, warning_of(figures))


def warning_of(figures: dict[str, float]) -> str | None:
    """Return what to warn of, by the figures that `measure` gave; None where all is well."""
    if "edges_before" in figures:
        return WORSE if figures["edges_after"] < figures["edges_before"] else None
    return CHANGED if figures["edges_kept"] < KEPT_FLOOR else None


def _train(
    recipe: Recipe,
    machine: Machine,
    split: Split,
    sets: tuple[ImageSet, ImageSet | None],
    folder: Path,
    watch: Callable[[Any], None],
) -> bool:
    """Train on the first of the sets while the second watches; return whether it was not done before."""
    from phantomset.ganmodels import checkpoint, engine

    if checkpoint.is_finished(folder):
        checkpoint.require_run(folder, **making.run_of(recipe, split))
        return False
    images, watching = sets
    plan = making.plan_of(recipe, machine, images, folder, split)
    progress = engine.train(
        images, recipe.model.family, making.settings_of(recipe), plan, folder, machine.device, watching
    )
    with contextlib.closing(cast("Generator[Any]", progress)):
        for step in progress:
            watch(step)
    return True


def _events(folder: Path) -> tuple[dict[str, Any], ...]:
    """Return what befell the finished training of a translation."""
    from phantomset.ganmodels.checkpoint import finished_checkpoint

    return finished_checkpoint(folder / "model").events


def _note(folder: Path, learned: dict[str, Any]) -> None:
    """Write down which records the translator learns from, before it does."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        write_json(folder / LEARNED, learned, mode=0o600)
    except OSError as error:
        raise _unwritable(folder, error) from None


def _unwritable(folder: Path, error: OSError) -> WorkspaceError:
    return WorkspaceError(f"translations: cannot write to {folder} ({error.strerror}). Free space there.")


def _translate(recipe: Recipe, machine: Machine, folder: Path, part: ImageSet) -> np.ndarray:
    from phantomset.ganmodels.translate import translate

    return translate(
        folder, part.images, from_source(part.images), seed_of(recipe.seed, "translate"), machine.device
    )


def from_source(images: np.ndarray) -> np.ndarray:
    """Return, for each image, the domain that it comes from, ``(N,) int64``: the first, the source's."""
    return np.zeros(len(images), np.int64)


def _pairs(cohort: Cohort, positions: tuple[int, ...]) -> dict[str, np.ndarray]:
    keys = [cohort.records[position].attributes.get(PAIR, "") for position in positions]
    return {PAIR: np.array(keys, dtype=np.str_)} if any(keys) else {}


def measure(source: np.ndarray, made: np.ndarray, truth: np.ndarray | None) -> dict[str, float]:
    """Return how far anatomy was kept: medians over images ``(N, C, H, W)`` uint8.

    ``edges`` and ``structure`` compare source and translation; ``edges_kept`` is that agreement beyond the
    agreement with a stranger's translation, 1 for all. With a truth, ``*_before`` and ``*_after`` compare
    source and translation with it.
    """
    from phantomset.validators.measures.agreement import edges, structure

    own, strange = np.median(edges(source, made)), np.median(edges(source, np.roll(made, 1, axis=0)))
    figures = {
        "edges": own,
        "structure": np.median(structure(source, made)),
        "edges_kept": (own - strange) / max(1 - strange, 1e-9),
    }
    if truth is not None:
        for name, measured in (("edges", edges), ("structure", structure)):
            figures[f"{name}_before"] = np.median(measured(source, truth))
            figures[f"{name}_after"] = np.median(measured(made, truth))
    return {name: round(float(value), 4) for name, value in figures.items()}


def _store(folder: Path, parts: list[ImageSet], made: list[np.ndarray], figures: dict[str, float]) -> None:
    from phantomset.ganmodels.grid import contact_sheet

    try:
        path = folder / "translations.npz"
        np.savez(
            path,
            images=np.concatenate(made),
            labels=np.concatenate([part.labels for part in parts]),
            patients=np.concatenate([part.patients for part in parts]),
            label_names=np.array(parts[0].label_names, dtype=np.str_),
        )
        path.chmod(0o600)
        shown = np.concatenate([parts[1].images[:10], made[1][:10]])
        write_atomically(folder / "pictures.png", contact_sheet(shown, len(shown) // 2), mode=0o600)
        write_json(folder / "figures.json", figures, mode=0o600)
    except OSError as error:
        raise _unwritable(folder, error) from None


def require_there(workspace: Workspace, name: str) -> None:
    """Hold that the translation of ``generate.through`` was made in this workspace.

    Raises:
        ModelError: it was not.
    """
    if not (workspace.restricted("translations", name) / LEARNED).exists():
        raise ModelError(
            f"generate.through: no translation {name!r} in this workspace. `phantomset translate RECIPE` "
            "prints the name of what it made."
        )


def require_own(recipe: Recipe, workspace: Workspace, cohort: Cohort, split: Split) -> None:
    """Hold that the translator of ``generate.through`` learned from nobody whom the gate would not look for.

    Raises:
        ModelError: there is no such translation, its training was given up, or it learned from images that
            this recipe's generator does not learn from.
    """
    name = recipe.generate.through
    if name is None:
        return
    folder = workspace.restricted("translations", name)
    require_there(workspace, name)
    try:
        noted = json.loads((folder / LEARNED).read_bytes())
        own, positions = noted["split"] == split.digest, {int(each) for each in noted["learned"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(
            f"generate.through: {folder / LEARNED} cannot be read. Remove its folder and translate anew."
        ) from None
    strangers = positions.difference(making.learned_and_held_out(recipe, cohort, split)[0])
    if not own or strangers:
        raise ModelError(
            f"generate.through: translation {name} learned from images that this recipe does not learn from, "
            "and the gate would not look for them. Translate with the same source, image, split, "
            "model.held_out_share, model.conditions, model.rare and seed."
        )
    if any(event["code"] == "given-up" for event in _events(folder)):
        raise ModelError(
            f"generate.through: the training of translation {name} was given up. Translate anew with more "
            "images, or smaller steps."
        )


def through(workspace: Workspace, name: str, images: np.ndarray, device: str) -> np.ndarray:
    """Return synthetic candidates ``(N, C, H, W)`` uint8 translated by a finished translation run.

    Every candidate is taken for an image of the source's domain, whatever its class: classes are no domains.

    Raises:
        ModelError: the run is not finished, or its images have another shape.
    """
    from phantomset.ganmodels.translate import translate

    folder = workspace.restricted("translations", name) / "model"
    return translate(folder, images, from_source(images), 0, device)
