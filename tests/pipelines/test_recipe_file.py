"""Recipes as files: every error in one go, overrides, paths, the shipped ones."""

from pathlib import Path

import pytest

from phantomset.data.errors import RecipeError
from phantomset.ganmodels.families import vae
from phantomset.pipelines.recipes import recipe_file

GOOD = """\
name: small
source: {format: dicom, path: in, labels: {table: labels.csv, key: file, column: finding}}
image: {size_px: 28}
model: {family: r3gan, budget: {images: 640}}
"""


def errors_of(text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        recipe_file.parse(text, "r.yaml", Path("/home"), overrides)
    return str(caught.value).splitlines()


def test_all_errors_in_one_go_sorted_by_place() -> None:
    """Unknown keys (with the nearest), values out of range, duplicates and octals come together, by line."""
    text = """\
name: Small
seed: 010
source: {format: dicom, pth: in}
image: {size_px: 28}
image: {size_px: 28}
model:
  budget: {images: -1}
  settings: {latnet: 8}
generate: {count: 5, classes: {a: 1}}
publish: {formats: [folder, nzp]}
modle: 1
"""
    found = errors_of(text)
    starts = [
        "r.yaml:1:7: name: is made of lower-case letters",
        "r.yaml:2:7: seed: 010 would be read as octal",
        "r.yaml:3:1: source.path: is missing",
        "r.yaml:3:25: source.pth: unknown key; did you mean 'path'?",
        "r.yaml:5:1: image: key is set twice (first on line 4)",
        "r.yaml:7:20: model.budget.images: should be greater than or equal to 64 (found -1)",
        "r.yaml:8:14: model.settings.latnet: unknown key; did you mean 'latent'?",
        "r.yaml:9:11: generate: the classes add up to 1, but count is 5",
        "r.yaml:10:29: publish.formats.1: 'nzp' is not known to publishers; did you mean 'npz'?",
        "r.yaml:11:1: modle: unknown key; did you mean 'model'?",
    ]
    missing = [start for start in starts if not any(line.startswith(start) for line in found)]
    assert missing == []
    assert [line.split(":")[1] for line in found] == sorted([line.split(":")[1] for line in found], key=int)


def test_a_section_with_several_forms_is_judged_by_the_nearest() -> None:
    """Labels may come from a table or a tag; a typo in the table's keys does not list the tag's keys too."""
    found = errors_of(GOOD.replace("key: file", "kye: file"))
    assert found == [
        "r.yaml:2:35: source.labels.key: is missing",
        "r.yaml:2:63: source.labels.kye: unknown key; did you mean 'key'?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the recipe is empty"),
        ("- a\n- b", "not made of `key: value` lines"),
        ("just words", "not made of"),
        ("name: x", "source: is missing"),
        (
            GOOD.replace("dicom", "dicm"),
            "source.format: 'dicm' is not known to sources; did you mean 'dicom'?",
        ),
        (GOOD.replace("format: dicom, ", ""), "source.format: is missing; one of dicom"),
        (
            GOOD.replace("r3gan", "r3gna"),
            "model.family: 'r3gna' is not known to families; did you mean 'r3gan'?",
        ),
        (GOOD.replace("images: 640", ""), "model.budget: needs images, minutes or both"),
        (GOOD.replace("{size_px: 28}", "28"), "image: is a section with keys of its own"),
        (GOOD + "seed: true", "seed: should be a valid integer"),
        (GOOD + "gate: {reason: because}", "gate.reason: should have at least 10 characters"),
        (GOOD + "split: {train: 0.9, holdout: 0.9, reference: 0.1}", "split: "),
        (GOOD + "translate: {task: pairs}", "translate: task pairs needs source and target, two classes"),
        (
            GOOD + "translate: {task: domains, source: normal, target: normal}",
            "translate: source and target are both 'normal'; name two classes",
        ),
        (GOOD + "generate: {classes: some}", "generate.classes: is 'as-real', 'uniform', or a section"),
    ],
)
def test_one_thing_wrong(text: str, message: str) -> None:
    """Each message names the key and what is expected there."""
    assert any(message in line for line in errors_of(text)), errors_of(text)


def test_overrides_reach_any_key_and_are_recorded() -> None:
    """--set puts a value, read as YAML, under any key, and makes sections that are not there."""
    changes = ["model.budget.images=400_000", "gate.privacy=strict", "model.settings.latent=8"]
    read = recipe_file.parse(GOOD, "r.yaml", Path("/home"), changes)
    assert read.recipe.model.budget.images == 400_000
    assert read.recipe.gate.privacy == "strict"
    assert read.recipe.model.settings.model_dump()["latent"] == 8
    assert read.overridden == ("model.budget.images", "gate.privacy", "model.settings.latent")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("source.pth=3", "--set source.pth: unknown key; did you mean 'path'?"),
        ("seed=010", "--set seed: 010 would be read as octal"),
        ("seed=-1", "--set seed: should be greater than or equal to 0 (found -1)"),
        ("seed", "--set seed: write KEY=VALUE"),
        ("=3", "--set =3: write KEY=VALUE"),
        ("name.first=x", "--set name.first: 'name' is a value, not a section with keys"),
        ("model={family: r3gan, bdget: 3}", "--set model: bdget: unknown key; did you mean 'budget'?"),
        ("model={family", "--set model: cannot be read as YAML"),
    ],
)
def test_a_wrong_override_is_named_as_such(override: str, message: str) -> None:
    """An error in a --set names the option and not a line of the file, which is innocent."""
    assert message in errors_of(GOOD, override)[0]


