"""What `phantomset generate` may be asked for besides a recipe: content in words, and pictures to look at."""

import json
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from phantomset.data.errors import ModelError, RecipeError, WorkspaceError
from phantomset.data.seeds import seed_of
from phantomset.data.workspace import Workspace, write_atomically
from phantomset.pipelines.compute import Machine
from phantomset.pipelines.recipe import Recipe
from phantomset.pipelines.stages import Outcome
from phantomset.pipelines.synthesis import sets, translation

if TYPE_CHECKING:
    from phantomset.ganmodels.generate import Look

COLUMNS = 10


def overrides(
    where: str | None, count: int | None, truncation: float | None, seed: int | None = None
) -> list[str]:
    """Return the options as overrides of the recipe, so that they are checked and recorded like any.

    Raises:
        RecipeError: ``where`` is not written ``condition=value, condition=value``.
    """
    given: list[str] = []
    if where is not None:
        # A comma before the next condition: a class may have one in its name.
        pairs = [part.partition("=") for part in re.split(r",(?=[^,=]+=)", where)]
        wanted = {key.strip(): value.strip() for key, _, value in pairs}
        is_once = len({key.casefold() for key in wanted}) == len(pairs)
        if not all(key and value for key, value in wanted.items()) or not is_once:
            raise RecipeError(
                f'--where {where!r}: write CONDITION=VALUE, each once, such as "label=pneumonia, view=PA"'
            )
        given.append(f"generate.where={json.dumps(wanted)}")
    numbers = {"count": count, "truncation": truncation, "seed": seed}
    given += [f"generate.{name}={value}" for name, value in numbers.items() if value is not None]
    return given


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is to be drawn.

    Attributes:
        grid: the first images of each class of the set.
        towards: another seed: each row goes from the noise of the recipe's seed to that of this one.
        fine: another seed, whose fine styles the images take, where the family mixes styles: those on the way
            where ``towards`` is given too, else the first images of each class.
    """

    grid: bool = False
    towards: int | None = None
    fine: int | None = None

    def require(self, recipe: Recipe) -> None:
        """Hold, before anything is trained, that the family can do what is to be drawn.

        Raises:
            ModelError: it mixes no styles.
        """
        from phantomset.data import catalogue

        family = recipe.model.family
        if self.fine is not None and not catalogue.load("phantomset.ganmodels.families", family).mixes_styles:
            raise ModelError(
                f"--fine: {family} mixes no styles. Leave it out, or use model.family stylegan2."
            )

    def draw(self, recipe: Recipe, workspace: Workspace, machine: Machine, outcome: Outcome) -> list[Path]:
        """Return the pictures drawn: in the restricted part, since no gate has seen them.

        Raises:
            WorkspaceError: they cannot be written.
        """
        if outcome.synthetic is None or outcome.checkpoint_folder is None:
            return []
        made = sets.load_images(workspace, outcome.synthetic)
        present = np.unique(made.labels)
        folder, pictures = workspace.restricted("pictures"), dict[str, np.ndarray]()
        if self.grid:
            pictures["grid"] = np.concatenate([_row(made.images[made.labels == label]) for label in present])
        drawn = partial(self._drawn, recipe, workspace, machine, outcome.checkpoint_folder)
        if self.towards is not None:
            columns = [drawn(present, float(share)) for share in np.linspace(0, 1, COLUMNS)]
            words = f"towards-{self.towards}" + ("" if self.fine is None else f"-fine-{self.fine}")
            pictures[words] = np.stack(columns, axis=1).reshape(-1, *columns[0].shape[1:])
        elif self.fine is not None:
            pictures[f"fine-{self.fine}"] = drawn(np.repeat(present, COLUMNS), 0.0)
        return [
            _written(folder, f"{outcome.synthetic.digest[:16]}-{name}", images)
            for name, images in pictures.items()
        ]

    def _drawn(
        self,
        recipe: Recipe,
        workspace: Workspace,
        machine: Machine,
        checkpoint: Path,
        labels: np.ndarray,
        share: float,
    ) -> np.ndarray:
        """Return an image for each label, made as the set's are, a share of the way to the other seed."""
        from phantomset.ganmodels.generate import generate

        seed, through = seed_of(recipe.drawn_by, "generate"), recipe.generate.through
        images = generate(checkpoint, labels, seed, machine.device, self._look(recipe, share))
        return images if through is None else translation.through(workspace, through, images, machine.device)

    def _look(self, recipe: Recipe, share: float) -> "Look":
        """Return how noise becomes images, a share of the way to the other seed."""
        from phantomset.ganmodels.generate import Look

        def root(seed: int | None) -> int | None:
            return None if seed is None else seed_of(seed, "generate")

        return Look(recipe.generate.truncation, root(self.towards), share, root(self.fine))


def _row(images: np.ndarray) -> np.ndarray:
    """Return the first images of a class, a whole row of them; what is missing stays empty."""
    from phantomset.ganmodels.grid import GROUND

    row = np.full((COLUMNS, *images.shape[1:]), GROUND, np.uint8)
    row[: len(images)] = images[:COLUMNS]
    return row


def _written(folder: Path, name: str, images: np.ndarray) -> Path:
    from phantomset.ganmodels.grid import contact_sheet

    path = folder / f"{name}.png"
    try:
        write_atomically(path, contact_sheet(images, COLUMNS), mode=0o600)
    except OSError as error:
        raise WorkspaceError(f"pictures: cannot write to {folder} ({error.strerror})") from None
    return path
