"""Several attributes at once, and asking for content in words."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from phantomset.data.errors import ModelError, RecipeError
from phantomset.data.records import Checkpoint, Cohort, ImageSpec, Record, Split, SyntheticSet
from phantomset.data.workspace import Workspace
from phantomset.pipelines import stages
from phantomset.pipelines.cli import asking
from phantomset.pipelines.judgement import judging
from phantomset.pipelines.judgement.record import Case
from phantomset.pipelines.recipe import Recipe
from phantomset.pipelines.recipes import recipe_file
from phantomset.pipelines.stages import Job
from phantomset.pipelines.synthesis import making, sets, wanted
from phantomset.pipelines.synthesis.conditions import (
    chosen,
    conditioned,
    conditions_of,
    where_of,
    without_rare,
)
from phantomset.pipelines.synthesis.making import learned_and_held_out

ROWS = [
    ("normal", {"sex": "F", "view": "PA"}),
    ("normal", {"sex": "M", "view": "PA"}),
    ("pneumonia", {"sex": "F", "view": "AP"}),
    ("pneumonia", {"sex": "F"}),
    ("normal", {"sex": "F", "view": "PA"}),
]
CONDITIONS = ("label", "sex", "view")


def _cohort() -> Cohort:
    names = ("normal", "pneumonia")
    records = tuple(
        Record(f"{place:064d}", f"{place:064d}", names.index(label), f"s{place}", f"g{place}", attributes)
        for place, (label, attributes) in enumerate(ROWS)
    )
    return Cohort("c" * 64, ImageSpec(1, 8, 8), names, records, 5, {}, {}, has_patients=True)


def _recipe(**changes: object) -> Recipe:
    read = recipe_file.read("nih", ["source.attributes=[sex, view]", "gate.subgroups=[sex, view]"]).recipe
    return read.model_copy(update=changes)


def test_each_seen_combination_is_a_class() -> None:
    """Classes in the cohort's order, then attributes as text; a missing value is a value of its own."""
    found = conditioned(_cohort(), CONDITIONS)
    assert found.label_names == (
        "normal, sex: F, view: PA",
        "normal, sex: M, view: PA",
        "pneumonia, sex: F, view: AP",
        "pneumonia, sex: F, view: unknown",
    )
    assert [record.label for record in found.records] == [0, 1, 2, 3, 0]
    assert [record.digest for record in found.records] == [record.digest for record in _cohort().records]


def test_without_conditions_the_class_alone_counts() -> None:
    """The cohort comes back as it is."""
    cohort = _cohort()
    assert conditioned(cohort, ()) is cohort


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (("label", "age"), "no image has 'age'; there are label, sex, view"),
        (("sex",), "leaves out 'label'"),
    ],
)
def test_conditions_that_do_not_fit(conditions: tuple[str, ...], message: str) -> None:
    """An attribute that no image has, and labels that would not be used, are errors."""
    with pytest.raises(ModelError, match=message):
        conditioned(_cohort(), conditions)


def _rare(asked: dict[str, str], kind: str = "leave-out") -> tuple[Recipe, Cohort, Split]:
    """Return 80 records of four combinations, of which 20, 20, 15 and 1 train, and a recipe for them."""
    trained, kinds = (20, 20, 15, 1), ((0, "F"), (0, "M"), (1, "F"), (1, "M"))
    rows = [kind for count, kind in zip(trained, kinds, strict=True) for kind in [kind] * (count + 6)]
    records = tuple(
        Record(f"{place:064d}", f"{place:064d}", label, f"s{place}", f"g{place}", {"sex": sex})
        for place, (label, sex) in enumerate(rows)
    )
    cohort = conditioned(replace(_cohort(), records=records, files=len(records)), ("label", "sex"))
    parts: tuple[list[int], ...] = ([], [], [], [])
    for label, count in enumerate(trained):
        own = [place for place, record in enumerate(cohort.records) if record.label == label]
        for part, members in zip(parts, (own[:count], own[count:-3], own[-3:-1], own[-1:]), strict=True):
            part += members
    split = Split("d" * 64, cohort.digest, *map(tuple, parts))
    changes = ["source.attributes=[sex]", "model.conditions=[label, sex]", f"model.rare={kind}"]
    recipe = recipe_file.read("nih", changes).recipe
    generate = recipe.generate.model_copy(update={"where": asked})
    return recipe.model_copy(update={"generate": generate}), cohort, split


