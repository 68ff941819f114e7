"""A FAIL sticks to the patients: what the ledger beside the key says of a case."""

import json
import stat
from dataclasses import replace

import pytest

from phantomset.pipelines.judgement.chain import Broken
from phantomset.pipelines.judgement.lineage import Lineage, hashed, named
from phantomset.pipelines.judgement.record import related
from phantomset.validators.finding import Rules

from .judged import PATIENTS, by, case, exposing, judged, verdict


def test_a_first_judgement_stands(book: Lineage) -> None:
    """Without a record the fresh verdict is the verdict, and it is written down for the owner alone."""
    settled = judged(book, "PASS")
    assert settled.verdict == verdict("PASS")
    assert settled.notes == ()
    assert stat.S_IMODE(book.path.stat().st_mode) == 0o600
    assert json.loads(book.path.read_text().splitlines()[-1])["hash"] == settled.entry


@pytest.mark.parametrize(
    "change",
    [
        {"made": "set-of-another-seed"},
        {"made": "subset", "recipe": "renamed"},
        {"made": "set-2", "rules": "other-thresholds"},
        {"made": "set-2", "patients": frozenset(sorted(PATIENTS)[1:])},
        {"made": "set-2", "patients": frozenset(sorted(PATIENTS)[:51])},
        {"made": "set-2", "reason": "I would like it to pass now"},
    ],
    ids=[
        "new seed",
        "subset under a new name",
        "other rules",
        "one patient fewer",
        "half the patients",
        "a reason",
    ],
)
def test_a_fail_is_not_left_without_a_changed_recipe(book: Lineage, change: dict[str, object]) -> None:
    """Another seed, name, subset, threshold or nearly the same patients inherit it; a reason alone too."""
    judged(book, "FAIL")
    settled = judged(book, "PASS", **change)
    assert settled.verdict.status == "FAIL"
    assert "ended FAIL on" in settled.verdict.reasons[0]
    assert settled.verdict.reasons[1:] == ("judged PASS",)
    assert settled.verdict.digest != "digest"


def test_a_fail_of_quality_alone_marks_nobody(book: Lineage) -> None:
    """Poor pictures are blocked, and another try is free; together with a privacy FAIL they stick."""
    poor = replace(verdict("FAIL"), axes={"privacy": "PASS", "controls": "PASS", "fidelity": "FAIL"})
    assert book.settle(case(), poor).verdict.status == "FAIL"
    again = judged(book, "PASS", made="set-2")
    assert (again.verdict.status, again.notes) == ("PASS", ())
    book.settle(case(made="set-3"), replace(poor, axes=poor.axes | {"controls": "FAIL"}))
    assert judged(book, "PASS", made="set-4").verdict.status == "FAIL"


def test_other_patients_are_another_lineage(book: Lineage) -> None:
    """Half of the patients or fewer in common: the FAIL is not theirs."""
    judged(book, "FAIL")
    half = frozenset([*sorted(PATIENTS)[:50], *hashed(f"q{number}" for number in range(50))])
    assert judged(book, "PASS", made="set-2", patients=half).verdict.status == "PASS"
    assert not related(PATIENTS, half)


@pytest.mark.parametrize(("shared", "status"), [(100, "FAIL"), (51, "FAIL"), (50, "PASS")])
def test_the_same_images_are_the_same_people(book: Lineage, shared: int, status: str) -> None:
    """Other names for everybody: over half of the smaller cohort's images in common and the FAIL holds."""
    images = [f"image {number}" for number in range(100)]
    judged(book, "FAIL", images=named(images))
    renamed = hashed(f"other {number}" for number in range(100))
    some = named(images[:shared] + [f"new {number}" for number in range(100 - shared)])
    settled = judged(book, "PASS", made="set-2", patients=renamed, images=some)
    assert settled.verdict.status == status
    assert len(settled.notes) == (status == "FAIL")


