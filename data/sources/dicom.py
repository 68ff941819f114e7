"""A folder of DICOM files, with a label table beside them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from phantomset.data.deidentify import kept
from phantomset.data.digest import digest_of
from phantomset.data.labels import LabelTable, TableLabels, label_of, open_table
from phantomset.data.quarantine import Unfit
from phantomset.data.reading import Member, Tree, open_tree
from phantomset.data.records import RawImage, Rejected
from phantomset.data.source import Limits, ReadContext, Source, SourceSettings
from phantomset.data.windows import Window


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
    """

    format: Literal["dicom"] = "dicom"
    path: Path
    labels: TableLabels | TagLabels | None = None
    patient: PatientTag = PatientTag()
    window: Window = "auto"

    @property
    def has_patients(self) -> bool:
        """DICOM files always name their patient."""
        return True

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The declared classes."""
        return self.labels.classes if self.labels is not None else None


def read(settings: Settings, context: ReadContext) -> Iterator[RawImage | Rejected]:
    """Yield an image or a rejection for every file, sorted by path."""
    tree, table, members = _open(settings, context.limits)
    if table is not None:
        table.fit(member.key for member in members)
        if table.unused:
            context.notes.append(f"{table.unused:,} rows of the label table have no file.")
    for member in members:
        yield from _images(tree, member, settings, table, context)


def fingerprint(settings: Settings) -> str:
    """Return the digest of all files and of the label table."""
    limits = Limits()
    tree = open_tree(settings.path, limits)
    if not isinstance(settings.labels, TableLabels):
        return tree.fingerprint()
    content, inside = open_table(settings.labels.table, tree, settings.path, limits)
    return digest_of(tree.fingerprint(excluded=inside), content)


def _open(settings: Settings, limits: Limits) -> tuple[Tree, LabelTable | None, list[Member]]:
    """The files to read: all but the label table, where it lies among them."""
    tree = open_tree(settings.path, limits)
    if not isinstance(settings.labels, TableLabels):
        return tree, None, tree.members()
    content, inside = open_table(settings.labels.table, tree, settings.path, limits)
    table = LabelTable.read(content, settings.labels.key, (settings.labels.column,))
    return tree, table, [member for member in tree.members() if member.key not in inside]


def _images(
    tree: Tree, member: Member, settings: Settings, table: LabelTable | None, context: ReadContext
) -> Iterator[RawImage | Rejected]:
    from phantomset.data.dicom_header import (
        attributes_of,
        hold_image,
        left_out,
        links_of,
        parse,
        quiet,
        subject_of,
    )
    from phantomset.data.dicom_pixels import unit_images
    from phantomset.data.screens import blacken, mask_of

    try:
        with quiet():
            data = parse(tree.read(member), context.limits)
            hold_image(data, context.deidentify, context.limits, context.waived(member.key))
            subject = subject_of(data, settings.patient.tag)
            attributes = attributes_of(data, context.deidentify.retain, subject)
            label = _label(member, data, settings, table)
            dropped, links, mask = (
                left_out(data, attributes),
                links_of(data),
                mask_of(data, context.deidentify),
            )
            pictures = list(unit_images(data, settings.window, context.limits))
    except Unfit as unfit:
        yield Rejected(member.key, unfit.code, member.size_bytes)
    except Exception:  # one file must not end a run of thousands, and a traceback may carry its values
        yield Rejected(member.key, "INTERNAL_ERROR", member.size_bytes)
    else:
        for index, (pixels, _) in enumerate(pictures):
            key = member.key if len(pictures) == 1 else f"{member.key}#{index:06d}"
            shown = blacken(pixels, mask)
            yield RawImage(key, shown, subject, label, attributes, {} if index else dropped, links)


def _label(member: Member, data: Any, settings: Settings, table: LabelTable | None) -> str | None:
    if isinstance(settings.labels, TagLabels):
        tag = settings.labels.tag
        return label_of(kept(tag, data.get(tag)) or "", settings.labels.classes)
    if table is None or settings.labels is None:
        return None
    return label_of(table.row(member.key)[settings.labels.column], settings.labels.classes)


SOURCE = Source("dicom", Settings, read, fingerprint)
