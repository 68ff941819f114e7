"""Where cohorts lie in the restricted part, and how one is found again.

``cohorts/<digest>/records.parquet`` is the cohort, written once. ``cohorts/<digest>/cohort.json`` says how
the last input with these records was taken in (counts, notes). ``cohorts/inputs/<key>/`` remembers, for each
input and its settings, that account, the quarantine ledger and the keyed name of the file that each image
came from: an input seen before is not read again. A file ``searched`` beside them says that the residual scan
found nothing of this input; what has none is searched, however its run ended.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from math import isnan, nan
from pathlib import Path
from typing import Any

from phantomset.data.errors import WorkspaceError
from phantomset.data.keys import pseudonym
from phantomset.data.quarantine.ledger import Ledger
from phantomset.data.records import Cohort, ImageSpec, Record
from phantomset.data.workspace import Workspace, write_atomically, write_json

_SEARCHED = "searched"

_LINK = "SPLIT_LINK"


def find(workspace: Workspace, key: str) -> Cohort | None:
    """Return the cohort that an input became, or None where it was not ingested yet."""
    account = _inputs(workspace) / key / "ingest.json"
    if not account.exists():
        return None
    content = _read_json(account)
    folder = workspace.restricted("cohorts", content["digest"])
    if not (folder / "records.parquet").exists():
        return None
    if not (folder / "cohort.json").exists() or _read_json(folder / "cohort.json") != content:
        write_json(folder / "cohort.json", content, mode=0o600)
    return load_cohort(workspace, content["digest"])


def may_hold(workspace: Workspace, listing: str) -> bool:
    """Return False where no input that was taken in had files of these names and sizes, see `save`."""
    folder = _inputs(workspace)
    noted = [each / "listing.json" for each in folder.iterdir()] if folder.exists() else []
    return any(not note.exists() or _read_json(note) == listing for note in noted)


def save(
    workspace: Workspace,
    key: str,
    cohort: Cohort,
    ledger: Ledger,
    found: dict[str, Any] | None = None,
    listing: str = "",
    files: Mapping[str, str] | None = None,
) -> None:
    """Store a cohort and the account of the input that it was made from.

    Args:
        workspace: where.
        key: names the input and its settings.
        cohort: what it became.
        ledger: what was kept out of it.
        found: for the reviewer.
        listing: keyed name of the input's names and sizes; empty where its contents alone tell it.
        files: the path of the file that each image came from, by digest; stored as a keyed name.

    Raises:
        WorkspaceError: it cannot be written; nothing is left behind.
    """
    content = asdict(replace(cohort, records=()))
    content.pop("records")
    staging = workspace.restricted("incoming", f"cohort-{os.getpid()}-{secrets.token_hex(4)}")
    folder = workspace.restricted("cohorts", cohort.digest)
    try:
        (staging / "input").mkdir(parents=True, mode=0o700)
        (staging / "cohort").mkdir(mode=0o700)
        ledger.write(staging / "input" / "quarantine.parquet")
        write_json(staging / "input" / "ingest.json", content, mode=0o600)
        write_json(staging / "input" / "found.json", found or {}, mode=0o600)
        write_json(staging / "input" / "listing.json", listing, mode=0o600)
        _write_files(staging / "input" / "files.parquet", files or {}, ledger.format)
        _write_records(staging / "cohort" / "records.parquet", cohort.records)
        write_json(staging / "cohort" / "cohort.json", content, mode=0o600)
        _inputs(workspace).mkdir(mode=0o700, exist_ok=True)
        if (folder / "records.parquet").exists():
            write_json(folder / "cohort.json", content, mode=0o600)
        else:
            shutil.rmtree(folder, ignore_errors=True)  # a run that was killed in `forget` leaves a part
            (staging / "cohort").replace(folder)
        shutil.rmtree(_inputs(workspace) / key, ignore_errors=True)
        (staging / "input").replace(_inputs(workspace) / key)
    except OSError as error:
        raise WorkspaceError(
            f"cohorts: cannot write to {folder.parent} ({error.strerror}). "
            "Free some space or mend the permissions, or choose another --workspace."
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def is_searched(workspace: Workspace, key: str) -> bool:
    """Return whether the residual scan went through what this input became, and found nothing."""
    return (_inputs(workspace) / key / _SEARCHED).exists()


def note_searched(workspace: Workspace, key: str) -> None:
    """Remember that the residual scan found nothing; `save` forgets it."""
    write_atomically(_inputs(workspace) / key / _SEARCHED, b"", mode=0o600)


def forget(workspace: Workspace, key: str, cohort: Cohort) -> None:
    """Take an input and its cohort away, and the journal, which would bring them back unread."""
    shutil.rmtree(_inputs(workspace) / key, ignore_errors=True)
    shutil.rmtree(workspace.restricted("cohorts", cohort.digest), ignore_errors=True)
    for path in workspace.restricted("cohorts").glob("journal.sqlite*"):
        path.unlink(missing_ok=True)


def enter_links(workspace: Workspace, cohort: Cohort, left_out: Iterable[int]) -> None:
    """Enter the files behind records that a split leaves out in the ledger (SPLIT_LINK), under each input.

    Args:
        workspace: of the cohort.
        cohort: as it was stored.
        left_out: positions of those records.
    """
    import pandas as pd

    digests = [cohort.records[position].digest for position in left_out]
    for account in sorted(_inputs(workspace).glob("*/ingest.json")):
        path, named = account.with_name("quarantine.parquet"), account.with_name("files.parquet")
        if _read_json(account)["digest"] != cohort.digest or not path.exists() or not named.exists():
            continue
        files = pd.read_parquet(named)
        links = files[files["digest"].isin(digests)]
        ledger = Ledger.read(path, "".join(links["format"].unique()))
        ledger.entries = [entry for entry in ledger.entries if entry[1] != _LINK]
        ledger.entries += [(str(name), _LINK, 0) for name in links["path"]]
        staged = workspace.restricted("incoming", f"{account.parent.name}.parquet")
        ledger.write(staged)
        for written in (staged.with_suffix(".txt"), staged):
            written.replace(path.with_suffix(written.suffix))


def load_cohort(workspace: Workspace, digest: str) -> Cohort:
    """Return a stored cohort, with the counts and notes of the input that was ingested last.

    Raises:
        WorkspaceError: there is none of that name, or it is damaged.
    """
    import pandas as pd

    folder = workspace.restricted("cohorts", digest)
    if not (folder / "records.parquet").exists():
        raise WorkspaceError(
            f"cohorts: no cohort {digest[:12]} in {workspace.root}. Run the ingest stage first."
        )
    content = _read_json(folder / "cohort.json")
    try:
        frame = pd.read_parquet(folder / "records.parquet")
        records = tuple(
            Record(
                str(name), str(origin), int(label), str(subject), str(group), json.loads(attributes), spacing
            )
            for name, origin, label, subject, group, attributes, spacing in zip(
                frame["digest"],
                frame["origin"],
                frame["label"],
                frame["subject"],
                frame["group"],
                frame["attributes"],
                (None if isnan(value) else float(value) for value in frame["spacing_mm"]),
                strict=True,
            )
        )
    except (OSError, ValueError, KeyError):
        raise _damaged(folder / "records.parquet") from None
    return Cohort(
        digest=content["digest"],
        spec=ImageSpec(**content["spec"]),
        label_names=tuple(content["label_names"]),
        records=records,
        files=content["files"],
        quarantine=content["quarantine"],
        dropped=content["dropped"],
        has_patients=content["has_patients"],
        notes=tuple(content["notes"]),
    )


def _write_records(path: Path, records: tuple[Record, ...]) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {
            "digest": [record.digest for record in records],
            "origin": [record.origin for record in records],
            "label": [record.label for record in records],
            "subject": [record.subject for record in records],
            "group": [record.group for record in records],
            "attributes": [json.dumps(record.attributes, sort_keys=True) for record in records],
            "spacing_mm": [nan if record.spacing_mm is None else record.spacing_mm for record in records],
        }
    )
    frame.to_parquet(path, index=False)
    path.chmod(0o600)


def _write_files(path: Path, files: Mapping[str, str], kind: str) -> None:
    import pandas as pd

    rows = [(digest, pseudonym("path", key), kind) for digest, key in sorted(files.items())]
    pd.DataFrame(rows, columns=["digest", "path", "format"], dtype="string").to_parquet(path, index=False)
    path.chmod(0o600)


def _inputs(workspace: Workspace) -> Path:
    return workspace.restricted("cohorts", "inputs")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise _damaged(path) from None


def _damaged(path: Path) -> WorkspaceError:
    return WorkspaceError(
        f"cohorts: {path} is missing or damaged. Move its folder away and run the ingest stage again."
    )
