"""How long does the whole privacy suite take, and how does that grow with the sets?

    python tests/benchmarks/suite.py --images 2500 5000

Real images (half of them train, half holdout) and as many synthetic ones of 64 px, a fifth as many reference
images, one a patient: smooth random patterns, since only numbers count here. Fitting the representations is
told apart from the rest: distances, checks and controls. The cost must grow no faster than the product of the
sets' sizes: four times from 2,500 to 5,000 images.
"""

import argparse
import json
import resource
import time

import numpy as np
import torch
from scipy import ndimage

from phantomset.data.records import ImageSet
from phantomset.validators import controls
from phantomset.validators.audit import examine
from phantomset.validators.context import Context
from phantomset.validators.finding import Evidence, Rules


def patterns(count: int, first: int, size_px: int) -> ImageSet:
    """Return smooth random images, one a patient."""
    noise = np.random.default_rng(first).standard_normal((count, 1, size_px, size_px))
    smooth = ndimage.gaussian_filter(noise, (0, 0, 2.5, 2.5))
    images = np.clip(128 + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8)
    owners = first + np.arange(count)
    return ImageSet(images, owners % 2, owners, ("even", "odd"))


def timed(images: int, size_px: int) -> dict:
    """Return seconds, wall and CPU, of fitting and of the rest."""
    half, reference = images // 2, images // 5
    parts = [
        patterns(n, first, size_px)
        for n, first in zip((half, half, reference, images), (0, 10**6, 2 * 10**6, 3 * 10**6), strict=True)
    ]
    synthetic = ImageSet(parts[3].images, parts[3].labels, np.full(images, -1), parts[3].label_names)
    context = Context(Evidence(*parts[:3], synthetic), Rules(), 0, controls.control_sets)
    begun, cpu = time.monotonic(), time.process_time()
    _ = context.spaces
    fitted, fitted_cpu = time.monotonic(), time.process_time()
    examine(context, ("privacy", "controls"))
    return {
        "images": images,
        "fit_seconds": round(fitted - begun, 1),
        "fit_cpu_seconds": round(fitted_cpu - cpu, 1),
        "seconds": round(time.monotonic() - fitted, 1),
        "cpu_seconds": round(time.process_time() - fitted_cpu, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    """Print one JSON object a size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[2500, 5000])
    parser.add_argument("--size-px", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for images in options.images:
        print(json.dumps(timed(images, options.size_px)), flush=True)


if __name__ == "__main__":
    main()
