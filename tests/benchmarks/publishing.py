"""Publishing and loading: time and memory of a release in three forms, and its readers against ImageFolder.

    python tests/benchmarks/publishing.py [--images 50000] [--size-px 64] [--out FILE]

The images are smooth blobs with noise, so that PNG has something to do. Publishing runs in a process of its
own, whose greatest resident memory is the figure; loading reads every image of the release once, in one
process, by each reader in turn: one by one, and in batches as torch's DataLoader asks for them. ImageFolder
is torchvision's, on the same files. "datasets, arrays" decodes as docs/how-to/use-a-release.md shows it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

FORMS = ("folder", "parquet", "webdataset")
BATCH = 256


def images(count: int, size_px: int) -> np.ndarray:
    """Return ``(N, 1, H, W)`` uint8, made in blocks so that memory holds them once."""
    pixels = np.empty((count, 1, size_px, size_px), np.uint8)
    y, x = np.mgrid[0:size_px, 0:size_px] / size_px
    for start in range(0, count, 1_000):
        rng = np.random.default_rng(start)
        block = pixels[start : start + 1_000]
        at = rng.uniform(0.3, 0.7, (len(block), 2, 1, 1))
        blob = 180 * np.exp(-((x - at[:, 0]) ** 2 + (y - at[:, 1]) ** 2) / 0.05)
        block[:, 0] = np.clip(blob + rng.normal(30, 6, blob.shape), 0, 255)
    return pixels


def write(folder: Path, count: int, size_px: int) -> None:
    """Write the three forms with manifest and checksums, and print time and memory."""
    from phantomset.data import catalogue
    from phantomset.data.records import ImageSet
    from phantomset.pipelines.publisher import About
    from phantomset.pipelines.releases import manifest

    labels = np.arange(count, dtype=np.int64) % 3
    made = ImageSet(images(count, size_px), labels, np.full(count, -1), ("a", "b", "c"))
    wall, cpu = time.perf_counter(), time.process_time()
    for form in FORMS:
        catalogue.load("phantomset.pipelines.publishers", form).write(made, About("bench", "0" * 64), folder)
    (folder / "labels.json").write_text(json.dumps({"names": list(made.label_names)}))
    manifest.seal(folder, {"name": "bench"})
    assert manifest.problems(folder) == []
    print(
        json.dumps(
            {
                "publish_s": round(time.perf_counter() - wall, 1),
                "publish_cpu_s": round(time.process_time() - cpu, 1),
                "publish_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
        )
    )


def rate(open_it: Callable[[], Iterable[object]]) -> dict[str, float]:
    """Return images a second of wall and of CPU time, opening included."""
    wall, cpu = time.perf_counter(), time.process_time()
    count = sum(1 for _ in open_it())
    return {
        "images_per_s": round(count / (time.perf_counter() - wall)),
        "images_per_cpu_s": round(count / (time.process_time() - cpu)),
    }


def readers(folder: Path, cache: Path) -> dict[str, Callable[[], Iterable[object]]]:
    """Return each reader: it opens the release and gives every image with its label, decoded."""
    import datasets
    from imagecodecs import png_decode
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    from phantomset.pipelines.releases.loading import ReleaseDataset

    datasets.disable_progress_bars()

    def hugging_face() -> Any:
        files = str(folder / "data" / "*")
        return datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache)

    def arrays(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {**batch, "image": [png_decode(image["bytes"]) for image in batch["image"]]}

    def hugging_face_arrays() -> Any:
        return hugging_face().cast_column("image", datasets.Image(decode=False)).with_transform(arrays)

    opened: dict[str, Callable[[], Any]] = {
        "ImageFolder": lambda: ImageFolder(folder / "images"),
        "datasets": hugging_face,
        "datasets, arrays": hugging_face_arrays,
        "ReleaseDataset": lambda: ReleaseDataset(folder),
    }

    def one_by_one(name: str) -> Iterable[object]:
        found = opened[name]()
        return (found[index] for index in range(len(found)))

    def in_batches(name: str) -> Iterable[object]:
        batches = DataLoader(opened[name](), batch_size=BATCH, collate_fn=list)
        return (row for batch in batches for row in batch)

    ways = {"one by one": one_by_one, "in batches": in_batches}
    return {f"{name}, {word}": partial(way, name) for word, way in ways.items() for name in opened}


def main() -> None:
    """Publish in a child process, then load."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--size-px", type=int, default=64)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.folder:
        write(chosen.folder, chosen.images, chosen.size_px)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "v1"
        folder.mkdir()
        child = [sys.executable, __file__, "--folder", str(folder), "--images", str(chosen.images)]
        done = subprocess.run([*child, "--size-px", str(chosen.size_px)], stdout=subprocess.PIPE, check=True)
        found = {
            "images": chosen.images,
            "size_px": chosen.size_px,
            "cores": os.cpu_count(),
            **json.loads(done.stdout),
        }
        found |= {name: rate(reader) for name, reader in readers(folder, Path(place) / "cache").items()}
    text = json.dumps(found, indent=1)
    print(text)
    if chosen.out:
        chosen.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
