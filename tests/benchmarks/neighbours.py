"""How fast are exact nearest neighbours, and in how much memory?

    python tests/benchmarks/neighbours.py                                   (20,000 x 20,000 x 512, all ways)
    python tests/benchmarks/neighbours.py --memory --size 100000 --width 64 (peak memory of `nearest` alone)

Compares `measures.neighbours.nearest` with the float32 matrix product alone, by torch and by numpy, with
itself as on a processor that does not multiply bfloat16, and with faiss-cpu's flat index where it is
installed (it is no dependency).
All in one run, on the same data and threads, in turns, the best of ``--repeats``, wall and CPU seconds;
positions found must be equal, ties and what float32 cannot tell aside.
"""

import argparse
import contextlib
import json
import resource
import time
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from phantomset.validators.measures import neighbours
from phantomset.validators.measures.neighbours import nearest

ROWS = 2048
"""Queries that are multiplied at once."""


def product_alone(queries: np.ndarray, candidates: np.ndarray) -> None:
    """Multiply blocks into memory that is there already, the fastest way, and keep nothing."""
    x, y = torch.from_numpy(queries), torch.from_numpy(candidates).T
    block = torch.empty(ROWS, len(candidates))
    for some in x.split(ROWS):
        torch.mm(some, y, out=block[: len(some)])


def product_by_numpy(queries: np.ndarray, candidates: np.ndarray) -> None:
    """Do the same by numpy's BLAS, which is the faster one on some processors."""
    block = np.empty((ROWS, len(candidates)), np.float32)
    for start in range(0, len(queries), ROWS):
        some = queries[start : start + ROWS]
        np.matmul(some, candidates.T, out=block[: len(some)])


def without_bfloat16(
    queries: np.ndarray, candidates: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `nearest` does where float32 is the fastest precision."""
    with patch.object(neighbours, "precisions", lambda device: [torch.float32, torch.float64]):
        return nearest(queries, candidates, count)


def best_of(repeats: int, ways: dict[str, Callable[[], object]]) -> dict[str, tuple[float, float]]:
    """Return the least wall and CPU seconds of each way, of several runs in turns."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, work in ways.items():
            started, cpu = time.perf_counter(), time.process_time()
            work()
            taken[name].append((time.perf_counter() - started, time.process_time() - cpu))
    return {
        name: (min(wall for wall, _ in runs), min(cpu for _, cpu in runs)) for name, runs in taken.items()
    }


def compare(queries: np.ndarray, candidates: np.ndarray, count: int, repeats: int) -> dict:
    """Return seconds of each way, the rates beside `nearest`, and the share of equal positions."""
    ways: dict[str, Callable[[], object]] = {
        "product": lambda: product_alone(queries, candidates),
        "product by numpy": lambda: product_by_numpy(queries, candidates),
        "nearest": lambda: nearest(queries, candidates, count),
        "nearest without bfloat16": lambda: without_bfloat16(queries, candidates, count),
    }
    own = nearest(queries, candidates, count)
    other = without_bfloat16(queries, candidates, count)
    equal = all((a == b).all() for a, b in zip(own, other, strict=True))
    answer: dict[str, object] = {"equal without bfloat16": equal}
    with contextlib.suppress(ImportError):
        import faiss  # pyright: ignore[reportMissingImports]

        faiss.omp_set_num_threads(torch.get_num_threads())
        index = faiss.IndexFlatL2(candidates.shape[1])
        index.add(candidates)
        ways["faiss"] = lambda: index.search(queries, count)
        answer["equal to faiss"] = float((own[1] == index.search(queries, count)[1]).mean())
    seconds = best_of(repeats, ways)
    for name in seconds:
        times = [other / own for other, own in zip(seconds[name], seconds["nearest"], strict=True)]
        answer[name] = dict(zip(("seconds", "cpu_seconds"), seconds[name], strict=True)) | {
            "times_nearest": times[0],
            "times_nearest_cpu": times[1],
        }
    return answer


def main() -> None:
    """Make the data, run, and print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--count", type=int, default=5, help="neighbours")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", action="store_true", help="run `nearest` once and print the peak")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    threadpool_limits(options.threads, "blas")
    rng = np.random.default_rng(0)
    queries, candidates = (
        rng.standard_normal((options.size, options.width)).astype(np.float32) for _ in range(2)
    )
    if options.memory:
        nearest(queries, candidates, options.count)
        answer = {"peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    else:
        answer = compare(queries, candidates, options.count, options.repeats)
    print(json.dumps({"size": options.size, "width": options.width, "count": options.count} | answer))


if __name__ == "__main__":
    main()
