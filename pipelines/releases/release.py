"""What leaves the house, and what is blocked: written beside its place, checked, moved there in one step."""

import difflib
import html
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from phantomset.data import catalogue
from phantomset.data.digest import digest_of
from phantomset.data.errors import PhantomsetError, ReleaseError
from phantomset.data.workspace import Workspace, write_json
from phantomset.pipelines import places, report
from phantomset.pipelines.draft import Draft, set_digest
from phantomset.pipelines.publisher import About, Publisher, class_folders, divided
from phantomset.pipelines.redact import public_recipe, source_places
from phantomset.pipelines.releases import (
    attestation,
    manifest,
    retraction,
    shelf,
    signing,
    terms,
    trace,
    waiver,
)
from phantomset.pipelines.releases.card import Portion, card
from phantomset.pipelines.releases.croissant import CROISSANT, croissant
from phantomset.validators.notebook import shown

PUBLISHERS = "phantomset.pipelines.publishers"
DEFAULT_FORMATS = ("folder", "npz")

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

    def _repr_html_(self) -> str:
        """Return the release as a notebook shows it: what it holds, and where its report lies."""
        classes: dict[str, int] = self.manifest.get("classes", {})
        facts = {
            "images": f"{self.manifest.get('images', 0):,}",
            "classes": ", ".join(f"{name} {count:,}" for name, count in classes.items()),
            **{key: str(self.manifest.get(key, "")) for key in ("semver", "licence", "created", "set")},
            "formats": ", ".join(self.manifest.get("formats", ())),
            "report": places.near(self.path / "report.html"),
        }
        return shown(f"{self.name} v{self.version}", facts)


def publish(workspace: Workspace, draft: Draft, run: str = "") -> Release:
    """Write ``releases/<name>/v<n>/`` and return the release.

    The same set under the same recipe is published once: a second call returns the first release. Two runs
    that publish at once wait for each other, so that each version number is given once. Where there is a
    signing key, the attestations are signed with it.

    Args:
        workspace: where the release will lie.
        draft: what was judged.
        run: name of the run's folder, for the record of where releases come from.

    Raises:
        ReleaseError: the verdict is not PASS and no waiver of fidelity holds, the source's terms forbid it or
            are not said, the equal release was retracted, the name cannot be a folder, or the folder cannot
            be written. Nothing is left behind.
    """
    waiver.require(draft)
    terms.require(draft.recipe.get("publish", {}))
    signer = signing.signer()
    releases = workspace.root / "releases"
    with shelf.held(releases, draft.name):
        if twin := _twin(releases, draft):
            return twin
        version = max(shelf.numbers(releases / draft.name, "v"), default=0) + 1
        place = releases / draft.name / f"v{version}"
        images = trace.image_digests(draft.synthetic)
        semver = _semver(workspace, releases / draft.name, draft.name, version - 1, images)
        with shelf.beside(releases) as folder:
            content = _write_release(folder, draft, version, semver, signer)
            _refuse_weights(folder, draft)
            _refuse_places(folder, workspace, draft)
            if problems := manifest.problems(folder):
                raise ReleaseError(f"release {draft.name}: what was written does not hold: {problems[0]}")
            trace.keep(workspace, trace.Trace(draft.name, version, content["set"], draft.origin, run, images))
            shelf.move(folder, place)
    return Release(draft.name, version, place, content)


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
    blocked = workspace.root / "blocked"
    record = {**draft.public_verdict, **_described(draft), "created": draft.created}
    with shelf.held(blocked, draft.name):
        for number in shelf.numbers(blocked / draft.name, ""):
            there = blocked / draft.name / str(number)
            if {**_read(there / "verdict.json"), "created": draft.created} == record:
                return there
        number = max(shelf.numbers(blocked / draft.name, ""), default=0) + 1
        with shelf.beside(blocked) as folder:
            write_json(folder / "verdict.json", record)
            (folder / "report.html").write_text(report.public_html(draft), encoding="utf-8")
            _refuse_places(folder, workspace, draft)
            shelf.move(folder, blocked / draft.name / str(number))
    return blocked / draft.name / str(number)


def _twin(releases: Path, draft: Draft) -> Release | None:
    """Return the whole release of an equal set from an equal recipe, let out on equal grounds, if any."""
    waived = asdict(draft.waiver) if draft.waiver else None
    for version in shelf.numbers(releases / draft.name, "v"):
        there = releases / draft.name / f"v{version}"
        known = _read(there / manifest.MANIFEST)
        if _identity(known) == _identity(_described(draft)) and not manifest.problems(there):
            if found := retraction.of(releases, draft.name, version):
                raise ReleaseError(
                    f"release {draft.name}: this set was published as v{version} and retracted on "
                    f"{found.day}; it is not published again. Make another set."
                )
            if known.get("waiver") == waived:  # else a new waiver, or a PASS, is a new version
                return Release(draft.name, version, there, known, fresh=False)
    return None


