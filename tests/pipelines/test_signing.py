"""Keys are OpenSSH's, envelopes are DSSE's, and no byte of either can be exchanged."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from phantomset.data.errors import ReleaseError
from phantomset.pipelines.releases import signing
from phantomset.pipelines.releases.attestation import statement

STATED = statement("manifest.json", "0" * 64, "urn:test", {"result": "PASSED"})


@pytest.fixture
def key(tmp_path: Path) -> signing.Signer:
    signing.new_key(tmp_path / "a.key", "dr grey")
    found = signing.signer(tmp_path / "a.key")
    assert found is not None
    return found


def test_a_key_pair_has_its_modes(key: signing.Signer, tmp_path: Path) -> None:
    """The private key is 0600, the public one a line with the comment; both belong together."""
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    line = (tmp_path / "a.key.pub").read_text()
    assert line.startswith("ssh-ed25519 AAAA")
    assert line.endswith(" dr grey\n")
    public = signing.public_key(tmp_path / "a.key.pub")
    assert public.fingerprint == key.public.fingerprint
    assert (public.comment, public.line) == ("dr grey", key.public.line)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="OpenSSH's ssh-keygen is not installed")
def test_openssh_names_the_key_as_we_do(key: signing.Signer, tmp_path: Path) -> None:
    """``ssh-keygen -lf`` prints the same fingerprint."""
    told = subprocess.run(["ssh-keygen", "-lf", tmp_path / "a.key.pub"], capture_output=True, text=True)
    assert key.public.fingerprint in told.stdout


def test_a_key_is_never_replaced(key: signing.Signer, tmp_path: Path) -> None:
    """A second `new` at the same place is refused, and the first key is as it was."""
    before = (tmp_path / "a.key").read_bytes()
    with pytest.raises(ReleaseError, match="there already"):
        signing.new_key(tmp_path / "a.key", "")
    assert (tmp_path / "a.key").read_bytes() == before


def test_half_a_pair_is_not_written(tmp_path: Path) -> None:
    """Beside the public half of another key no private one appears: the two would not belong together."""
    signing.public_path(tmp_path / "key").write_text("ssh-ed25519 AAAA somebody\n")
    with pytest.raises(ReleaseError, match="never replaced"):
        signing.new_key(tmp_path / "key", "")
    assert not (tmp_path / "key").exists()


def test_what_is_no_key_is_told(tmp_path: Path, key: signing.Signer) -> None:
    """Open modes, another kind of key, rubbish and a missing file each end in a message with advice."""
    (tmp_path / "a.key").chmod(0o644)
    with pytest.raises(ReleaseError, match="chmod 600"):
        signing.signer(tmp_path / "a.key")
    rsa = generate_private_key(65537, 2048)
    other = rsa.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    for content, words in ((other, "no Ed25519"), (b"rubbish", "OpenSSH")):
        (tmp_path / "b.key").write_bytes(content)
        (tmp_path / "b.key").chmod(0o600)
        with pytest.raises(ReleaseError, match=words):
            signing.signer(tmp_path / "b.key")
        with pytest.raises(ReleaseError, match="no public key"):
            signing.public_key(tmp_path / "b.key")
    with pytest.raises(ReleaseError, match="keys new"):
        signing.signer(tmp_path / "c.key")


def test_without_a_key_nothing_is_signed(own_place: Path) -> None:
    """Where nobody made a key there is no signer: unsigned is allowed."""
    assert signing.signer() is None


def test_the_signed_bytes_are_those_of_dsse(key: signing.Signer) -> None:
    """The signature holds over DSSEv1's encoding, written out here by hand, with the key's own library."""
    content = json.loads(signing.sealed(STATED, [key]))
    payload = base64.b64decode(content["payload"])
    signed = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
    key.key.public_key().verify(base64.b64decode(content["signatures"][0]["sig"]), signed)
    assert content["payloadType"] == "application/vnd.in-toto+json"
    assert json.loads(payload) == STATED


def test_equal_statements_give_equal_bytes(key: signing.Signer) -> None:
    """Ed25519 signs without chance, so a release's attestations are the same on every run."""
    assert signing.sealed(STATED, [key]) == signing.sealed(dict(reversed(STATED.items())), [key])


def test_only_the_signer_is_believed(key: signing.Signer) -> None:
    """An envelope is signed by the keys that signed it, one or two, and by no other."""
    second, stranger = (signing.Signer(Ed25519PrivateKey.generate()) for _ in range(2))
    envelope = signing.opened(signing.sealed(STATED, [key, second]))
    assert envelope.statement == STATED
    believed = [envelope.is_signed_by(each.public) for each in (key, second, stranger)]
    assert believed == [True, True, False]
    assert signing.opened(signing.sealed(STATED)).signatures == {}


def test_any_flipped_bit_is_seen(key: signing.Signer) -> None:
    """Each bit of an envelope: flipped, it is refused, or the signature no longer holds."""
    whole = signing.sealed(STATED, [key])
    for at in range(len(whole)):
        for bit in (1, 32):
            content = whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :]
            try:
                envelope = signing.opened(content)
            except signing.Damaged:
                continue
            assert not envelope.is_signed_by(key.public), (at, bit)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b"\xff", b'{"payload": "", "signatures": []}']
)
def test_what_is_no_envelope_is_refused(content: bytes) -> None:
    """Rubbish ends in `Damaged`, never in a traceback."""
    with pytest.raises(signing.Damaged):
        signing.opened(content)
