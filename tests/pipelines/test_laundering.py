"""Ways around a FAIL, tried through the stages: none of them leads to a release."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from phantomset.data.errors import ModelError, WorkspaceError
from phantomset.pipelines import stages
from phantomset.pipelines.judgement import judging, let_out
from phantomset.pipelines.judgement.lineage import Lineage
from phantomset.pipelines.recipe import Recipe
from phantomset.pipelines.stages import Job, Outcome, Watch
from phantomset.pipelines.synthesis import making
from phantomset.validators import audit
from phantomset.validators.finding import Finding


@pytest.fixture
def hospital(tmp_path: Path) -> dict[str, object]:
    """A folder of 120 digits of two classes, one file a patient."""
    found = load_digits(n_class=2)
    for number, (image, label) in enumerate(zip(found.images[:120], found.target[:120], strict=True)):
        place = tmp_path / "hospital" / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(place / f"p{number:03d}.png")
    return {
        "format": "folder",
        "path": str(tmp_path / "hospital"),
        "labels": {"from": "folder"},
        "patient": {"regex": r"p(\d+)\.png"},
    }


def status(outcome: Outcome) -> str:
    assert outcome.judgement is not None
    return outcome.judgement.verdict.status


def test_a_killed_judgement_told_nothing(
    job: Callable[..., Job], judges: Any, hospital: dict[str, Any], small: Callable[..., Recipe]
) -> None:
    """Killed before the ledger has its outcome: nobody was told, and no file of the workspace tells."""
    judges.answer, told = "FAIL", list[str]()
    work = replace(job(small(source=hospital)), watch=Watch(say=told.append))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lineage, "settle", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            stages.run(work)
    assert not [*work.workspace.root.rglob("judged.json")]
    assert "FAIL" not in " ".join(told)
    assert status(stages.run(work)) == "FAIL"
    assert told[-1] == "copies: copies: FAIL"


def test_eight_ways_to_launder_a_fail(
    job: Callable[..., Job],
    judges: Any,
    small: Callable[..., Recipe],
    hospital: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """New seed, another split, another size, renamed recipe, subset of S, fresh workspace, a code edit, one
    patient fewer: all inherit.
    """
    judges.answer = "FAIL"
    assert status(stages.run(job(small(source=hospital)))) == "FAIL"
    judges.answer = "PASS"
    tries = {
        "new seed": job(small(source=hospital, seed=4)),
        "another size": job(small(source=hospital, image={"size_px": 12})),
        "another split": job(small(source=hospital, split={"seed": 1})),
        "renamed recipe": job(small(source=hospital, name="another", seed=5)),
        "subset of S": job(small(source=hospital, generate={"count": 20})),
        "fresh workspace": job(small(source=hospital, seed=6), place="fresh"),
    }
    assert {way: status(stages.run(work)) for way, work in tries.items()} == dict.fromkeys(tries, "FAIL")
    with monkeypatch.context() as edited:
        for module in (judging, making):
            edited.setattr(module, "code_digest", lambda room: f"edited {room}")
        assert status(stages.run(job(small(source=hospital), place="edited"))) == "FAIL"
    next(Path(hospital["path"]).rglob("*.png")).unlink()
    fewer = stages.run(job(small(source=hospital, seed=7), place="fewer"))
    assert fewer.cohort is not None
    assert len(fewer.cohort.records) == 119
    assert status(fewer) == "FAIL"
    assert fewer.released is None


def test_a_policy_that_is_relaxed_after_a_look_launders_nothing(
    job: Callable[..., Job], judges: Any, small: Callable[..., Recipe], hospital: dict[str, Any]
) -> None:
    """INCONCLUSIVE under `strict`, then PASS under `standard`: the same set, another seed, a fresh workspace,
    with a reason. None is let out; by the policy that was fixed first another seed may be.
    """
    strict = {"privacy": "strict", "conclusive": ["class: class1"]}
    judges.answer = "INCONCLUSIVE"
    assert status(stages.run(job(small(source=hospital, gate=strict)))) == "INCONCLUSIVE"
    judges.answer = "PASS"
    tries = {
        "standard": job(small(source=hospital)),
        "no group": job(small(source=hospital, gate={"privacy": "strict"})),
        "another seed": job(small(source=hospital, seed=4)),
        "a reason": job(small(source=hospital, gate={"reason": "strict was a mistake"})),
        "fresh workspace": job(small(source=hospital, name="another"), place="fresh"),
    }
    outcomes = {way: stages.run(work) for way, work in tries.items()}
    assert {way: status(outcome) for way, outcome in outcomes.items()} == dict.fromkeys(tries, "INCONCLUSIVE")
    assert [way for way, outcome in outcomes.items() if outcome.released] == []
    assert stages.run(job(small(source=hospital, gate=strict, seed=5))).released is not None


LONGER = {"patient": {"regex": r"(p\d+)\.png"}}
"""Reads p007 where the hospital's own rule reads 007."""


