"""Where a release came from, in the restricted part: a withdrawn patient leads to the releases."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from phantomset.data.digest import digest_of
from phantomset.data.records import ImageSet
from phantomset.data.workspace import Workspace, write_json
from phantomset.pipelines.draft import Origin

IMAGE_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Trace:
    """One release and what it was made of.

    Attributes:
        name, version: the release.
        set: digest of the synthetic set: it stands in each image's own metadata too.
        origin: cohort, split, generator and patients.
        run: the folder under ``runs/`` of the run that published it.
        images: a digest of each synthetic image, in order.
    """

    name: str
    version: int
    set: str
    origin: Origin
    run: str
    images: tuple[str, ...]


_TRACE = TypeAdapter(Trace)


def image_digests(synthetic: ImageSet) -> tuple[str, ...]:
    """Return a short digest of each image with its label."""
    pairs = zip(synthetic.images, synthetic.labels.tolist(), strict=True)
    return tuple(digest_of(image, synthetic.label_names[label])[:IMAGE_DIGITS] for image, label in pairs)


def keep(workspace: Workspace, trace: Trace) -> None:
    """Write a trace down, before its release is seen."""
    write_json(_place(workspace) / f"{trace.name}-v{trace.version}.json", asdict(trace), mode=0o600)


def known(workspace: Workspace) -> list[Trace]:
    """Return every trace, by name and version. One that is damaged is left out: `releases verify` needs
    none."""
    found: list[Trace] = []
    for path in sorted(_place(workspace).glob("*.json")):
        try:
            found.append(_TRACE.validate_json(path.read_bytes()))
        except ValidationError:
            continue
    return sorted(found, key=lambda trace: (trace.name, trace.version))


def concerned(workspace: Workspace, pseudonym: str) -> list[tuple[Trace, str]]:
    """Return the releases that a patient stands behind, each with the part that the patient was in.

    "train": the generator has learned from the patient. "holdout" and "reference": the patient was looked at
    only to judge the set.
    """
    return [
        (trace, part)
        for trace in known(workspace)
        for part, people in trace.origin.patients.items()
        if pseudonym in people
    ]


def next_version(before: str, previous: Sequence[str], images: Sequence[str]) -> str:
    """Return the semantic version that follows ``before``, by Croissant's rule.

    The same images in another package are a patch, images that were added a minor version, anything else a
    major one. The first version is 1.0.0.

    >>> next_version("", (), "ab"), next_version("1.0.0", "ab", "ab"), next_version("1.0.1", "ab", "abc")
    ('1.0.0', '1.0.1', '1.1.0')
    >>> next_version("1.1.0", "abc", "abx")
    '2.0.0'
    """
    if not before:
        return "1.0.0"
    major, minor, patch = map(int, before.split("."))
    if tuple(previous) == tuple(images):
        return f"{major}.{minor}.{patch + 1}"
    if previous and not Counter(previous) - Counter(images):
        return f"{major}.{minor + 1}.0"
    return f"{major + 1}.0.0"


def _place(workspace: Workspace) -> Path:
    return workspace.restricted("released")