def test_rare_combinations_are_left_out_where_that_is_asked_for() -> None:
    """Classes with fewer than 16 training images go, from all parts; the others keep their records, and every
    record is counted as taken in or kept out."""
    recipe, cohort, split = _rare({})
    found, parts = without_rare(recipe, cohort, split)
    assert found.label_names == ("normal, sex: F", "normal, sex: M")
    for part in ("train", "holdout", "reference", "left_out"):
        before = [cohort.records[each] for each in getattr(split, part)]
        after = [found.records[each] for each in getattr(parts, part)]
        assert after == [record for record in before if record.label < 2]
    assert found.quarantine == {"RARE_CLASS": 15 + 6 + 1 + 6}
    assert found.files == len(found.records) + sum(found.quarantine.values())
    assert parts.digest != split.digest
    everybody = {record.digest for record in (*found.records, *found.unused)}
    assert everybody == {record.digest for record in cohort.records}
    assert "2 of 4 classes or combinations" in found.notes[-1]
    assert without_rare(_rare({}, "refuse")[0], cohort, split) == (cohort, split)


def test_everybody_stays_on_the_ledger(tmp_path: Path) -> None:
    """Whoever was taken in is on the record, learned or not, and `model.rare` makes no other model: else an
    earlier FAIL could be left behind."""
    recipe, cohort, split = _rare({})
    made = SyntheticSet("e" * 64, "f" * 64, 0, 4, cohort.label_names)
    checkpoint = Checkpoint("f" * 64, "r3gan", {}, split.digest, 64, ())
    workspace = Workspace.open(tmp_path / "w")

    def case(recipe: Recipe, cohort: Cohort, split: Split) -> Case:
        return judging._case(recipe, workspace, judging.Material(cohort, split, checkpoint, made))

    whole = case(_rare({}, "refuse")[0], cohort, split)
    fewer = case(recipe, *without_rare(recipe, cohort, split))
    assert len(whole.patients) == len(cohort.records)
    assert (fewer.patients, fewer.images, fewer.section) == (whole.patients, whole.images, whole.section)


def test_what_is_left_out_cannot_be_asked_for() -> None:
    """What ``generate.where`` asks for must leave something; where every class is rare nothing is left."""
    recipe, cohort, split = _rare({"label": "Pneumonia"})
    with pytest.raises(ModelError, match=r"'pneumonia, sex: F' has 15; 'pneumonia, sex: M' has 1\."):
        without_rare(recipe, cohort, split)
    recipe, cohort, split = _rare({"sex": "f"})
    assert len(without_rare(recipe, cohort, split)[0].label_names) == 2
    named = recipe.model_copy(
        update={"gate": recipe.gate.model_copy(update={"leave_out": ("pneumonia, sex: F",)})}
    )
    with pytest.raises(ModelError, match=r"leaves out 'pneumonia, sex: F'.*gate\.leave_out names"):
        without_rare(named, cohort, split)
    with pytest.raises(ModelError, match=r"1 class has enough.*two must be left"):
        without_rare(recipe, cohort, replace(split, train=split.train[:30]))
    with pytest.raises(ModelError, match=r"no class has enough.*'normal, sex: F' has most, 10"):
        without_rare(recipe, cohort, replace(split, train=split.train[:10]))
    with pytest.raises(RecipeError, match=r"model\.rare: 'leave-out' goes by how many patients"):
        changes = ["model.rare=leave-out", "model.privacy={epsilon: 8}", "generate.classes=uniform"]
        recipe_file.read("pneumoniamnist", changes)