def with_renamed_files(hospital: dict[str, Any], _: Path) -> dict[str, Any]:
    for path in list(Path(hospital["path"]).rglob("*.png")):
        path.rename(path.with_name(f"p9{path.name[1:]}"))
    return {"source": hospital}


def with_fewer_files(hospital: dict[str, Any], _: Path) -> dict[str, Any]:
    for path in sorted(Path(hospital["path"]).rglob("*.png"))[::4]:
        path.unlink()
    return {"source": hospital | LONGER}


def as_an_archive(hospital: dict[str, Any], aside: Path) -> dict[str, Any]:
    files = sorted(Path(hospital["path"]).rglob("*.png"))
    images = np.stack([np.asarray(Image.open(file)) for file in files])
    labels = np.array([[int(file.parent.name[-1])] for file in files])
    np.savez(aside / "set.npz", train_images=images, train_labels=labels)
    return {"source": {"format": "medmnist", "path": str(aside / "set.npz")}}


def without_patients(hospital: dict[str, Any], _: Path) -> dict[str, Any]:
    return {"source": {name: value for name, value in hospital.items() if name != "patient"}}


WAYS: dict[str, Callable[[dict[str, Any], Path], dict[str, Any]]] = {
    "a longer name": lambda hospital, _: {"source": hospital | LONGER},
    "a shorter name": lambda hospital, _: {"source": hospital | {"patient": {"regex": r"p\d(\d+)\.png"}}},
    "no patients": without_patients,
    "renamed files": with_renamed_files,
    "another rule and size": lambda hospital, _: {"source": hospital | LONGER, "image": {"size_px": 12}},
    "another rule for some of the files": with_fewer_files,
    "an archive": as_an_archive,
}
"""Changed sections of a recipe that reads the same images under other patients."""


@pytest.mark.parametrize("way", WAYS)
def test_other_names_for_the_patients_launder_no_fail(
    way: str,
    job: Callable[..., Job],
    judges: Any,
    small: Callable[..., Recipe],
    hospital: dict[str, Any],
    tmp_path: Path,
) -> None:
    """Whatever rule names the patients, the images are theirs: FAIL."""
    judges.answer = "FAIL"
    assert status(stages.run(job(small(source=hospital)))) == "FAIL"
    judges.answer = "PASS"
    place = "workspace" if way == "a longer name" else "fresh"
    outcome = stages.run(job(small(**WAYS[way](hospital, tmp_path)), place=place))
    assert status(outcome) == "FAIL"
    assert outcome.released is None


def test_other_names_for_the_patients_hide_no_release(
    job: Callable[..., Job],
    judges: Any,
    small: Callable[..., Recipe],
    hospital: dict[str, Any],
    tmp_path: Path,
) -> None:
    """A set that was let out is judged together with the next one of the same images."""
    assert stages.run(job(small(source=hospital))).released is not None
    stages.run(job(small(**without_patients(hospital, tmp_path), seed=4), place="fresh"))
    assert len(judges.options["earlier"]) == 1


def test_a_second_release_is_judged_with_the_first(
    job: Callable[..., Job], judges: Any, small: Callable[..., Recipe]
) -> None:
    """The judges get every set of these patients that was let out before, from any workspace."""
    first = stages.run(job())
    assert judges.options["earlier"] == []
    stages.run(job(small(seed=4), place="fresh"))
    (earlier,) = judges.options["earlier"]
    assert first.judgement is not None
    assert np.array_equal(earlier.images, first.judgement.draft.synthetic.images)
    asked = judges.asked
    again = stages.run(job())
    assert (judges.asked, again.released) == (asked, first.released)


