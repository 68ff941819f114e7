"""One ``.npz`` file in the manner of MedMNIST: arrays by split, read by numpy alone and without pickle.

Keys: ``train_images`` ``(N, H, W)`` or ``(N, H, W, 3)`` uint8 and ``train_labels`` ``(N, 1)`` int64 hold the
set, in its order; ``val_*`` and ``test_*`` are there with the same shapes, and have rows where the set is
divided; ``label_names`` ``(K,)`` text, by label; ``digital_source_type`` the mark of synthetic origin. The
pixels are not written a second time under other names: every reader of this project takes these keys.
"""

import zipfile
from pathlib import Path

import numpy as np

from phantomset.data.records import ImageSet
from phantomset.data.synthetic_mark import NPZ_KEY, SOURCE_TYPE
from phantomset.pipelines.publisher import PARTS, About, Publisher

KEYS: dict[str, str] = dict(zip(PARTS, ("train", "val", "test"), strict=True))
"""MedMNIST's names of the parts."""


def write(synthetic: ImageSet, about: About, folder: Path) -> None:
    """Write ``<name>.npz``."""
    images = (
        synthetic.images[:, 0] if synthetic.images.shape[1] == 1 else synthetic.images.transpose(0, 2, 3, 1)
    )
    labels = synthetic.labels.astype(np.int64)[:, None]
    with zipfile.ZipFile(folder / f"{about.name}.npz", "w") as archive:
        for part, key in KEYS.items():
            own = about.parts_of(synthetic).get(part, np.arange(0))
            _add(archive, f"{key}_images", images if len(own) == len(images) else images[own])
            _add(archive, f"{key}_labels", labels[own])
        _add(archive, "label_names", np.array(synthetic.label_names, dtype=np.str_))
        _add(archive, NPZ_KEY, np.array(SOURCE_TYPE))


def _add(archive: zipfile.ZipFile, key: str, array: np.ndarray) -> None:
    """Add one array. numpy's own writer stamps the hour into the archive; here the time is always 1980."""
    entry = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    with archive.open(entry, "w", force_zip64=True) as stream:
        np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)


PUBLISHER = Publisher(
    name="npz",
    summary="all images and labels in one `NAME.npz`, keys as in MedMNIST",
    loading="""\
import numpy as np                                     # numpy, without pickle
arrays = np.load("NAME.npz")
images, labels, names = arrays["train_images"], arrays["train_labels"][:, 0], arrays["label_names"]""",
    write=write,
)
