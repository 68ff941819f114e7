"""With the publisher's key alone a receiver finds every changed byte, and what was taken back."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from phantomset.data.errors import ReleaseError
from phantomset.data.workspace import Workspace
from phantomset.pipelines.releases import manifest, release, retraction, signing
from phantomset.pipelines.releases.attestation import PROVENANCE, VERDICT
from phantomset.pipelines.releases.verification import verify

from .drafts import draft, images
from .people import key as key_of

FORMS = ["folder", "npz", "parquet", "webdataset", "monai", "dicom"]


@pytest.fixture
def public(own_place: Path) -> signing.PublicKey:
    """Make the house's key, and return the half that receivers have."""
    return signing.new_key(signing.key_path(), "data office")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


def published(workspace: Workspace, seed: int = 1, **changes: object) -> Path:
    """Publish six images in every form and return the folder."""
    recipe = draft().recipe
    recipe = {**recipe, "publish": {**recipe["publish"], "formats": FORMS}}
    return release.publish(workspace, draft(synthetic=images(6, seed), recipe=recipe, **changes)).path


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_signed_release_verifies_anywhere(
    workspace: Workspace, public: signing.PublicKey, tmp_path: Path
) -> None:
    """A copy elsewhere, without workspace or private key, is signed by the key and by no other."""
    copy = shutil.copytree(published(workspace), tmp_path / "received")
    shutil.rmtree(workspace.root)
    other = signing.new_key(tmp_path / "other", "")
    found = verify(copy, public)
    assert (found.problems, found.signature, found.signer) == ((), "valid", public.fingerprint)
    assert found.files == len(files(copy)) - 4  # manifest, sums and two attestations are not listed
    assert verify(copy).signature == "not checked"
    assert verify(copy, other).signature == "invalid"
    assert verify(copy, other).problems == tuple(
        f"{name}: is not signed by {other.fingerprint}" for name in (PROVENANCE, VERDICT)
    )


