"""`phantomset audit`: judge a set that was made anywhere, given the real sets. No recipe, no training."""

import dataclasses
import datetime
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse  # pyright: ignore[reportMissingTypeStubs]

from phantomset.data.errors import SourceError, WorkspaceError
from phantomset.data.outside import OutsideSet, read_set
from phantomset.data.pixels.canonical import ImageSettings, canonical
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.records import ImageSet, ImageSpec
from phantomset.data.seeds import stream
from phantomset.data.splitting.duplicates import (
    DUPLICATE,
    can_be_told,
    near_duplicates,
    thumbnail,
    without_chains,
)
from phantomset.data.workspace import write_atomically, write_json
from phantomset.pipelines.draft import Counts, Draft
from phantomset.pipelines.versions import versions
from phantomset.validators.finding import Evidence, Finding, Rules, Verdict

REAL = ("train", "holdout", "reference")
NO_PATIENTS = (
    "The real sets name no patients: images count as patients, after near-duplicates were grouped. If some "
    "people have several images, every privacy figure is too favourable."
)
TOO_ALIKE = "These images are so alike that near-duplicates cannot be told from strangers."
REFERENCE_SHARE = 1 / 3
"""Of the holdout's patients, where no reference set is given."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to judge, by what rules.

    Attributes:
        synthetic, train, holdout: where the sets lie.
        reference: where the reference set lies; None: it is taken from the holdout.
    """

    synthetic: Path
    train: Path
    holdout: Path
    reference: Path | None = None
    rules: Rules = dataclasses.field(default_factory=Rules)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Audited:
    """The verdict and where its report lies."""

    verdict: Verdict
    draft: Draft
    report: Path


def audit(request: Request, out: Path, say: Callable[[str], None]) -> Audited:
    """Return the verdict on a set; ``report.html`` (restricted) and ``verdict.json`` (coarse) are in ``out``.

    Beside the report lies what `marks` needs, restricted too. Nothing goes into a ledger: an audit lets
    nothing out.

    Raises:
        InputError: a set cannot be read, or the sets do not fit each other. Nothing is written.
    """
    sets: dict[str, OutsideSet] = {}
    for part in ("synthetic", *REAL):
        place = getattr(request, part)
        if place is not None:
            sets[part] = read_set(place, part)
            say(f"{part}: {len(sets[part].images):,} images read")
    faults, notes = _faults(sets), list[str]()
    evidence = _evidence(sets, request.seed, faults, notes)
    from phantomset.pipelines import report
    from phantomset.pipelines.report import marks
    from phantomset.validators import audit as validators
    from phantomset.validators import gate

    judged = validators.judge(evidence, request.rules, request.seed, say)
    for outcome in validators.outcomes(judged.findings):
        say(outcome)
    verdict = gate.decide((*judged.findings, *faults), request.rules, judged.digest) if faults else judged
    draft = _draft(request, evidence, verdict, sets, notes)
    page = report.restricted_html(draft, evidence)
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(out / "report.html", page.encode(), mode=0o600)
        write_json(out / "verdict.json", draft.public_verdict)
        marks.keep(out, verdict.findings, verdict.digest)
    except OSError as error:
        raise WorkspaceError(f"--out: cannot write to {out} ({error.strerror}).") from None
    return Audited(verdict, draft, out / "report.html")


def _has_patients(sets: dict[str, OutsideSet]) -> bool:
    return all(found.patients is not None for name, found in sets.items() if name != "synthetic")


def _faults(sets: dict[str, OutsideSet]) -> list[Finding]:
    """Return an INCONCLUSIVE finding for each set of which a part could not be looked at."""
    return [
        _fault(
            f"{sum(found.unreadable.values()):,} files of the {name} set could not be read "
            f"({', '.join(sorted(found.unreadable))}); all of it must be looked at. Mend or remove them."
        )
        for name, found in sets.items()
        if found.unreadable
    ]


