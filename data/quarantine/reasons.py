"""Every reason code of the quarantine: what it means, and what to do about it."""

from collections.abc import Mapping
from typing import NamedTuple


class Reason(NamedTuple):
    """One reason for which a file is kept out.

    Attributes:
        meaning: what was found, without a value of the file.
        remedy: what the data office can do.
        is_choice: True where it says nothing about the quality of the input: it does not count toward the
            accepted share.
        may_be_released: True where a person who looked at the file may let it in by a reviewed list.
    """

    meaning: str
    remedy: str
    is_choice: bool = False
    may_be_released: bool = False


_EXPORT_AGAIN = "Fetch or export the file again; if it is broken there too, leave it out."
_ADD_ROW = "Mend the label table, or leave the file out."
_LOOK = "Look at the image. If it is clean, release it by a reviewed list (deidentify.reviewed)."
_LIMIT = "Split the file into smaller ones, or leave it out: the limit guards the machine."
_NOT_NEEDED = "Nothing: it holds no image to learn from."

_READING: Mapping[str, Reason] = {
    "NOT_RECOGNISED": Reason("no magic bytes of a supported format", _NOT_NEEDED),
    "EMPTY_FILE": Reason("zero bytes", _EXPORT_AGAIN),
    "NO_PREAMBLE_UNPROVEN": Reason("DICOM only by force, and its elements do not confirm it", _EXPORT_AGAIN),
    "PARSE_ERROR": Reason("the parser refused it", _EXPORT_AGAIN),
    "TRUNCATED": Reason("fewer bytes than declared", _EXPORT_AGAIN),
    "TRAILING_DATA": Reason(
        "bytes after the end of the data set, which may hide anything",
        "Find out what wrote them. Export the file again without them.",
    ),
    "CHECKSUM_MISMATCH": Reason("a checksum of the archive or the file does not hold", _EXPORT_AGAIN),
    "CHARSET_UNKNOWN": Reason(
        "a character set that is not known: the file is kept, its texts are searched as raw bytes",
        "Nothing, unless many files carry it: then ask the archive which character set it writes.",
        is_choice=True,
    ),
    "ENCRYPTED": Reason("encrypted, as a whole or in some attributes", "Decrypt it inside the house first."),
    "READ_DENIED": Reason("no permission to read", "Give the account that runs phantomset leave to read it."),
    "CHANGED_DURING_READ": Reason(
        "size or time changed while it was read", "Run again when nothing writes to the folder."
    ),
    "LINK_REFUSED": Reason(
        "a symbolic link, or a file with a second name (hard link)",
        "Put the file itself there: `cp -rL OLD NEW` makes a copy without links.",
    ),
    "SPECIAL_FILE": Reason("a device, a pipe or a socket", "Take it away: it is no file."),
    "PATH_ESCAPE": Reason(
        "an archive member whose name leaves the archive", "Make the archive again with an ordinary program."
    ),
    "NAME_COLLISION": Reason(
        "two archive members of one name", "Make the archive again: one name, one file."
    ),
    "TOO_LARGE_FILE": Reason("over the limit of bytes", _LIMIT),
    "TOO_MANY_PIXELS": Reason("over the limit of pixels", _LIMIT),
    "TOO_MANY_FRAMES": Reason("over the limit of frames or slices", _LIMIT),
    "TOO_MANY_MEMBERS": Reason("an input over the limit of files, or a header over that of elements", _LIMIT),
    "TOO_DEEP": Reason(
        "nested too deeply", "Leave it out: no device nests that deep, and it may be hostile."
    ),
    "BOMB_RATIO": Reason("expands beyond the limit", "Leave it out: no image packs that well."),
    "INTERNAL_ERROR": Reason("a fault of ours met this file", "Report it, without the file: a bug of ours."),
}

