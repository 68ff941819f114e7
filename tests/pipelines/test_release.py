"""A release is whole or not there, never changes, and nothing of the house is in it."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from phantomset.data.burned_in.screen import NOT_SCREENED, NOTHING_BURNED_IN
from phantomset.data.errors import PhantomsetError, ReleaseError
from phantomset.data.workspace import Workspace
from phantomset.pipelines import report
from phantomset.pipelines.publishers import folder as folder_publisher
from phantomset.pipelines.redact import public_recipe
from phantomset.pipelines.releases import attestation, manifest, release

from .drafts import PLACE, draft, evidence, images


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


def visible(workspace: Workspace, shelf: str = "releases") -> list[str]:
    return sorted(item.name for item in (workspace.root / shelf).iterdir() if not item.name.startswith("."))


def test_a_release_has_its_layout(workspace: Workspace) -> None:
    """Every file that the layout names is there, and nothing else."""
    made = release.publish(workspace, draft())
    assert made.path == workspace.root / "releases" / "chest-demo" / "v1"
    assert sorted(item.name for item in made.path.iterdir()) == [
        "README.md",
        "SHA256SUMS",
        "attestations",
        "chest-demo.npz",
        "croissant.json",
        "images",
        "labels.json",
        "manifest.json",
        "report.html",
        "verdict.json",
    ]
    assert json.loads((made.path / "verdict.json").read_text()) == draft().public_verdict
    labels = json.loads((made.path / "labels.json").read_text())
    assert labels["class_to_idx"] == {"effusion": 0, "nodule": 1, "normal": 2}


def test_coreutils_accept_the_sums(workspace: Workspace) -> None:
    """``sha256sum -c`` agrees with every line, and every file but the list itself has one."""
    made = release.publish(workspace, draft())
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=made.path, check=True)
    listed = {line.split("  ", 1)[1] for line in (made.path / "SHA256SUMS").read_text().splitlines()}
    there = {str(path.relative_to(made.path)) for path in made.path.rglob("*") if path.is_file()}
    assert listed == there - {"SHA256SUMS"}


@pytest.mark.parametrize("status", ["FAIL", "INCONCLUSIVE"])
def test_only_a_pass_is_published(workspace: Workspace, status: str) -> None:
    """Any other verdict is refused, in either of its two forms, and leaves nothing behind."""
    mixed = dataclasses.replace(draft(), public_verdict={"status": status})
    for refused in (draft(status), mixed):
        with pytest.raises(ReleaseError, match="only a PASS"):
            release.publish(workspace, refused)
    assert visible(workspace) == []


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    """Images, table, archive and labels of one set are the same in two workspaces and on two days."""
    places = []
    for name, day in (("a", "2030-01-02"), ("b", "2031-05-06")):
        made = release.publish(Workspace.open(tmp_path / name), dataclasses.replace(draft(), created=day))
        places.append({e["path"]: e["sha256"] for e in made.manifest["files"]})
    differing = {name for name in places[0] if places[0][name] != places[1][name]}
    assert differing == {"README.md", "croissant.json", "report.html"}  # they show the day


def test_the_same_set_is_published_once(workspace: Workspace) -> None:
    """An equal set from an equal recipe is the release that is there; another set or recipe is a new one."""
    first = release.publish(workspace, draft())
    again = release.publish(workspace, dataclasses.replace(draft(), created="2031-05-06"))
    other_set = release.publish(workspace, draft(synthetic=images(90, 2)))
    other_recipe = release.publish(workspace, draft(recipe={**draft().recipe, "seed": 8}))
    assert (first.version, first.fresh) == (1, True)
    assert (again.version, again.fresh) == (1, False)
    assert (other_set.version, other_recipe.version) == (2, 3)
    assert again.manifest == first.manifest


def test_a_damaged_twin_does_not_count(workspace: Workspace) -> None:
    """If the equal release has been changed since, the set is published anew."""
    first = release.publish(workspace, draft())
    (first.path / "labels.json").chmod(0o644)
    (first.path / "labels.json").write_text("{}")
    assert release.publish(workspace, draft()).version == 2


def test_two_publishers_get_two_numbers(workspace: Workspace) -> None:
    """Four runs that publish at once get four versions, each of them whole."""
    threads = [
        threading.Thread(target=release.publish, args=(workspace, draft(synthetic=images(30, seed))))
        for seed in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = release.list_releases(workspace)
    assert [item.version for item in found] == [1, 2, 3, 4]
    assert len({item.manifest["set"] for item in found}) == 4
    assert [manifest.problems(item.path) for item in found] == [[], [], [], []]


def test_a_killed_publisher_leaves_nothing_to_see(workspace: Workspace) -> None:
    """After kill -9 amid writing no name is under releases/; the next publisher sweeps and goes on."""
    script = (
        "import sys; from pathlib import Path\n"
        "from phantomset.data.workspace import Workspace\n"
        "from phantomset.pipelines.publishers import folder\n"
        "from phantomset.pipelines.releases import release\n"
        "sys.path.insert(0, sys.argv[2]); import drafts, dataclasses, time\n"
        "write = folder.write\n"
        "def slow(synthetic, about, place):\n"
        "    write(synthetic, about, place); print('written', flush=True); time.sleep(60)\n"
        "folder.PUBLISHER = dataclasses.replace(folder.PUBLISHER, write=slow)\n"
        "release.publish(Workspace.open(Path(sys.argv[1])), drafts.draft())\n"
    )
    arguments = [sys.executable, "-c", script, str(workspace.root), str(Path(__file__).parent)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    assert visible(workspace) == []
    assert list((workspace.root / "releases").glob(".part-*"))
    assert release.publish(workspace, draft()).version == 1
    assert not list((workspace.root / "releases").glob(".part-*"))


def test_a_full_disk_is_told(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that the disk refuses ends in a message with advice, and nothing is left."""

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(
        folder_publisher, "PUBLISHER", dataclasses.replace(folder_publisher.PUBLISHER, write=full)
    )
    with pytest.raises(ReleaseError, match="disk is full"):
        release.publish(workspace, draft())
    assert [item.name for item in (workspace.root / "releases").iterdir()] == [".lock"]


