"""Where things lie on this machine: the workspace, and the paths of a source that are kept back elsewhere."""

import contextlib
import json
import os
import shutil
from collections.abc import Generator
from pathlib import Path

from phantomset.data.digest import digest_of
from phantomset.data.errors import InputError, RecipeError, WorkspaceError
from phantomset.data.workspace import Workspace, write_json
from phantomset.pipelines.recipe import Recipe


def workspace_path(root: Path | None) -> Path:
    """Return where the workspace lies or will lie."""
    return (root or Path(os.environ.get("PHANTOMSET_WORKSPACE", "phantomset-workspace"))).absolute()


def near(place: Path | None) -> str:
    """Return a path as a person would type it: from the working folder, where it lies below."""
    if place is None:
        return "-"
    return str(place.relative_to(Path.cwd())) if place.is_relative_to(Path.cwd()) else str(place)


@contextlib.contextmanager
def held(root: Path | None) -> Generator[Workspace]:
    """Open the workspace and hold its lock; one that was made for input that is wrong goes away again.

    Raises:
        WorkspaceError: it cannot be made or written, or another run holds it.
    """
    path = workspace_path(root)
    is_new = not path.exists()
    workspace = Workspace.open(path)
    try:
        with workspace.lock():
            yield workspace
    except InputError:
        if is_new and not any((workspace.root / "restricted").rglob("*.*")):
            shutil.rmtree(workspace.root, ignore_errors=True)
        raise


def existing(root: Path | None) -> Workspace:
    """Return a workspace that is there already; a command that only looks makes none.

    Raises:
        WorkspaceError: there is none.
    """
    path = workspace_path(root)
    if not (path / "releases").is_dir():
        raise WorkspaceError(
            f"workspace: there is none at {path}. Name it with --workspace, or run a recipe first."
        )
    return Workspace(path)


def require_writable(path: Path) -> None:
    """Hold that a workspace could be made or written there, without making it.

    Raises:
        WorkspaceError: it could not.
    """
    nearest = next(parent for parent in (path, *path.parents) if parent.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        raise WorkspaceError(f"workspace: cannot write to {nearest}. Choose another with --workspace.")


def remember(recipe: Recipe, workspace: Workspace) -> None:
    """Keep a recipe's source, with its paths, in the restricted part: a scheduled run finds it there."""
    write_json(_place(recipe, workspace), recipe.source.model_dump(mode="json"), mode=0o600)


def recall(recipe: Recipe, workspace: Workspace) -> Recipe:
    """Return the recipe with the paths that were kept back; one that names its paths is returned as it is.

    Raises:
        RecipeError: the paths were never kept in this workspace.
    """
    if recipe.without_paths() != recipe:
        return recipe
    place = _place(recipe, workspace)
    if place.exists():
        plain = recipe.plain() | {"source": json.loads(place.read_bytes())}
        return Recipe.model_validate(plain)
    if recipe.source.model_dump().get("path") is None:  # a source without paths, such as the digits
        return recipe
    raise RecipeError(
        "source.path: was kept back, and this workspace does not know the source. Give the path in the "
        "recipe, or serve the recipe from this workspace (`phantomset serve`)."
    )


def _place(recipe: Recipe, workspace: Workspace) -> Path:
    name = digest_of("source", recipe.without_paths().plain()["source"])[:16]
    return workspace.restricted("incoming", f"source-{name}.json")
