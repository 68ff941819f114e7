"""Parts of a batch, and the threads that compute them."""

import threading

import pytest
import torch

from phantomset.ganmodels.shards import Crew, shard_count


@pytest.mark.parametrize(
    ("threads", "batch_size", "parts"),
    [(1, 64, 2), (2, 64, 2), (4, 64, 4), (64, 64, 8), (8, 16, 2), (2, 8, 1)],
)
def test_parts_by_threads_and_batch(threads: int, batch_size: int, parts: int) -> None:
    """One part a thread from 2 to 8, and never fewer than 8 images in one."""
    assert shard_count(threads, batch_size, torch.device("cpu")) == parts


def test_a_gpu_takes_the_batch_whole() -> None:
    """A GPU is filled by one stream."""
    assert shard_count(8, 64, torch.device("cuda")) == 1


def test_a_crew_works_in_order_and_leaves_torch_as_it_was() -> None:
    """Results come in the order of the items, from several threads of one core each."""
    before = torch.get_num_threads()
    meet = threading.Barrier(2, timeout=30)  # passes only if two threads are inside at once

    def work(number: int) -> tuple[int, int]:
        meet.wait()
        return number, torch.get_num_threads()

    with Crew(2) as crew:
        assert crew.map(work, range(6)) == [(number, 1) for number in range(6)]
    assert torch.get_num_threads() == before


def test_an_error_in_a_part_reaches_the_caller() -> None:
    """What goes wrong in a thread is raised where the step was asked for."""
    with Crew(2) as crew, pytest.raises(ZeroDivisionError):
        crew.map(lambda number: 1 // number, [1, 0])
