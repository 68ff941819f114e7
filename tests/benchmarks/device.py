"""Training speed by image size on a device, and the share of its measured bf16 peak.

    python tests/benchmarks/device.py --device cuda --sizes 32 64 128 256
    python tests/benchmarks/device.py --device cpu --sizes 32 --seconds 2

Operations are counted in one round of four steps (one with penalties), and set against the best of some
products of bf16 matrices in the same process. The quality over time of ten minutes on a GPU is `quality` with
``--minutes 1``, ``3`` and ``10``.
"""

import argparse
import json
import time
from typing import Any

import torch
from throughput import BATCH, images_of_noise
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from phantomset.ganmodels.families import r3gan
from phantomset.ganmodels.plan import TrainingPlan, device_of
from phantomset.ganmodels.shards import Crew, shard_count
from phantomset.ganmodels.step import Stepper

ROUND = r3gan.Settings().penalty_every


class Operations(TorchDispatchMode):
    """Counts floating-point operations in its own thread, by torch's formulas.

    torch's own counter also follows modules through the backward pass, which `torch.autograd.grad` forbids.
    """

    total = 0

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute, and count what has a formula."""
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def synchronised(device: torch.device) -> float:
    """Return the time once the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak(device: torch.device, side: int) -> float:
    """Return operations a second of the best of five products of bf16 matrices."""
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(5):
        begun = synchronised(device)
        left @ right
        best = max(best, 2 * side**3 / (synchronised(device) - begun))
    return best


def speed(size_px: int, device: torch.device, threads: int, seconds: float) -> tuple[float, float]:
    """Return images a second and operations an image."""
    images, plan = images_of_noise(size_px), TrainingPlan(1_000_000, BATCH, threads=threads)
    with Crew(threads) as crew:
        shards = shard_count(threads, BATCH, device)
        stepper = Stepper(images, r3gan.FAMILY, r3gan.Settings(), plan, device, crew, shards)
        for _ in range(ROUND):
            stepper.step()
        begun, steps = synchronised(device), 0
        while synchronised(device) - begun < seconds:
            for _ in range(ROUND):
                stepper.step()
            steps += ROUND
        rate = steps * BATCH / (synchronised(device) - begun)
    with Crew(1) as crew, Operations() as counter:
        counted = Stepper(images, r3gan.FAMILY, r3gan.Settings(), plan, device, crew, shards)
        for _ in range(ROUND):
            counted.step()
    return rate, counter.total / (ROUND * BATCH)


def main() -> None:
    """Print a line a size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    device = device_of(options.device)
    torch.set_num_threads(options.threads)
    most = peak(device, 8192 if device.type == "cuda" else 1024)
    print(json.dumps({"device": str(device), "peak_teraflops": round(most / 1e12, 2)}))
    for size_px in options.sizes:
        rate, operations = speed(size_px, device, options.threads, options.seconds)
        share = rate * operations / most
        line = {"size_px": size_px, "images_per_second": round(rate), "share_of_peak": round(share, 3)}
        print(json.dumps(line | {"megaflops_per_image": round(operations / 1e6)}), flush=True)


if __name__ == "__main__":
    main()
