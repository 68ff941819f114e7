"""Images in, a de-identified cohort out. What is written first is already de-identified."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from sys import intern
from typing import Any

from phantomset.data import cohorts
from phantomset.data.burned_in.screen import NOT_SCREENED, NOTHING_BURNED_IN, TextScreen, screen_for
from phantomset.data.cohorts import load_cohort as load_cohort
from phantomset.data.decoding import cluster
from phantomset.data.decoding.journal import open_journal
from phantomset.data.decoding.one_file import FORMAT, Finished, finish
from phantomset.data.decoding.workers import Job, decode_all
from phantomset.data.deidentify import DeidentifySettings, claim
from phantomset.data.dicom.decoders import decoder_versions
from phantomset.data.digest import digest_of
from phantomset.data.errors import SourceError
from phantomset.data.file_source import FileSource
from phantomset.data.inputs import Input, source_of
from phantomset.data.keys import key_name, pseudonym
from phantomset.data.pixels.canonical import VERSION, ImageSettings
from phantomset.data.quarantine.ledger import CHOSEN, Ledger, in_words
from phantomset.data.quarantine.reviewed import Reviewed
from phantomset.data.records import Cohort, RawImage, Record, Rejected
from phantomset.data.source import ReadContext, Source, SourceSettings
from phantomset.data.splitting import groups
from phantomset.data.splitting.groups import DuplicateSettings, Entry, Kept
from phantomset.data.store.archive import PackWriter, Store
from phantomset.data.workspace import Workspace

_DUPLICATES = DuplicateSettings()

UNLABELLED = "unlabelled"
"""The one class of an input without labels."""

_NO_PATIENTS = (
    "The source names no patients: each image counts as a patient of its own. If some people have several "
    "images, the parts of the split share people, and every privacy figure is too favourable."
)


def ingest(
    settings: SourceSettings,
    image: ImageSettings,
    deidentify: DeidentifySettings,
    workspace: Workspace,
    report: Callable[[int], None] | None = None,
    workers: int | str | None = None,
    duplicates: DuplicateSettings = _DUPLICATES,
) -> tuple[Cohort, str]:
    """Return the cohort of a source and its input's key; an input that was ingested before is not read again.

    Memory holds one image, and what a record holds of each before it. On an error nothing is left behind.

    Args:
        settings: the recipe's section ``source``.
        image: the recipe's section ``image``.
        deidentify: the recipe's section ``deidentify``.
        workspace: where the restricted part lies.
        report: called with the number of files seen so far, after each.
        workers: processes (None: one a CPU), "dask" or a Dask scheduler's address; no digest depends on it.
        duplicates: the recipe's section ``duplicates``.

    Raises:
        SourceError: the input is missing, empty, unreadable, holds no images, does not fit its labels or its
            size rule, or too much of it was quarantined.
        WorkspaceError: the workspace cannot be written.
    """
    source = source_of(settings)
    reviewed = Reviewed.read(deidentify.reviewed)
    context = ReadContext(deidentify, waived=reviewed.codes, screen=_screen(source, deidentify))
    name = partial(_key, settings, image, deidentify, duplicates, reviewed, context.screen)
    given = Input(source, settings, context, name)
    known = given.known(workspace)
    if known is not None:
        return known, given.key()
    ledger = Ledger(settings.format)
    dropped: Counter[str] = Counter()
    entries: list[Entry] = []
    shared: dict[int, dict[str, str]] = {}
    files = 0
    with workspace.nothing_left_behind(), Store(workspace).writer() as pack:
        for finished in _finished(given, image, workspace, pack, workers):
            files += 1
            entry = _take(finished, pack, ledger, dropped, shared)
            if entry is not None:
                entries.append(entry)
            if report is not None:
                report(files)
        pack.seal()
        kept, named, found = _settle(entries, Store(workspace), duplicates.near, ledger, context)
        _hold_share(files, len(kept), ledger, deidentify)
        if dropped["unknown character sets"]:
            context.notes.append("Some files name a character set that nobody knows (CHARSET_UNKNOWN).")
        cohort = _cohort(kept, named, settings, image, context)
        cohort = replace(cohort, files=files, quarantine=ledger.counts, dropped=dict(sorted(dropped.items())))
    _note_released(entries, reviewed, ledger)
    key, origins = given.key(), {name: each[0].key for name, each in kept.items()}
    cohorts.save(workspace, key, cohort, ledger, found, given.listing, origins)
    return cohort, key


def ingest_key(
    settings: SourceSettings,
    image: ImageSettings,
    deidentify: DeidentifySettings,
    duplicates: DuplicateSettings = _DUPLICATES,
) -> str:
    """Return the digest of everything that decides a cohort: input, settings, pixel path, project key.

    Where the input lies does not matter.

    Raises:
        SourceError: the input is missing, empty or unreadable.
    """
    source = source_of(settings)
    decided = (settings, image, deidentify, duplicates, Reviewed.read(deidentify.reviewed))
    return _key(*decided, _screen(source, deidentify), source.fingerprint(settings))


def _key(
    settings: SourceSettings,
    image: ImageSettings,
    deidentify: DeidentifySettings,
    duplicates: DuplicateSettings,
    reviewed: Reviewed,
    screen: TextScreen | None,
    fingerprint: str,
) -> str:
    choices = settings.model_dump(mode="json", exclude={"path"})
    given = (choices, fingerprint, image, deidentify.rules, sorted(reviewed.rows), duplicates)
    given = given if screen is None else (*given, screen.name)
    return digest_of("ingest", FORMAT, VERSION, decoder_versions(), key_name(), *given)


def require_classes(cohort: Cohort) -> None:
    """Hold that a family, which learns by class, has classes.

    Raises:
        SourceError: the cohort has no labels, or one class only.
    """
    if cohort.label_names == (UNLABELLED,):
        raise SourceError(
            "source.labels: the images have no labels, and every family needs at least two classes. "
            "Say in source.labels where the classes stand."
        )
    if len(cohort.label_names) < 2:
        only = ", ".join(map(repr, cohort.label_names))
        raise SourceError(
            f"source.labels: found one class only ({only}, {len(cohort.records):,} images), and "
            "every family needs at least two. Mend source.labels."
        )


def _screen(source: Source | FileSource, deidentify: DeidentifySettings) -> TextScreen | None:
    return screen_for(deidentify, isinstance(source, FileSource))


def _unless_released(context: ReadContext) -> Callable[[RawImage], RawImage] | None:
    """What searches an image for text, unless a person let it in."""
    screen = context.screen
    if screen is None:
        return None
    return lambda image: image if "BURNED_IN_TEXT" in context.waived(image.key) else screen(image)


def _finished(
    given: Input,
    image: ImageSettings,
    workspace: Workspace,
    pack: PackWriter,
    workers: int | str | None,
) -> Iterator[Finished]:
    """Yield all images and rejections of the input; files that are not known yet are decoded by workers."""
    source, settings, context = given.source, given.settings, given.context
    if isinstance(source, Source) or given.files is None:
        items = source.read(settings, context) if isinstance(source, Source) else ()
        yield from (each.keyed() for each in finish(items, image, screen=_unless_released(context)))
        return
    tree, listed = given.files
    job = Job(
        source, tree, settings, image, ReadContext(context.deidentify, context.limits, screen=context.screen)
    )
    with open_journal(workspace, job, pack) as journal:
        files = map(journal.marked, listed)
        on_cluster = isinstance(workers, str)
        answers = cluster.decode_all(job, files, workers) if on_cluster else decode_all(job, files, workers)
        for each, answer in answers:
            if given.listing and answer.read:
                given.read[each.member.key] = answer.read
            yield from journal.settled(each, answer)
            if pack.is_due:
                journal.keep()
        journal.keep()


def _take(
    finished: Finished,
    pack: PackWriter,
    ledger: Ledger,
    dropped: Counter[str],
    shared: dict[int, dict[str, str]],
) -> Entry | None:
    """Put one image into the store, or one line into the ledger."""
    item = finished.item
    if isinstance(item, Rejected):
        ledger.add(item.key, item.code, item.size_bytes)
        return None
    dropped.update(item.dropped)
    if finished.pixels is not None:
        pack.add(finished.pixels, finished.digest)
    if finished.thumbnail is not None:
        pack.add(finished.thumbnail, finished.thumbnail_digest)
    attributes = _shared(item.attributes, shared)
    links = {intern(kind): name for kind, name in item.links.items()}
    about = (item.subject, item.label, attributes, item.spacing_mm, links, item.is_doubtful)
    seen = (finished.thumbnail_digest, finished.side_px)
    return Entry(item.key, finished.digest, finished.origin, *about, *seen)


def _shared(attributes: dict[str, str], seen: dict[int, dict[str, str]]) -> dict[str, str]:
    """Return the attributes as one object with equal ones: a worker sends each image's anew, 3 KB of text."""
    name = hash(frozenset(attributes.items()))
    known = seen.get(name)
    if known is not None and known == attributes:
        return known
    lean = {intern(key): intern(value) for key, value in attributes.items()}
    return seen.setdefault(name, lean) if known is None else lean