def _fault(advice: str) -> Finding:
    return Finding(check="splits", metric="evidence", axis="privacy", status="INCONCLUSIVE", advice=advice)


# From what was read to the four sets ------------------------------------------------------------------


def _evidence(sets: dict[str, OutsideSet], seed: int, faults: list[Finding], notes: list[str]) -> Evidence:
    """Return the four sets at the synthetic images' size, with shared codes for labels and patients."""
    spec = _spec(sets["synthetic"])
    images: dict[str, np.ndarray] = {}
    for part in sets:
        sets[part], images[part] = _at_size(sets[part], spec, part, faults)
    names = tuple(sorted({label for found in sets.values() for label in found.labels}))
    code = {name: label for label, name in enumerate(names)}
    patients = _patients(sets, images, faults, notes)
    parts = {
        part: ImageSet(
            images[part],
            np.array([code[label] for label in found.labels], dtype=np.int64),
            patients.get(part, np.full(len(found.images), -1)).astype(np.int64),
            names,
            {column: np.array(cells, dtype=np.str_) for column, cells in found.attributes.items()},
        )
        for part, found in sets.items()
    }
    if "reference" not in parts:
        parts["holdout"], parts["reference"] = _divided(parts["holdout"], seed)
        notes.append("No reference set was given: a third of the holdout's patients serves as one.")
    return Evidence(**parts, has_patients=_has_patients(sets))