def test_words_choose_classes() -> None:
    """In any case and in any part of the conditions; what was never seen together is refused."""
    names = conditioned(_cohort(), CONDITIONS).label_names
    assert chosen(names, CONDITIONS, {"Label": "Pneumonia"}) == (2, 3)
    assert chosen(names, CONDITIONS, {"sex": "f", "view": "pa"}) == (0,)
    assert chosen(names, CONDITIONS, {}) == (0, 1, 2, 3)
    with pytest.raises(ModelError, match=r"no image was seen with label=pneumonia, sex=M.*Seen are: normal"):
        chosen(names, CONDITIONS, {"label": "pneumonia", "sex": "M"})
    with pytest.raises(ModelError, match="'age' is no condition of this model; there are label, sex, view"):
        chosen(names, CONDITIONS, {"age": "40"})
    assert chosen(("normal", "pneumonia"), (), {"label": "pneumonia"}) == (1,)
    with pytest.raises(ModelError, match=r"'finding' is no condition.*; there are label\..*label=a"):
        chosen(("a", "b"), (), {"finding": "b"})


def test_an_attribute_that_is_read_is_used() -> None:
    """As a condition, or by the gate alone, which is said; read for nothing, it is an error."""
    read = "source.attributes=[sex, view]"
    for fits in (
        ["model.conditions=[label, sex, view]"],
        ["gate.subgroups=[sex, view]"],
        ["model.conditions=[label, sex]", "gate.subgroups=[view]"],
    ):
        assert recipe_file.read("nih", [read, *fits]).recipe.source.model_dump()["attributes"] == (
            "sex",
            "view",
        )
    with pytest.raises(
        RecipeError, match=r"source\.attributes: 'view' would be read and not used.*gate\.subgroups"
    ):
        recipe_file.read("nih", [read, "model.conditions=[label, sex]"])
    with pytest.raises(
        RecipeError, match=r"gate\.subgroups: .*not read for 'age': add it to source\.attributes"
    ):
        recipe_file.read("nih", [read, "gate.subgroups=[sex, view, age]"])
    with pytest.raises(RecipeError, match=r"gate\.subgroups: .*no table of attributes is read"):
        recipe_file.read("dicom-folder", ["source.path=in", "gate.subgroups=[PatientSex]"])


@pytest.mark.parametrize("ages", [["40"], [str(age) for age in range(20, 60)]], ids=["one", "forty"])
def test_an_attribute_for_the_gate_makes_subgroups(ages: list[str]) -> None:
    """One value divides nobody, and forty are a number: the gate would look at none of them apart."""
    records = tuple(
        replace(
            _cohort().records[0], digest=f"{place:064d}", label=place % 2, attributes={"sex": age, "view": v}
        )
        for place, (age, v) in enumerate(zip(ages * 80, ["PA", "AP"] * 40, strict=False))
    )
    cohort = replace(_cohort(), records=records)
    split = Split("d" * 64, cohort.digest, tuple(range(len(records))), (), ())
    with pytest.raises(ModelError, match=rf"gate\.subgroups: 'sex' has {len(ages)} value.*source\.bands"):
        making.require_fit(_recipe(), cohort, split)


def test_a_condition_is_named_once() -> None:
    """In letters of any case, and by the column's name: of two values one would be lost in silence."""
    column = "source.labels={table: index.csv, key: file, column: finding}"
    wrong = {
        "generate.where={label: normal, Label: pneumonia}": "'label' and 'Label' name the same condition",
        "generate.where={label: normal, finding: pneumonia}": "'label' and 'finding' name the same",
        "generate.where={Finding: normal, finding: pneumonia}": "'Finding' and 'finding' name the same",
        "model.conditions=[label, label, sex]": "model.conditions: 'label' and 'label' name the same",
        "model.conditions=[label, sex, sex]": "model.conditions: 'sex' and 'sex' name the same",
        "model.conditions=[finding, label]": "model.conditions: 'finding' and 'label' name the same",
    }
    for override, message in wrong.items():
        with pytest.raises(RecipeError, match=message):
            recipe_file.read("nih", [column, override])
    with pytest.raises(RecipeError, match="each once"):
        asking.overrides("label=normal, Label=pneumonia", None, None)
    asked = recipe_file.read("nih", [column, "generate.where={Finding: pneumonia}"]).recipe
    assert where_of(asked) == {"label": "pneumonia"}