_DECODING: Mapping[str, Reason] = {
    "NO_TRANSFER_SYNTAX": Reason("the transfer syntax is missing", _EXPORT_AGAIN),
    "UNSUPPORTED_TRANSFER_SYNTAX": Reason(
        "a video or private transfer syntax", "Export it in a standard syntax for images."
    ),
    "DECODER_MISSING": Reason(
        "a decoder exists, but is not installed",
        "Run `phantomset doctor`: it names the command to install it.",
    ),
    "DECODE_ERROR": Reason("the decoder refused it", _EXPORT_AGAIN),
    "DECODE_TIMEOUT": Reason("the decoder took longer than allowed", _EXPORT_AGAIN),
    "DECODER_CRASH": Reason(
        "the decoder died over it, twice", "Leave it out, and report the decoder's version."
    ),
    "FRAME_MISMATCH": Reason("frames or bytes differ from the header", _EXPORT_AGAIN),
    "NOT_AN_IMAGE": Reason("a report, a document, a plan, a waveform or a directory", _NOT_NEEDED),
    "DERIVED_OBJECT": Reason("a segmentation, a parametric map or a dose grid", _NOT_NEEDED),
    "LOCALIZER_OR_SCREEN": Reason("a localizer, a screen save or a dose report", _LOOK, may_be_released=True),
    "MISSING_REQUIRED": Reason("rows, columns, bits or another needed element is absent", _EXPORT_AGAIN),
    "INVALID_VALUE": Reason("an element that is needed for the pixels fails its grammar", _EXPORT_AGAIN),
    "UNSUPPORTED_PIXEL_FORMAT": Reason(
        "1-bit, float, more than 4 samples or an unknown colour model",
        "Export it as grey or RGB, 8 to 16 bit.",
    ),
    "INCONSISTENT_SERIES": Reason(
        "geometry or modality changes inside a series", "Split the series at the archive, or leave it out."
    ),
    "LUT_INVALID": Reason("a broken lookup table or window", _EXPORT_AGAIN),
    "SPACING_INVALID": Reason("a pixel spacing that is not positive, or absurd", _EXPORT_AGAIN),
    "NON_FINITE": Reason("NaN or infinite pixel values", _EXPORT_AGAIN),
    "CONSTANT_IMAGE": Reason("one single value", _NOT_NEEDED),
    "LOW_CONTENT": Reason("a slice or frame with hardly any content", _NOT_NEEDED, is_choice=True),
    "AFFINE_INVALID": Reason(
        "NIfTI: the orientation is singular or contradicts itself",
        "Write the volume again with a sound affine: which way is up is not guessed.",
    ),
    "NOT_A_VOLUME": Reason("NIfTI: a surface or a connectivity file", _NOT_NEEDED),
    "DIM_UNSUPPORTED": Reason(
        "NIfTI: more than 4 dimensions, or vectors", "Save one scalar volume a file, 2 to 4 dimensions."
    ),
}

_IDENTITY: Mapping[str, Reason] = {
    "NO_PATIENT": Reason(
        "no patient identifier",
        "Name another key (source.patient), or restore the identifier: without one, a person can end in two "
        "parts of the split.",
    ),
    "PATIENT_CONFLICT": Reason(
        "one study under two patients", "Find out at the archive whose study it is, and mend it there."
    ),
    "UID_CONFLICT": Reason(
        "one SOP Instance UID with different pixels",
        "Find out which of the files is the right one; keep that.",
    ),
    "NO_LABEL": Reason("no row in the label table, or an empty cell", _ADD_ROW),
    "LABEL_UNKNOWN": Reason("a label that fails the grammar or is not declared", _ADD_ROW),
    "LABEL_CONFLICT": Reason(
        "the same image, or the same row, under two labels", "Decide which label is right, and keep that one."
    ),
    "NOT_SELECTED": Reason(
        "a class outside those that the recipe declares", "Nothing: you chose it.", is_choice=True
    ),
    "RARE_CLASS": Reason(
        "too few training images of its class or combination of conditions (model.rare)",
        "Bring more images of it, join it with another class or band, or leave a condition out.",
        is_choice=True,
    ),
    "DUPLICATE_EXACT": Reason(
        "the same pixels as an image that was kept", "Nothing: one of them is enough.", is_choice=True
    ),
    "DUPLICATE_NEAR": Reason(
        "nearly the same picture as one that was kept",
        "Nothing, or set duplicates.near to 'group' to keep both in one part of the split.",
        is_choice=True,
    ),
    "NEIGHBOUR_THINNED": Reason(
        "a slice or frame nearly the same as the one before it",
        "Nothing, or raise source.neighbour_correlation to keep more of them.",
        is_choice=True,
    ),
    "SPLIT_LINK": Reason(
        "it would join patients who stand in different parts of a stored split",
        "Find out why two patients share an image or a study. To use it, start a new split (split.seed).",
    ),
    "MARKED_SYNTHETIC": Reason(
        "its header or metadata says that a trained model made it: it is no real image",
        "Leave it out: a synthetic image that passes for a real one spoils every figure.",
    ),
    "BURNED_IN_DECLARED": Reason("the header declares burned-in annotation", _LOOK, may_be_released=True),
    "BURNED_IN_TEXT": Reason("text was read in the pixels", _LOOK, may_be_released=True),
    "BURNED_IN_RISK": Reason(
        "a class of objects that often carries burned-in text",
        "Name the device and a mask that covers its text, or mask: none if it burns in none "
        "(deidentify.devices), or look at the image and release it by a reviewed list (deidentify.reviewed).",
        may_be_released=True,
    ),
    "FACE_RISK": Reason(
        "a volume that may show a head: a face can be drawn from it",
        "Remove the faces with a tool made for it, or accept the risk (deidentify.accept_faces: true). "
        "For CT and MR only a Body Part Examined below the neck tells that there is none.",
        may_be_released=True,
    ),
    "RESIDUAL_HIT": Reason(
        "the independent scan found a text of the source in what was written; the run failed",
        "Read the list of places in the workspace's restricted/review. If a word is harmless, add it to "
        "deidentify.known_words; otherwise report it: nothing of the source may be written.",
    ),
}

REASONS: Mapping[str, Reason] = {**_READING, **_DECODING, **_IDENTITY}
"""Every reason code. A code that is not here cannot enter the ledger."""


def stage_of(code: str) -> str:
    """Return where a file with this code was kept out: ``reading``, ``decoding`` or ``identity``."""
    return "reading" if code in _READING else "decoding" if code in _DECODING else "identity"
