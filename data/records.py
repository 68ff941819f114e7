"""The nouns: what flows from stage to stage. They hold digests; `ImageSet` alone holds pixels, in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """What every image of a cohort looks like: channels (1 or 3), height and width in pixels."""

    channels: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        return (self.channels, self.height, self.width)


@dataclass(frozen=True, slots=True)
class RawImage:
    """What a source yields: an image as it lay in the house. Memory only: never stored, printed or logged.

    Attributes:
        key: where the source found it (path, member or index); orders the cohort, stored only as an HMAC.
        pixels: ``(H, W)`` or ``(H, W, 3)`` float32 in [0, 1], bright is dense, aspect already square.
        subject: the source's own patient identifier; None where the source has none.
        label: the class as text; None where the source has none.
        attributes: allow-listed attributes as text, already through the value grammar.
        dropped: counts of what de-identification took away, and of what the path to pixels passed over, by
            rule, never by value.
        links: what joins it to other images, by kind (study, series, instance, group, head): memory only.
        spacing_mm: the side of a pixel, where the file tells it.
        is_part: True for one of several slices, frames or pages of a file.
        stored: gives the same picture with every stored value between black (0) and white (1); None where
            `pixels` show all of them. For the search for text, and gone after it.
        is_doubtful: True where marks were seen that may be text, too weak to tell.
    """

    key: str
    pixels: np.ndarray
    subject: str | None
    label: str | None
    attributes: dict[str, str] = field(default_factory=dict[str, str])
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    links: dict[str, str] = field(default_factory=dict[str, str])
    spacing_mm: float | None = None
    is_part: bool = False
    stored: Callable[[], np.ndarray] | None = None
    is_doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """What a source could not turn into an image: where it lay, and the reason code of the quarantine."""

    key: str
    code: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a cohort, without its pixels.

    Attributes:
        digest: SHA-256 of the canonical pixels.
        origin: SHA-256 of the image as the source gave it: the same at every image size.
        label: class index, 0..K-1.
        subject: keyed pseudonym of the patient.
        group: name of the patient or near-duplicate group; a group never crosses a split.
        attributes: allow-listed attributes as text.
        spacing_mm: the side of a pixel of the stored image; None where the source does not tell it.
    """

    digest: str
    origin: str
    label: int
    subject: str
    group: str
    attributes: dict[str, str] = field(default_factory=dict[str, str])
    spacing_mm: float | None = None


@dataclass(frozen=True, slots=True)
class Cohort:
    """Everything that ingest let in, and how much it kept out.

    Attributes:
        digest: made from the sorted records, the label names and the spec; equal inputs, equal name.
        quarantine: counts by reason code. ``files == len(records) + sum(quarantine.values())``; records that
            a split leaves out are counted with the split.
        dropped: counts of header elements that de-identification took away, by rule.
        notes: sentences for the report, such as "pixels not screened for burned-in text".
        unused: records that a recipe left out of a cohort (``model.rare``): nothing learns from them, and the
            ledger of judgements knows them all the same.
    """

    digest: str
    spec: ImageSpec
    label_names: tuple[str, ...]
    records: tuple[Record, ...]
    files: int
    quarantine: dict[str, int]
    dropped: dict[str, int]
    has_patients: bool
    notes: tuple[str, ...] = ()
    unused: tuple[Record, ...] = ()


@dataclass(frozen=True, slots=True)
class Split:
    """Which records train the generator, judge it, or fit the judges, as positions in ``cohort.records``.

    No subject and no near-duplicate group is in two parts.

    Attributes:
        left_out: records in no part, since they would join patients who stand in different parts of an
            earlier split (SPLIT_LINK).
    """

    digest: str
    cohort: str
    train: tuple[int, ...]
    holdout: tuple[int, ...]
    reference: tuple[int, ...]
    left_out: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images in memory.

    Attributes:
        images: ``(N, C, H, W)`` uint8.
        labels: ``(N,)`` int64, 0..K-1.
        patients: ``(N,)`` int64, one code a patient, shared by the parts of a cohort; -1 if synthetic.
        label_names: K names, by label.
        attributes: columns of the set's table, ``(N,)`` text each, by name; "" where a cell is empty.
    """

    images: np.ndarray
    labels: np.ndarray
    patients: np.ndarray
    label_names: tuple[str, ...]
    attributes: dict[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: np.ndarray) -> "ImageSet":
        """Return the images at the given positions (or under the given boolean mask)."""
        columns = {name: values[index] for name, values in self.attributes.items()}
        return ImageSet(
            self.images[index], self.labels[index], self.patients[index], self.label_names, columns
        )


@dataclass(frozen=True, slots=True)
class Guarantee:
    """The differential privacy that a training kept: cohorts that differ in one patient look alike.

    Attributes:
        epsilon: the odds of any outcome change by at most e to this power ...
        delta: ... but for this chance.
        clip_norm: length to which each image's gradient was shortened.
        history: steps by their noise: noise multiplier, share of the patients drawn in a step, steps.
    """

    epsilon: float
    delta: float
    clip_norm: float
    history: tuple[tuple[float, float, int], ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained generator, by the digest of its folder's weights and identity.

    ``guarantee`` is None where it was trained without differential privacy.
    """

    digest: str
    family: str
    settings: dict[str, Any]
    split: str
    images_seen: int
    events: tuple[dict[str, Any], ...] = ()
    guarantee: Guarantee | None = None


@dataclass(frozen=True, slots=True)
class SyntheticSet:
    """A labelled synthetic set, by the digest of its images and labels."""

    digest: str
    checkpoint: str
    seed: int
    count: int
    label_names: tuple[str, ...]