def test_a_place_that_cannot_be_written_is_told(workspace: Workspace) -> None:
    """Where releases/ is no folder the message names the place and what to do."""
    (workspace.root / "releases").rmdir()
    (workspace.root / "releases").write_text("")
    with pytest.raises(ReleaseError, match="--workspace"):
        release.publish(workspace, draft())


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a b", "x" * 101, "a\n"])
def test_a_name_that_is_no_folder_is_refused(workspace: Workspace, name: str) -> None:
    """A release's name cannot leave its shelf or hide in it."""
    for act, status in ((release.publish, "PASS"), (release.block, "FAIL")):
        with pytest.raises(ReleaseError, match="folder name"):
            act(workspace, draft(status, name=name))


def test_a_missing_class_keeps_its_folder(workspace: Workspace) -> None:
    """A class without images has an empty folder, its index and a row in the card; verify knows of it."""
    synthetic = images(90, 1)
    made = release.publish(workspace, draft(synthetic=synthetic.take(synthetic.labels != 1)))
    empty = made.path / "images" / "nodule"
    assert list(empty.iterdir()) == []
    assert "| nodule | 1 | `nodule` | 0 |" in (made.path / "README.md").read_text()
    assert made.manifest["classes"] == {"effusion": 30, "nodule": 0, "normal": 30}
    empty.rmdir()
    assert manifest.problems(made.path) == ["images/nodule/: missing folder"]


