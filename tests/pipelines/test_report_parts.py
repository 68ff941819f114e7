"""Parts of the reports: thresholds with their owner, the certificate, pictures of fidelity."""

import dataclasses

import numpy as np
import pytest

from phantomset.pipelines import report
from phantomset.pipelines.draft import Draft
from phantomset.pipelines.releases.card import card
from phantomset.pipelines.report import words
from phantomset.pipelines.report.plots import coverage_map, outlines
from phantomset.pipelines.report.thresholds import NOBODY, SUITE, thresholds
from phantomset.pipelines.report.words import question
from phantomset.validators.features import fit_spaces
from phantomset.validators.finding import Finding

from .drafts import draft, evidence, images
from .test_report import Page

MAP = {"holdout": [[0.0, 1.0], [2.0, 3.0]], "covered": [True, False], "synthetic": [[0.1, 0.9]]}
LOOKS = {"edges": [0.0, 1.0, 2.0], "holdout": [0.25, 0.75], "synthetic": [0.5, 0.5], "train": [0.5, 0.5]}


def with_findings(*more: Finding) -> Draft:
    """Return the draft that passed, with more findings, and told in public as the gate does."""
    made = draft()
    verdict = dataclasses.replace(made.verdict, findings=(*made.verdict.findings, *more))
    return dataclasses.replace(made, verdict=verdict)


def test_each_threshold_has_value_direction_source_and_owner() -> None:
    """One row for what shares a limit: the found range, the paper of the check, the policy, who answers."""
    rows = {row.limit: row for row in thresholds(draft())}
    scan = rows["FAIL at p <= 0.001"]
    assert (scan.found, scan.direction) == ("0.4127", "higher is better")
    assert scan.rules == "privacy policy standard"
    assert "Hill" in scan.source
    assert scan.owner == NOBODY
    assert rows["at least 0.8 x 0.96112"].rules == "fidelity profile demo"
    owned = dataclasses.replace(draft(), recipe={"gate": {"owner": "R. Example, data office"}})
    assert {row.owner for row in thresholds(owned)} == {"R. Example, data office"}


def test_a_control_has_the_suite_as_source() -> None:
    """A threshold of a control names what it is measured by; three figures under one limit are one row."""
    found = [
        Finding("positive_control", f"{n} planted", "controls", "PASS", float(n), limit=">= 6 of 8")
        for n in (3, 1, 2)
    ]
    (row,) = [row for row in thresholds(with_findings(*found)) if row.limit == ">= 6 of 8"]
    assert (row.what, row.found, row.source) == ("3 planted and 2 more", "1 to 3", SUITE)


def test_what_decides_nothing_has_no_threshold() -> None:
    """Findings that are only reported, or were not evaluated, stand in no row."""
    found = [
        Finding("detector", "AUC", "fidelity", status, 0.7, limit="none at all")
        for status in ("REPORTED", "NOT_EVALUATED")
    ]
    assert "none at all" not in {row.limit for row in thresholds(with_findings(*found))}


def test_the_certificate_is_told_in_words_with_its_rule() -> None:
    """Both reports, the card and the Markdown say what the set is good for; without one nothing is said."""
    told = {
        "words": "use as augmentation",
        "sentence": "Added to real images the set helps.",
        "rule": "The rule.",
    }
    made = draft(public_verdict={**draft().public_verdict, "certificate": told})
    for page in (report.public_html(made), report.restricted_html(made, evidence())):
        text = Page(page).text
        assert "Use as augmentation. Added to real images the set helps." in text
        assert "The rule." in text
    assert "**What it is good for:** Use as augmentation." in card(made, 1, [])
    assert "What it is good for: **use as augmentation**." in report.markdown(made)
    assert "good for" not in Page(report.public_html(draft())).text


def test_the_words_stand_in_the_findings() -> None:
    """The restricted table shows the certificate's words where a figure would be."""
    asked = Finding(
        "certificate", "utility certificate", "utility", "REPORTED", details={"words": "can replace"}
    )
    assert "can replace" in Page(report.restricted_html(with_findings(asked), evidence())).text


