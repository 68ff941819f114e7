"""One ``.npz`` file in the manner of MedMNIST: arrays by split, read by numpy alone and without pickle.

Keys: ``train_images`` ``(N, H, W)`` or ``(N, H, W, 3)`` uint8 and ``train_labels`` ``(N, 1)`` int64 hold the
whole set, in its order; ``val_*`` and ``test_*`` are there, with the same shapes and no rows, for readers
that walk over all three; ``label_names`` ``(K,)`` text, by label. The pixels are not written a second time
under other names: every reader of this project takes these keys.
"""

import zipfile
from pathlib import Path

import numpy as np

from phantomset.data.records import ImageSet
from phantomset.pipelines.publisher import About, Publisher


def write(synthetic: ImageSet, about: About, folder: Path) -> None:
    """Write ``<name>.npz``."""
    images = (
        synthetic.images[:, 0] if synthetic.images.shape[1] == 1 else synthetic.images.transpose(0, 2, 3, 1)
    )
    labels = synthetic.labels.astype(np.int64)[:, None]
    arrays = {
        "train_images": images,
        "train_labels": labels,
        "val_images": images[:0],
        "val_labels": labels[:0],
        "test_images": images[:0],
        "test_labels": labels[:0],
        "label_names": np.array(synthetic.label_names, dtype=np.str_),
    }
    with zipfile.ZipFile(folder / f"{about.name}.npz", "w") as archive:
        for key, array in arrays.items():
            _add(archive, f"{key}.npy", np.ascontiguousarray(array))


def _add(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    """Add one array. numpy's own writer stamps the hour into the archive; here the time is always 1980."""
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    with archive.open(entry, "w", force_zip64=True) as stream:
        np.lib.format.write_array(stream, array, allow_pickle=False)


PUBLISHER = Publisher(
    name="npz",
    summary="all images and labels in one `NAME.npz`, keys as in MedMNIST",
    loading="""\
import numpy as np                                     # numpy, without pickle
arrays = np.load("NAME.npz")
images, labels, names = arrays["train_images"], arrays["train_labels"][:, 0], arrays["label_names"]""",
    write=write,
)
