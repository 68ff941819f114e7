"""Sets that were let out, kept beside the key: the next set of the same patients is judged with them.

They are public already, so nothing here is restricted; but a deleted workspace must not make them forgotten.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from phantomset.data.errors import WorkspaceError
from phantomset.data.pixels.canonical import ImageSettings, canonical
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.records import ImageSet, ImageSpec
from phantomset.pipelines.draft import set_digest

FOLDER = "released"


def keep(beside: Path, synthetic: ImageSet) -> None:
    """Keep a set under its digest, in the folder of the key.

    Raises:
        WorkspaceError: it cannot be written; then nothing may be let out.
    """
    path = _path(beside, set_digest(synthetic))
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not path.exists():
            with part.open("wb") as stream:
                np.savez_compressed(
                    stream,
                    images=synthetic.images,
                    labels=synthetic.labels,
                    label_names=np.array(synthetic.label_names, dtype=np.str_),
                )
            part.replace(path)
    except OSError as error:
        raise WorkspaceError(
            f"released: cannot write to {path.parent} ({error.strerror}); a set that cannot be kept there "
            "cannot be let out, because later sets are judged with it. Free some space there."
        ) from None


def load(beside: Path, digest: str, spec: ImageSpec) -> ImageSet | None:
    """Return a set that was let out, at the given size and channels; None where it is gone or damaged."""
    try:
        with _path(beside, digest).open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            names = tuple(str(name) for name in stored["label_names"])
            images, labels = stored["images"], stored["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    found = ImageSet(images, labels, np.full(len(labels), -1, dtype=np.int64), names)
    return _fitted(found, spec) if set_digest(found) == digest else None


def _path(beside: Path, digest: str) -> Path:
    return beside / FOLDER / f"{digest}.npz"


def _fitted(part: ImageSet, spec: ImageSpec) -> ImageSet:
    """Return a set at another size, by the path that real images take; constant images fall out."""
    if part.images.shape[1:] == spec.shape:
        return part
    settings = ImageSettings(
        size_px=(spec.height, spec.width), channels=3 if spec.channels == 3 else 1, fit="pad"
    )
    rows: list[int] = []
    images: list[np.ndarray] = []
    for row, image in enumerate(part.images):
        plane = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        try:
            images.append(canonical(plane.astype(np.float32) / np.float32(255), settings))
            rows.append(row)
        except Unfit:
            continue
    kept = part.take(np.array(rows, dtype=np.int64))
    return ImageSet(
        np.stack(images) if images else np.zeros((0, *spec.shape), np.uint8),
        kept.labels,
        kept.patients,
        kept.label_names,
    )
