"""What a receiver asks: does it serve, what has changed, under which terms, and does Croissant hold?"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from phantomset.data.errors import ReleaseError
from phantomset.data.workspace import Workspace
from phantomset.pipelines.draft import Origin
from phantomset.pipelines.releases import release, terms, trace
from phantomset.pipelines.releases.acceptance import Needs, read_needs, unmet
from phantomset.pipelines.releases.comparison import differences

from .drafts import draft, images

UTILITY = {
    "check": "utility",
    "metric": "AUROC on the holdout, trained on synthetic",
    "group": "all",
    "value": 0.91,
    "baseline": 0.94,
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


@pytest.fixture
def received(workspace: Workspace) -> Path:
    """Return a release whose verdict tells its policy, its band of k95 and its utility."""
    verdict = {**draft().public_verdict, "rules": {"privacy": "standard"}, "fidelity": [UTILITY]}
    return release.publish(workspace, draft(public_verdict=verdict)).path


@pytest.mark.parametrize(
    ("needs", "told"),
    [
        ({}, []),
        ({"images": 90, "classes": {"nodule": 30}, "size_px": 16, "channels": 1}, []),
        ({"licences": ["CC0-1.0", "CC-BY-4.0"], "formats": ["npz"], "privacy": "standard"}, []),
        ({"exposed_share_at_most": 0.01, "auroc_at_least": 0.9, "auroc_loss_at_most": 0.03}, []),
        ({"images": 91}, ["images: needed 91, found 90"]),
        (
            {"classes": {"nodule": 31, "mass": 1}},
            ["classes.nodule: needed 31, found 30", "classes.mass: needed 1"],
        ),
        ({"size_px": [16, 32]}, ["size_px: needed (16, 32), found (16, 16)"]),
        ({"channels": 3}, ["channels: needed 3, found 1"]),
        ({"licences": ["MIT"]}, ["licences: needed ('MIT',), found CC-BY-4.0"]),
        ({"formats": ["dicom"]}, ["formats: needed ('dicom',), found ['folder', 'npz']"]),
        ({"privacy": "strict"}, ["privacy: needed strict, found standard"]),
        ({"exposed_share_at_most": 0.005}, ["exposed_share_at_most: needed 0.005, found <= 1% of T"]),
        ({"auroc_at_least": 0.95}, ["auroc_at_least: needed 0.95, found 0.91"]),
        ({"auroc_loss_at_most": 0.02}, ["auroc_loss_at_most: needed 0.02"]),
        ({"signed": True}, ["signed: needed True, found not signed"]),
    ],
)
def test_each_need_is_held(received: Path, needs: dict[str, object], told: list[str]) -> None:
    """A need that is met says nothing; one that is not is told with what was needed and what was found."""
    found = unmet(received, Needs.model_validate(needs))
    assert len(found) == len(told)
    for sentence, expected in zip(found, told, strict=True):
        assert sentence.startswith(expected)


def test_what_is_not_told_is_not_met(workspace: Workspace) -> None:
    """A verdict without a figure of utility or a policy does not meet a need for one."""
    folder = release.publish(workspace, draft(public_verdict={"status": "PASS"})).path
    needs = Needs(privacy="standard", auroc_at_least=0.5, exposed_share_at_most=0.5)
    assert [sentence.split(":")[0] for sentence in unmet(folder, needs)] == [
        "privacy",
        "exposed_share_at_most",
        "auroc_at_least",
    ]


def test_needs_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """An unknown need, a wrong value, rubbish and a missing file each end in a message."""
    path = tmp_path / "needs.yaml"
    for content, words in (
        ("imges: 3", "imges"),
        ("images: many", "images"),
        ("a: [", "no YAML"),
        ("- 1", "needs"),
    ):
        path.write_text(content)
        with pytest.raises(ReleaseError, match=words):
            read_needs(path)
    with pytest.raises(ReleaseError, match="cannot read"):
        read_needs(tmp_path / "none.yaml")
    with pytest.raises(ReleaseError, match="holds no manifest"):
        unmet(tmp_path, Needs())


def test_what_differs_is_shown(workspace: Workspace) -> None:
    """Two releases differ in what was changed between them, key by key, and files are counted."""
    one = release.publish(workspace, draft(synthetic=images(6, 1)))
    more = {**draft().recipe, "seed": 8, "publish": {**draft().recipe["publish"], "formats": ["folder"]}}
    other = release.publish(workspace, draft(synthetic=images(9, 1), recipe=more, created="2030-02-03"))
    rows, files = differences(one.path, other.path)
    told = {row.what: (row.one, row.other) for row in rows}
    assert told["images"] == ("6", "9")
    assert told["recipe.seed"] == ("7", "8")
    assert told["classes.nodule"] == ("2", "3")
    assert told["formats"] == ('["folder", "npz"]', '["folder"]')
    assert told["created"] == ("2030-01-02", "2030-02-03")
    assert "licence" not in told
    assert (files["removed"], files["added"]) == (1, 3)  # the npz went, three images came
    assert differences(one.path, one.path)[0] == []


def test_versions_follow_the_rule_of_croissant(workspace: Workspace) -> None:
    """The same images in another form are a patch, more images a minor version, other images a major one."""
    recipe = draft().recipe
    packed = {**recipe, "publish": {**recipe["publish"], "formats": ["parquet"]}}
    six, nine = images(6, 1), images(9, 2)
    whole = dataclasses.replace(nine, images=np.concatenate([six.images, nine.images[6:]]))
    drafts = [draft(synthetic=six), draft(synthetic=six, recipe=packed), draft(synthetic=whole), draft()]
    made = [release.publish(workspace, each) for each in drafts]
    assert [each.manifest["semver"] for each in made] == ["1.0.0", "1.0.1", "1.1.0", "2.0.0"]
    told = json.loads((made[2].path / "croissant.json").read_text())
    assert told["version"] == "1.1.0"


def test_a_patient_leads_to_releases(workspace: Workspace) -> None:
    """Whoever stood in a release's cohort is found with the part; nobody else is; nothing of it is public."""
    origin = Origin("c" * 64, "s" * 64, "k" * 64, {"train": ["anna"], "holdout": ["bert"], "reference": []})
    made = release.publish(workspace, draft(synthetic=images(6, 1), origin=origin), "20300102-chest")
    release.publish(workspace, draft(synthetic=images(6, 2)))
    [(found, part)] = trace.concerned(workspace, "anna")
    assert (found.name, found.version, part, found.run) == ("chest-demo", 1, "train", "20300102-chest")
    assert found.set == made.manifest["set"]
    assert [part for _, part in trace.concerned(workspace, "bert")] == ["holdout"]
    assert trace.concerned(workspace, "carl") == []
    for path in made.path.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not any(word.encode() in content for word in ("anna", "bert", "c" * 64, "s" * 64, "k" * 64))


