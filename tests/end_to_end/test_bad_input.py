"""Bad input ends with exit code 2, a message that names it, and nothing left behind."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from phantomset.data.workspace import Workspace
from phantomset.pipelines import cli

Case = Callable[["Scene"], None]


class Scene:
    """A folder of images in classes, a recipe for it, and what a test spoils of both."""

    def __init__(self, root: Path) -> None:
        self.root, self.images, self.file = root, root / "images", root / "recipe.yaml"
        self.options: list[str] = ["--plain", "--threads", "1"]
        self.recipe: dict[str, object] = {
            "name": "spoiled",
            "source": {
                "format": "folder",
                "path": "images",
                "labels": {"from": "folder"},
                "patient": {"regex": r"(p\d+)_"},
            },
            "image": {"size_px": 8},
            "model": {"budget": {"images": 64}, "batch_size": 16, "settings": {"latent": 4, "widths": [8]}},
            "publish": {"source_owner": "nobody", "source_terms": "CC0"},
        }
        for number in range(120):
            self.draw("ab"[number % 2], number)
        self.write()

    def draw(
        self, label: str, number: int, size: tuple[int, int] = (8, 8), patient: int | None = None
    ) -> None:
        pixels = np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)
        (self.images / label).mkdir(parents=True, exist_ok=True)
        who = number if patient is None else patient
        Image.fromarray(pixels).save(self.images / label / f"p{who:04d}_{number}.png")

    def write(self) -> None:
        self.file.write_text(yaml.safe_dump(self.recipe, sort_keys=False))

    def source(self, **changes: object) -> None:
        self.recipe["source"] = {**self.recipe["source"], **changes}
        self.write()

    def add(self, line: str) -> None:
        self.file.write_text(self.file.read_text() + line)

    def table(self, text: str) -> None:
        (self.images / "labels.csv").write_text(text)
        self.source(labels={"table": "labels.csv", "key": "file", "column": "finding"}, patient=None)

    def clear(self) -> None:
        for path in sorted(self.images.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def no_labels(scene: Scene) -> None:
    scene.source(labels=None)


def one_class(scene: Scene) -> None:
    for path in (scene.images / "b").iterdir():
        path.unlink()


def differing_sizes(scene: Scene) -> None:
    for number in range(200, 260):
        scene.draw("ab"[number % 2], number, (8, 11))


def few_patients(scene: Scene) -> None:
    scene.clear()
    for number in range(120):
        scene.draw("ab"[number % 2], number, patient=number % 4)


def table_of_other_files(scene: Scene) -> None:
    rows = "".join(f"x/other_{number}.png,a\n" for number in range(120))
    scene.table("file,finding\n" + rows)


def a_file_for_a_store(scene: Scene) -> None:
    place = scene.root / "workspace" / "restricted"
    place.mkdir(parents=True)
    (place / "objects").write_text("not a folder")


CASES: dict[str, tuple[Case, str]] = {
    "recipe missing": (lambda s: s.file.unlink(), "no such recipe file"),
    "recipe is a folder": (lambda s: (s.file.unlink(), s.file.mkdir()), "cannot be read"),
    "not YAML": (lambda s: s.add("x: [1\n"), "not YAML"),
    "unknown key": (lambda s: s.add("modle: {}\n"), "modle: unknown key; did you mean 'model'?"),
    "duplicate key": (lambda s: s.add("name: again\n"), "name: key is set twice (first on line 1)"),
    "leading zero": (lambda s: s.add("seed: 010\n"), "seed: 010 would be read as octal"),
    "base 60": (lambda s: s.add("seed: 1:30\n"), "seed: 1:30 would be read in base 60"),
    "out of range": (lambda s: s.add("generate: {count: 0}\n"), "generate.count: should be greater"),
    "wrong override": (
        lambda s: s.options.extend(["--set", "source.pth=x"]),
        "--set source.pth: unknown key",
    ),
    "source missing": (lambda s: s.source(path="none"), "source.path"),
    "source empty": (Scene.clear, "source"),
    "source is no images": (lambda s: (s.clear(), (s.images / "a.txt").write_text("x")), "source"),
    "source is a broken ZIP": (
        lambda s: ((s.root / "broken.zip").write_bytes(b"PK\3\4 nonsense"), s.source(path="broken.zip")),
        "source",
    ),
    "table missing": (lambda s: (s.table("x"), (s.images / "labels.csv").unlink()), "source.labels.table"),
    "table of other files": (table_of_other_files, "source.labels"),
    "table without the column": (lambda s: s.table("file,other\na/x.png,1\n"), "no column 'finding'"),
    "no labels": (no_labels, "source.labels: the images have no labels"),
    "one class": (one_class, "source.labels: found one class only"),
    "too few patients": (few_patients, "patients"),
    "differing sizes": (differing_sizes, "image.fit"),
    "workspace is a file": (
        lambda s: (s.root / "workspace").write_text("x"),
        "workspace: cannot write to",
    ),
    "store is a file": (a_file_for_a_store, "workspace: cannot write to"),
    "unknown class asked for": (
        lambda s: s.add("generate: {count: 1, classes: {c: 1}}\n"),
        "generate.classes: the source has no class 'c'",
    ),
    "batch too small": (lambda s: s.options.extend(["--set", "model.batch_size=4"]), "model.batch_size"),
    "images too large for the family": (
        lambda s: s.options.extend(["--set", "image.size_px=512"]),
        "px a side",
    ),
    "no such device": (lambda s: s.options.extend(["--device", "tpu"]), "device: 'tpu' is unknown"),
}


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("PHANTOMSET_WORKSPACE", str(tmp_path / "workspace"))
    return Scene(tmp_path)


def tree(root: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_named_and_leaves_nothing(
    scene: Scene, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one message that says what and where, no traceback, and the disk as it was."""
    spoil, message = CASES[name]
    spoil(scene)
    before = tree(scene.root)
    code = cli.call(["run", str(scene.file), *scene.options])
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert message in err
    assert "Traceback" not in err
    assert "_119.png" not in err
    after = tree(scene.root)
    made = {path.relative_to(scene.root) for path in set(after) - set(before)}
    assert not {path for path in made if path.parts[0] != "workspace"}
    assert not [
        path for path in made if (scene.root / path).is_file() and path.name not in (".gitignore", ".lock")
    ]
    assert {path: after[path] for path in before} == before


