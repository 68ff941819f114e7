"""Images that lie in one array: shape and labels held against each other, then one by one to [0, 1]."""

from collections.abc import Iterator

import numpy as np

from phantomset.data.errors import SourceError
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.reading.labels import label_of
from phantomset.data.records import RawImage, Rejected
from phantomset.data.source import Limits


def hold_shape(
    name: str, shape: tuple[int, ...], dtype: np.dtype, labels: np.ndarray, limits: Limits
) -> None:
    """Hold that an array is ``(N, H, W)`` or ``(N, H, W, 1 or 3)`` uint8, with one whole number a label.

    Raises:
        SourceError: it is not; the message says what was found.
    """
    fits = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))
    if dtype != np.uint8 or not fits:
        raise SourceError(
            f"source.path: {name} is {dtype} {shape}; expected uint8 (images, height, width) or "
            "(images, height, width, 3). Volumes and floats are not taken in."
        )
    if (
        shape[0] < 1
        or shape[1] * shape[2] < 1
        or shape[0] > limits.members
        or shape[1] * shape[2] > limits.pixels
    ):
        raise SourceError(f"source.path: {name} has shape {shape}: it is empty, or over the limits.")
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise SourceError(
            f"source.path: the labels of {name} have {labels.shape[1]} columns: a set with several labels an "
            "image. Each image needs one class."
        )
    if labels.dtype.kind not in "iu" or labels.size != shape[0]:
        raise SourceError(
            f"source.path: {name} has {shape[0]:,} images and {labels.size:,} labels ({labels.dtype}); "
            "expected one whole number an image."
        )


def hold_names(labels: np.ndarray, names: tuple[str, ...] | None) -> None:
    """Hold that every label has a name, where names are given.

    Raises:
        SourceError: a label is outside.
    """
    if names is not None and len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(names):
        raise SourceError(
            f"source.label_names: {len(names)} names, but the labels go from {int(labels.min())} to "
            f"{int(labels.max())}. Give one name a label, in order."
        )


def raw_image(key: str, values: np.ndarray, label: int, names: tuple[str, ...] | None) -> RawImage | Rejected:
    """Return one image of an array: ``(H, W)`` or ``(H, W, C)`` uint8, its class by name or as a number."""
    try:
        text = label_of(names[label] if names is not None else str(label), None)
    except Unfit as unfit:
        return Rejected(key, unfit.code, values.nbytes)
    plane = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    return RawImage(key, plane.astype(np.float32) / np.float32(255), None, text)


def numbered(prefix: str, total: int) -> Iterator[str]:
    """Yield keys whose order as text is their order."""
    for index in range(total):
        yield f"{prefix}/{index:09d}"
