"""How many altered copies are found as near-duplicates, and how many pairs of strangers pass for copies.

Each change is a set of its own: all pictures, and a copy of each after that change, so that nothing is found
by way of another copy.

python tests/benchmarks/near_duplicates.py --data nih-cxr14-1000-96.zip --sizes 96 64 28
"""

import argparse
import csv
import io
import time
import zipfile

import numpy as np
from PIL import Image

from phantomset.data.splitting.duplicates import DUPLICATE, near_duplicates, thumbnail

Copies = dict[str, np.ndarray]


def load(path: str) -> tuple[list[np.ndarray], list[str]]:
    """The pictures of an archive with ``index.csv``, and their patients."""
    with zipfile.ZipFile(path) as archive:
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("index.csv"))))
        pictures = [np.asarray(Image.open(io.BytesIO(archive.read(row["file"])))) for row in rows]
    return pictures, [row["patient_id"] for row in rows]


def altered(picture: np.ndarray, chance: np.random.Generator) -> Copies:
    """A picture after each of thirteen changes."""
    values, side = picture.astype(float), len(picture)
    image = Image.fromarray(picture)
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=30)
    low, high = np.percentile(values, [10, 90])
    shifted, covered = np.zeros_like(picture), picture.copy()
    shifted[3:, 3:] = picture[:-3, :-3]
    covered[: side // 5, : side // 5] = 0
    small = image.resize((side // 2, side // 2), Image.Resampling.BOX)
    copies = {
        "gamma 0.7": np.rint(255 * (values / 255) ** 0.7),
        "gamma 1.5": np.rint(255 * (values / 255) ** 1.5),
        "JPEG, quality 30": np.asarray(Image.open(packed)),
        "half size and back": np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)),
        "noise, 10 grey levels": np.clip(values + chance.normal(0, 10, picture.shape), 0, 255),
        "window clipped at 10% and 90%": 255 * np.clip((values - low) / max(high - low, 1), 0, 1),
        "shifted 3 px": shifted,
        "mirrored": picture[:, ::-1],
        "inverted": 255 - picture,
        "rotated 3 degrees": np.asarray(image.rotate(3, Image.Resampling.BICUBIC)),
        "corner covered": covered,
    }
    for share in (5, 10):
        cut = side * share // 100
        inner = Image.fromarray(picture[cut : side - cut, cut : side - cut])
        copies[f"cropped {share}%"] = np.asarray(inner.resize((side, side), Image.Resampling.BICUBIC))
    return {name: np.ascontiguousarray(copy.astype(np.uint8)) for name, copy in copies.items()}


def told(copies: list[np.ndarray], originals: np.ndarray, size: int, patients: list[str]) -> list[float]:
    """The share of copies that is found, that which is listed, and the number of pairs of two patients."""
    thumbnails = np.concatenate([originals, small(copies, size)])
    count, hits = len(copies), {"found": 0, "listed": 0}
    strangers = 0
    for pair in near_duplicates(thumbnails, [size] * len(thumbnails)):
        is_certain = pair.score >= DUPLICATE
        if pair.second == pair.first + count:
            hits["found" if is_certain else "listed"] += 1
        strangers += is_certain and patients[pair.first % count] != patients[pair.second % count]
    return [hits["found"] / count, hits["listed"] / count, strangers]


def small(pictures: list[np.ndarray], size: int) -> np.ndarray:
    """Thumbnails of pictures as a source of that size would give them."""
    sides = (size, size)
    sized = [np.asarray(Image.fromarray(each).resize(sides, Image.Resampling.BOX)) for each in pictures]
    return np.stack([thumbnail(each[None]) for each in sized])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[96, 64, 28])
    chosen = parser.parse_args()
    pictures, patients = load(chosen.data)
    chance = np.random.default_rng(0)
    copies = [altered(picture, chance) for picture in pictures]
    originals = {size: small(pictures, size) for size in chosen.sizes}
    start, strangers = time.process_time(), 0
    heads = [f"{size} px, found | listed" for size in chosen.sizes]
    print(f"| change | {' | '.join(heads)} |\n|---|{'---|---|' * len(heads)}")
    for name in copies[0]:
        altogether = [each[name] for each in copies]
        row = [told(altogether, originals[size], size, patients) for size in chosen.sizes]
        strangers += int(sum(each[2] for each in row))
        print(f"| {name} | {' | '.join(f'{each[0]:.1%} | {each[1]:.1%}' for each in row)} |", flush=True)
    seconds = (time.process_time() - start) / len(copies[0]) / len(chosen.sizes)
    print(f"{2 * len(pictures):,} pictures a set, {seconds:.1f} CPU seconds each; false pairs: {strangers}")


if __name__ == "__main__":
    main()
