"""Feed the readers with broken files: `python tests/benchmarks/fuzz.py --count 20000`.

Real files of every format (those that come with pydicom and nibabel, and pictures written by Pillow) are
changed at random and decoded in worker processes under their limits. Wanted: a picture or a reason code, each
time; INTERNAL_ERROR is a bug of ours. Inputs that end in it are written to --keep.
"""

import argparse
import collections
import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image
from pydicom.data import get_testdata_file

from phantomset.data import catalogue
from phantomset.data.decoding.workers import Bounds, Job, decode_all
from phantomset.data.deidentify import DeidentifySettings
from phantomset.data.file_source import FileSource, Listed
from phantomset.data.pixels.canonical import ImageSettings
from phantomset.data.reading.tree import Member
from phantomset.data.records import Rejected
from phantomset.data.source import ReadContext

_DICOM = (
    *("CT_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm", "JPGExtended.dcm"),
    *("MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_small_odd.dcm", "image_dfl.dcm"),
    *("examples_palette.dcm", "JPEGLSNearLossless_16.dcm", "SC_rgb_rle_16bit.dcm"),
)
_VOLUMES = ("anatomical.nii", "example_nifti2.nii.gz", "standard.nii.gz")
RELEASED = frozenset({"BURNED_IN_RISK"})
"""As a reviewed list would: secondary captures must reach their decoder."""

UNWANTED = ("INTERNAL_ERROR", "DECODER_CRASH", "DECODE_TIMEOUT")

_WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def specimens() -> list[tuple[str, bytes]]:
    """Return sound files, each with the source that reads it."""
    found = [("dicom", Path(str(get_testdata_file(name))).read_bytes()) for name in _DICOM]
    folder = Path(nibabel.__file__).parent / "tests" / "data"
    found += [("nifti", (folder / name).read_bytes()) for name in _VOLUMES]
    noise = np.random.default_rng(1).integers(0, 256, (24, 32), dtype=np.uint8)
    for kind in ("PNG", "JPEG", "BMP", "TIFF"):
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, kind)
        found.append(("folder", buffer.getvalue()))
    return found


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a file with one to six changes: bytes, words, and spans that are cut, doubled or swapped.

    Half of the changes hit the first 1,024 bytes, where the headers are.
    """
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 7))):
        if not changed:
            break
        reach = min(len(changed), 1024) if rng.random() < 0.5 else len(changed)
        at, length = int(rng.integers(reach)), int(rng.integers(1, 65))
        match int(rng.integers(6)):
            case 0:
                changed[at] ^= 1 << int(rng.integers(8))
            case 1:
                changed[at : at + length] = rng.bytes(min(length, len(changed) - at))
            case 2:
                word = _WORDS[int(rng.integers(len(_WORDS)))].to_bytes(4, "little")
                changed[at : at + 4] = word[: len(changed) - at]
            case 3:
                del changed[at : at + length]
            case 4:
                changed[at:at] = changed[at : at + length]
            case _:
                del changed[at:]
    return bytes(changed)


class Broken:
    """A tree whose files are made when they are read: number n is always the same."""

    def __init__(self, kind: str, seed: int) -> None:
        self.contents = [content for name, content in specimens() if name == kind]
        self.seed = seed

    def read(self, member: Member) -> bytes:
        """Return broken file number n."""
        number = int(member.key)
        return mutated(self.contents[number % len(self.contents)], np.random.default_rng([self.seed, number]))


def main() -> None:
    """Fuzz all three sources and print what became of the inputs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "fuzz-internal-errors")
    asked = parser.parse_args()
    kinds = ("dicom", "nifti", "folder")
    totals: collections.Counter[str] = collections.Counter()
    started = time.perf_counter()
    for kind in kinds:
        totals.update(_fuzzed(kind, asked.count // len(kinds) + 1, asked.seed, asked.keep))
    for code, count in totals.most_common():
        print(f"{count:8,}  {code}")
    print(f"{sum(totals.values()):8,}  inputs in {time.perf_counter() - started:,.0f} s")
    raise SystemExit(any(totals[code] for code in UNWANTED))


def _fuzzed(kind: str, count: int, seed: int, keep: Path) -> Iterator[str]:
    source: FileSource = catalogue.load("phantomset.data.sources", kind)
    tree = Broken(kind, seed)
    settings = source.Settings.model_validate({"format": kind, "path": "."})
    context = ReadContext(DeidentifySettings(accept_faces=True))
    job = Job(source, tree, settings, ImageSettings(size_px=16, fit="pad"), context)
    files = (Listed(Member(str(number), 0), waived=RELEASED) for number in range(count))
    for listed, answer in decode_all(job, files, bounds=Bounds(seconds=20)):
        rejected = [one.item.code for one in answer.finished or () if isinstance(one.item, Rejected)]
        yield rejected[0] if rejected else "a picture"
        if "INTERNAL_ERROR" in rejected:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{kind}-{seed}-{listed.member.key}").write_bytes(tree.read(listed.member))


if __name__ == "__main__":
    import fuzz  # workers do not know the program that started them: `Broken` must be of a module

    fuzz.main()