def test_any_changed_byte_is_found(workspace: Workspace, tmp_path: Path) -> None:
    """One flipped bit in any file, at its start, middle or end, and verify names the file."""
    made = release.publish(workspace, draft(synthetic=images(6, 1)))
    for path in sorted(item for item in made.path.rglob("*") if item.is_file()):
        whole = path.read_bytes()
        path.chmod(0o644)
        for at in {0, len(whole) // 2, len(whole) - 1}:
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            found = manifest.problems(made.path)
            listed = path.name in (manifest.MANIFEST, manifest.SUMS)
            assert found if listed else found == [f"{path.relative_to(made.path)}: changed"]
        path.write_bytes(whole)
    assert manifest.problems(made.path) == []


def test_missing_and_added_files_are_found(workspace: Workspace) -> None:
    """Removing any file, adding a file, a hidden file, a folder or a link: each is named."""
    made = release.publish(workspace, draft(synthetic=images(3, 1)))
    for path in sorted(item for item in made.path.rglob("*") if item.is_file()):
        whole = path.read_bytes()
        path.unlink()
        assert any(path.name in problem for problem in manifest.problems(made.path))
        path.write_bytes(whole)
    assert manifest.problems(made.path) == []
    (made.path / ".hidden").write_text("")
    (made.path / "images" / "extra").mkdir()
    image = made.path / "images" / "effusion" / "000000.png"
    shutil.move(image, made.path / "images" / "extra" / "moved.png")
    image.symlink_to(made.path / "images" / "extra" / "moved.png")
    assert manifest.problems(made.path) == [
        ".hidden: does not belong to the release",
        "images/effusion/000000.png: is a link or a special file, not a file",
        "images/extra/moved.png: does not belong to the release",
        "images/extra/: folder does not belong to the release",
    ]


def test_nothing_of_the_house_is_in_a_release(workspace: Workspace) -> None:
    """No path, table name, exact count of real things, test value or reason is in any text of a release."""
    made = release.publish(workspace, draft())
    for path in made.path.rglob("*"):
        if path.suffix in {".md", ".json", ".html", ".csv"} or path.name == "SHA256SUMS":
            text = path.read_text()
            for told in (PLACE, "dr-grey", str(workspace.root), "2,411", "2411", "4,812", "0.41273", "0.518"):
                assert told not in text, (path.name, told)


def test_a_place_that_slips_through_stops_the_release(workspace: Workspace) -> None:
    """If a note names the source's place, nothing is published: that would be a fault of ours."""
    with pytest.raises(PhantomsetError, match="place of this house"):
        release.publish(workspace, draft(notes=(f"read from {PLACE}",)))
    assert visible(workspace) == []


def test_counts_in_notes_are_coarse(workspace: Workspace) -> None:
    """What ingest counted in its notes leaves like any count of real things; a day stays a day."""
    notes = (
        "3 rows of the label table have no file.",
        "Images found under more than one patient identifier: 1,742. Those patients were joined.",
        "An earlier set made from the same patients ended FAIL on 2030-01-02.",
    )
    made = draft(notes=notes)
    folder = release.publish(workspace, made).path
    assert "3 rows" in report.restricted_html(made, evidence())
    for name in ("README.md", "croissant.json", "report.html"):
        text = (folder / name).read_text()
        assert "3 rows" not in text
        assert "1,742" not in text
        assert "2030-01-02" in text
    assert "identifier: about 1,700" in text
    assert "Fewer than 10 rows" in text


@pytest.mark.parametrize("note", [NOT_SCREENED, NOTHING_BURNED_IN])
def test_what_was_not_looked_for_in_pixels_is_said(note: str, workspace: Workspace) -> None:
    """Word for word, in the report of the house and in the release: page, card and metadata."""
    made = draft(notes=(note,))
    folder = release.publish(workspace, made).path
    assert note in report.restricted_html(made, evidence())
    for name in ("README.md", "croissant.json", "report.html"):
        assert note in (folder / name).read_text()


@pytest.mark.parametrize("place", [PLACE, "/srv/Müller-Klinik/in"])
def test_a_place_in_an_envelope_stops_the_release(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """What is sealed in an attestation is text that leaves too, in base64 and with letters escaped."""
    recipe = draft().recipe
    recipe = {**recipe, "source": {**recipe["source"], "path": place}}
    monkeypatch.setattr(attestation, "public_recipe", lambda whole: whole)
    with pytest.raises(PhantomsetError, match=r"provenance\.dsse\.json would have named"):
        release.publish(workspace, draft(recipe=recipe))
    assert visible(workspace) == []


def test_a_user_without_a_home_can_publish(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container the home of a user whom nobody knows is "/", which stands in every web address."""
    monkeypatch.setenv("HOME", "/")
    assert release.publish(workspace, draft()).path.is_dir()


def test_recipes_are_shown_without_places() -> None:
    """Under the source only an allow-list of text is shown; elsewhere what looks like a path is kept back."""
    shown = public_recipe(
        {
            "source": {"format": "folder", "path": "in.zip", "patient": {"regex": "p(\\d+)"}, "size": 3},
            "model": {"init": "/w/x.safetensors", "family": "r3gan", "sizes": ["./a", "b"]},
            "publish": {"licence": "see https://x.org/terms", "formats": ["folder"]},
        }
    )
    assert shown == {
        "source": {"format": "folder", "path": "kept-back", "patient": {"regex": "kept-back"}, "size": 3},
        "model": {"init": "kept-back", "family": "r3gan", "sizes": ["kept-back", "b"]},
        "publish": {"licence": "see https://x.org/terms", "formats": ["folder"]},
    }


@pytest.mark.parametrize("status", ["FAIL", "INCONCLUSIVE"])
def test_a_blocked_set_leaves_its_reasons_and_no_image(workspace: Workspace, status: str) -> None:
    """blocked/<name>/<n>/ holds the coarse verdict and the public report; no judgement is written twice."""
    place = release.block(workspace, draft(status))
    assert place == workspace.root / "blocked" / "chest-demo" / "1"
    assert sorted(item.name for item in place.iterdir()) == ["report.html", "verdict.json"]
    assert json.loads((place / "verdict.json").read_text())["status"] == status
    assert "data:image/png" not in (place / "report.html").read_text()
    assert release.block(workspace, dataclasses.replace(draft(status), created="2031-05-06")) == place
    assert release.block(workspace, draft(status, synthetic=images(90, 2))).name == "2"
    assert visible(workspace) == []


def test_a_pass_cannot_be_blocked(workspace: Workspace) -> None:
    """A PASS leaves nothing under blocked/."""
    with pytest.raises(ReleaseError, match="nothing to block"):
        release.block(workspace, draft())


def test_releases_are_listed_and_shown(workspace: Workspace) -> None:
    """The newest version is shown unless one is named; an unknown name or version gets a hint."""
    with pytest.raises(ReleaseError, match="nothing has been released"):
        release.show(workspace, "chest-demo")
    for seed in (1, 2):
        release.publish(workspace, draft(synthetic=images(30, seed)))
    release.publish(workspace, draft(name="digits"))
    assert [(r.name, r.version) for r in release.list_releases(workspace)] == [
        ("chest-demo", 1),
        ("chest-demo", 2),
        ("digits", 1),
    ]
    assert release.show(workspace, "chest-demo").version == 2
    assert release.show(workspace, "chest-demo", 1).manifest["images"] == 30
    with pytest.raises(ReleaseError, match="did you mean 'chest-demo'"):
        release.show(workspace, "chest-dmeo")
    with pytest.raises(ReleaseError, match=r"no v9; there are v1, v2"):
        release.show(workspace, "chest-demo", 9)


def test_files_of_a_release_are_read_only(workspace: Workspace) -> None:
    """Nobody overwrites a published file by accident."""
    made = release.publish(workspace, draft(synthetic=images(3, 1)))
    modes = {path.stat().st_mode & 0o777 for path in made.path.rglob("*") if path.is_file()}
    assert modes == {0o444}


def test_a_file_of_weights_never_leaves(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher that writes a model is refused, and nothing is left: attacks on the model were not run."""

    def with_weights(synthetic, about, folder: Path) -> None:
        folder_publisher.PUBLISHER.write(synthetic, about, folder)
        (folder / "generator.SafeTensors").write_bytes(b"weights")

    broken = dataclasses.replace(folder_publisher.PUBLISHER, write=with_weights)
    real = release.catalogue.load
    monkeypatch.setattr(
        release.catalogue, "load", lambda room, name: broken if name == "folder" else real(room, name)
    )
    with pytest.raises(ReleaseError, match="a file of weights"):
        release.publish(workspace, draft())
    assert visible(workspace) == []


def test_five_thousand_images_take_seconds(workspace: Workspace) -> None:
    """Publishing 5,000 small images in both forms takes at most 15 seconds of CPU, checks included."""
    pixels = np.random.default_rng(0).integers(0, 256, (5_000, 1, 8, 8), dtype=np.uint8)
    many = dataclasses.replace(images(5_000, 1, side=8), images=pixels)
    before = time.process_time()
    release.publish(workspace, draft(synthetic=many))
    assert time.process_time() - before < 15