def _semver(workspace: Workspace, versions: Path, name: str, last: int, images: tuple[str, ...]) -> str:
    before = str(
        _read(versions / f"v{last}" / manifest.MANIFEST).get("semver", f"{last}.0.0" if last else "")
    )
    traces = {one.version: one.images for one in trace.known(workspace) if one.name == name}
    return trace.next_version(before, traces.get(last, ()), images)


def _write_release(
    folder: Path, draft: Draft, version: int, semver: str, signer: signing.Signer | None
) -> dict[str, Any]:
    """Write every file of a release and return the manifest."""
    settings = draft.recipe.get("publish", {})
    described = _described(draft)
    parts = divided(draft.synthetic, settings.get("splits") or {}, described["set"])
    about = About(draft.name, described["set"], settings.get("licence", ""), parts)
    formats = settings.get("formats", DEFAULT_FORMATS)
    publishers: list[Publisher] = [catalogue.load(PUBLISHERS, name) for name in formats]
    for publisher in publishers:
        publisher.write(draft.synthetic, about, folder)
    write_json(folder / "labels.json", _labels(draft))
    write_json(folder / "verdict.json", draft.public_verdict)
    write_json(folder / CROISSANT, croissant(draft, about, semver, folder))
    text = card(draft, version, publishers, _portions(folder, about, draft))
    (folder / "README.md").write_text(text, encoding="utf-8")
    (folder / "report.html").write_text(report.public_html(draft), encoding="utf-8")
    channels, height, width = draft.synthetic.images.shape[1:]
    counts = [
        int((draft.synthetic.labels == label).sum()) for label in range(len(draft.synthetic.label_names))
    ]
    described |= {
        "version": version,
        "semver": semver,
        "created": draft.created,
        "formats": [publisher.name for publisher in publishers],
        "licence": about.licence,
        "images": len(draft.synthetic),
        "classes": dict(zip(draft.synthetic.label_names, counts, strict=True)),
        "image": {"channels": channels, "height_px": height, "width_px": width},
        "verdict": digest_of(draft.public_verdict),
        "suite": draft.verdict.suite,
        "versions": draft.versions,
        "signer": signer.public.fingerprint if signer else "",
        "attestations": [attestation.PROVENANCE, attestation.VERDICT],
    }
    if draft.waiver:
        described["waiver"] = asdict(draft.waiver)
    return manifest.seal(
        folder, described, lambda sha256: attestation.attestations(draft, described["recipe"], sha256, signer)
    )


def _labels(draft: Draft) -> dict[str, Any]:
    folders = class_folders(draft.synthetic.label_names)
    return {
        "names": list(draft.synthetic.label_names),
        "folders": list(folders),
        "class_to_idx": {name: index for index, name in enumerate(folders)},
    }


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


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON file's content; nothing where it is missing or damaged, which is then nobody's twin."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", content) if isinstance(content, dict) else {}


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
    places = [f"{workspace.root}"]
    if Path.home() != Path("/"):  # of a user without a home, as in a container: every address has "//"
        places.append(f"{Path.home()}/")
    places += [place for place in source_places(draft.recipe) if len(place) > 7 and "/" in place]
    written = {form for place in places for form in (place, json.dumps(place)[1:-1], html.escape(place))}
    for item in sorted(folder.rglob("*")):
        if item.is_file() and item.suffix in {".md", ".json", ".html", ".csv"}:
            content = _text(item)
            if any(place in content for place in written):
                raise PhantomsetError(
                    f"release {draft.name}: {item.name} would have named a place of this house"
                )


def _text(item: Path) -> str:
    """Return a file's text without its pictures; of an envelope, the statement that is sealed in it."""
    if item.name.endswith(attestation.SUFFIX):
        return signing.opened(item.read_bytes()).signed.decode("utf-8")
    return re.sub(r"base64,[A-Za-z0-9+/=]*", "", item.read_text(encoding="utf-8"))


def list_releases(workspace: Workspace) -> list[Release]:
    """Return every release, by name and version. A version whose manifest cannot be read has an empty one."""
    releases = workspace.root / "releases"
    names = sorted(
        item.name for item in releases.iterdir() if item.is_dir() and not item.name.startswith(".")
    )
    return [
        Release(name, version, there, _read(there / manifest.MANIFEST))
        for name in names
        for version in shelf.numbers(releases / name, "v")
        for there in [releases / name / f"v{version}"]
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