GOOD = {"source_owner": "St Elsewhere", "source_terms": "CC BY 4.0", "licence": "CC-BY-4.0"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source_owner": ""}, "source_owner: is missing"),
        ({"source_terms": " "}, "source_terms: is missing"),
        ({"source_terms": "CC BY-ND 4.0"}, "derived works"),
        ({"source_terms": "free, no derivatives"}, "derived works"),
        ({"source_terms": "PhysioNet Credentialed Health Data License 1.5.0"}, "credentialed access"),
        ({"source_terms": "Data may not be shared with third parties"}, "forbid sharing"),
        ({"source_terms": "internal, confidential"}, "confidential"),
        ({"source_terms": "CC BY-NC 4.0"}, "non-commercial use only, and CC-BY-4.0 does not"),
        ({"source_terms": "CC BY-SA 4.0"}, "share alike, and CC-BY-4.0 does not"),
    ],
)
def test_terms_that_forbid_a_release_refuse_it(changes: dict[str, str], words: str) -> None:
    """Unsaid, forbidding and dropped conditions are each refused with what to do."""
    with pytest.raises(ReleaseError, match=words):
        terms.require({**GOOD, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"source_terms": "CC BY-NC-SA 4.0", "licence": "CC-BY-NC-SA-4.0"},
        {"source_terms": "CC BY-NC 4.0", "licence": "research-only"},
        {"source_terms": "written permission of the owner of the 2nd of May 2030"},
        {"source_terms": "standard data sharing agreement"},
    ],
)
def test_terms_that_allow_it_do_not(changes: dict[str, str]) -> None:
    """Free terms, kept conditions and a permission let a set out; no letter inside a word is a condition."""
    terms.require({**GOOD, **changes})


def test_nothing_is_written_where_terms_are_missing(workspace: Workspace) -> None:
    """A publish without an owner leaves nothing under releases/."""
    recipe = {**draft().recipe, "publish": {"licence": "CC-BY-4.0"}}
    with pytest.raises(ReleaseError, match="source_owner"):
        release.publish(workspace, draft(recipe=recipe))
    assert list((workspace.root / "releases").iterdir()) == []


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph")  # rdflib, inside mlcroissant
@pytest.mark.filterwarnings("ignore:The inplace keyword")  # pandas, inside mlcroissant
@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
@pytest.mark.parametrize(
    "forms", [("folder", "npz"), ("parquet",), ("webdataset", "dicom", "monai")], ids="+".join
)
def test_croissant_is_accepted_without_a_warning(
    workspace: Workspace, forms: tuple[str, ...], split: bool
) -> None:
    """The official validator is silent, and reads each image with its label where a form has both."""
    import mlcroissant

    shares = {"train": 0.5, "validation": 0.25, "test": 0.25} if split else None
    recipe = draft().recipe
    recipe = {**recipe, "publish": {**recipe["publish"], "formats": forms, "splits": shares}}
    synthetic = images(24, 1)
    made = release.publish(workspace, draft(synthetic=synthetic, recipe=recipe))
    read = mlcroissant.Dataset(str(made.path / "croissant.json"))
    assert (read.metadata.ctx.issues.errors, read.metadata.ctx.issues.warnings) == (set(), set())
    if forms[0] == "webdataset":
        return
    records = list(read.records("images"))
    assert len(records) == len(synthetic)
    labels = [record["images/label"] for record in records]
    names = [label.decode() if isinstance(label, bytes) else synthetic.label_names[label] for label in labels]
    assert sorted(names) == sorted(synthetic.label_names[label] for label in synthetic.labels)