@pytest.mark.parametrize(
    ("change", "stands"),
    [
        ({"made": "set-1", "rules": "a stricter suite"}, False),
        ({"made": "set-2"}, False),
        ({"made": "set-2", "section": "model-b", "reason": "another model"}, True),
        ({"made": "set-2", "patients": hashed(["x", "y"])}, True),
    ],
    ids=["the set itself", "another seed", "another model section", "other patients"],
)
def test_a_release_falls_by_a_later_fail(book: Lineage, change: dict[str, object], stands: bool) -> None:
    """The same set, or the same model section on the same patients: what would be refused now has fallen."""
    assert book.failed_since() == {}
    judged(book, "PASS")
    book.release(case(), ())
    assert book.failed_since() == {}
    settled = judged(book, "FAIL", **change)
    assert settled.verdict.status == "FAIL"
    assert list(book.failed_since()) == ([] if stands else ["set-1"])


def test_a_release_without_the_class_that_failed_stands(book: Lineage) -> None:
    """A FAIL in the patients of one class says nothing of a set that is without this class."""
    book.settle(case(made="whole"), exposing("nodule"))
    rest = case(made="rest", whole="whole", left_out=("nodule",))
    book.settle(rest, verdict("PASS"))
    book.release(rest, ())
    assert book.failed_since() == {}
    book.settle(case(made="set-2", rules="others"), exposing("nodule"))
    assert book.failed_since() == {}
    book.settle(replace(rest, rules="others"), exposing("mass"))
    assert list(book.failed_since()) == ["rest"]


def test_of_a_broken_ledger_nobody_knows_what_fell(book: Lineage) -> None:
    """An altered line is no silence: it is told."""
    judged(book, "PASS")
    book.release(case(), ())
    book.path.write_text(book.path.read_text().replace("PASS", "FAIL"))
    with pytest.raises(Broken):
        book.failed_since()


def test_a_release_is_found_again_by_its_images(book: Lineage) -> None:
    """What was let out counts against the same images under other names, too."""
    images = named(["a", "b", "c"])
    book.release(case(images=images), ())
    others = hashed(["x", "y", "z"])
    assert book.released(case(made="set-2", patients=others, images=images)) == ("set-1",)
    assert book.released(case(made="set-2", patients=others, images=named(["d", "e", "f"]))) == ()


def test_a_line_without_images_is_read(book: Lineage) -> None:
    """Lines of earlier versions name patients alone; their images are learned when these are judged again."""
    with book.chain.locked():
        lines = book.chain.read()
        book.chain.append(lines, kind="patients", digest="of old", patients=sorted(PATIENTS))
        old = {"key": "k", "section": "model-a", "made": "old", "judged": "FAIL", "status": "FAIL"}
        old |= {"why": "", "reason": None, "recipe": "chest", "rules": "rules", "patients": "of old"}
        book.chain.append(lines, kind="judgement", **old)
    assert judged(book, "PASS", patients=hashed("uvw"), images=named("cd")).verdict.status == "PASS"
    assert judged(book, "PASS", images=named("ab")).verdict.status == "FAIL"
    assert judged(book, "PASS", patients=hashed("xyz"), images=named("ab")).verdict.status == "FAIL"


def test_a_changed_model_and_a_reason_leave_a_fail_and_the_record_stays(book: Lineage) -> None:
    """Changed alone: FAIL. Changed, with a reason: judged afresh, with the earlier FAIL in the notes."""
    judged(book, "FAIL")
    without = judged(book, "PASS", made="set-2", section="model-b")
    assert without.verdict.status == "FAIL"
    assert "gate.reason" in without.verdict.reasons[0]
    reason = "trained on a quarter of the images shown before"
    left = judged(book, "PASS", made="set-2", section="model-b", reason=reason)
    assert left.verdict.status == "PASS"
    assert len(left.notes) == 1
    assert "ended FAIL on" in left.notes[0]
    assert reason in left.notes[0]
    # A second seed of the changed model still carries the note, and needs no more than the reason.
    again = judged(book, "PASS", made="set-3", section="model-b", reason=reason)
    assert (again.verdict.status, again.notes) == ("PASS", left.notes)


def test_a_fail_of_the_changed_model_sticks_too(book: Lineage) -> None:
    """Each model section that failed stays failed, whatever reason is written."""
    judged(book, "FAIL")
    reason = "a smaller budget should help"
    judged(book, "FAIL", made="set-2", section="model-b", reason=reason)
    assert judged(book, "PASS", made="set-3", section="model-b", reason=reason).verdict.status == "FAIL"