def _note_released(entries: list[Entry], reviewed: Reviewed, ledger: Ledger) -> None:
    """Leave in the ledger which files a person let in, from which code."""
    for file in sorted({entry.file for entry in entries}) if reviewed.rows else ():
        path = pseudonym("path", file)
        ledger.released += [(path, code, reviewed.rows[path, code]) for code in sorted(reviewed.codes(file))]


def _settle(
    entries: list[Entry], store: Store, near: str, ledger: Ledger, context: ReadContext
) -> tuple[Kept, dict[str, str], dict[str, Any]]:
    """Take out what contradicts itself, merge copies; return what is kept, its groups and what was found."""
    notes = context.notes
    sound = groups.without_conflicts(entries, ledger, context.deidentify.accept_faces, context.waived)
    exact = groups.without_copies(sound, ledger, notes)
    kept, pairs = groups.without_near_copies(exact, store.get, near, ledger, notes)
    named = groups.grouped(kept, pairs, exact)
    crossing = groups.leaks(kept, named)
    if any(crossing.values()):
        notes.append(
            "The input comes in parts of its own (train, test), and they leak: the same patients, groups or "
            "copies stand in more than one. A new split was made; the figures stand in the review report."
        )
    doubtful = groups.doubtful_key(kept)
    if doubtful:
        notes.append(
            "The patient key joins images of different labels far more often than chance. It may be a number "
            "that counts anew in each class and joins strangers: check source.patient."
        )
    found = {
        "exact_copies": [len(copies) for copies in kept.values() if len(copies) > 1],
        "near_copies": [[first, second, round(score, 3)] for first, second, score in pairs],
        "own_split_leaks": crossing,
        "weak_text": [digest for digest, copies in kept.items() if any(copy.is_doubtful for copy in copies)],
        "doubtful_patient_key": doubtful,
    }
    return kept, named, found


