"""What leaves the house, and what is blocked: written beside its place, checked, moved there in one step."""

import contextlib
import difflib
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phantomset.data import catalogue
from phantomset.data.digest import digest_of
from phantomset.data.errors import PhantomsetError, ReleaseError
from phantomset.data.workspace import Workspace, write_json
from phantomset.pipelines import manifest, report
from phantomset.pipelines.card import Portion, card
from phantomset.pipelines.draft import Counts, Draft, set_digest
from phantomset.pipelines.publisher import About, Publisher, class_folders, divided
from phantomset.pipelines.redact import public_recipe, source_places

__all__ = ["Counts", "Draft", "Release", "block", "list_releases", "publish", "set_digest", "show", "verify"]

PUBLISHERS = "phantomset.pipelines.publishers"
DEFAULT_FORMATS = ("folder", "npz")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_PART = ".part-"

WEIGHTS = {
    ".safetensors",
    ".pt",
    ".pth",
    ".ckpt",
    ".onnx",
    ".h5",
    ".keras",
    ".pkl",
    ".pickle",
    ".joblib",
    ".bin",
}
"""What files that hold a model, or could, are called."""


@dataclass(frozen=True, slots=True)
class Release:
    """One published version.

    Attributes:
        name: name of the release.
        version: 1, 2, ...
        path: its folder.
        manifest: the content of ``manifest.json``.
        fresh: False where an equal set from an equal recipe had been published before, and this is it.
    """

    name: str
    version: int
    path: Path
    manifest: dict[str, Any]
    fresh: bool = True


def publish(workspace: Workspace, draft: Draft) -> Release:
    """Write ``releases/<name>/v<n>/`` and return the release.

    The same set under the same recipe is published once: a second call returns the first release. Two runs
    that publish at once wait for each other, so that each version number is given once.

    Raises:
        ReleaseError: the verdict is not PASS, the name cannot be a folder, or the folder cannot be written.
            Nothing is left behind.
    """
    if draft.verdict.status != "PASS" or draft.public_verdict.get("status") != "PASS":
        raise ReleaseError(
            f"release {draft.name}: the verdict is {draft.verdict.status}, and only a PASS is published. "
            "Read the report for the reasons; nothing overrides the gate."
        )
    shelf = workspace.root / "releases"
    with _place(shelf, draft.name):
        for version in _numbers(shelf / draft.name, "v"):
            there = shelf / draft.name / f"v{version}"
            known = _read(there / manifest.MANIFEST)
            if _identity(known) == _identity(_described(draft)) and not manifest.problems(there):
                return Release(draft.name, version, there, known, fresh=False)
        version = max(_numbers(shelf / draft.name, "v"), default=0) + 1
        with _beside(shelf) as folder:
            content = _write_release(folder, draft, version)
            _refuse_weights(folder, draft)
            _refuse_places(folder, workspace, draft)
            if problems := manifest.problems(folder):
                raise ReleaseError(f"release {draft.name}: what was written does not hold: {problems[0]}")
            _move(folder, shelf / draft.name / f"v{version}")
    return Release(draft.name, version, shelf / draft.name / f"v{version}", content)


def block(workspace: Workspace, draft: Draft) -> Path:
    """Write ``blocked/<name>/<n>/`` (verdict and report in their public forms, no image) and return the
    folder.

    The same verdict on the same set under the same recipe is blocked once: a second call returns the first
    folder.

    Raises:
        ReleaseError: the verdict is PASS, the name cannot be a folder, or the folder cannot be written.
    """
    if draft.verdict.status == "PASS":
        raise ReleaseError(f"release {draft.name}: the verdict is PASS, so there is nothing to block")
    shelf = workspace.root / "blocked"
    record = {**draft.public_verdict, **_described(draft), "created": draft.created}
    with _place(shelf, draft.name):
        for number in _numbers(shelf / draft.name, ""):
            there = shelf / draft.name / str(number)
            if {**_read(there / "verdict.json"), "created": draft.created} == record:
                return there
        number = max(_numbers(shelf / draft.name, ""), default=0) + 1
        with _beside(shelf) as folder:
            write_json(folder / "verdict.json", record)
            (folder / "report.html").write_text(report.public_html(draft), encoding="utf-8")
            _refuse_places(folder, workspace, draft)
            _move(folder, shelf / draft.name / str(number))
    return shelf / draft.name / str(number)


