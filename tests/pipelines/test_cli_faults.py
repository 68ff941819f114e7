"""Commands that a bug, a signal or a full disk ends: one message, an exit code, never a traceback."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phantomset.data.errors import Interrupted, PhantomsetError
from phantomset.pipelines import ledger
from phantomset.pipelines.cli import launch

from .conftest import Answer


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "the same command resumes"),
        (Interrupted("stopped"), 130, "stopped"),
        (ValueError("Smith^John born 1950"), 1, "bug: ValueError in test_cli_faults.py, line"),
        (PhantomsetError("a fault"), 1, "a fault"),
    ],
    ids=["Ctrl-C", "signal", "bug", "known fault"],
)
def test_no_traceback_and_no_text_of_a_bug(
    call: Callable[..., Answer],
    recipe: str,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    message: str,
) -> None:
    """A bug is told by type and place; its text may carry what was read and is not printed."""
    monkeypatch.setattr(launch, "launch", raising(error))
    got, out, err = call("run", recipe)
    assert (got, out) == (code, "")
    assert message in err
    assert "Smith" not in err
    assert "Traceback" not in err


REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)


@pytest.mark.parametrize("number", REFUSALS, ids=os.strerror)
@pytest.mark.parametrize("is_named", [False, True], ids=["no file", "a file"])
def test_a_workspace_that_cannot_be_written_is_exit_code_2(
    call: Callable[..., Answer],
    recipe: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: int,
    is_named: bool,
) -> None:
    """One line says what, where and what to do; the error's own text is not shown."""
    named = (str(tmp_path / "w" / "runs" / "one"),) if is_named else ()
    monkeypatch.setattr(launch, "launch", raising(OSError(number, "Smith^John", *named)))
    code, out, err = call("run", recipe, f"--workspace={tmp_path / 'w'}")
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert f"cannot read or write in {tmp_path / 'w'} ({os.strerror(number)})" in line
    assert "Free some space" in line
    assert "Smith" not in line


def test_a_file_elsewhere_that_cannot_be_written_is_not_named(
    call: Callable[..., Answer], recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be the source's: its path is no more shown than the text of any bug."""
    monkeypatch.setattr(launch, "launch", raising(PermissionError(errno.EACCES, "no", "/ward/smith.dcm")))
    code, _, err = call("run", recipe)
    assert code == 1
    assert "bug: PermissionError" in err
    assert "smith" not in err


def test_a_disk_that_is_full_when_a_stage_ends_loses_nothing(
    call: Callable[..., Answer], recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of the run cannot be written: exit code 2, and with space the stage is found done."""
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "write_atomically", raising(OSError(errno.ENOSPC, "full")))
        assert call("ingest", recipe, "--plain")[:2] == (2, "")
    answer = json.loads(call("ingest", recipe, "--plain", "--json")[1])
    assert [(stage["stage"], stage["made"]) for stage in answer["stages"]] == [("ingest", False)]


@pytest.mark.parametrize("is_writable", [True, False])
def test_a_trace_is_kept_or_is_said_to_be_lost(
    call: Callable[..., Answer],
    recipe: str,
    monkeypatch: pytest.MonkeyPatch,
    own_place: Path,
    is_writable: bool,
) -> None:
    """In the restricted part, whatever letters are in it; where it cannot be, the bug is told alone."""
    log = own_place / "workspace" / "restricted" / "faults.log"
    log.parent.mkdir(parents=True)
    if not is_writable:
        log.mkdir()
    monkeypatch.setattr(launch, "launch", raising(ValueError("Smith \udcff")))
    code, out, err = call("run", recipe)
    assert (code, out) == (1, "")
    assert "bug: ValueError" in err
    assert "Smith" not in err
    assert f"{'is in' if is_writable else 'could not be written to'} {log}" in err
    assert not is_writable or "Smith \\udcff" in log.read_text()
