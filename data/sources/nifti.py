"""A folder, or a ZIP file, of NIfTI volumes, gzipped or not; each slice is an image."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from phantomset.data.file_source import FileSource, Listed, Readable, part_key
from phantomset.data.pixels.nifti_volume import header_of_pair, parse, unit_slices
from phantomset.data.pixels.windows import CT_WINDOWS
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.reading.paths import PathSettings, fingerprint
from phantomset.data.reading.paths import files as listed_files
from phantomset.data.reading.tree import Member
from phantomset.data.records import RawImage
from phantomset.data.source import ReadContext


class Settings(PathSettings, frozen=True):
    """``source: {format: nifti, ...}``.

    Attributes:
        window: how values become grey: "percentile" (0.5 to 99.5 of the volume), for volumes in Hounsfield
            units a window by name ("lung", "bone", "soft-tissue", "brain"), or ``[centre, width]``.
        body_part: what the volumes show, since the format does not tell. From a volume of the head a face can
            be drawn: "head" needs ``deidentify.accept_faces``; say "other" only where no head is in them.
    """

    format: Literal["nifti"] = "nifti"
    window: Literal["percentile", "lung", "bone", "soft-tissue", "brain"] | tuple[float, float] = Field(
        default="percentile"
    )
    body_part: Literal["head", "other"] = "head"


@dataclass(frozen=True, slots=True)
class Pairs:
    """A tree in which a header and its voxels (``.hdr`` and ``.img``) are read as one file."""

    tree: Readable
    voxels: dict[str, Member]

    def read(self, member: Member) -> bytes:
        """Return a file's bytes, of a pair the header's followed by the voxels'."""
        content = self.tree.read(member)
        header, other = header_of_pair(content), self.voxels.get(member.key)
        return content if header is None or other is None else header + self.tree.read(other)


def files(settings: Settings, context: ReadContext) -> tuple[Readable, Iterator[Listed]]:
    """Return the files, sorted by path; the voxels of a pair are part of their header.

    Where no volume lies in two files the tree is given as it is: each file of it is then read once.
    """
    tree, listed = listed_files(settings, context)
    everything = list(listed)
    members = {each.member.key: each.member for each in everything}
    voxels = {
        key: members[f"{key[:-4]}.img"]
        for key in members
        if key.lower().endswith(".hdr") and f"{key[:-4]}.img" in members
    }
    halves = {member.key for member in voxels.values()}
    return (Pairs(tree, voxels) if voxels else tree), (
        each for each in everything if each.member.key not in halves
    )


def decode(
    content: bytes, settings: Settings, context: ReadContext, waived: frozenset[str]
) -> Iterator[RawImage]:
    """Yield the slices of one volume."""
    volume = parse(content, context.limits)
    is_flat = 1 in volume.voxels.shape[:3]
    if (
        settings.body_part == "head"
        and not is_flat
        and not context.deidentify.accept_faces
        and "FACE_RISK" not in waived
    ):
        raise Unfit("FACE_RISK")
    window = CT_WINDOWS.get(settings.window) if isinstance(settings.window, str) else settings.window
    for index, (pixels, spacing, total) in enumerate(unit_slices(volume, window)):
        yield RawImage(part_key(index, total), pixels, None, None, spacing_mm=spacing, is_part=total > 1)


SOURCE = FileSource("nifti", Settings, files, decode, fingerprint)
