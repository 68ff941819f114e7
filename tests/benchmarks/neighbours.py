"""How fast are exact nearest neighbours, and in how much memory?

    python tests/benchmarks/neighbours.py                                   (20,000 x 20,000 x 512, four ways)
    python tests/benchmarks/neighbours.py --memory --size 100000 --width 64 (peak memory of `nearest` alone)

Compares `measures.neighbours.nearest` with the matrix product alone, which bounds it from below, and with
faiss-cpu's flat index where that is installed (it is no dependency). All in one run, on the same data and
threads, the best of ``--repeats``; positions found must be equal, ties aside.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable

import numpy as np
import torch

from phantomset.validators.measures.neighbours import BLOCK_ELEMENTS, nearest


def product_alone(queries: np.ndarray, candidates: np.ndarray) -> None:
    """Multiply the same blocks and keep nothing."""
    x, y = torch.from_numpy(queries), torch.from_numpy(candidates).T
    rows = max(1, BLOCK_ELEMENTS // len(candidates))
    for start in range(0, len(x), rows):
        torch.mm(x[start : start + rows], y)


def best_of(repeats: int, work: Callable[[], object]) -> float:
    """Return the least seconds of several runs."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def compare(queries: np.ndarray, candidates: np.ndarray, count: int, repeats: int) -> dict:
    """Return seconds of each way, the rate beside the product's, and the share of equal positions."""
    seconds = {
        "product": best_of(repeats, lambda: product_alone(queries, candidates)),
        "nearest": best_of(repeats, lambda: nearest(queries, candidates, count)),
    }
    answer = {"seconds": seconds, "share_of_product_rate": seconds["product"] / seconds["nearest"]}
    try:
        import faiss
    except ImportError:
        return answer | {"faiss": "not installed"}
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatL2(candidates.shape[1])
    index.add(candidates)
    seconds["faiss"] = best_of(repeats, lambda: index.search(queries, count))
    own, other = nearest(queries, candidates, count)[1], index.search(queries, count)[1]
    return answer | {
        "times_faiss": seconds["faiss"] / seconds["nearest"],
        "equal": float((own == other).mean()),
    }


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
