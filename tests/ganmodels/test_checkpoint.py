"""Checkpoints on disk: whole, sound, few, and nothing that could run as code."""

import io
from pathlib import Path

import pytest
import torch

from phantomset.data.errors import ModelError, WorkspaceError
from phantomset.ganmodels import checkpoint

COUNTERS = {"step": 20, "good_step": 0, "best": [], "events": []}


def _save(folder: Path, step: int, good_step: int = 0) -> None:
    tensors = {"weights": torch.full((3, 4), float(step)), "scalar": torch.tensor(2.0)}
    checkpoint.save(folder, tensors, {**COUNTERS, "step": step, "good_step": good_step})


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    """Tensors, also in channels-last order, and counters come back equal."""
    channels_last = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    checkpoint.save(tmp_path, {"w": channels_last}, COUNTERS, done=True)
    saved = checkpoint.read(tmp_path, 20)
    assert torch.equal(saved.tensors["w"], channels_last)
    assert (saved.step, saved.counters, saved.done) == (20, COUNTERS, True)


def test_the_newest_two_and_the_good_one_stay(tmp_path: Path) -> None:
    """Of five checkpoints the last two stay, and the one to roll back to."""
    for step in (0, 20, 40, 60, 80):
        _save(tmp_path, step, good_step=20 if step >= 20 else 0)
    assert checkpoint.steps(tmp_path) == [20, 60, 80]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "header", "counter", "done", "renamed"])
def test_damage_is_found(tmp_path: Path, damage: str) -> None:
    """A file cut short, a single flipped bit in a weight, an empty file, foreign bytes: none is loaded.

    Nor one whose counters or end were changed, or that stands for another step: what befell a run decides
    whether its set may leave.
    """
    _save(tmp_path, 0)
    _save(tmp_path, 20)
    path = tmp_path / "checkpoint-00000020.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-3] ^= 1
    changed = {
        "truncated": content[:-5],
        "empty": b"",
        "header": b"\x80\x04" + content,
        "counter": content.replace(b"events", b"evenly"),
        "done": content.replace(b'"done":"false"', b'"done":"true "'),
        "renamed": bytes(path.with_name("checkpoint-00000000.safetensors").read_bytes()),
    }
    damaged = changed.get(damage, content)
    assert damage == "flipped" or damaged != content
    path.write_bytes(bytes(damaged))
    with pytest.raises(ModelError, match="damaged"):
        checkpoint.read(tmp_path, 20)
    saved, passed_over = checkpoint.newest(tmp_path)
    assert saved is not None
    assert (saved.step, passed_over) == (0, [20])