def test_two_sets_that_are_judged_at_once_are_not_both_let_out(
    job: Callable[..., Job], judges: Any, small: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one set is judged another of these patients is let out: the two must be judged together first."""

    def meanwhile(*given: Any, **options: Any) -> Any:
        monkeypatch.setattr(audit, "judge", judges.judge)
        assert stages.run(job(small(seed=4), place="elsewhere")).released is not None
        return judges.judge(*given, **options)

    monkeypatch.setattr(audit, "judge", meanwhile)
    work = job()
    with pytest.raises(WorkspaceError, match="was let out while"):
        stages.run(work)
    assert not list((work.workspace.root / "releases").glob("*/v*"))
    assert stages.run(job()).released is not None
    assert len(judges.options["earlier"]) == 1


def test_a_forgotten_release_blocks_the_next(
    job: Callable[..., Job], judges: Any, small: Callable[..., Recipe], own_place: Path
) -> None:
    """A set on the record whose images are gone from beside the key: INCONCLUSIVE, with what to restore."""
    stages.run(job())
    (kept,) = (own_place / "config" / let_out.FOLDER).iterdir()
    content = kept.read_bytes()
    kept.write_bytes(content[: len(content) // 2])
    outcome = stages.run(job(small(seed=4)))
    assert status(outcome) == "INCONCLUSIVE"
    assert outcome.judgement is not None
    assert "restore the folder 'released'" in outcome.judgement.verdict.reasons[0]
    kept.write_bytes(content)
    assert status(stages.run(job(small(seed=4)))) == "PASS"


def test_an_earlier_release_of_another_size_is_brought_to_this_one(
    job: Callable[..., Job], judges: Any, small: Callable[..., Recipe], hospital: dict[str, object]
) -> None:
    """Images of 8 px are enlarged to 12 px by the path of real images, so that both can be compared."""
    stages.run(job(small(source=hospital)))
    stages.run(job(small(source=hospital, image={"size_px": 12}, seed=4)))
    (earlier,) = judges.options["earlier"]
    assert earlier.images.shape[1:] == (1, 12, 12)


def test_a_failed_class_can_be_left_out_once(
    job: Callable[..., Job], judges: Any, small: Callable[..., Recipe], own_place: Path
) -> None:
    """The rest is judged again and may pass; the first FAIL stays in the notes; a second FAIL sticks."""
    judges.answer = "FAIL"
    judges.more = (Finding("subgroups", "p", "privacy", "FAIL", group="class: 3", details={"class": "3"}),)
    first = stages.run(job())
    assert first.judgement is not None
    judges.answer, judges.more = "PASS", ()
    assert status(stages.run(job(small(gate={"leave_out": ["5"]})))) == "FAIL"
    left = stages.run(job(small(gate={"leave_out": ["3"]})))
    assert left.released is not None
    assert left.judgement is not None
    assert "3" not in left.judgement.draft.synthetic.label_names
    assert any("ended FAIL" in note for note in left.judgement.draft.notes)
    assert any("Left out" in note for note in left.judgement.draft.notes)
    judges.answer = "FAIL"
    judges.more = (Finding("subgroups", "p", "privacy", "FAIL", group="class: 4", details={"class": "4"}),)
    stages.run(job(small(seed=8, gate={"leave_out": ["3"]})))
    judges.answer, judges.more = "PASS", ()
    assert status(stages.run(job(small(seed=9, gate={"leave_out": ["3", "4"]})))) == "FAIL"
    assert Lineage(own_place / "config" / judging.LEDGER).path.exists()


def test_a_fail_of_the_whole_set_is_not_left_by_dropping_a_class(
    job: Callable[..., Job], judges: Any, small: Callable[..., Recipe]
) -> None:
    """A FAIL that no class answers for sticks to any subset of classes."""
    judges.answer = "FAIL"
    stages.run(job())
    judges.answer = "PASS"
    assert status(stages.run(job(small(gate={"leave_out": ["3"]})))) == "FAIL"


def test_an_innocent_class_is_no_way_out(
    job: Callable[..., Job], judges: Any, small: Callable[..., Recipe]
) -> None:
    """All patients fail and one class beside: another seed without it inherits; the rest of the set that
    failed is judged, fails again, and that sticks.
    """
    judges.answer = "FAIL"
    judges.more = (Finding("subgroups", "p", "privacy", "FAIL", group="class: 3", details={"class": "3"}),)
    stages.run(job())
    judges.answer, judges.more = "PASS", ()
    assert status(stages.run(job(small(seed=8, gate={"leave_out": ["3"]})))) == "FAIL"
    judges.answer = "FAIL"
    rest = stages.run(job(small(gate={"leave_out": ["3"]})))
    assert rest.judgement is not None
    assert rest.judgement.verdict.reasons == ("as told",)
    judges.answer = "PASS"
    assert status(stages.run(job(small(seed=9, gate={"leave_out": ["3"]})))) == "FAIL"


def test_a_pass_elsewhere_hides_no_fail(
    job: Callable[..., Job], judges: Any, small: Callable[..., Recipe]
) -> None:
    """The same set passed and was let out; judged again in a fresh workspace it fails: FAIL, in both."""
    assert stages.run(job()).released is not None
    judges.answer = "FAIL"
    again = stages.run(job(place="fresh"))
    assert (status(again), again.released) == ("FAIL", None)
    assert again.judgement is not None
    assert any("came out PASS" in note for note in again.judgement.draft.notes)
    judges.answer = "PASS"
    assert status(stages.run(job(small(seed=8)))) == "FAIL"


@pytest.mark.parametrize("names", [["eleven"], [str(number) for number in range(10)]])
def test_classes_that_cannot_be_left_out(
    job: Callable[..., Job], small: Callable[..., Recipe], names: list[str]
) -> None:
    """An unknown class, or all of them: exit code 2 before anything is trained."""
    with pytest.raises(ModelError, match=r"gate\.leave_out"):
        stages.run(job(small(gate={"leave_out": names})))
