"""A run on disk: weights and moments as safetensors, counters beside them, nothing that could run as code.

The folder of a run::

    identity.json                    what the run is: settings, plan, digest of the data, versions, machine
    member-<k>/                      where several generators share the budget: the run of each
    checkpoint-<step>.safetensors    everything of `State`; its header holds the counters and a digest
    train.jsonl                      one line of statistics a check
    grids/<images>.png               samples from fixed noise; as restricted as the weights
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from phantomset.data.digest import digest_of
from phantomset.data.errors import ModelError, WorkspaceError
from phantomset.data.records import Checkpoint
from phantomset.data.workspace import write_atomically, write_json
from phantomset.ganmodels.privacy import accountant

KEPT = 2
"""Newest checkpoints that are kept; besides, until the run is over, the best, and the last good one or the
first."""


_NAME = re.compile(r"checkpoint-(\d{8,})\.safetensors")

OWN = ("seed", "budget_images", "members")
"""What the identity of a member has of its own; the rest is that of the run."""


@dataclass(frozen=True, slots=True)
class Saved:
    """One checkpoint as read back.

    Attributes:
        step: steps done.
        tensors: all tensors of `State`, by name.
        counters: fields of `Counters`.
        done: the run is over.
    """

    step: int
    tensors: dict[str, Tensor]
    counters: dict[str, Any]
    done: bool


class ForeignCheckpointError(ModelError):
    """A checkpoint of another run than the folder's: somebody put it there, so it is not passed over."""


def save(folder: Path, tensors: dict[str, Tensor], counters: dict[str, Any], done: bool = False) -> None:
    """Write ``checkpoint-<step>.safetensors`` atomically and drop those that are needed no more, see `KEPT`.

    Raises:
        WorkspaceError: the folder cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {
        "counters": json.dumps(counters, sort_keys=True),
        "done": json.dumps(done),
        "run": _run(folder),
    }
    header["digest"] = _whole(plain, header)
    try:
        write_atomically(_path(folder, counters["step"]), safetensors.torch.save(plain, header), mode=0o600)
        good = counters["good_step"]
        keep = {*steps(folder)[-KEPT:], *([] if done else [good, *counters["best"][:1]])}
        drop(folder, set(steps(folder)) - keep)
    except OSError as error:
        raise WorkspaceError(
            f"checkpoint: cannot write to {folder} ({error.strerror}). Free space there and run again."
        ) from None


def steps(folder: Path) -> list[int]:
    """Return the steps of the checkpoints in the folder, oldest first."""
    found = (_NAME.fullmatch(path.name) for path in folder.glob("checkpoint-*.safetensors"))
    return sorted(int(match[1]) for match in found if match)


def drop(folder: Path, gone: Iterable[int]) -> None:
    """Remove the checkpoints of these steps."""
    for step in gone:
        _path(folder, step).unlink(missing_ok=True)


def read(folder: Path, step: int) -> Saved:
    """Return one checkpoint.

    Raises:
        ForeignCheckpointError: it is of another run than the folder's.
        ModelError: it is missing or damaged.
    """
    path = _path(folder, step)
    try:
        with safetensors.safe_open(path, framework="pt") as stream:
            header = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a dict
        digest, run = header.pop("digest"), header["run"]
        saved = Saved(step, tensors, json.loads(header["counters"]), json.loads(header["done"]))
        is_own = run == _run(folder)
        if _whole(tensors, header) != digest or (is_own and saved.counters["step"] != step):
            raise ValueError("digest")
    except (OSError, KeyError, ValueError, safetensors.SafetensorError):
        raise ModelError(
            f"checkpoint: {path.name} is missing or damaged (its content does not fit its digest). "
            f"Remove {path} to go on from an older one, or the folder to train anew."
        ) from None
    if not is_own:
        raise ForeignCheckpointError(
            f"checkpoint: {path.name} is of another run than {folder / 'identity.json'}: it was put there "
            "from elsewhere, or that file was changed. Remove the folder to train anew."
        )
    return saved


def newest(folder: Path) -> tuple[Saved | None, list[int]]:
    """Return the newest sound checkpoint, None without one, and the steps of damaged ones passed over.

    Raises:
        ForeignCheckpointError: one that is not damaged is of another run.
        ModelError: there are checkpoints and all are damaged.
    """
    found = steps(folder)
    return _first_sound(folder, found[::-1]) if found else (None, [])


def before(folder: Path, step: int) -> tuple[Saved, list[int]]:
    """Return the checkpoint of a step, or the newest sound one before it; and the steps of those passed over.

    Raises:
        ForeignCheckpointError: one that is not damaged is of another run.
        ModelError: there is none, or all are damaged.
    """
    older = [each for each in steps(folder) if each < step]
    return _first_sound(folder, [step, *older[::-1]])


def _first_sound(folder: Path, order: list[int]) -> tuple[Saved, list[int]]:
    for place, step in enumerate(order):
        try:
            return read(folder, step), order[:place]
        except ForeignCheckpointError:
            raise
        except ModelError:
            continue
    raise ModelError(
        f"checkpoint: all {len(order)} checkpoints to go on from in {folder} are damaged or gone. "
        "Check the disk, then remove the folder to train anew."
    )


def settle_identity(folder: Path, identity: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the identity that holds in this folder, and what differs from it on this machine.

    The first call stores ``identity``. Later calls compare: its part "run" must be equal, its part "machine"
    may differ, but then the rest of the run is not bit-identical to one that never stopped.

    Raises:
        ModelError: the folder belongs to another run.
        WorkspaceError: the folder cannot be written.
    """
    path = folder / "identity.json"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            write_json(path, identity, mode=0o600)
    except OSError as error:
        raise WorkspaceError(f"checkpoint: cannot write to {folder} ({error.strerror}).") from None
    stored = read_identity(folder)
    differing = [key for key, value in identity["run"].items() if stored["run"].get(key) != value]
    if differing:
        raise _another(folder, sorted(differing))
    machine = [key for key, value in identity["machine"].items() if stored["machine"].get(key) != value]
    return stored, sorted(machine)


