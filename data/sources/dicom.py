"""A folder of DICOM files, with a label table beside them."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from phantomset.data.burned_in.blackout import blacken
from phantomset.data.deidentify import Box, kept
from phantomset.data.file_source import FileSource, Listed, part_key
from phantomset.data.pixels.windows import Window
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.reading.labels import (
    LabelTable,
    TableLabels,
    label_of,
    labelled_fingerprint,
    open_labelled,
)
from phantomset.data.reading.tree import Member, Tree
from phantomset.data.records import RawImage
from phantomset.data.source import ReadContext, SourceSettings


class TagLabels(BaseModel):
    """A label that an allow-listed element of the header holds.

    Attributes:
        tag: the element.
        classes: the values to take in, in their order; None: all, sorted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tag: Literal["Modality", "ViewPosition", "BodyPartExamined", "PatientSex", "Laterality"]
    classes: tuple[str, ...] | None = None


class PatientTag(BaseModel):
    """The element that names the patient."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tag: Literal["PatientID", "StudyInstanceUID"] = "PatientID"


class Settings(SourceSettings, frozen=True):
    """``source: {format: dicom, ...}``.

    Attributes:
        path: the folder; every regular file below it is read, whatever its name. A ZIP file serves as well.
        labels: a label table, an element of the header, or nothing.
        patient: the element that names the patient; a file without it is quarantined.
        window: how values become grey: "auto" (by modality), "file", "percentile", ``[centre, width]``, or
            for CT a window by name: "lung", "bone", "soft-tissue", "brain".
        neighbour_correlation: of the frames of one file, one that correlates with the last kept by more than
            this is left out; 1 keeps all.
    """

    format: Literal["dicom"] = "dicom"
    path: Path
    labels: TableLabels | TagLabels | None = None
    patient: PatientTag = PatientTag()
    window: Window = "auto"
    neighbour_correlation: float = Field(default=0.95, gt=0, le=1)

    @property
    def neighbours(self) -> float:
        """As set."""
        return self.neighbour_correlation

    @property
    def has_patients(self) -> bool:
        """DICOM files always name their patient."""
        return True

    @property
    def kept_columns(self) -> frozenset[str]:
        """The column of the label."""
        return frozenset({self.labels.column}) if isinstance(self.labels, TableLabels) else frozenset()

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The declared classes."""
        return self.labels.classes if self.labels is not None else None


def files(settings: Settings, context: ReadContext) -> tuple[Tree, Iterator[Listed]]:
    """Return the files, sorted by path, each with its label where a table has it."""
    columns = tuple(settings.kept_columns)
    tree, table, members = open_labelled(settings.path, settings.labels, columns, context.limits)
    if table is not None:
        table.fit(member.key for member in members)
        if table.unused:
            context.notes.append(f"{table.unused:,} rows of the label table have no file.")
    return tree, (_listed(member, settings, table, context.waived(member.key)) for member in members)


def decode(
    content: bytes, settings: Settings, context: ReadContext, waived: frozenset[str]
) -> Iterator[RawImage]:
    """Yield the frames of one DICOM file."""
    from phantomset.data.burned_in.declared import mask_of
    from phantomset.data.dicom import header
    from phantomset.data.dicom.pixels import steps_of, unit_images

    with header.quiet():
        data = header.parse(content, context.limits)
        header.hold_image(data, context.deidentify, context.limits, waived)
        subject = header.subject_of(data, settings.patient.tag)
        attributes = header.attributes_of(data, context.deidentify.retain, subject)
        label, links = _own_label(data, settings), header.links_of(data)
        left_out, mask = header.left_out(data, attributes), mask_of(data, context.deidentify)
        total = header.shape_of(data, context.limits)[0]
        for index, frame in enumerate(unit_images(data, settings.window, context.limits)):
            yield RawImage(
                part_key(index, total),
                blacken(frame.unit, mask),
                subject,
                label,
                attributes,
                {} if index else left_out | steps_of(data, frame),
                links,
                frame.spacing_mm,
                is_part=total > 1,
                stored=frame.stored and partial(_blackened, frame.stored, mask),
            )


def fingerprint(settings: Settings) -> str:
    """Return the digest of all files and of the label table."""
    return labelled_fingerprint(settings.path, settings.labels)


def _listed(member: Member, settings: Settings, table: LabelTable | None, waived: frozenset[str]) -> Listed:
    if table is None or not isinstance(settings.labels, TableLabels):
        return Listed(member, waived=waived)
    try:
        label = label_of(table.row(member.key)[settings.labels.column], settings.labels.classes)
    except Unfit as unfit:
        return Listed(member, code=unfit.code)
    return Listed(member, label, waived=waived)


def _own_label(data: Any, settings: Settings) -> str | None:
    """The label that the header holds; None where the recipe looks for none there."""
    if not isinstance(settings.labels, TagLabels):
        return None
    tag = settings.labels.tag
    return label_of(kept(tag, data.get(tag)) or "", settings.labels.classes)


def _blackened(stored: Callable[[], np.ndarray], mask: tuple[Box, ...]) -> np.ndarray:
    return blacken(stored(), mask)


SOURCE = FileSource("dicom", Settings, files, decode, fingerprint)
