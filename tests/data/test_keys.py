"""The project key and its pseudonyms."""

import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from phantomset.data import keys
from phantomset.data.errors import BAD_INPUT, WorkspaceError
from phantomset.data.workspace import Workspace


def test_key_is_made_once_and_private() -> None:
    """The first use makes the key, 0600; later uses read it."""
    first = keys.pseudonym("patient", "A")
    path = keys.key_file()
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.key_folder() == path.parent
    assert keys.pseudonym("patient", "A") == first
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_pseudonym_is_hmac_sha256() -> None:
    """The formula, worked out with the standard library alone."""
    keys.key_folder()
    key = hashlib.sha256(keys.key_file().read_bytes().strip()).digest()
    expected = hmac.new(key, b"patient\0A-17", hashlib.sha256).hexdigest()[:32]
    assert keys.pseudonym("patient", "A-17") == expected


def test_domains_keep_equal_texts_apart() -> None:
    """A path and a patient of one spelling have two names."""
    assert keys.pseudonym("patient", "A") != keys.pseudonym("path", "A")


def test_another_key_makes_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the key a pseudonym cannot be made again."""
    before, name = keys.pseudonym("patient", "A"), keys.key_name()
    monkeypatch.setenv(keys.VARIABLE, str(tmp_path / "other"))
    assert keys.pseudonym("patient", "A") != before
    assert keys.key_name() != name


def test_the_place_of_the_key_follows_home_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is worked out anew whenever what decides it changes: the variable, the home, the current folder."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setenv("HOME", str(tmp_path / name))
        monkeypatch.setenv(keys.VARIABLE, "key")
        assert keys.key_file() == tmp_path / name / "key"
        monkeypatch.delenv(keys.VARIABLE)
        assert keys.key_file() == tmp_path / name / ".config" / "phantomset" / "key"


def test_first_uses_at_once_end_with_one_key() -> None:
    """Two processes that both find no key do not overwrite each other's."""
    with ThreadPoolExecutor(8) as pool:
        names = set(pool.map(lambda _: keys.pseudonym("patient", "A"), range(32)))
    assert names == {keys.pseudonym("patient", "A")}


def test_a_key_that_others_can_read_is_refused() -> None:
    """A leaked key allows a dictionary attack on identifiers; the message says how to mend it."""
    keys.key_folder()
    keys.key_file().chmod(0o644)
    with pytest.raises(WorkspaceError, match=r"644.*chmod 600"):
        keys.pseudonym("patient", "A")


def test_a_damaged_key_is_refused() -> None:
    """A short key is no key; a new one is never made over it."""
    keys.key_folder()
    keys.key_file().write_text("short\n")
    with pytest.raises(WorkspaceError, match="holds 5 characters"):
        keys.pseudonym("patient", "A")


def test_a_key_that_cannot_be_made_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where the folder should be: no traceback, a message with the variable."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(keys.VARIABLE, str(tmp_path / "file" / "key"))
    with pytest.raises(WorkspaceError, match=keys.VARIABLE):
        keys.pseudonym("patient", "A")


@pytest.mark.parametrize("place", ["workspace/key", "workspace/restricted/deep/key", "link/key"])
def test_a_key_inside_the_workspace_is_refused(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a link that leads there: exit code 2, and neither the key nor the workspace is made."""
    root = tmp_path / "workspace"
    (tmp_path / "link").symlink_to(root)
    monkeypatch.setenv(keys.VARIABLE, str(tmp_path / place))
    with pytest.raises(
        WorkspaceError, match=r"must lie outside every workspace.*PHANTOMSET_KEY_FILE"
    ) as caught:
        Workspace.open(root)
    assert caught.value.exit_code == BAD_INPUT
    assert not root.exists()
    monkeypatch.setenv(keys.VARIABLE, str(tmp_path / "workspace-key"))
    assert Workspace.open(root).root == root