def test_maps_and_outlines_stay_in_the_house() -> None:
    """The restricted report draws coverage, sharpness and grey levels; the public one has none of it."""
    found = (
        Finding("coverage", "coverage of the holdout", "fidelity", "PASS", 0.5, "classifier", details=MAP),
        Finding(
            "appearance", "sharpness, distance", "fidelity", "REPORTED", 0.1, unit="log10", details=LOOKS
        ),
        Finding(
            "appearance", "grey levels, distance", "fidelity", "REPORTED", 3.0, unit="levels", details=LOOKS
        ),
    )
    made = with_findings(*found)
    inside, outside = Page(report.restricted_html(made, evidence())), Page(report.public_html(made))
    assert "What the set reaches, and how it looks" in inside.text
    assert "What the set reaches" not in outside.text
    plain = Page(report.restricted_html(draft(), evidence()))
    assert len(inside.pictures) == len(plain.pictures) + 3
    assert len(outside.pictures) == len(Page(report.public_html(draft())).pictures)


def test_pictures_are_equal_for_equal_input() -> None:
    """A map with nothing left out, or nothing covered, is drawn too; equal input gives equal bytes."""
    points = np.array([[0.0, 1.0], [1.0, 0.0]])
    for covered in (np.array([True, True]), np.array([False, False])):
        assert coverage_map(points, covered, points) == coverage_map(points, covered, points)
    shares = {"a": np.array([0.5, 0.5])}
    assert outlines(np.arange(3.0), shares, "x").startswith("data:image/svg+xml;base64,")


@pytest.mark.parametrize(
    ("failed", "sentence"),
    [
        (("privacy", "fidelity"), "Nothing overrides this verdict, and a new seed does not change it."),
        (("fidelity", "utility"), "Nothing overrides this verdict; a better set can be judged anew."),
        (("fidelity",), "Only a named person's waiver, for a time, lets such a set out"),
    ],
)
def test_what_a_fail_leaves_open_is_told(failed: tuple[str, ...], sentence: str) -> None:
    """A FAIL of privacy sticks; one of quality does not, and of fidelity alone can be waived."""
    judged = draft("FAIL").verdict
    axes = {axis: "FAIL" if axis in failed else "PASS" for axis in judged.axes}
    page = Page(report.public_html(draft("FAIL", verdict=dataclasses.replace(judged, axes=axes))))
    assert sentence in page.text


def test_each_representation_is_told_in_words() -> None:
    """The titles of the closest pairs say what the copy scan compares, for all that it compares."""
    assert set(words.REPRESENTATIONS) == {space.name for space in fit_spaces(images(30, 2).images)}


def test_the_public_page_writes_limits_in_words_and_no_empty_value() -> None:
    """A narrow column would part a sign from its number; an empty value of the recipe is "none"."""
    held = Finding("labels", "balanced accuracy", "fidelity", "PASS", 0.9, limit=">= 0.88")
    recipe = {**draft().recipe, "gate": {"owner": ""}}
    page = Page(report.public_html(dataclasses.replace(with_findings(held), recipe=recipe)))
    assert "Limit: at least 0.88." in page.text
    assert ">=" not in page.text
    assert "gate.owner none" in page.text


@pytest.mark.parametrize("status", ["FAIL", "INCONCLUSIVE"])
def test_the_public_does_not_hear_which_question_about_people_stopped_a_set(status: str) -> None:
    """Whichever check of the privacy axis it was, the page and the Markdown read the same; what was not
    evaluated is told, and a question of fidelity is named, as its figures are.
    """
    told = set[tuple[str, ...]]()
    for check in ("identity", "copies", "attacks", "strength"):
        made = draft(status)
        found = tuple(
            dataclasses.replace(f, status=status if f.check == check else "PASS")
            if f.axis == "privacy" and f.status in ("PASS", "FAIL", "INCONCLUSIVE")
            else f
            for f in made.verdict.findings
        )
        judged = dataclasses.replace(made, verdict=dataclasses.replace(made.verdict, findings=found))
        told.add((report.public_html(judged), report.markdown(judged)))
    assert len(told) == 1
    page, markdown = told.pop()
    assert f"Privacy: {words.STATUS[status]}; the restricted report says by which question." in page
    assert f"| {question('copies')} | kept back |" in markdown
    assert f"| {question('reidentification')} | not evaluated |" in markdown
    inside = Page(report.restricted_html(judged, evidence())).text
    assert f"Privacy: {question('strength')} ({words.STATUS[status]})" in inside
    axes = made.verdict.axes | {"privacy": "PASS", "fidelity": status}
    poor = dataclasses.replace(next(f for f in made.verdict.findings if f.check == "coverage"), status=status)
    verdict = dataclasses.replace(made.verdict, findings=(*draft().verdict.findings, poor), axes=axes)
    named = report.markdown(dataclasses.replace(made, verdict=verdict))
    assert f"- Fidelity: {question('coverage')} ({words.STATUS[status]})" in named
    assert f"| {question('copies')} | passed |" in named
