"""One run computed by several processes, as ``torchrun`` starts them, to the very bits of one process.

Each process holds all weights, draws every batch, and computes some of its parts. What the parts gave is
gathered, and added up in the order of the parts by each process for itself: an all-reduce would add in an
order that follows from the number of processes. So all stay equal, and equal to a single process.

The first process alone writes into the run's folder; each other keeps a copy of its own inside, and takes it
away at the end.
"""

import contextlib
import os
import shutil
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from phantomset.data.digest import digest_of
from phantomset.data.errors import ModelError, WorkspaceError

COPY = "process-"
"""How the folders of the other processes begin, inside that of the run."""

Part = TypeVar("Part")


def count() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return which of them this one is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def own_device(device: torch.device) -> torch.device:
    """Return the GPU of this process; the device itself where there is one process, or no GPU."""
    if device.type == "cpu" or "LOCAL_RANK" not in os.environ:
        return device
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


@contextlib.contextmanager
def joined(folder: Path, device: torch.device) -> Generator[Path]:
    """Join the processes that ``torchrun`` started, if it did, and give the folder of this one.

    Raises:
        ModelError: the processes do not see the same folder.
        WorkspaceError: the folder cannot be written.
    """
    is_ours = dist.is_torchelastic_launched() and not dist.is_initialized()
    if is_ours:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield folder if count() == 1 else _copied(folder, device)
    finally:
        if rank():
            shutil.rmtree(folder / f"{COPY}{rank()}", ignore_errors=True)
        if is_ours:
            dist.destroy_process_group()


def _copied(folder: Path, device: torch.device) -> Path:
    """Return the folder that this process writes to, with all that the run's folder holds by now."""
    own = folder / f"{COPY}{rank()}" if rank() else folder
    if rank():
        try:
            shutil.rmtree(own, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.copytree(folder, own, ignore=shutil.ignore_patterns(f"{COPY}*"))
        except OSError as error:
            raise WorkspaceError(f"checkpoint: cannot write to {folder} ({error.strerror}).") from None
    files = (path.relative_to(own) for path in own.rglob("*") if path.is_file())
    names = sorted(str(path) for path in files if not path.parts[0].startswith(COPY))
    mark = torch.tensor(float(int(digest_of(*names)[:6], 16)), device=device)  # 24 bits, exact in float32
    if len({float(seen) for (seen,) in gathered([[mark]], count())}) > 1:
        raise ModelError(
            "train: the processes do not see the same files. Give all machines one workspace, and start all "
            "processes by one torchrun."
        )
    return own


def own(parts: Sequence[Part]) -> Sequence[Part]:
    """Return the parts that this process computes."""
    return parts[rank() :: count()]


def gathered(mine: Sequence[list[Tensor]], parts: int) -> list[list[Tensor]]:
    """Return the tensors of all ``parts``, in the order of the parts, from those of this process.

    Args:
        mine: some tensors for each of `own` parts, of the same shapes everywhere.
        parts: how many there are in all, at least one a process.
    """
    if count() == 1:
        return list(mine)
    flat = [torch.cat([tensor.flatten().float() for tensor in each]) for each in mine]
    most = -(-parts // count())
    rows = torch.stack(flat + flat[:1] * (most - len(flat)))
    every = [torch.empty_like(rows) for _ in range(count())]
    dist.all_gather(every, rows)
    sizes = [tensor.numel() for tensor in mine[0]]
    # In the layout that they had: a sum over memory, such as a norm's, follows it to the last bit.
    return [
        [
            torch.empty_like(like).copy_(piece.view_as(like))
            for like, piece in zip(mine[0], every[part % count()][part // count()].split(sizes), strict=True)
        ]
        for part in range(parts)
    ]
