"""Synthetic sets as they lie in the restricted part of a workspace, each in a folder of its own."""

import contextlib
import json
import os
import secrets
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np

from phantomset.data.errors import WorkspaceError
from phantomset.data.records import ImageSet, SyntheticSet
from phantomset.data.workspace import Workspace, write_json
from phantomset.pipelines.draft import set_digest


def store(workspace: Workspace, folder: Path, made: ImageSet, noun: SyntheticSet) -> None:
    """Write a set beside its place and move it there whole."""
    staging = workspace.restricted("incoming", f"set-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        staging.mkdir(mode=0o700)
        np.save(staging / "images.npy", made.images, allow_pickle=False)
        np.save(staging / "labels.npy", made.labels, allow_pickle=False)
        write_json(staging / "set.json", asdict(noun), mode=0o600)
        staging.replace(folder)
    except OSError as error:
        raise WorkspaceError(
            f"synthetic: cannot write to {folder.parent} ({error.strerror}). "
            "Free some space or mend the permissions, or choose another --workspace."
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def load_noun(folder: Path) -> SyntheticSet:
    """Return the noun of a stored set.

    Raises:
        WorkspaceError: it is missing or damaged.
    """
    try:
        content = json.loads((folder / "set.json").read_bytes())
        return SyntheticSet(**content | {"label_names": tuple(content["label_names"])})
    except (OSError, ValueError, KeyError, TypeError):
        raise WorkspaceError(
            f"synthetic: {folder / 'set.json'} is missing or damaged. Move that folder away and run again."
        ) from None


def load_images(workspace: Workspace, noun: SyntheticSet) -> ImageSet:
    """Return the images of a synthetic set.

    Raises:
        WorkspaceError: they are not in the workspace, or no longer give the set's digest.
    """
    for stored in workspace.restricted("synthetic").glob("*/set.json"):
        # Of the sets that are not asked for, a damaged one is nobody's concern here.
        with contextlib.suppress(WorkspaceError, OSError, ValueError, EOFError):
            if load_noun(stored.parent).digest == noun.digest:
                images = np.load(stored.parent / "images.npy", allow_pickle=False)
                labels = np.load(stored.parent / "labels.npy", allow_pickle=False)
                found = ImageSet(images, labels, np.full(len(labels), -1, dtype=np.int64), noun.label_names)
                if set_digest(found) == noun.digest:
                    return found
    raise WorkspaceError(
        f"synthetic: the set {noun.digest[:12]} is missing or damaged in {workspace.root}. "
        "Move its folder in restricted/synthetic away and run again."
    )