def _write_release(folder: Path, draft: Draft, version: int) -> dict[str, Any]:
    """Write every file of a release and return the manifest."""
    digest = set_digest(draft.synthetic)
    parts = divided(draft.synthetic, _terms(draft).get("splits") or {}, digest)
    about = About(draft.name, digest, _terms(draft).get("licence", ""), parts)
    publishers: list[Publisher] = [catalogue.load(PUBLISHERS, name) for name in _formats(draft)]
    for publisher in publishers:
        publisher.write(draft.synthetic, about, folder)
    folders = class_folders(draft.synthetic.label_names)
    labels = {
        "names": list(draft.synthetic.label_names),
        "folders": list(folders),
        "class_to_idx": {name: index for index, name in enumerate(folders)},
    }
    write_json(folder / "labels.json", labels)
    write_json(folder / "verdict.json", draft.public_verdict)
    (folder / "README.md").write_text(
        card(draft, version, publishers, _portions(folder, about, draft)), encoding="utf-8"
    )
    (folder / "report.html").write_text(report.public_html(draft), encoding="utf-8")
    described = {
        **_described(draft),
        "version": version,
        "created": draft.created,
        "formats": [publisher.name for publisher in publishers],
        "images": len(draft.synthetic),
        "verdict": digest_of(draft.public_verdict),
        "suite": draft.verdict.suite,
        "versions": draft.versions,
    }
    return manifest.seal(folder, described)


def _portions(folder: Path, about: About, draft: Draft) -> list[Portion]:
    """Return what Hugging Face loads: the Parquet files where there are some, else the tree of PNG files."""
    has_parquet = (folder / "data").is_dir()
    found: list[Portion] = []
    for part, positions in about.parts_of(draft.synthetic).items():
        pattern = f"data/{part}-*" if has_parquet else f"images/{about.place(part)}**"
        files = list(folder.glob(pattern if has_parquet else f"{pattern}/*.png"))
        if files:
            found.append(Portion(part, pattern, len(positions), sum(file.stat().st_size for file in files)))
    return found


def _described(draft: Draft) -> dict[str, Any]:
    """Return what makes two drafts the same."""
    recipe = draft.recipe_digest or digest_of("recipe", public_recipe(draft.recipe))
    return {"name": draft.name, "set": set_digest(draft.synthetic), "recipe": recipe}


