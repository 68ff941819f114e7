"""Parts of one computation that run side by side, one thread each.

Splitting each operation over the cores makes them wait for one another at its end, thousands of times a
second; on cores that other programs use as well, a waiting thread spins away the time that it was to save.
Whole trainings, or blocks of rows, meet once. And the bits do not depend on the number of threads.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

A = TypeVar("A")
B = TypeVar("B")

MOST_THREADS = 16
"""Each holds a part's memory: some 32 MiB where distances are computed."""


def side_by_side(work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Yield ``work`` of every item, in order: as many at once as torch has threads, at most 16.

    Meanwhile every thread computes with one core, the caller's too; afterwards torch's threads are as before.
    """
    before = torch.get_num_threads()
    threads = min(before, MOST_THREADS)
    if threads == 1:
        yield from map(work, items)
        return
    torch.set_num_threads(1)
    try:
        # OpenMP keeps its number of threads for each thread, so every worker is told.
        with ThreadPoolExecutor(threads, "part", torch.set_num_threads, (1,)) as pool:
            ahead: deque[Future[B]] = deque()
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
    finally:
        torch.set_num_threads(before)