def test_the_fourth_inconclusive_set_is_a_fail(book: Lineage) -> None:
    """Three different sets of a model section may end INCONCLUSIVE; the next INCONCLUSIVE one is a FAIL."""
    for number in range(3):
        assert judged(book, "INCONCLUSIVE", made=f"set-{number}").verdict.status == "INCONCLUSIVE"
    fourth = judged(book, "INCONCLUSIVE", made="set-3")
    assert fourth.verdict.status == "FAIL"
    assert "3 other sets" in fourth.verdict.reasons[0]
    assert judged(book, "PASS", made="set-4").verdict.status == "FAIL"


@pytest.mark.parametrize("sections", ["aaa", "aab", "bcd"], ids=["one model", "two", "three others"])
def test_after_three_inconclusive_sets_a_pass_needs_a_reason(book: Lineage, sections: str) -> None:
    """Whatever model section made them: a fourth set that happens to pass is one more try, until somebody
    writes down why not; the reason stays on the record. A pass after two stands.
    """
    for number, name in enumerate(sections):
        assert judged(book, "PASS", made=f"early-{number}").verdict.status == "PASS"
        judged(book, "INCONCLUSIVE", made=f"set-{number}", section=f"model-{name}")
    held = judged(book, "PASS", made="set-3")
    assert held.verdict.status == "INCONCLUSIVE"
    assert "3 other sets" in held.verdict.reasons[0]
    assert "gate.reason" in held.verdict.reasons[0]
    assert judged(book, "PASS", made="set-3").verdict == held.verdict
    reasoned = judged(book, "PASS", made="set-3", reason="three hundred patients more")
    assert reasoned.verdict.status == "PASS"
    assert "three hundred patients more" in reasoned.notes[0]


@pytest.mark.parametrize("axis", ["privacy", "controls"])
def test_poor_pictures_do_not_hide_a_try(book: Lineage, axis: str) -> None:
    """An INCONCLUSIVE privacy beside a FAIL of fidelity counts: the fourth such set ends the section."""
    axes = {"privacy": "PASS", "controls": "PASS", "fidelity": "FAIL", "utility": "PASS"}
    both = replace(verdict("FAIL"), axes=axes | {axis: "INCONCLUSIVE"})
    for number in range(3):
        assert book.settle(case(made=f"set-{number}"), both).verdict == both
    fourth = book.settle(case(made="set-3"), both)
    assert "3 other sets" in fourth.verdict.reasons[0]
    assert book.settle(case(made="set-3"), both) == fourth
    assert judged(book, "PASS", made="set-4").verdict.status == "FAIL"


def test_poor_pictures_alone_are_no_try(book: Lineage) -> None:
    """Eight sets of poor fidelity whose privacy passed: the ninth is judged by itself."""
    axes = {"privacy": "PASS", "controls": "PASS", "fidelity": "FAIL", "utility": "PASS"}
    for number in range(8):
        book.settle(case(made=f"set-{number}"), replace(verdict("FAIL"), axes=axes))
    assert judged(book, "INCONCLUSIVE", made="set-8").verdict.status == "INCONCLUSIVE"


def test_an_identical_rerun_is_no_new_judgement(book: Lineage) -> None:
    """The stored verdict comes back, nothing is added, and a rerun never uses up the limit."""
    first = judged(book, "INCONCLUSIVE")
    lines = book.path.read_text()
    for _ in range(5):
        again = judged(book, "INCONCLUSIVE")
        assert (again.verdict, again.entry) == (first.verdict, first.entry)
    assert book.path.read_text() == lines
    judged(book, "FAIL", made="set-2")
    assert judged(book, "INCONCLUSIVE").verdict.status == "INCONCLUSIVE"


def test_a_rerun_cannot_turn_a_recorded_fail(book: Lineage) -> None:
    """The same judgement that comes out otherwise (another machine) keeps what is on the record."""
    judged(book, "FAIL")
    assert judged(book, "PASS").verdict.status == "FAIL"


