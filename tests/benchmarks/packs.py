"""What compressed objects would save in the store, and what they would cost to read.

python tests/benchmarks/packs.py --data kermany-cxr-64.zip ham10000-nv-mel-150.zip [--size 64]
"""

import argparse
import io
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image


def images(path: Path, size: int, most: int = 2000) -> np.ndarray:
    """Pictures of an archive, ``(N, H, W)`` or ``(N, H, W, 3)`` uint8."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith((".png", ".jpg")))[:most]
        opened = (Image.open(io.BytesIO(archive.read(name))) for name in names)
        return np.stack([np.asarray(picture.resize((size, size))) for picture in opened])


def main() -> None:
    """Print one line an archive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--size", type=int, default=64)
    asked = parser.parse_args()
    codec = pa.Codec("zstd", 3)
    for path in asked.data:
        stack = images(path, asked.size)
        started = time.process_time()
        packed = [codec.compress(image.tobytes(), asbytes=True) for image in stack]
        unpacking = time.process_time()
        for each, image in zip(packed, stack, strict=True):
            np.frombuffer(codec.decompress(each, image.nbytes, asbytes=True), np.uint8).max()
        done = time.process_time()
        with tempfile.TemporaryDirectory() as place:
            np.save(Path(place, "pack.npy"), stack)
            mapped = np.load(Path(place, "pack.npy"), mmap_mode="r")
            order = np.random.default_rng(0).permutation(len(mapped))
            reading = time.process_time()
            for number in order:
                np.array(mapped[number]).max()
            read = time.process_time() - reading
        share = sum(map(len, packed)) / stack.nbytes
        print(
            f"{path.name}: {len(stack)} images; in zstd-3 {share:.0%} of the bytes. "
            f"A CPU second writes {len(stack) / (unpacking - started):,.0f}, "
            f"reads {len(stack) / (done - unpacking):,.0f}, and {len(stack) / read:,.0f} through a memory map"
        )


if __name__ == "__main__":
    main()
