"""The ledger of what was kept out, and the reason codes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from phantomset.data.keys import pseudonym

CODES: Mapping[str, str] = {
    "NOT_RECOGNISED": "no magic bytes of a supported format",
    "EMPTY_FILE": "zero bytes",
    "NO_PREAMBLE_UNPROVEN": "DICOM only by force, and its elements do not confirm it",
    "PARSE_ERROR": "the parser refused it",
    "TRUNCATED": "fewer bytes than declared",
    "NO_TRANSFER_SYNTAX": "the transfer syntax is missing",
    "UNSUPPORTED_TRANSFER_SYNTAX": "a video or private transfer syntax",
    "DECODER_MISSING": "a decoder exists, but is not installed",
    "DECODE_ERROR": "the decoder refused it",
    "FRAME_MISMATCH": "frames or bytes differ from the header",
    "MULTI_FRAME": "several frames: only single images are taken in",
    "NOT_AN_IMAGE": "a report, a document, a plan, a waveform or a directory",
    "DERIVED_OBJECT": "a segmentation, a parametric map or a dose grid",
    "LOCALIZER_OR_SCREEN": "a localizer, a screen save or a dose report",
    "MISSING_REQUIRED": "rows, columns, bits or another needed element is absent",
    "INVALID_VALUE": "an element that is needed for the pixels fails its grammar",
    "UNSUPPORTED_PIXEL_FORMAT": "1-bit, float, more than 4 samples or an unknown colour model",
    "LUT_INVALID": "a broken lookup table or window",
    "SPACING_INVALID": "a pixel spacing that is not positive, or absurd",
    "NON_FINITE": "NaN or infinite pixel values",
    "CONSTANT_IMAGE": "one single value",
    "CHECKSUM_MISMATCH": "the archive's checksum does not hold",
    "TOO_LARGE_FILE": "over the limit of bytes",
    "TOO_MANY_PIXELS": "over the limit of pixels",
    "BOMB_RATIO": "expands beyond the limit",
    "TOO_DEEP": "nested too deeply",
    "LINK_REFUSED": "a symbolic link",
    "SPECIAL_FILE": "a device, a pipe or a socket",
    "PATH_ESCAPE": "an archive member whose name leaves the archive",
    "NAME_COLLISION": "two archive members of one name",
    "ENCRYPTED": "encrypted",
    "READ_DENIED": "no permission to read",
    "CHANGED_DURING_READ": "size or time changed while it was read",
    "DUPLICATE_EXACT": "the same pixels as an image that was kept",
    "LABEL_CONFLICT": "the same pixels, or the same row, under two labels",
    "NO_LABEL": "no row in the label table, or an empty cell",
    "LABEL_UNKNOWN": "a label that fails the grammar or is not declared",
    "NOT_SELECTED": "a class outside those that the recipe declares",
    "NO_PATIENT": "no patient identifier",
    "BURNED_IN_DECLARED": "the header declares burned-in annotation",
    "INTERNAL_ERROR": "a fault of ours met this file",
    "BURNED_IN_RISK": "a class of objects that often carries burned-in text",
}
"""Every reason code with its meaning."""

CHOSEN = frozenset({"DUPLICATE_EXACT", "NOT_SELECTED"})
"""Codes that say nothing about the quality of the input: they do not count toward the accepted share."""


class Unfit(Exception):  # noqa: N818 - not an error: the file goes to quarantine and the run goes on
    """Raised inside a source where a file cannot become an image; carries the reason code, nothing else."""

    def __init__(self, code: str) -> None:
        if code not in CODES:
            raise ValueError(f"quarantine: no code {code!r}")
        super().__init__(code)
        self.code = code


@dataclass(slots=True)
class Ledger:
    """What was kept out of one cohort: keyed name of the path, code and size, never a value from the file."""

    entries: list[tuple[str, str, int]] = field(default_factory=list[tuple[str, str, int]])

    def add(self, key: str, code: str, size_bytes: int = 0) -> None:
        """Enter one file. ``key`` is where the source found it; it is stored as an HMAC only."""
        if code not in CODES:
            raise ValueError(f"quarantine: no code {code!r}")
        self.entries.append((pseudonym("path", key), code, size_bytes))

    @property
    def counts(self) -> dict[str, int]:
        """Files by reason code, sorted by code."""
        return dict(sorted(Counter(code for _, code, _ in self.entries).items()))

    @property
    def faults(self) -> int:
        """How many entries speak against the input; duplicates and classes not asked for do not."""
        return sum(code not in CHOSEN for _, code, _ in self.entries)

    def write(self, path: Path) -> None:
        """Write the ledger as parquet with the columns path (HMAC), code, bytes, sorted."""
        import pandas as pd

        frame = pd.DataFrame(sorted(self.entries), columns=["path", "code", "bytes"])
        frame.astype({"path": "string", "code": "string", "bytes": "int64"}).to_parquet(path, index=False)


def in_words(counts: Mapping[str, int]) -> str:
    """Return the counts as ``3 TRUNCATED, 1 EMPTY_FILE``, largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {code}" for code, count in ordered) or "none"