class _Planted:
    """A pickle that would write a file, were it loaded."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.proof,)


def test_a_planted_pickle_does_not_run(tmp_path: Path) -> None:
    """In the place of a checkpoint it is damage like any other; loaded as what it is, it writes its file."""
    proof, path = tmp_path / "proof", tmp_path / "checkpoint-00000020.safetensors"
    torch.save(_Planted(proof), path)
    with pytest.raises(ModelError, match="damaged"):
        checkpoint.read(tmp_path, 20)
    assert not proof.exists()
    torch.load(io.BytesIO(path.read_bytes()), weights_only=False)
    assert proof.exists()


def test_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    """A copy that somebody made by hand, or a half-written file, is passed over and left alone."""
    _save(tmp_path, 20)
    copy = tmp_path / "checkpoint-00000020 (copy).safetensors"
    copy.write_bytes(b"x")
    assert checkpoint.steps(tmp_path) == [20]
    _save(tmp_path, 40)
    assert copy.exists()


def test_all_damaged_is_an_error(tmp_path: Path) -> None:
    """Then there is nothing to go on from, and starting anew in silence would hide a dying disk."""
    for step in (0, 20):
        _save(tmp_path, step)
        (tmp_path / f"checkpoint-{step:08d}.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match="all 2 checkpoints"):
        checkpoint.newest(tmp_path)


def test_the_sound_checkpoint_before(tmp_path: Path) -> None:
    """The wanted one, else the newest before it, damaged ones named; never one after it, which may be what
    the run goes back from."""
    for step in (20, 40, 60):
        _save(tmp_path, step, good_step=20)
    assert checkpoint.before(tmp_path, 40)[0].step == 40
    (tmp_path / "checkpoint-00000040.safetensors").write_bytes(b"x")
    saved, passed_over = checkpoint.before(tmp_path, 40)
    assert (saved.step, passed_over) == (20, [40])
    (tmp_path / "checkpoint-00000020.safetensors").unlink()
    with pytest.raises(ModelError, match="damaged or gone"):
        checkpoint.before(tmp_path, 40)


def test_a_missing_folder_holds_nothing(tmp_path: Path) -> None:
    """No folder, no checkpoint, and no error."""
    assert checkpoint.newest(tmp_path / "absent") == (None, [])


def test_unfinished_runs_are_no_checkpoint(tmp_path: Path) -> None:
    """A run that is not over cannot be generated from; the message says how to go on."""
    identity = {"run": {"family": "r3gan", "members": 1}, "machine": {}}
    checkpoint.settle_identity(tmp_path, identity)
    _save(tmp_path, 20)
    with pytest.raises(ModelError, match="not finished"):
        checkpoint.finished_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "content", ["{", "null", "[]", '{"run": {}, "machine": {}}', '{"run": {"members": "1"}}']
)
def test_identity_lost(tmp_path: Path, content: str) -> None:
    """Without a readable identity the folder is of no use, and says so."""
    (tmp_path / "identity.json").write_text(content)
    with pytest.raises(ModelError, match=r"identity\.json is missing or damaged"):
        checkpoint.read_identity(tmp_path)


def _run(folder: Path, family: str = "r3gan", members: int = 1) -> None:
    """Write a finished run of one step, or of a member."""
    checkpoint.settle_identity(folder, {"run": {"family": family, "members": members}, "machine": {}})
    if members == 1:
        checkpoint.save(folder, {"w": torch.zeros(2)}, COUNTERS, done=True)


def test_weights_of_another_run_are_not_read(tmp_path: Path) -> None:
    """Tensors of the same shapes would fit: what they were trained for is in the file, and is compared."""
    own, other = tmp_path / "own", tmp_path / "other"
    _run(own)
    _run(other, "cgan")
    path = "checkpoint-00000020.safetensors"
    (own / path).write_bytes((other / path).read_bytes())
    with pytest.raises(ModelError, match="is of another run"):
        checkpoint.read(own, 20)
    with pytest.raises(ModelError, match="is of another run"):
        checkpoint.finished(own)


def test_an_identity_that_was_changed_fits_no_weights(tmp_path: Path) -> None:
    """The family's name in ``identity.json`` is no way to load weights as another one's."""
    _run(tmp_path)
    identity = tmp_path / "identity.json"
    identity.write_text(identity.read_text().replace("r3gan", "cgan"))
    with pytest.raises(ModelError, match="is of another run"):
        checkpoint.read(tmp_path, 20)


def test_a_member_of_another_run_is_not_read(tmp_path: Path) -> None:
    """The folder of a member, whole, from elsewhere: it differs from the run that it lies in."""
    _run(tmp_path, members=2)
    _run(tmp_path / "member-0")
    _run(tmp_path / "member-1", "cgan")
    with pytest.raises(ModelError, match=r"member-1 holds another run; they differ in family"):
        checkpoint.finished(tmp_path)


def test_statistics_are_rewound(tmp_path: Path) -> None:
    """Lines after the checkpoint go, because they come again; so does a line that a kill cut short."""
    (tmp_path / "train.jsonl").write_text('{"step": 20}\n{"step": 40}\n{"step": 60}\n{"st')
    checkpoint.rewind_statistics(tmp_path, 40)
    assert (tmp_path / "train.jsonl").read_text() == '{"step": 20}\n{"step": 40}\n'


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the disk refuses is an error of the workspace; the older checkpoint holds."""
    _save(tmp_path, 0)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("phantomset.ganmodels.checkpoint.write_atomically", full)
    with pytest.raises(WorkspaceError, match="No space left"):
        _save(tmp_path, 20)
    assert checkpoint.steps(tmp_path) == [0]