def test_the_manual_asks_for_what_the_shipped_recipe_has() -> None:
    """The first example of ``--where`` names a condition and a class of `nih` as it is shipped."""
    manual = (Path(__file__).parents[2] / "docs" / "reference" / "commands.md").read_text()
    words = manual.partition('--where "')[2].partition('"')[0]
    recipe = recipe_file.read("nih", asking.overrides(words, None, None)).recipe
    assert chosen(("no_finding", "pneumonia"), conditions_of(recipe), where_of(recipe)) == (1,)


def test_the_table_s_own_column_names_the_class() -> None:
    """``finding=...`` is ``label=...`` where the label stands in a column of that name."""
    recipe = _recipe()
    asked = recipe.generate.model_copy(update={"where": {"label": "pneumonia"}, "count": 4})
    made = wanted.wanted_labels(
        recipe.model_copy(update={"generate": asked}), ("no_finding", "pneumonia"), np.array([0, 0, 1])
    )
    assert made.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ("as-real", [6, 3, 1]),
        ("uniform", [4, 3, 3]),
        ({"a": 0.25, "c": 0.75}, [3, 0, 7]),
        ({"a": 1, "b": 9}, [1, 9, 0]),
    ],
)
def test_class_balance(classes: object, expected: list[int]) -> None:
    """As in the training part, even, by shares with the largest remainder, or exact; 10 images of 6:3:1."""
    recipe = _recipe()
    asked = recipe.generate.model_copy(update={"classes": classes, "count": 10})
    real = np.repeat([0, 1, 2], [60, 30, 10])
    labels = wanted.wanted_labels(recipe.model_copy(update={"generate": asked}), ("a", "b", "c"), real)
    counts = np.bincount(labels, minlength=3)
    assert counts.sum() == 10
    assert np.abs(counts - expected).max() <= (1 if classes == {"a": 0.25, "c": 0.75} else 0)


def test_shares_and_numbers_must_add_up() -> None:
    """Shares to 1, numbers to the count."""
    with pytest.raises(RecipeError, match=r"add up to 0\.5"):
        recipe_file.read("nih", ["generate.classes={pneumonia: 0.25, no_finding: 0.25}"])
    with pytest.raises(RecipeError, match="add up to 3, but count is 1,000"):
        recipe_file.read("nih", ["generate.classes={pneumonia: 1, no_finding: 2}"])


def test_options_become_overrides() -> None:
    """What is asked for on the command line is checked and recorded as part of the recipe."""
    given = asking.overrides("label=pneumonia, view=PA", 200, 0.7, 5)
    recipe = recipe_file.read("nih", given).recipe
    assert recipe.generate.where == {"label": "pneumonia", "view": "PA"}
    assert (recipe.generate.count, recipe.generate.truncation, recipe.generate.seed) == (200, 0.7, 5)
    listed = asking.overrides("label=granulocytes(myelocytes, promyelocytes), view=PA", None, None)
    asked = {"label": "granulocytes(myelocytes, promyelocytes)", "view": "PA"}
    assert recipe_file.read("nih", listed).recipe.generate.where == asked
    for wrong in ("pneumonia", "a=", "a=b, a=c", ""):
        with pytest.raises(RecipeError, match="write CONDITION=VALUE"):
            asking.overrides(wrong, None, None)


def test_held_out_patients_are_few_and_whole() -> None:
    """5% of 400 images of 200 groups: 20 images, whole groups, both classes nearly complete; or none."""
    records = tuple(
        Record(f"{place:064d}", f"{place:064d}", place % 2, f"s{place // 2}", f"g{place // 2}")
        for place in range(400)
    )
    cohort = replace(_cohort(), records=records)
    split = Split("d" * 64, cohort.digest, tuple(range(400)), (), ())
    recipe = _recipe()
    learned, held = learned_and_held_out(recipe, cohort, split)
    assert sorted((*learned, *held)) == list(range(400))
    assert len(held) == 20
    assert not {records[each].group for each in learned} & {records[each].group for each in held}
    small = replace(split, train=tuple(range(100)))
    assert learned_and_held_out(recipe, cohort, small) == (small.train, ())