@pytest.mark.parametrize(
    ("before", "after"), [("PASS", "FAIL"), ("PASS", "INCONCLUSIVE"), ("INCONCLUSIVE", "FAIL")]
)
def test_the_worse_of_two_equal_judgements_holds(book: Lineage, before: str, after: str) -> None:
    """A recorded PASS does not hide that the same judgement came out worse elsewhere; nothing mends it."""
    judged(book, before)
    worse = judged(book, after)
    assert worse.verdict == verdict(after)
    assert f"came out {before} on" in worse.notes[-1]
    assert judged(book, before).verdict.status == after
    assert (judged(book, after).verdict, judged(book, after).notes) == (worse.verdict, worse.notes)
    other = "FAIL" if after == "FAIL" else "PASS"
    assert judged(book, "PASS", made="set-2").verdict.status == other


def test_a_privacy_fail_after_one_of_quality_sticks(book: Lineage) -> None:
    """The same judgement failed in fidelity, then in privacy: both are FAIL, and the second marks."""
    poor = replace(verdict("FAIL"), axes={"privacy": "PASS", "controls": "PASS", "fidelity": "FAIL"})
    book.settle(case(), poor)
    judged(book, "FAIL")
    assert judged(book, "PASS", made="set-2").verdict.status == "FAIL"


def test_a_waiver_does_not_hide_an_open_question_of_privacy(book: Lineage) -> None:
    """The same judgement said nothing of privacy, then that fidelity alone failed: not clear."""
    poor = replace(verdict("FAIL"), axes={"privacy": "PASS", "controls": "PASS", "fidelity": "FAIL"})
    assert book.clears(case(), poor)
    judged(book, "INCONCLUSIVE")
    assert book.settle(case(), poor).verdict.status == "FAIL"
    assert not book.clears(case(), poor)


def test_a_class_is_no_excuse_for_the_others(book: Lineage) -> None:
    """All patients fail, and those of class a: without a another seed is another try, and inherits."""
    book.settle(case(), exposing(None, "a"))
    without = {"left_out": ("a",), "whole": "set-2", "made": "rest-2"}
    settled = judged(book, "PASS", **without)
    assert settled.verdict.status == "FAIL"
    assert "of this same set, with gate.leave_out" in settled.verdict.reasons[0]
    rest = {"left_out": ("a",), "whole": "set-1", "made": "rest-1"}
    assert judged(book, "FAIL", **rest).verdict.reasons == ("judged FAIL",)
    assert judged(book, "PASS", **without, rules="other").verdict.status == "FAIL"
    assert judged(book, "PASS", **rest, rules="other").verdict.status == "FAIL"


def test_a_class_that_was_the_cause_can_be_left_out(book: Lineage) -> None:
    """Once the rest of that very set has passed, other sets without the class are judged by themselves."""
    book.settle(case(), exposing(None, "a"))
    rest = {"left_out": ("a", "b"), "whole": "set-1", "made": "rest-1"}
    assert judged(book, "PASS", **rest).verdict.status == "PASS"
    assert judged(book, "PASS", left_out=("a",), whole="set-2", made="rest-2").verdict.status == "FAIL"
    again = {"left_out": ("a", "b", "c"), "whole": "set-3", "made": "rest-3"}
    assert judged(book, "PASS", **again).verdict.status == "PASS"


@pytest.mark.parametrize("status", ["INCONCLUSIVE", "FAIL"])
def test_a_rest_that_did_not_pass_explains_nothing(book: Lineage, status: str) -> None:
    """The rest of the set that failed has to pass before a class counts as the cause."""
    book.settle(case(), exposing(None, "a"))
    judged(book, status, left_out=("a",), whole="set-1", made="rest-1")
    assert judged(book, "PASS", left_out=("a",), whole="set-2", made="rest-2").verdict.status == "FAIL"


def test_a_fail_in_classes_alone_is_left_with_them(book: Lineage) -> None:
    """Nobody else was exposed: any set without the class is judged by itself, with a subset of them none."""
    book.settle(case(), exposing("a", "b"))
    assert judged(book, "PASS", left_out=("a",), whole="set-2", made="rest-2").verdict.status == "FAIL"
    assert judged(book, "PASS", left_out=("a", "b"), whole="set-3", made="rest-3").verdict.status == "PASS"


def test_a_judgement_that_never_ended_is_on_the_record(book: Lineage) -> None:
    """A line says that it began, once; it is no judgement."""
    book.begin(case())
    book.begin(case())
    assert [json.loads(line)["kind"] for line in book.path.read_text().splitlines()] == ["begun"]
    assert judged(book, "PASS").verdict.status == "PASS"