def _identity(content: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(content.get(key) for key in ("name", "set", "recipe"))


def _terms(draft: Draft) -> dict[str, Any]:
    return draft.recipe.get("publish", {})


def _formats(draft: Draft) -> tuple[str, ...]:
    return tuple(_terms(draft).get("formats", DEFAULT_FORMATS))


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON file's content; nothing where it is missing or damaged, which is then nobody's twin."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _numbers(folder: Path, prefix: str) -> list[int]:
    """Return the numbers that are taken, ascending."""
    if not folder.is_dir():
        return []
    taken = (re.fullmatch(rf"{prefix}(\d+)", item.name) for item in folder.iterdir())
    return sorted(int(match[1]) for match in taken if match)


@contextlib.contextmanager
def _place(shelf: Path, name: str) -> Generator[None]:
    """Hold the shelf for one writer; what a killed one left half-written is swept away first."""
    if _NAME.fullmatch(name) is None or len(name) > 100:
        raise ReleaseError(
            f"release: {name[:100]!r} cannot be a folder name. "
            "Use letters, digits, dots, dashes and underscores, 100 at most."
        )
    with _told(shelf):
        shelf.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(shelf / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # freed by the kernel when its holder dies
            for left in shelf.glob(f"{_PART}*"):
                shutil.rmtree(left, ignore_errors=True)
            yield
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _beside(shelf: Path) -> Generator[Path]:
    """Give a folder that is gone afterwards unless it was moved to its place."""
    folder = shelf / f"{_PART}{secrets.token_hex(8)}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _told(shelf: Path) -> Generator[None]:
    """Turn what the file system refuses into a message."""
    try:
        yield
    except OSError as error:
        advice = {
            errno.ENOSPC: "The disk is full: free some space and run the same command again.",
            errno.EDQUOT: "The quota is used up: free some space and run the same command again.",
        }.get(error.errno or 0, "Check its rights, or choose another place with --workspace.")
        raise ReleaseError(f"release: cannot write to {shelf} ({error.strerror}). {advice}") from None


def _move(folder: Path, place: Path) -> None:
    """Make the files read-only and put the folder where others look, in one step."""
    for item in folder.rglob("*"):
        if item.is_file():
            item.chmod(0o444)
    os.sync()  # the name must not reach the disk before the bytes do
    place.parent.mkdir(exist_ok=True)
    folder.rename(place)


def _refuse_weights(folder: Path, draft: Draft) -> None:
    """Stop if a publisher wrote a model: weights may leave only when attacks on the model found nothing."""
    judged = any(f.check == "white_box" and f.status == "PASS" for f in draft.verdict.findings)
    weights = [item for item in folder.rglob("*") if item.suffix.lower() in WEIGHTS]
    if weights and not judged:
        raise ReleaseError(
            f"release {draft.name}: a publisher wrote {weights[0].name}, a file of weights, and the model "
            "itself was not judged (check white_box). Publish images alone."
        )


def _refuse_places(folder: Path, workspace: Workspace, draft: Draft) -> None:
    """Stop, as a fault of ours, if a path of the house stands in any text that would leave."""
    places = [f"{workspace.root}", f"{Path.home()}/"]
    places += [place for place in source_places(draft.recipe) if len(place) > 7 and "/" in place]
    for item in sorted(folder.rglob("*")):
        if item.is_file() and item.suffix in {".md", ".json", ".html", ".csv"}:
            content = re.sub(r"base64,[A-Za-z0-9+/=]*", "", item.read_text(encoding="utf-8"))
            if any(place in content for place in places):
                raise PhantomsetError(
                    f"release {draft.name}: {item.name} would have named a place of this house"
                )


def list_releases(workspace: Workspace) -> list[Release]:
    """Return every release, by name and version. A version whose manifest cannot be read has an empty one."""
    shelf = workspace.root / "releases"
    names = sorted(item.name for item in shelf.iterdir() if item.is_dir() and not item.name.startswith("."))
    return [
        Release(
            name,
            version,
            shelf / name / f"v{version}",
            _read(shelf / name / f"v{version}" / manifest.MANIFEST),
        )
        for name in names
        for version in _numbers(shelf / name, "v")
    ]


def show(workspace: Workspace, name: str, version: int | None = None) -> Release:
    """Return one release; the newest version unless one is named.

    Raises:
        ReleaseError: there is none of that name or version; the message names the nearest.
    """
    known = list_releases(workspace)
    versions = {release.version: release for release in known if release.name == name}
    if not versions:
        names = sorted({release.name for release in known})
        near = difflib.get_close_matches(name, names, n=1)
        there = f"there are {', '.join(names)}" if names else "nothing has been released in this workspace"
        raise ReleaseError(f"release {name}: not found; {f'did you mean {near[0]!r}?' if near else there}")
    if version is not None and version not in versions:
        there = ", ".join(f"v{number}" for number in versions)
        raise ReleaseError(f"release {name}: there is no v{version}; there are {there}")
    return versions[max(versions) if version is None else version]


def verify(workspace: Workspace, name: str, version: int | None = None) -> list[str]:
    """Return one sentence for each file that is missing, changed or does not belong; an empty list if all
    holds.

    Raises:
        ReleaseError: there is no such release.
    """
    return manifest.problems(show(workspace, name, version).path)
