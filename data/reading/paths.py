"""What a file's path and its row in a label table say of it: its class, its patient, its attributes.

Sources whose files hold nothing but pixels share this: their ``Settings`` derive from `PathSettings`.
"""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from phantomset.data.deidentify import column_value, patient_key
from phantomset.data.errors import SourceError
from phantomset.data.file_source import Listed
from phantomset.data.keys import pseudonym
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.reading.labels import (
    LabelTable,
    TableLabels,
    label_of,
    labelled_fingerprint,
    open_labelled,
)
from phantomset.data.reading.tree import Member, Tree
from phantomset.data.source import Limits, ReadContext, SourceSettings


class FolderLabels(BaseModel):
    """The class is the name of the folder in which the file lies.

    Attributes:
        classes: the folders to take in, in their order; None: all, sorted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    origin: Literal["folder"] = Field(alias="from")
    classes: tuple[str, ...] | None = None


class PatientRegex(BaseModel):
    """The patient is what a regular expression finds first in the file's path.

    Attributes:
        regex: its groups, joined, name the patient; without groups, the whole match.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    regex: str

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return value


class PatientColumn(BaseModel):
    """The patient stands in a column of the label table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str


class PathSettings(SourceSettings, frozen=True):
    """Base of the settings.

    Attributes:
        path: the folder or ZIP file.
        labels: ``{from: folder}``, a label table (inside or beside the files), or nothing.
        patient: ``{regex: ...}``, ``{column: ...}``, or none: then each image is its own patient.
        group: a further column of the label table: images with the same cell never stand in two parts of the
            split, such as two eyes, siblings or one clinic's day.
        attributes: further columns of the label table to keep: short words and numbers only.
        bands: attributes whose numbers are kept as bands, each with where bands begin, in whole numbers that
            rise: ``{age: [18, 65]}`` keeps "under 18", "18-64" and "65+".
        pair: two images of one pair share what this finds in their paths; kept as a pseudonym.
        include: only files whose path fits this pattern, such as ``train/*.png``, are part of the input.
        neighbour_correlation: of the images of one file (pages, slices), one that correlates with the last
            kept by more than this is left out; 1 keeps all.
    """

    path: Path
    labels: FolderLabels | TableLabels | None = None
    patient: PatientRegex | PatientColumn | Literal["none"] | None = None
    group: PatientColumn | None = None
    attributes: tuple[str, ...] = ()
    bands: dict[str, tuple[Annotated[int, Field(strict=True, ge=0)], ...]] = Field(
        default_factory=dict[str, tuple[int, ...]]
    )
    pair: PatientRegex | None = None
    include: str | None = None
    neighbour_correlation: float = Field(default=0.95, gt=0, le=1)

    @model_validator(mode="after")
    def _columns_have_a_table(self) -> Self:
        if not isinstance(self.labels, TableLabels) and (
            self.attributes or self.group or isinstance(self.patient, PatientColumn)
        ):
            raise ValueError(
                "patient.column, group and attributes name columns of labels.table, and there is no "
                "labels.table"
            )
        return self

    @model_validator(mode="after")
    def _bands_can_be_cut(self) -> Self:
        for column, edges in self.bands.items():
            if column not in self.attributes:
                raise ValueError(f"bands names {column!r}, which is not among attributes; add it there")
            if PatientColumn(column=column) in (self.patient, self.group):
                raise ValueError(
                    f"bands names {column!r}, which tells patients or groups apart: bands would not"
                )
            if not edges or any(a >= b for a, b in pairwise(edges)):
                raise ValueError(f"bands.{column}: numbers that rise are expected, such as [18, 40, 65, 80]")
        return self

    @property
    def neighbours(self) -> float:
        """As set."""
        return self.neighbour_correlation

    @property
    def has_patients(self) -> bool:
        """True where the recipe says what names the patient."""
        return isinstance(self.patient, PatientRegex | PatientColumn)

    @property
    def kept_columns(self) -> frozenset[str]:
        """The column of the label, and the attributes."""
        label = frozenset({self.labels.column}) if isinstance(self.labels, TableLabels) else frozenset[str]()
        return label | frozenset(self.attributes)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The declared classes."""
        return self.labels.classes if self.labels is not None else None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the label table that are read."""
        label = (self.labels.column,) if isinstance(self.labels, TableLabels) else ()
        patient = (self.patient.column,) if isinstance(self.patient, PatientColumn) else ()
        group = (self.group.column,) if self.group else ()
        return (*label, *patient, *group, *self.attributes)


def files(settings: PathSettings, context: ReadContext) -> tuple[Tree, Iterator[Listed]]:
    """Return the files, sorted by path, each with what its path and its row say."""
    tree, table, members = _open(settings, context.limits)
    if table is not None:
        for column, edges in settings.bands.items():
            table.cut(column, edges)
        table.fit(member.key for member in members)
        if table.unused:
            context.notes.append(f"{table.unused:,} rows of the label table have no file.")
    return tree, (_listed(member, settings, table, context.waived(member.key)) for member in members)


def fingerprint(settings: PathSettings) -> str:
    """Return the digest of all files and of the label table."""
    return labelled_fingerprint(settings.path, settings.labels)


def _open(settings: PathSettings, limits: Limits) -> tuple[Tree, LabelTable | None, list[Member]]:
    """The files to read: those that fit the pattern, without the label table."""
    tree, table, found = open_labelled(settings.path, settings.labels, settings.columns, limits)
    members = [
        member for member in found if settings.include is None or fnmatchcase(member.key, settings.include)
    ]
    if not members:
        raise SourceError(
            "source.include: no file fits the pattern. It is held against each path relative to source.path."
            if settings.include is not None
            else f"source.path: {settings.path} holds a label table and nothing else. Put the images there."
        )
    return tree, table, members


def _listed(
    member: Member, settings: PathSettings, table: LabelTable | None, waived: frozenset[str]
) -> Listed:
    try:
        row = table.row(member.key) if table is not None else {}
        label, subject = _label(settings, member.key, row), _subject(settings, member.key, row)
    except Unfit as unfit:
        return Listed(member, code=unfit.code)
    attributes = {
        column: row[column] or None if column in settings.bands else column_value(row[column])
        for column in settings.attributes
    }
    kept = {column: value for column, value in attributes.items() if value is not None}
    lost = len(attributes) - len(kept)
    dropped = {"cells that are no short word or number": lost} if lost else {}
    joined = row[settings.group.column].strip() if settings.group else ""
    links = {"group": joined} if joined else {}
    if settings.pair is not None and (shared := _found(settings.pair.regex, member.key)):
        links["pair"] = kept["pair"] = pseudonym("pair", shared)[:16]
    return Listed(member, label, subject, kept, dropped, links, waived)


def _label(settings: PathSettings, key: str, row: dict[str, str]) -> str | None:
    if isinstance(settings.labels, TableLabels):
        return label_of(row[settings.labels.column], settings.labels.classes)
    if isinstance(settings.labels, FolderLabels):
        return label_of(key.rpartition("/")[0].rpartition("/")[2], settings.labels.classes)
    return None


def _found(regex: str, key: str) -> str:
    """Return the groups that a regular expression finds in a path, joined; without groups, the match."""
    match = re.search(regex, key)
    parts = (match.groups() or (match[0],)) if match else ()
    return "|".join(part for part in parts if part)


def _subject(settings: PathSettings, key: str, row: dict[str, str]) -> str | None:
    """The patient's key; None where the recipe names none.

    Raises:
        Unfit: NO_PATIENT.
    """
    if isinstance(settings.patient, PatientColumn):
        name = row[settings.patient.column]
    elif isinstance(settings.patient, PatientRegex):
        name = _found(settings.patient.regex, key)
    else:
        return None
    subject = patient_key(name)
    if subject is None:
        raise Unfit("NO_PATIENT")
    return subject
