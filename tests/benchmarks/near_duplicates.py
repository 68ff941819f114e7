"""How many altered copies are found as near-duplicates, and how many pairs of strangers pass for copies.

python tests/benchmarks/near_duplicates.py --data nih-cxr14-1000-96.zip --copies 100 --size 64
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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--copies", type=int, default=100)
    parser.add_argument("--size", type=int, default=64)
    chosen = parser.parse_args()
    pictures, patients = load(chosen.data)
    chance = np.random.default_rng(0)
    picked = chance.choice(len(pictures), min(chosen.copies, len(pictures)), replace=False)
    stack, owners, changes = list(pictures), list(range(len(pictures))), [""] * len(pictures)
    for index in picked:
        for name, copy in altered(pictures[index], chance).items():
            stack.append(copy)
            owners.append(int(index))
            changes.append(name)
    side = (chosen.size, chosen.size)
    sized = [np.asarray(Image.fromarray(p).resize(side, Image.Resampling.BOX)) for p in stack]
    thumbnails = np.stack([thumbnail(picture[None]) for picture in sized])
    start = time.process_time()
    pairs = near_duplicates(thumbnails)
    seconds = time.process_time() - start
    found, listed = dict.fromkeys(changes, 0), dict.fromkeys(changes, 0)
    false = 0
    for pair in pairs:
        first, second = owners[pair.first], owners[pair.second]
        certain = pair.score >= DUPLICATE
        false += certain and patients[first] != patients[second]
        if pair.first < len(pictures) <= pair.second and first == second:
            (found if certain else listed)[changes[pair.second]] += 1
    print(f"{len(stack):,} images of {chosen.size} px, {seconds:.1f} CPU seconds; false pairs: {false}")
    print("| change | found | listed for review |\n|---|---|---|")
    for name in dict.fromkeys(changes):
        if name:
            print(f"| {name} | {found[name] / len(picked):.0%} | {listed[name] / len(picked):.0%} |")


if __name__ == "__main__":
    main()