def _divided(holdout: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    """Return two thirds of the patients as holdout, the others as reference, drawn at random."""
    patients = stream(seed, "audit", "reference").permutation(np.unique(holdout.patients))
    chosen = np.isin(holdout.patients, patients[: round(REFERENCE_SHARE * len(patients))])
    return holdout.take(~chosen), holdout.take(chosen)


def _spec(synthetic: OutsideSet) -> ImageSpec:
    """Return the one shape of the synthetic images.

    Raises:
        SourceError: they have several sizes.
    """
    sizes = Counter(image.shape[:2] for image in synthetic.images)
    if len(sizes) > 1:
        raise SourceError(
            f"--synthetic: the images have {len(sizes)} sizes; one is needed. The real images are brought to "
            "that size, so resize the set as it is used."
        )
    height, width = next(iter(sizes))
    if min(height, width) < 12:
        raise SourceError(f"--synthetic: the images are {width} x {height} px; at least 12 px are needed.")
    colour = any(image.ndim == 3 for image in synthetic.images)
    return ImageSpec(3 if colour else 1, height, width)


def _at_size(
    found: OutsideSet, spec: ImageSpec, part: str, faults: list[Finding]
) -> tuple[OutsideSet, np.ndarray]:
    """Return the set with its images ``(N, C, H, W)`` uint8; constant real ones fall out.

    Raises:
        SourceError: the ratio of the sides is another one.
    """
    settings = ImageSettings(size_px=(spec.height, spec.width), channels=3 if spec.channels == 3 else 1)
    rows: list[int] = []
    images: list[np.ndarray] = []
    for row, image in enumerate(found.images):
        try:
            images.append(_as_it_is(image, spec) if part == "synthetic" else canonical(image, settings))
            rows.append(row)
        except Unfit:
            continue
        except SourceError as error:
            raise SourceError(f"--{part}: {error}") from None
    blank = len(found.images) - len(rows)
    if blank:
        faults.append(_fault(f"{blank:,} images of the {part} set are of one grey; mend or remove them."))
    return found.take(rows), np.stack(images) if images else np.zeros((0, *spec.shape), np.uint8)


def _as_it_is(image: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """Return a synthetic image as it was published, blank ones too: all of the set is judged."""
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    whole = np.rint(planes * 255).astype(np.uint8)
    return np.repeat(whole, spec.channels, axis=0) if len(whole) < spec.channels else whole


def _patients(
    sets: dict[str, OutsideSet], images: dict[str, np.ndarray], faults: list[Finding], notes: list[str]
) -> dict[str, np.ndarray]:
    """Return patient codes ``(N,)`` of each real part: by name, or, without names, by near-duplicates.

    Whatever the names say, no picture may lie in two parts, nor nearly the same one.
    """
    real = [part for part in REAL if part in sets]
    sizes = [len(images[part]) for part in real]
    ends, rows = np.cumsum(sizes)[:-1], np.arange(sum(sizes))
    has_patients = _has_patients(sets)
    named = np.array([name for part in real for name in sets[part].patients or ()], dtype=np.str_)
    found = _grouped([images[part] for part in real], np.split(named if has_patients else rows, ends))
    codes = np.split(rows if found is None else found, ends)
    crossing = sum(len(np.intersect1d(one, other)) for one, other in itertools.combinations(codes, 2))
    if crossing:
        faults.append(
            _fault(
                f"{crossing:,} near-duplicates lie in two of the real sets: they are no split by patient, "
                "whatever the patients are called. Put all images of a person into one set, and train anew."
            )
        )
    if has_patients:
        if found is None:
            notes.append(f"{TOO_ALIKE} Pictures in two of the real sets were sought among equal ones alone.")
        codes = np.split(np.unique(named, return_inverse=True)[1], ends)
        return dict(zip(real, codes, strict=True))
    notes.append(NO_PATIENTS)
    if found is None:
        faults.append(_fault(f"{TOO_ALIKE} So nobody knows which are of one person: name the patients."))
    # A picture that lies in two sets is a patient of each here: the finding above is what it says.
    total = sum(map(len, codes))
    return {part: own + total * place for place, (part, own) in enumerate(zip(real, codes, strict=True))}


def _grouped(parts: Sequence[np.ndarray], owners: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return a code ``(N,)`` for each image of all parts; near-duplicates, joined in chains, have one.

    None where near-duplicates cannot be told. That is asked within each part: of a holdout that is a copy of
    the training set every picture has a twin, and this says nothing about the kind.
    """
    small = [np.stack([thumbnail(image) for image in images]) for images in parts if len(images)]
    side = min(parts[0].shape[2:])
    by_part = zip(small, (names for names in owners if len(names)), strict=True)
    if not all(can_be_told(part, list(map(str, names)), [side] * len(part)) for part, names in by_part):
        return None
    everything = np.concatenate(small)
    found = without_chains(near_duplicates(everything, [side] * len(everything)), len(everything))
    pairs = [pair[:2] for pair in found if pair.score >= DUPLICATE]
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    links = sparse.coo_array((np.ones(len(first)), (first, second)), shape=(len(everything),) * 2)
    return sparse.csgraph.connected_components(links, directed=False)[1]


# The report -------------------------------------------------------------------------------------------


def _draft(
    request: Request,
    evidence: Evidence,
    verdict: Verdict,
    sets: dict[str, OutsideSet],
    notes: list[str],
) -> Draft:
    from phantomset.validators import gate

    parts = {part: getattr(evidence, part) for part in REAL}
    real = np.concatenate([part.labels for part in parts.values()])
    codes: Counter[str] = Counter()
    for found in sets.values():
        codes.update(found.unreadable)
    people = {name: len(np.unique(part.patients)) for name, part in parts.items()}
    return Draft(
        name="audit",
        recipe={"gate": dataclasses.asdict(request.rules), "seed": request.seed},
        synthetic=evidence.synthetic,
        verdict=verdict,
        public_verdict=gate.public(verdict, evidence),
        counts=Counts(
            files=len(real) + sum(codes.values()),
            images=len(real),
            patients=sum(people.values()) if evidence.has_patients else None,
            classes={
                name: int((real == label).sum()) for label, name in enumerate(parts["train"].label_names)
            },
            quarantine=dict(codes),
            parts=people,
        ),
        notes=tuple(notes),
        versions=versions(),
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )
