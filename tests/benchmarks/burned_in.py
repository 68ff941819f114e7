"""How much drawn text the screen finds, by contrast and size, and how often it sees text where none is.

One string a picture: a name, a date or a number, in one of three fonts, brighter or darker than its ground,
on real pictures enlarged to 384 pixels or to --side. A picture counts as found if the screen keeps it out.

python tests/benchmarks/burned_in.py --data nih-cxr14-1000-96.zip ham10000-nv-mel-150.zip --free 100
"""

import argparse
import io
import time
import zipfile
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from phantomset.data.burned_in import reader
from phantomset.data.burned_in.screen import TextScreen
from phantomset.data.quarantine.ledger import Unfit
from phantomset.data.records import RawImage

CONTRASTS = (10, 20, 30, 40, 80, 140, 200)
SIZES = (8, 10, 12, 16, 24, 32)
FONTS = ("DejaVuSans.ttf", "DejaVuSansMono.ttf", "DejaVuSerif.ttf")
SIDE = 384


def grounds(paths: list[Path], count: int) -> list[np.ndarray]:
    """Pictures without drawn text, evenly from all archives, in grey or colour as they are."""
    pictures = []
    for path in paths:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith((".png", ".jpg")))
            step = max(1, len(names) * len(paths) // count)
            pictures += [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names[::step]]
    return pictures[:count]


def string(chance: np.random.Generator) -> str:
    """A name, a date or a number."""
    names = ("MILLER^ANNA", "Okafor, J.", "GARCIA LOPEZ", "Nguyen Thi", "SCHMIDT, P")
    date = f"{chance.integers(1930, 2020)}-{chance.integers(1, 13):02d}-{chance.integers(1, 29):02d}"
    number = f"ID {chance.integers(10**6, 10**7)}"
    return str(chance.choice([chance.choice(names), date, number]))


def drawn(
    ground: np.ndarray,
    contrast: int,
    size: int,
    sign: int,
    chance: np.random.Generator,
    side: int = SIDE,
) -> np.ndarray | None:
    """The ground at that side, with a string so many grey levels off the median beneath; None: no room."""
    picture = np.asarray(Image.fromarray(ground).convert("L").resize((side, side), Image.Resampling.BICUBIC))
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    font = ImageFont.truetype(str(folder / str(chance.choice(FONTS))), size)
    text = string(chance)
    width, height = (int(end) + 2 for end in font.getbbox(text)[2:])
    if width >= side - 8:
        return None
    for _ in range(200):
        x, y = int(chance.integers(4, side - width - 4)), int(chance.integers(4, side - height - 4))
        value = float(np.median(picture[y : y + height, x : x + width])) + sign * contrast
        if 0 <= value <= 255:
            layer = Image.new("L", (side, side), 0)
            ImageDraw.Draw(layer).text((x, y), text, fill=255, font=font)
            ink = np.asarray(layer) / 255
            return np.rint(picture * (1 - ink) + value * ink).astype(np.uint8)
    return None


def is_found(picture: np.ndarray) -> bool:
    """Whether the screen keeps it out."""
    try:
        TextScreen("quarantine")(RawImage("", picture.astype(np.float32) / 255, None, None))
    except Unfit:
        return True
    return False


def main() -> None:
    """Print the curve and the false alarms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", type=Path, required=True)
    parser.add_argument("--contrasts", nargs="*", type=int, default=CONTRASTS)
    parser.add_argument("--side", type=int, default=SIDE, help="of the pictures, in pixels")
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES, help="heights of letters, in pixels")
    parser.add_argument("--pictures", type=int, default=48, help="a contrast")
    parser.add_argument("--free", type=int, default=100, help="pictures without drawn text")
    asked = parser.parse_args()
    pool = grounds(asked.data, max(asked.pictures, asked.free))
    print(
        f"{reader.version()}; {asked.pictures} pictures a contrast, sizes {asked.sizes} px, both polarities"
    )
    by_size: dict[int, list[bool]] = {size: [] for size in asked.sizes}
    started, total = time.process_time(), 0
    for contrast in asked.contrasts:
        found, chance = list[bool](), np.random.default_rng([0, contrast])
        for number in range(asked.pictures):
            size, sign = asked.sizes[number % len(asked.sizes)], 1 if number // len(asked.sizes) % 2 else -1
            picture = drawn(pool[number], contrast, size, sign, chance, asked.side)
            if picture is None:
                picture = drawn(pool[number], contrast, size, -sign, chance, asked.side)
            if picture is not None:
                found.append(is_found(picture))
                if contrast >= 40:
                    by_size[size].append(found[-1])
        total += len(found)
        print(
            f"contrast {contrast:>3}: {sum(found)} of {len(found)} found ({np.mean(found):.3f})", flush=True
        )
    for size, each in by_size.items() if max(asked.contrasts, default=0) >= 40 else ():
        print(f"size {size:>2} px, contrast 40 and above: {sum(each)} of {len(each)}")
    alarms = [is_found(picture) for picture in pool[: asked.free]]
    total += len(alarms)
    print(
        f"false alarms: {sum(alarms)} of {len(alarms)} pictures, at {[i for i, a in enumerate(alarms) if a]}"
    )
    print(f"{(time.process_time() - started) / max(total, 1):.2f} CPU seconds a picture")


if __name__ == "__main__":
    main()
