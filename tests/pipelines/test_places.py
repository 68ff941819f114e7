"""Workspace and lock; the paths that are kept back, and found again."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from phantomset.data.errors import RecipeError, SourceError, WorkspaceError
from phantomset.data.workspace import Workspace
from phantomset.pipelines import places
from phantomset.pipelines.recipe import Recipe


def test_a_workspace_made_for_wrong_input_goes_away(tmp_path: Path) -> None:
    """Nothing is left behind where there was nothing; what was there stays."""
    with pytest.raises(SourceError), places.held(tmp_path / "new"):
        raise SourceError("x")
    assert not (tmp_path / "new").exists()
    Workspace.open(tmp_path / "old")
    with pytest.raises(SourceError), places.held(tmp_path / "old"):
        raise SourceError("x")
    assert (tmp_path / "old" / "restricted").exists()


def test_a_new_workspace_that_holds_something_stays(tmp_path: Path) -> None:
    """An error after a stage has ended takes nothing away."""
    with pytest.raises(SourceError), places.held(tmp_path / "new") as workspace:
        workspace.restricted("cohorts", "a.json").write_text("{}")
        raise SourceError("x")
    assert (tmp_path / "new" / "restricted" / "cohorts" / "a.json").exists()


def test_what_a_killed_run_left_half_written_goes_away(tmp_path: Path) -> None:
    """Files and folders that a process writes before they are moved to their place, in restricted and runs:
    those of a process that is gone, or of our number, which begins. What one that lives writes stays, and so
    does everything whole.
    """
    ended = subprocess.Popen(["true"])
    ended.wait()
    gone = [f"cohorts/inputs/key/.searched.{ended.pid}.part", f"splits/.a.json.{os.getpid()}.part"]
    whole = [f"incoming/open-{'1' * 16}.pack", "incoming/0123456789abcdef/a.dcm", "splits/a.json"]
    whole += [f"findings/.a.json.{os.getppid()}.part", f"incoming/cohort-{os.getppid()}-0123abcd/a.json"]
    restricted = Workspace.open(tmp_path).root / "restricted"
    gone += [f"incoming/cohort-{ended.pid}-0123abcd/input/a.json", f"../runs/1/.a.yaml.{ended.pid}.part"]
    for name in (*gone, *whole):
        (restricted / name).parent.mkdir(parents=True, exist_ok=True)
        (restricted / name).write_text("{}")
    with places.held(tmp_path):
        assert [name for name in (*gone, *whole) if (restricted / name).exists()] == whole
    assert not (restricted / "incoming" / f"cohort-{ended.pid}-0123abcd").exists()


def test_a_second_run_is_told_who_holds_the_workspace(tmp_path: Path) -> None:
    """One run at a time; the message names the process."""
    with places.held(tmp_path), pytest.raises(WorkspaceError, match=f"in use by process {os.getpid()}"):  # noqa: SIM117
        with places.held(tmp_path):
            pass


def test_commands_that_look_make_no_workspace(tmp_path: Path) -> None:
    """`releases list` in the wrong folder says so and leaves it as it was."""
    with pytest.raises(WorkspaceError, match="there is none"):
        places.existing(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_kept_back_paths_are_found_in_the_workspace_that_served_them(
    tmp_path: Path, small: Callable[..., Recipe]
) -> None:
    """A scheduled run finds the paths in the workspace that served it; elsewhere it says so."""
    workspace = Workspace.open(tmp_path / "one")
    recipe = small(source={"format": "dicom", "path": "/hospital/ward-7"})
    places.remember(recipe, workspace)
    sent = Recipe.model_validate(recipe.without_paths().plain() | {"seed": 99})
    recalled = places.recall(sent, workspace)
    assert recalled.plain()["source"]["path"] == "/hospital/ward-7"
    assert recalled.seed == 99
    with pytest.raises(RecipeError, match="was kept back"):
        places.recall(sent, Workspace.open(tmp_path / "other"))


def test_a_recipe_that_names_its_paths_or_has_none_needs_no_memory(
    tmp_path: Path, small: Callable[..., Recipe]
) -> None:
    """It is returned as it is."""
    workspace = Workspace.open(tmp_path)
    for recipe in (small(), small(source={"format": "dicom", "path": "/hospital/ward-7"})):
        assert places.recall(recipe, workspace) == recipe
