"""What `phantomset doctor` looks at."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from phantomset.data.burned_in import reader
from phantomset.data.dicom.decoders import CODECS
from phantomset.data.errors import SourceError, WorkspaceError
from phantomset.data.keys import key_file
from phantomset.data.store.archive import Store
from phantomset.data.workspace import Workspace
from phantomset.pipelines.compute import default_threads
from phantomset.pipelines.places import workspace_path
from phantomset.pipelines.versions import versions

LEAST_FREE_GB = 2


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was looked at, what was found, and what to do where it is not well."""

    name: str
    found: str
    is_well: bool = True
    advice: str = ""


def examine(workspace: Path | None) -> list[Row]:
    """Return what this machine has; nothing is made or changed."""
    return [*_packages(), *_machine(), *_decoders(), _text_reader(), *_places(workspace)]


def verify_store(workspace: Path | None) -> Row:
    """Return whether every stored image still gives its digest; reads all of them, changes nothing."""
    root = workspace_path(workspace)
    if not (root / "restricted" / "objects").is_dir():
        return Row("store", f"{root}: no store yet")
    store = Store(Workspace(root))
    try:
        count, damaged = len(store.digests()), store.verify()
    except WorkspaceError as error:
        return Row("store", "damaged", False, str(error))
    if damaged:
        advice = (
            f"delete {root / 'restricted' / 'objects'}/*.parquet and run the ingest stage again: "
            "what is whole is kept, the rest is decoded anew"
        )
        return Row("store", f"{len(damaged):,} of {count:,} images are damaged", False, advice)
    return Row("store", f"{count:,} images, each equal to its digest")


def _packages() -> Iterator[Row]:
    for name, version in versions().items():
        yield Row(name, version)
    yield Row("prefect", metadata.version("prefect"))


def _machine() -> Iterator[Row]:
    import torch

    yield Row("CPU", f"{default_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    yield Row("CUDA", ", ".join(devices) or "no device: training runs on the CPU")


def _decoders() -> Iterator[Row]:
    yield Row("DICOM, not compressed", f"pydicom {metadata.version('pydicom')}")
    for codec in CODECS:
        if codec.is_installed:
            yield Row(f"DICOM, {codec.name}", ", ".join(codec.versions))
        else:
            advice = (
                f"such files go to quarantine; {sys.executable} -m pip install {' '.join(codec.packages)}"
            )
            yield Row(f"DICOM, {codec.name}", "no decoder", False, advice)


def _text_reader() -> Row:
    """What reads burned-in text: an extra, so that its absence is told and no fault."""
    if not reader.is_installed():
        found = f"the extra [ocr] is not installed, so pixels are not screened; {reader.INSTALL}"
        return Row("burned-in text", found)
    try:
        reader.hold_weights()
    except SourceError as error:
        return Row("burned-in text", "the networks are others", False, str(error))
    return Row("burned-in text", f"{reader.version()}, its networks as measured")


def _places(workspace: Path | None) -> Iterator[Row]:
    root = workspace_path(workspace)
    nearest = next(path for path in (root, *root.parents) if path.exists())
    is_writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    state = "exists" if root.exists() else "is made by the first run"
    yield Row(
        "workspace",
        f"{root} ({state})",
        is_writable,
        f"cannot write to {nearest}: choose another --workspace",
    )
    free = shutil.disk_usage(nearest).free / 1e9
    yield Row(
        "free disk", f"{free:,.0f} GB", free >= LEAST_FREE_GB, f"{LEAST_FREE_GB} GB at least: free some space"
    )
    yield from _key()


def _key() -> Iterator[Row]:
    path = key_file()
    if not path.exists():
        yield Row("key", f"{path} (is made by the first run; back it up with the ledger beside it)")
        return
    try:
        from phantomset.data.keys import key_name

        yield Row("key", f"{path} (name {key_name()})")
    except WorkspaceError as error:
        yield Row("key", str(path), False, str(error))
