"""A batch computed in parts that run side by side, one thread each.

A step of a small network is a few hundred operations of a tenth of a millisecond. Splitting each operation
over the cores makes them wait for one another each time: on two cores shared with other programs that was
measured five times slower than parts. Parts of a batch meet twice a step.

The number of parts decides the order of sums and whose noise is whose; the number of threads does not.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from phantomset.data.allocator import keep_freed
from phantomset.ganmodels.memory import is_out_of_memory

FEWEST_SHARDS, MOST_SHARDS = 2, 8
"""Two also on one core: the same bits there as on two, for a tenth of the speed."""

FEWEST_IMAGES = 8
"""Images in a part: with fewer, the cost of starting each operation shows."""

KEPT_BYTES = 512 << 20
"""Freed memory that is not given back while and after a crew works: each step needs as much again."""

A = TypeVar("A")
B = TypeVar("B")


def shard_count(threads: int, batch_size: int, device: torch.device) -> int:
    """Return into how many parts a batch is split: one a thread from 2 to 8, on a GPU 1."""
    if device.type != "cpu":
        return 1
    return min(max(threads, FEWEST_SHARDS), MOST_SHARDS, max(1, batch_size // FEWEST_IMAGES))


class Crew:
    """Threads that each compute with one core. On leaving the context, torch's threads are as before."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def __enter__(self) -> "Crew":
        keep_freed(KEPT_BYTES)
        self._before = torch.get_num_threads()
        torch.set_num_threads(1)
        self._pool = self._workers()
        return self

    def _workers(self) -> ThreadPoolExecutor:
        # OpenMP keeps its number of threads for each thread, so every worker is told.
        return ThreadPoolExecutor(self._threads, "shard", torch.set_num_threads, (1,))

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        torch.set_num_threads(self._before)

    def map(self, work: Callable[[A], B], items: Sequence[A]) -> list[B]:
        """Return ``work`` of every item, in order, computed side by side."""
        if self._threads == 1 or len(items) == 1:
            return [work(item) for item in items]
        return list(self._pool.map(work, items))

    def map_sparing(self, work: Callable[[A], B], items: Sequence[A]) -> list[B]:
        """As `map`; one item after the other where memory does not suffice for several at once."""
        try:
            return self.map(work, items)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        self._pool.shutdown()  # waits for what still computes, and holds memory
        self._pool = self._workers()
        return [work(item) for item in items]