def _films(archive: Path, place: Path) -> Path:
    """Write the first 60 films of each combination of class, sex and view, and none of men without a finding
    from the front, to a ZIP like the archive."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(place, "w") as made:
        table = pd.read_csv(source.open("index.csv"))
        kept = table.groupby(["label", "sex", "view"]).head(60)
        kept = kept[(kept["label"] != "no_finding") | (kept["sex"] != "M") | (kept["view"] != "PA")]
        for name in kept["file"]:
            made.writestr(name, source.read(name))
        text = io.StringIO()
        kept.to_csv(text, index=False)
        made.writestr("index.csv", text.getvalue())
    return place


@pytest.mark.slow
def test_a_set_by_class_sex_and_view(datasets: Path, job: Callable[..., Job], tmp_path: Path) -> None:
    """A combination that no patient had is refused before anything is trained; what is asked for in words is
    made, of both sexes, and every image's labels fit."""
    films = _films(datasets / "nih-cxr14-1000-96.zip", tmp_path / "films.zip")
    changes = [f"source.path={films}", "source.attributes=[sex, view]", "model.conditions=[label, sex, view]"]
    changes += ["image.size_px=8", "model.budget.images=320", "model.batch_size=32"]
    changes += ["model.settings={latent: 4, widths: [8]}"]

    def asked(words: str) -> Job:
        return job(recipe_file.read("nih", [*changes, *asking.overrides(words, 24, None)]).recipe)

    unseen = asked("label=no_finding, sex=M, view=PA")
    with pytest.raises(ModelError, match="no image was seen with label=no_finding, sex=M, view=PA"):
        stages.run(unseen, "generate")
    assert not list(unseen.workspace.root.rglob("checkpoint-*"))

    seen = asked("label=pneumonia, view=PA")
    outcome = stages.run(seen, "generate")
    assert outcome.cohort is not None
    assert outcome.synthetic is not None
    assert len(outcome.cohort.label_names) == 7
    made = sets.load_images(seen.workspace, outcome.synthetic)
    names = [outcome.cohort.label_names[label] for label in made.labels]
    assert len(names) == len(made.images) == 24
    assert set(names) == {"pneumonia, sex: F, view: PA", "pneumonia, sex: M, view: PA"}


@pytest.mark.slow
def test_sex_age_view_and_finding_at_once(datasets: Path, job: Callable[..., Job]) -> None:
    """The films as they come: of the combinations that they have those with enough images are learned, the
    others are left out and counted; and what is asked for in words is made."""
    changes = [f"source.path={datasets / 'nih-cxr14-1000-96.zip'}", "source.attributes=[sex, view, age]"]
    changes += ["source.bands={age: [18, 40, 65]}", "model.conditions=[label, sex, view, age]"]
    changes += ["image.size_px=8", "model.budget.images=320", "model.settings={latent: 4, widths: [8]}"]
    with pytest.raises(ModelError, match=r"16 are needed.*model\.rare: leave-out"):
        stages.run(job(recipe_file.read("nih", changes).recipe), "generate")
    asked = asking.overrides("label=pneumonia, view=AP, age=40-64", 24, None)
    work = job(recipe_file.read("nih", [*changes, "model.rare=leave-out", *asked]).recipe)
    outcome = stages.run(work, "generate")
    assert outcome.cohort is not None
    assert outcome.split is not None
    assert outcome.synthetic is not None
    trained = np.bincount([outcome.cohort.records[place].label for place in outcome.split.train])
    assert len(trained) == len(outcome.cohort.label_names) > 4
    assert trained.min() >= 16
    made = sets.load_images(work.workspace, outcome.synthetic)
    names = {outcome.cohort.label_names[label] for label in made.labels}
    assert names == {f"pneumonia, sex: {sex}, view: AP, age: 40-64" for sex in "FM"}