def read_identity(folder: Path) -> dict[str, Any]:
    """Return the stored identity.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    try:
        stored = json.loads((folder / "identity.json").read_text())
        if stored["run"]["members"] >= 1 and isinstance(stored["machine"], dict):
            return stored
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ModelError(
        f"checkpoint: {folder / 'identity.json'} is missing or damaged. Remove the folder and train anew."
    )


def require_run(folder: Path, **wanted: Any) -> None:
    """Hold that the folder's run is the one that is wanted: finished weights could be of anything.

    Args:
        folder: of a run.
        wanted: entries of the part "run" of its identity, such as the digest of its split.

    Raises:
        ModelError: it is another one.
    """
    run = read_identity(folder)["run"]
    differing = sorted(key for key, value in wanted.items() if run.get(key) != value)
    if differing:
        raise _another(folder, differing)


def _another(folder: Path, differing: list[str]) -> ModelError:
    return ModelError(
        f"checkpoint: {folder} holds another run; they differ in {', '.join(differing)}. "
        "Choose another folder, or remove this one to train anew."
    )


def member_folders(folder: Path, count: int) -> list[Path]:
    """Return where the members of a run lie: the run's own folder where there is one member only."""
    return [folder] if count == 1 else [folder / f"member-{member}" for member in range(count)]


def is_finished(folder: Path) -> bool:
    """Return whether the run in the folder is over: that of every member."""
    if not (folder / "identity.json").exists():
        return False
    found = (newest(part)[0] for part in member_folders(folder, read_identity(folder)["run"]["members"]))
    return all(saved is not None and saved.done for saved in found)


def finished(folder: Path) -> tuple[dict[str, Any], list[Saved]]:
    """Return what the run is, and the last checkpoint of each member.

    Raises:
        ModelError: the run is not finished, or its files are damaged.
    """
    run = read_identity(folder)["run"]
    parts = member_folders(folder, run["members"])
    shared = {key: value for key, value in run.items() if key not in OWN}
    for part in parts:
        require_run(part, **shared)
    found = [newest(part)[0] for part in parts]
    saved = [each for each in found if each is not None and each.done]
    if len(saved) < len(found):
        raise ModelError(
            f"checkpoint: the run in {folder} is not finished. Run the same command again to go on."
        )
    return run, saved


def finished_checkpoint(folder: Path) -> Checkpoint:
    """Return the noun of the finished run; its digest is made from its identity and averaged weights.

    Raises:
        ModelError: the run is not finished, or its files are damaged.
    """
    run, saved = finished(folder)
    averages = [
        _digest({name: tensor for name, tensor in each.tensors.items() if name.startswith("average.")})
        for each in saved
    ]
    private = run.get("privacy")
    history = [part for each in saved for part in each.counters.get("accountant", [])]
    return Checkpoint(
        digest=digest_of(run, *averages),
        family=run["family"],
        settings=run["settings"],
        split=run["split"],
        images_seen=sum(each.step for each in saved) * run["batch_size"],
        events=tuple(
            told_of(event, member, len(saved))
            for member, each in enumerate(saved)
            for event in each.counters["events"]
        ),
        guarantee=accountant.guarantee(private, history) if private else None,
    )


def told_of(event: dict[str, Any], member: int, count: int) -> dict[str, Any]:
    """Return an event with the member that it befell, where there are several."""
    if count == 1:
        return event
    return event | {"message": f"generator {member + 1} of {count}: {event['message']}"}


def read_statistics(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of ``train.jsonl``; a line that a kill cut short is left out."""
    lines: list[dict[str, Any]] = []
    path = folder / "train.jsonl"
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def amend_statistics(folder: Path, **numbers: float) -> None:
    """Add numbers to the last line of ``train.jsonl``."""
    *before, last = read_statistics(folder)
    lines = [json.dumps(line, sort_keys=True) + "\n" for line in (*before, last | numbers)]
    write_atomically(folder / "train.jsonl", "".join(lines).encode(), mode=0o600)


def rewind_statistics(folder: Path, step: int) -> None:
    """Drop the lines of ``train.jsonl`` that came after ``step``: they will come again."""
    kept = [
        json.dumps(line, sort_keys=True) + "\n" for line in read_statistics(folder) if line["step"] <= step
    ]
    write_atomically(folder / "train.jsonl", "".join(kept).encode(), mode=0o600)


def _path(folder: Path, step: int) -> Path:
    return folder / f"checkpoint-{step:08d}.safetensors"


def _run(folder: Path) -> str:
    """Return the digest of what the folder's run is; empty where that is not settled."""
    return digest_of(read_identity(folder)["run"]) if (folder / "identity.json").exists() else ""


def _whole(tensors: dict[str, Tensor], header: dict[str, str]) -> str:
    """Return the digest of all that a checkpoint holds: an event that was lost could let a set out."""
    return digest_of(_digest(tensors), header)


def _digest(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 over names, types, shapes and bytes, in the order of the names."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        sha.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        sha.update(tensor.flatten().view(dtype=torch.uint8).numpy().data)
    return sha.hexdigest()
