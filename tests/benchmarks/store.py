"""The two layers of the store: what the archive and the training cache take, and what they read and write.

    python tests/benchmarks/store.py --data kermany-cxr-64.zip ham10000-nv-mel-150.zip [--size 64]

Images are crops of the pictures, grey, each of them another. Rates are images in a second of CPU time;
"random" reads up to 4,000 one by one. The cache is written from the archive, which it reads.
"""

import argparse
import io
import json
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from phantomset.data.store.archive import Store
from phantomset.data.store.training_cache import cached
from phantomset.data.workspace import Workspace


def crops(paths: list[Path], size: int, count: int) -> np.ndarray:
    """Return ``(N, 1, size, size) uint8`` from the pictures, which are enlarged where they are too small."""
    rng = np.random.default_rng(0)
    opened = [zipfile.ZipFile(path) for path in paths]
    names = [(file, name) for file in opened for name in file.namelist() if name.endswith((".png", ".jpg"))]
    found: dict[bytes, np.ndarray] = {}
    while len(found) < count:
        file, name = names[rng.integers(len(names))]
        picture = Image.open(io.BytesIO(file.read(name))).convert("L")
        scale = max(1.0, 1.25 * size / min(picture.size))
        picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
        left, top = rng.integers(picture.width - size + 1), rng.integers(picture.height - size + 1)
        crop = np.asarray(picture.crop((left, top, left + size, top + size)))[None]
        found[crop.tobytes()] = crop
    return np.stack(list(found.values()))


def rate(work: Callable[[], Any], count: int) -> int:
    """Images in a second of CPU time."""
    started = time.process_time()
    work()
    return round(count / (time.process_time() - started))


def taken(folder: Path) -> dict[str, float]:
    """MiB and files of a folder."""
    files = list(folder.iterdir())
    return {"mib": round(sum(file.stat().st_size for file in files) / 2**20, 1), "files": len(files)}


def main() -> None:
    """Print one JSON object a layer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--count", type=int, default=20_000)
    asked = parser.parse_args()
    images = crops(asked.data, asked.size, asked.count)
    shape = (1, asked.size, asked.size)
    with tempfile.TemporaryDirectory() as place:
        workspace = Workspace.open(Path(place))
        store, digests = Store(workspace), []
        store.put(images[:1])  # what is loaded once is not counted
        write = rate(lambda: digests.extend(store.put(images)), len(images))
        some = np.random.default_rng(1).permutation(len(images))[:4000].tolist()
        archive = {
            "write": write,
            "sequential": rate(lambda: store.get(digests), len(images)),
            "random": rate(lambda: store.get([digests[i] for i in some]), len(some)),
            "verify": rate(store.verify, len(images)),
        }
        print(json.dumps({"layer": "archive"} | archive | taken(workspace.restricted("objects"))))
        made = rate(lambda: cached(workspace, digests, shape), len(images))
        mapped = cached(workspace, digests, shape)
        cache = {
            "write": made,
            "sequential": rate(lambda: [image.max() for image in mapped], len(images)),
            "random": rate(lambda: [mapped[i].max() for i in some], len(some)),
            "open": f"{1000 / rate(lambda: cached(workspace, digests, shape), 1):.1f} ms",
        }
        print(json.dumps({"layer": "cache"} | cache | taken(workspace.restricted("cache"))))


if __name__ == "__main__":
    main()