def test_relative_paths_start_from_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file they start from its folder; on the command line from the working folder."""
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "r.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    plain = recipe_file.read("recipes/r.yaml").recipe.plain()
    assert plain["source"]["path"] == str(tmp_path / "recipes" / "in")
    changed = recipe_file.read("recipes/r.yaml", ["source.path=other"]).recipe.plain()
    assert changed["source"]["path"] == str(tmp_path / "other")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    """A missing file, a folder, bytes that are no text, a huge file and an unknown name each say so."""
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "huge.yaml").write_bytes(b"#" * (recipe_file.MAX_BYTES + 1))
    cases = {
        str(tmp_path / "none.yaml"): "no such recipe file",
        str(tmp_path): "cannot be read",
        str(tmp_path / "bytes.yaml"): "not UTF-8",
        str(tmp_path / "huge.yaml"): "at most",
        "phantm": "did you mean 'phantom'?",
        "zzz": "shipped are",
    }
    for name, message in cases.items():
        with pytest.raises(RecipeError, match=message.replace("?", r"\?")):
            recipe_file.read(name)


@pytest.mark.parametrize("name", sorted(recipe_file.shipped()))
def test_each_shipped_recipe_is_valid_and_named_as_its_file(name: str) -> None:
    """A shipped recipe can be read as it is, has a summary, and budgets in images: its digests repeat."""
    recipe = recipe_file.read(name).recipe
    assert recipe.name == name
    assert recipe.summary
    assert recipe.model.budget.minutes is None
    assert recipe.publish.source_terms or name in ("image-folder", "dicom-folder")


PRIVATE = GOOD.replace("budget: {images: 640}", "budget: {images: 640}, privacy: {epsilon: 8}")


def test_a_private_recipe_is_private_throughout() -> None:
    """What would tell of the patients beside the accounted training is refused where it stands, or would."""
    assert recipe_file.parse(PRIVATE + "generate: {classes: uniform}\n", "r.yaml", Path("/home"), ())
    assert "say generate.classes: uniform" in errors_of(PRIVATE)[0]
    through = "generate: {classes: uniform, through: 0123456789abcdef}\n"
    assert "5:39: generate.through: that translation was learned without" in errors_of(PRIVATE + through)[0]
    task = "generate: {classes: uniform}\ntranslate: {task: denoise}\n"
    assert "6:12: translate: goes without model.privacy" in errors_of(PRIVATE + task)[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{}", "needs epsilon or noise_multiplier, and not both"),
        ("{epsilon: 1, noise_multiplier: 1}", "needs epsilon or noise_multiplier, and not both"),
        ("{epsilon: 0.01}", "should be greater than or equal to 0.05"),
        ("{epsilon: 1, delta: 1}", "should be less than 0.1"),
        ("{epsilon: 1, clip: 1}", "unknown key; did you mean 'clip_norm'?"),
        ("{epsilon: 1, critic_steps: 0}", "should be greater than or equal to 1"),
    ],
)
def test_privacy_that_means_nothing_is_refused(given: str, message: str) -> None:
    """One of epsilon and noise, each within its range, no unknown key."""
    text = PRIVATE.replace("{epsilon: 8}", given) + "generate: {classes: uniform}\n"
    assert any(message in line and "model.privacy" in line for line in errors_of(text))


def test_brought_weights_start_from_the_recipes_folder() -> None:
    """As the source does; and a name that the suite uses itself is refused."""
    sha = "0" * 64
    text = (
        GOOD + f"gate: {{extractors: [{{name: mine, architecture: a/b, weights: w.st, sha256: '{sha}'}}]}}\n"
    )
    (found,) = recipe_file.parse(text, "r.yaml", Path("/home"), ()).recipe.gate.extractors
    assert found.weights == Path("/home/w.st")
    assert "'texture' is taken; choose another" in errors_of(text.replace("mine", "texture"))[0]


@pytest.mark.parametrize("name", sorted(set(recipe_file.shipped()) - {"retina-vessels"}))
def test_a_shipped_recipe_takes_another_family_by_its_name(name: str) -> None:
    """The file's settings are of its own family: the other begins with its defaults, or what is asked for."""
    defaults = vae.Settings.model_validate({})
    assert recipe_file.read(name, ["model.family=vae"]).recipe.model.settings == defaults
    asked = recipe_file.read(name, ["model.settings.latent=7", "model.family=vae"]).recipe.model.settings
    assert asked == defaults.model_copy(update={"latent": 7})
    own = recipe_file.read(name).recipe.model
    assert recipe_file.read(name, [f"model.family={own.family}"]).recipe.model == own