def test_unsigned_is_allowed_and_said(workspace: Workspace, tmp_path: Path) -> None:
    """Without a key a release is written, whole and unsigned; who asks for a signature gets a problem."""
    found = verify(published(workspace))
    assert (found.problems, found.signature, found.signer) == ((), "unsigned", "")
    assert "not signed" in found.sentence()
    asked = verify(workspace.root / "releases" / "chest-demo" / "v1", signing.new_key(tmp_path / "key", ""))
    assert len(asked.problems) == 2
    assert asked.signature == "invalid"


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_every_flipped_byte_is_found(
    workspace: Workspace, signed: bool, request: pytest.FixtureRequest
) -> None:
    """One bit at the start, the middle and the end of each file of every form: all are found."""
    public = request.getfixturevalue("public") if signed else None
    folder = published(workspace)
    for path in files(folder):
        whole = path.read_bytes()
        path.chmod(0o644)
        for at in {0, len(whole) // 2, max(len(whole) - 1, 0)}:
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            assert verify(folder, public).problems, (path.name, at)
        path.write_bytes(whole)
    assert verify(folder, public).problems == ()


@pytest.mark.parametrize(
    "odd",
    [
        *("", "[]", "3", "null", '"files"', "{}", '{"files": 3}', '{"files": [3], "folders": []}'),
        *('{"files": [], "folders": [], "attestations": 3}', '{"files": [], "folders": [], "waiver": 3}'),
        *('{"files": [], "folders": [], "attestations": [[1]]}', '{"files": {}, "folders": {}}', "[" * 9_999),
    ],
)
def test_a_manifest_of_another_form_is_told(
    odd: str, workspace: Workspace, public: signing.PublicKey
) -> None:
    """Whatever stands in the manifest's place: problems, and no traceback."""
    folder = published(workspace)
    (folder / manifest.MANIFEST).chmod(0o644)
    (folder / manifest.MANIFEST).write_text(odd)
    for key in (public, None):
        assert verify(folder, key).problems


def test_every_missing_and_added_file_is_found(workspace: Workspace, public: signing.PublicKey) -> None:
    """Each file taken away, and a file, a hidden one and a folder put into each folder: all are named."""
    folder = published(workspace)
    for path in files(folder):
        whole = path.read_bytes()
        path.unlink()
        assert any(path.name in problem for problem in verify(folder, public).problems), path
        path.write_bytes(whole)
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for name in ("extra.png", ".hidden"):
            (place / name).write_text("")
            assert any(name in problem for problem in verify(folder, public).problems), place
            (place / name).unlink()
        (place / "more").mkdir()
        assert any("more" in problem for problem in verify(folder, public).problems), place
        (place / "more").rmdir()
    assert verify(folder, public).problems == ()


def test_a_forger_without_the_key_is_found(workspace: Workspace, public: signing.PublicKey) -> None:
    """Whoever exchanges an image and writes both lists and the attestations anew cannot sign them."""
    folder = published(workspace)
    for path in files(folder):
        path.chmod(0o644)
    victim = next(folder.rglob("*.png"))
    victim.write_bytes(victim.read_bytes() + b"x")
    content = json.loads((folder / manifest.MANIFEST).read_text())
    listed = {key: value for key, value in content.items() if key not in ("files", "folders")}
    shutil.rmtree(folder / "attestations")
    for forged in ({**listed, "attestations": []}, listed):
        manifest.seal(folder, forged)
        assert verify(folder, public).problems
        assert verify(folder, public).signature == "invalid"


def test_attestations_of_another_release_do_not_fit(workspace: Workspace, public: signing.PublicKey) -> None:
    """A verdict that was signed for one set cannot be laid beside another."""
    one, other = published(workspace), published(workspace, seed=2)
    for name in (VERDICT, PROVENANCE):
        (one / name).chmod(0o644)
        (one / name).write_bytes((other / name).read_bytes())
    assert f"{VERDICT}: is about another manifest.json" in verify(one, public).problems


def test_the_attestations_say_what_was_tested_and_made(workspace: Workspace) -> None:
    """The verdict is an in-toto test result, the provenance SLSA's, both about the manifest."""
    folder = published(workspace)
    verdict, provenance = (
        signing.opened((folder / name).read_bytes()).statement for name in (VERDICT, PROVENANCE)
    )
    assert verdict["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert verdict["predicate"]["result"] == "PASSED"
    assert "privacy" in verdict["predicate"]["passedTests"]
    assert provenance["predicateType"] == "https://slsa.dev/provenance/v1"
    build = provenance["predicate"]["buildDefinition"]
    assert build["externalParameters"]["recipe"]["source"]["path"] == "kept-back"
    assert {"uri": "pkg:pypi/torch@2.14.1", "name": "torch"} in build["resolvedDependencies"]
    assert [set(each["subject"][0]["digest"]) for each in (verdict, provenance)] == [{"sha256"}] * 2


def test_a_retracted_release_is_told(workspace: Workspace, public: signing.PublicKey, tmp_path: Path) -> None:
    """The signed list names one version; verify heeds it beside the releases and wherever it is given."""
    one, other = published(workspace), published(workspace, seed=2)
    shelf = workspace.root / "releases"
    retraction.retract(shelf, "chest-demo", 1, "A patient has withdrawn consent.", signing.signer())
    assert [problem.split(":")[1] for problem in verify(one, public).problems] == [
        " A patient has withdrawn consent."
    ]
    assert verify(other, public).problems == ()
    copy = shutil.copytree(one, tmp_path / "a" / "b" / "received")
    assert verify(copy, public).problems == ()
    assert verify(copy, public, shelf / "retracted.json").problems == verify(one, public).problems


@pytest.mark.parametrize(("here", "named"), [("v1", "."), ("", "v1"), ("v1/attestations", "..")])
def test_a_retracted_release_is_told_from_wherever_it_is_named(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, here: str, named: str
) -> None:
    """A folder that is named from within the shelf has the same list beside it."""
    folder = published(workspace)
    reason = "A patient has withdrawn consent."
    retraction.retract(workspace.root / "releases", "chest-demo", 1, reason, None)
    monkeypatch.chdir(folder.parent / here)
    assert any(reason in problem for problem in verify(Path(named)).problems)


def test_a_list_that_is_named_and_missing_is_told(workspace: Workspace, tmp_path: Path) -> None:
    """A mistyped list of retractions is no empty one: the receiver asked for it to be heeded."""
    with pytest.raises(ReleaseError, match="there is no list"):
        verify(published(workspace), retractions=tmp_path / "retractd.json")


def test_a_forged_list_is_refused(workspace: Workspace, public: signing.PublicKey) -> None:
    """A list that was changed, or signed by nobody, is not read as if nothing had been taken back."""
    folder = published(workspace)
    shelf = workspace.root / "releases"
    retraction.retract(shelf, "chest-demo", 1, "A patient has withdrawn consent.", None)
    with pytest.raises(ReleaseError, match="not signed by"):
        verify(folder, public)
    (shelf / "retracted.json").write_text("{}")
    with pytest.raises(ReleaseError, match="damaged"):
        verify(folder)


def test_a_signed_list_stays_signed(workspace: Workspace, public: signing.PublicKey) -> None:
    """Without the key nothing is added: receivers with the public key could not read the list any more."""
    one, _ = published(workspace), published(workspace, seed=2)
    shelf, reason = workspace.root / "releases", "A patient has withdrawn consent."
    retraction.retract(shelf, "chest-demo", 1, reason, signing.signer())
    with pytest.raises(ReleaseError, match="there is no key here"):
        retraction.retract(shelf, "chest-demo", 2, reason, None)
    assert any(reason in problem for problem in verify(one, public).problems)


def test_an_unsigned_list_is_signed_once_it_was_read(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retractions from before there was a key: refused with what they say and the list's SHA-256, which
    adopts them; the signed list holds both, says which it took over, and goes on saying so.
    """
    one, other, third = (published(workspace, seed=seed) for seed in (1, 2, 3))
    shelf = workspace.root / "releases"
    path, reason = shelf / "retracted.json", "A patient has withdrawn consent."
    retraction.retract(shelf, "chest-demo", 1, reason, None)
    unsigned = hashlib.sha256(path.read_bytes()).hexdigest()
    signing.new_key(signing.key_path(), "A. Test")
    signer = signing.signer()
    assert signer is not None
    for wrong in ("", "0" * 64):
        with pytest.raises(ReleaseError, match=f"chest-demo/v1 on .*: {reason}.*--adopt {unsigned}"):
            retraction.retract(shelf, "chest-demo", 2, reason, signer, wrong)
    retraction.retract(shelf, "chest-demo", 2, reason, signer, unsigned)
    retraction.retract(shelf, "chest-demo", 3, reason, signer)
    assert [item.version for item in retraction.read(path, signer.public)] == [1, 2, 3]
    told = signing.opened(path.read_bytes()).statement["predicate"]["adopted"]
    assert told == {"sha256": unsigned, "retractions": 1}
    for folder in (one, other, third):
        assert any(reason in problem for problem in verify(folder).problems)


def test_an_unsigned_list_replaces_no_signed_one(workspace: Workspace, public: signing.PublicKey) -> None:
    """Who can write beside the releases but has no key takes a retraction off: the next one does not sign
    that in silence, nor a list of another key.
    """
    published(workspace), published(workspace, seed=2)
    shelf, reason, signer = workspace.root / "releases", "A patient has withdrawn consent.", signing.signer()
    retraction.retract(shelf, "chest-demo", 1, reason, signer)
    path = shelf / "retracted.json"
    path.unlink()
    retraction.retract(shelf, "chest-demo", 2, "Something else was wrong.", None)
    with pytest.raises(ReleaseError, match="is not signed, and there is a key now"):
        retraction.retract(shelf, "chest-demo", 1, reason, signer)
    path.write_bytes(signing.sealed(signing.opened(path.read_bytes()).statement, [key_of(shelf / "another")]))
    with pytest.raises(ReleaseError, match="is not signed by"):
        retraction.retract(
            shelf, "chest-demo", 1, reason, signer, hashlib.sha256(path.read_bytes()).hexdigest()
        )


def test_a_retracted_set_is_not_published_again(workspace: Workspace) -> None:
    """The equal set from the equal recipe is refused; it is retracted once, with a reason."""
    published(workspace)
    shelf = workspace.root / "releases"
    with pytest.raises(ReleaseError, match="reason"):
        retraction.retract(shelf, "chest-demo", 1, "short", None)
    retraction.retract(shelf, "chest-demo", 1, "The labels of one class were wrong.", None)
    with pytest.raises(ReleaseError, match="already"):
        retraction.retract(shelf, "chest-demo", 1, "The labels of one class were wrong.", None)
    with pytest.raises(ReleaseError, match="not published again"):
        published(workspace)