def _hold_share(files: int, kept: int, ledger: Ledger, deidentify: DeidentifySettings) -> None:
    """Refuse an input of which nothing, or too little, is left."""
    if not files:
        raise SourceError(
            "source.path: holds no files to read besides the label table. Put the images there."
        )
    if not kept:
        raise SourceError(
            f"source: no image is left of {files:,} files; quarantined: {in_words(ledger.counts)}. "
            "Check that source.format and source.path fit the data."
        )
    share = ledger.faults / files
    if share > deidentify.accept_quarantined_share:
        faults = {code: count for code, count in ledger.counts.items() if code not in CHOSEN}
        raise SourceError(
            f"source: {ledger.faults:,} of {files:,} files ({share:.1%}) were quarantined, and at most "
            f"{deidentify.accept_quarantined_share:.1%} is accepted: {in_words(faults)}. Mend the input, or "
            "set deidentify.accept_quarantined_share when this loss is expected."
        )


def _cohort(
    kept: Kept,
    named: dict[str, str],
    settings: SourceSettings,
    image: ImageSettings,
    context: ReadContext,
) -> Cohort:
    """Build the records, sorted by digest: an order that no name and no key decides."""
    names = _label_names(kept, settings.classes)
    code = {name: index for index, name in enumerate(names)}
    records = tuple(
        Record(
            digest=digest,
            origin=min(entry.origin for entry in copies),
            label=code[copies[0].label or UNLABELLED],
            subject=copies[0].owner,
            group=named[copies[0].owner],
            attributes=copies[0].attributes,
            spacing_mm=copies[0].spacing_mm,
        )
        for digest, copies in sorted(kept.items())
    )
    notes = [NOT_SCREENED if context.screen is None else context.screen.note, *context.notes]
    notes += [NOTHING_BURNED_IN] if any(not each.boxes for each in context.deidentify.devices) else []
    notes += (
        [claim(context.deidentify.retain, context.screen is not None)] if settings.format == "dicom" else []
    )
    if not settings.has_patients:
        notes.insert(0, _NO_PATIENTS)
    return Cohort(
        digest=digest_of("cohort", records, names, image.spec),
        spec=image.spec,
        label_names=names,
        records=records,
        files=0,
        quarantine={},
        dropped={},
        has_patients=settings.has_patients,
        notes=tuple(notes),
    )


def _label_names(kept: Kept, declared: tuple[str, ...] | None) -> tuple[str, ...]:
    """The classes in their declared order, else sorted, numbers by their value.

    Raises:
        SourceError: a declared class has no image, or the column holds free text and no classes.
    """
    counts = Counter(copies[0].label or UNLABELLED for copies in kept.values())
    if declared is not None:
        empty = [name for name in declared if name not in counts]
        if empty:
            raise SourceError(
                f"source.labels: no image of the declared class {', '.join(map(repr, empty))}. "
                "Mend the list of classes, or bring images of it."
            )
        return declared
    if len(counts) > 20 and len(counts) * 2 > len(kept):
        raise SourceError(
            f"source.labels: {len(counts):,} different labels on {len(kept):,} images: this is free text or "
            "a number, not a class. Name another column."
        )
    return tuple(sorted(counts, key=_by_number))


def _by_number(name: str) -> list[tuple[int, str]]:
    """Order "class 10" after "class 9": digits compare by length, then by value."""
    return [(len(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]