LAXER = {
    "standard after strict": (Rules("strict"), Rules()),
    "standard after zero-signal": (Rules("zero-signal"), Rules()),
    "zero-signal after strict": (Rules("strict"), Rules("zero-signal")),
    "strict after zero-signal": (Rules("zero-signal"), Rules("strict")),
    "a group fewer": (Rules(conclusive=("sex: F", "sex: M")), Rules("strict", conclusive=("sex: M",))),
    "without cross-fitting": (Rules(cross_fit=True), Rules()),
    "with cross-fitting": (Rules(), Rules(cross_fit=True)),
}
"""The rules that were fixed first, and those that came after a look."""


@pytest.mark.parametrize("first", ["INCONCLUSIVE", "FAIL"])
@pytest.mark.parametrize("way", LAXER)
def test_rules_that_are_relaxed_after_a_look_settle_nothing(book: Lineage, way: str, first: str) -> None:
    """The same set, or another one of the same model section, does not pass what was asked less of it, with
    a reason or without; nor does a third one after it. By the rules that were fixed first it may.
    """
    strict, lax = LAXER[way]
    by(book, first, strict)
    for made, reason in (("set-1", None), ("set-1", "the first policy was a mistake"), ("set-2", None)):
        held = by(book, "PASS", lax, made=made, reason=reason).verdict
        assert held.status == first
    assert by(book, "PASS", strict, made="set-3").verdict.status == ("PASS" if first != "FAIL" else "FAIL")
    assert by(book, "PASS", lax, made="set-3").verdict.status == first
    assert not book.clears(case(rules="fidelity alone failed", made="set-3"), verdict("FAIL", lax))


def test_other_rules_for_another_model_need_a_reason(book: Lineage) -> None:
    """Another model section is another run, with rules fixed before it; the reason stays on the record."""
    by(book, "INCONCLUSIVE", Rules("strict"))
    other = {"section": "model-b", "made": "set-2"}
    held = by(book, "PASS", Rules(), **other).verdict
    assert held.status == "INCONCLUSIVE"
    assert "gate.reason" in held.reasons[0]
    reasoned = by(book, "PASS", Rules(), **other, reason="strict asks for 2,100 patients")
    assert (reasoned.verdict.status, len(reasoned.notes)) == ("PASS", 1)
    assert "stricter or other rules" in reasoned.notes[0]
    assert "2,100 patients" in reasoned.notes[0]


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (Rules(), Rules("strict")),
        (Rules(), Rules("zero-signal")),
        (Rules(), Rules(conclusive=("sex: F",))),
        (Rules(fidelity="clinical-ml", utility="full"), Rules(fidelity="demo")),
    ],
    ids=["strict", "zero-signal", "a group more", "another profile"],
)
def test_rules_that_ask_more_are_free(book: Lineage, first: Rules, later: Rules) -> None:
    """Asking more of privacy, or other things of the pictures, needs no word."""
    by(book, "INCONCLUSIVE", first)
    assert by(book, "PASS", later).verdict.status == "PASS"
    assert by(book, "PASS", later, made="set-2").notes == ()


def test_privacy_that_passed_is_no_look(book: Lineage) -> None:
    """Under strict rules the pictures alone were too poor: nothing of privacy was open."""
    poor = replace(verdict("FAIL", Rules("strict")), axes={"privacy": "PASS", "fidelity": "FAIL"})
    book.settle(case(rules="strict"), poor)
    assert by(book, "PASS", Rules()).verdict.status == "PASS"


def test_a_policy_that_nobody_knows_is_another_versions(book: Lineage) -> None:
    """A line that names a policy of a later version cannot be weighed: nothing passes."""
    by(book, "INCONCLUSIVE", Rules())
    with book.chain.locked():
        lines = book.chain.read()
        (line,) = (line for line in lines if line["kind"] == "judgement")
        told = {name: value for name, value in line.items() if name not in ("hash", "previous", "time")}
        book.chain.append(lines, **{**told, "policy": {**told["policy"], "privacy": "paranoid"}})
    settled = judged(book, "PASS", made="set-2")
    assert settled.verdict.status == "INCONCLUSIVE"
    assert "another version" in settled.verdict.reasons[0]