def test_errors_of_a_recipe_have_line_and_column(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """Every one of them, in one go."""
    scene.add("modle: {}\nseed: 010\ngenerate: {count: 0}\n")
    lines = scene.file.read_text().splitlines()
    assert cli.call(["run", str(scene.file)]) == 2
    err = capsys.readouterr().err
    for key, column in (("modle", 1), ("seed", 7), ("generate", 19)):
        number = next(n for n, line in enumerate(lines, 1) if line.startswith(key))
        assert f"{scene.file}:{number}:{column}: {key}" in err


def test_bad_input_in_json(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """One object on stdout with the code and the message, and nothing else there."""
    scene.source(path="none")
    assert cli.call(["run", str(scene.file), "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["exit_code"] == 2
    assert "source.path" in answer["error"]


def test_the_good_recipe_is_good(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """What the cases spoil runs when it is not spoiled: their exit code is not an accident."""
    assert cli.call(["generate", str(scene.file), *scene.options, "--set", "generate.count=20"]) == 0
    assert "60 " in capsys.readouterr().out


def test_a_store_that_cannot_be_written(scene: Scene) -> None:
    """A folder without the right to write, for someone who is not root: told, and nothing half-written."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    place = scene.root / "closed"
    place.mkdir(mode=0o500)
    assert cli.call(["run", str(scene.file), *scene.options, "--workspace", str(place / "w")]) == 2


def test_a_second_run_says_who_holds_the_workspace(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs in one workspace at once: the second is refused with the process that holds it."""
    workspace = Workspace.open(scene.root / "workspace")
    with workspace.lock():
        code = cli.call(["run", str(scene.file), *scene.options])
    assert code == 2
    assert f"in use by process {os.getpid()}" in capsys.readouterr().err


def test_bad_input_under_prefect_and_from_a_shell(scene: Scene) -> None:
    """The same through the installed command, without --plain: the error comes before any server starts."""
    scene.source(path="none")
    command = [str(Path(sys.executable).parent / "phantomset"), "run", str(scene.file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "source.path" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (scene.root / "workspace").exists()
