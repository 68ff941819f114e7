"""Reports: the public one tells nothing that must stay, the restricted one all, and both stand alone."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml

from phantomset.data import catalogue
from phantomset.data.records import ImageSet
from phantomset.pipelines import report
from phantomset.pipelines.releases.card import Portion, card
from phantomset.pipelines.report.pairs import neighbours
from phantomset.pipelines.report.plots import loss_curves, strip
from phantomset.pipelines.report.words import METRICS, how_to_read, question
from phantomset.validators.controls import CONTROLS
from phantomset.validators.finding import Finding

from .drafts import LABELS, PLACE, draft, evidence, images

STATUSES = ("PASS", "FAIL", "INCONCLUSIVE")
VOID = {"meta", "img", "br", "line", "circle", "path", "col"}


class Page(HTMLParser):
    """Collects what a browser would fetch, the text, and tags that do not close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.fetched: list[str] = []
        self.tags: set[str] = set()
        self.pictures: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        self.fetched += [str(given[key]) for key in ("src", "href", "srcset", "data") if key in given]
        if tag == "img":
            self.pictures.append(str(given["src"]))
            assert given.get("alt")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def pages(status: str) -> list[Page]:
    return [Page(report.public_html(draft(status))), Page(report.restricted_html(draft(status), evidence()))]


@pytest.mark.parametrize("status", STATUSES)
def test_a_report_stands_alone(status: str) -> None:
    """Every tag closes, nothing is fetched from anywhere, there is no script, and the policy forbids both."""
    for page in pages(status):
        assert page.wrong == []
        assert page.open == []
        assert all(place.startswith("data:image/") for place in page.fetched)
        assert not {"script", "link", "iframe", "object", "video", "form"} & page.tags
    html = report.public_html(draft(status))
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in html
    assert "url(" not in html
    assert "@import" not in html
    assert len(html.encode()) < 1 << 20


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("PASS", "PASS Passed. This set may be released. Every required privacy check passed"),
        ("FAIL", "FAIL Blocked. This set did not pass. What failed: privacy."),
        (
            "INCONCLUSIVE",
            "INCONCLUSIVE Blocked. The evidence does not suffice. What could not be settled: privacy.",
        ),
    ],
)
def test_the_verdict_comes_first(status: str, sentence: str) -> None:
    """The first thing after the name is the verdict in a sentence."""
    for page in pages(status):
        assert sentence in page.text
        assert page.text.index(sentence) < 260  # before it: title, stamp, name, day


@pytest.mark.parametrize("status", STATUSES)
def test_the_public_report_is_coarse(status: str) -> None:
    """No value of a privacy finding, exact count of real things, place, subgroup, or reason with a figure."""
    page = Page(report.public_html(draft(status)))
    for told in (
        *("0.41273", "0.4127", "0.41 ", "0.00031", "0.51874", "0.52", "0.61377", "0.61", "-0.7312", "-0.73"),
        *("5,123", "4,812", "2,411", "1,204", "803", "404", "304", "91,234", "41,002", "private element"),
        *(PLACE, "dr-grey", "site 3", "0.77", "at least 600 patients", "7 pairs", "7 training patients"),
        *("0.3391", "0.34", "0.03217", "0.03", "ernel distance, p", "112 of 112", "of 59"),
    ):
        assert told not in page.text, told
    assert "Would have caught one copy of a training image (exact; mirror)." in page.text
    assert "notice in 95 of 100 cases: at most 1% of the training patients" in page.text
    assert "fewer than 10" in page.text
    assert "about 2,400" in page.text
    assert "kept-back" in page.text
    assert "texture features, n about 1,200 0.018 real" in page.text


def test_a_group_too_small_does_not_hide_the_others() -> None:
    """A check that passed for one group and could not be asked of another has passed in part, and says so."""
    small = Finding("subgroups", "p", "privacy", "NOT_EVALUATED", group="90+")
    large = dataclasses.replace(small, status="PASS", group="80-89")
    made = draft()
    told = {}
    for name, added in {"none": (small,), "part": (small, large)}.items():
        verdict = dataclasses.replace(made.verdict, findings=(*made.verdict.findings, *added))
        text = Page(report.public_html(dataclasses.replace(made, verdict=verdict))).text
        told[name] = (
            text.partition("unlike all others?")[2].split()[0],
            "In part, for groups too small" in text,
        )
    assert told == {"none": ("not", False), "part": ("passed", True)}


def test_each_question_is_named_once_under_not_evaluated() -> None:
    """What cannot always be asked is named by its check; where that said nothing, by the suite."""
    made = draft()
    asked = Finding("white_box", "attacks on the model itself", "privacy", "NOT_EVALUATED")
    verdict = dataclasses.replace(made.verdict, findings=(*made.verdict.findings, asked))
    for judged, named in (
        (made, "ttacks on the model itself"),
        (dataclasses.replace(made, verdict=verdict), ""),
    ):
        text = Page(report.public_html(judged)).text.partition("Not evaluated These questions")[2]
        listed = text.partition("Fidelity and utility in figures")[0]
        assert listed.count("the model itself") == 1, listed
        assert ("the model itself (P8)" in listed) == bool(named)
        assert listed.count("as a second image of them would") == 1
        assert "re-identification" not in listed


@pytest.mark.parametrize("status", STATUSES)
def test_the_restricted_report_tells_all(status: str) -> None:
    """Every finding with value, interval, limit and advice, exact counts, and the reasons in full."""
    page = Page(report.restricted_html(draft(status), evidence()))
    text = page.text
    for finding in draft(status).verdict.findings:
        metric = finding.metric[0].upper() + finding.metric[1:]
        assert metric in text
        assert finding.advice in text
        assert finding.limit in text
        assert finding.value is None or f"{finding.value:.4g}" in text
    for told in ("5,123", "4,812", "2,411", "304", "91,234", "site 3", *draft(status).verdict.reasons):
        assert told in text
    assert "of 1,204 were noticed in 58 of 59 trials" in text
    assert PLACE not in text  # not even here: the report may be printed
    assert text.startswith("RESTRICTED")


def test_only_a_passing_set_is_shown() -> None:
    """A public report has two half rows of pictures a class for a PASS; for the others none, in any form."""
    shown = {status: Page(report.public_html(draft(status))).pictures for status in STATUSES}
    pictures = {status: [uri for uri in uris if "png" in uri[:20]] for status, uris in shown.items()}
    assert [len(pictures[status]) for status in STATUSES] == [2 * len(LABELS), 0, 0]
    mixed = dataclasses.replace(draft("PASS"), public_verdict={"status": "FAIL"})
    assert not [uri for uri in Page(report.public_html(mixed)).pictures if "png" in uri[:20]]


def test_the_public_report_does_not_know_the_real_images() -> None:
    """It is made without the evidence, so it is the same whatever the real images are."""
    page = report.public_html(draft("PASS"))
    assert page == report.public_html(draft("PASS"))
    assert page != report.public_html(draft("PASS", images(90, 2)))


def test_the_record_of_earlier_sets_is_named() -> None:
    """A FAIL that no axis carries gives the reason that was put first, since nothing else explains it."""
    failed = draft("PASS").verdict
    why = "a set made from these patients ended FAIL on 2029-01-01."
    verdict = dataclasses.replace(failed, status="FAIL", reasons=(why, "copies: p = 0.0004"))
    page = Page(report.public_html(draft("FAIL", verdict=verdict)))
    assert "What failed: the record of earlier sets." in page.text
    assert why in page.text
    assert "0.0004" not in page.text


def test_a_required_check_that_is_missing_is_told() -> None:
    """A required check without a finding is shown as not evaluated, and is the reason of an INCONCLUSIVE."""
    judged = draft("INCONCLUSIVE")
    left = tuple(
        finding for finding in judged.verdict.findings if finding.check not in ("identity", "strength")
    )
    judged = dataclasses.replace(judged, verdict=dataclasses.replace(judged.verdict, findings=left))
    text = report.markdown(judged)
    assert "- Privacy: Is a synthetic image, pixel for pixel, a real one? (not evaluated)" in text
    assert "| Is a synthetic image, pixel for pixel, a real one? | not evaluated |" in text


def test_labels_cannot_break_a_page() -> None:
    """Labels with markup, pipes and line breaks are shown as text, in HTML and in Markdown tables."""
    odd = ("<script>alert(1)</script>", "a|b\nc", "`x` *y*")
    judged = draft("PASS", images(9, 1, labels=odd))
    html = report.public_html(judged)
    assert Page(html).wrong == []
    assert "<script" not in html
    coverage = next(f for f in judged.verdict.findings if f.metric == "coverage")
    findings = (dataclasses.replace(coverage, group="a|b\nc"),)
    judged = dataclasses.replace(judged, verdict=dataclasses.replace(judged.verdict, findings=findings))
    for text in (report.markdown(judged), card(judged, 1, [])):
        rows = [re.sub(r"\\.", "", line) for line in text.splitlines() if line.startswith("| ")]
        assert {row.count("|") - 1 for row in rows if "coverage" in row} == {6}
        assert "<script" not in text


def test_markdown_is_as_coarse_as_the_page() -> None:
    """The Markdown form begins with the verdict and holds no figure of a privacy finding."""
    text = report.markdown(draft("FAIL"))
    assert text.startswith("# chest-demo: FAIL\n\n**Blocked. This set did not pass.** What failed: privacy.")
    assert "| Privacy | failed |" in text
    assert not [told for told in ("0.00031", "0.518", "1,204", PLACE, "7 training") if told in text]


def test_small_letters_can_be_read() -> None:
    """Text on its ground has the contrast of WCAG AA, 4.5 to 1, for every pair of colours that is used."""
    style = (Path(report.__file__).parent / "templates" / "style.css").read_text()
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", style))
    tones = ("pass", "fail", "inconclusive", "other")
    pairs = [("ink", "paper"), ("ink", "wash"), ("muted", "paper"), ("muted", "wash"), ("accent", "paper")]
    pairs += [(tone, f"{tone}-wash") for tone in tones] + [("ink", f"{tone}-wash") for tone in tones]
    pairs += [("paper", "fail")]
    for text, ground in pairs:
        light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_neighbours_are_the_most_correlated_images() -> None:
    """Distance is sqrt(2 - 2 r), r numpy's correlation of the pixels; a copy in other contrast is at 0."""
    real, synthetic = images(7, 5).images, images(11, 6).images
    synthetic[3] = np.round(0.5 * real[2].astype(float) + 20)  # darker, flatter: still a copy
    found = neighbours(real, synthetic)
    both = np.concatenate([real, synthetic]).reshape(18, -1)
    correlation = np.corrcoef(both.astype(float))[:7, 7:]
    assert np.array_equal(found.nearest, correlation.argmax(1))
    assert np.allclose(found.distance, np.sqrt(2 - 2 * correlation.max(1)), atol=2e-3)
    assert found.nearest[2] == 3
    assert found.distance[2] < 0.05


def test_a_flat_image_is_like_nothing() -> None:
    """An image of one grey has no correlation: its distance is sqrt 2, and nothing is divided by zero."""
    flat = np.full((1, 1, 4, 4), 7, np.uint8)
    assert np.allclose(neighbours(flat, images(3, 1, side=4).images).distance, np.sqrt(2))


def test_the_closest_pair_is_shown_first() -> None:
    """A planted copy of a training image leads the pairs of training images, at distance 0."""
    parts = evidence(images(90, 1))
    parts.synthetic.images[4] = parts.train.images[9]
    page = Page(report.restricted_html(draft("FAIL"), parts))
    assert "Closest training images 0.000" in page.text
    assert "Closest unseen images 0.000" not in page.text


def test_a_strip_shows_pixels_as_they_are() -> None:
    """Images stand side by side with a gap of white, each pixel a whole block; a short row is padded."""
    two = np.array([[[[0, 255]]], [[[9, 9]]]], np.uint8)  # two images of 1 x 2 px
    assert strip(two, columns=3, height_px=1, gap_px=1).tolist() == [[0, 255, 255, 9, 9, 255, 255, 255]]
    assert strip(two, columns=1, height_px=2).tolist() == [[0, 0, 255, 255]] * 2


def test_large_images_shrink_by_their_mean() -> None:
    """An image above the limit is averaged in whole blocks: 4 rows of at most 2 become 2 rows of means."""
    four = np.array([[[[0, 2], [4, 6], [10, 10], [10, 20]]]], np.uint8)  # means of the blocks: 3 and 12.5
    assert strip(four, columns=1, height_px=1, most_px=2).tolist() == [[3], [12]]


def test_a_page_of_many_large_classes_stays_small() -> None:
    """With 14 classes of noise at 256 px in colour, the worst to compress, the page is under 5 MiB."""
    labels = tuple(f"class {n:02d}" for n in range(14))
    pixels = np.random.default_rng(0).integers(0, 256, (140, 3, 256, 256), dtype=np.uint8)
    many = dataclasses.replace(images(140, 1, labels=labels, side=2), images=pixels)
    html = report.public_html(draft("PASS", many))
    assert len(html.encode()) < 5 << 20
    assert "2 further classes are not shown" in html


def test_curves_survive_gaps() -> None:
    """Missing and infinite losses are left out; rows without any give no picture; equal rows, equal bytes."""
    rows = [
        {"images": n, "critic_loss": loss} for n, loss in ((1, 2.0), (2, None), (3, float("inf")), (4, 1.0))
    ]
    assert loss_curves(rows).startswith("data:image/svg+xml;base64,")
    assert loss_curves(rows) == loss_curves(rows)
    assert loss_curves([{"images": 1, "gap": 2.0}]) == ""
    assert loss_curves([]) == ""
    assert "No losses were recorded." in report.public_html(draft("PASS", curve=()))


def test_each_figure_is_explained() -> None:
    """Each metric gets the paragraph written for it; where there is none, the question of its check."""
    assert how_to_read("strength", "attack precision at FPR 1%").startswith("Of those whom an attacker")
    trained = how_to_read("utility", "AUROC on the holdout, trained on synthetic")
    assert trained.startswith("A classifier")
    assert how_to_read("utility", "TSTR AUC") == trained
    assert how_to_read("copies", "copy scan, least p over representations").startswith(
        "How often pure chance"
    )
    assert how_to_read("attacks", "attack family, AUC columns: least p").startswith("How often pure chance")
    assert how_to_read("strength", "worst attack AUC").startswith("How well an attacker")
    assert how_to_read("no_such_check", "something new") == "No such check"
    assert len({text for _, text in METRICS}) == len(METRICS)


def test_every_check_and_control_has_a_question() -> None:
    """What the public report shows of a check, or of a control, is a question in words."""
    for name in (*catalogue.names("phantomset.validators.checks"), *CONTROLS):
        assert question(name).endswith("?"), name


def test_a_report_copes_with_little() -> None:
    """One class, one image, RGB, no patients, nothing quarantined, no notes: still a page."""
    one = ImageSet(np.zeros((1, 3, 4, 6), np.uint8), np.zeros(1, np.int64), np.array([-1]), ("only",))
    bare = dataclasses.replace(draft().counts, patients=None, quarantine={}, dropped={}, parts={}, classes={})
    judged = draft("PASS", one, counts=bare, curve=(), notes=(), versions={}, created="", recipe={})
    page = Page(report.public_html(judged))
    assert page.wrong == []
    assert "6 x 4 px, RGB" in page.text
    assert "No file was set aside." in page.text


def test_the_card_has_the_front_matter_of_the_hub() -> None:
    """README.md opens with YAML that names licence, size, classes by index, the split and its images."""
    publishers = [catalogue.load("phantomset.pipelines.publishers", "folder")]
    front = yaml.safe_load(
        card(draft(), 3, publishers, [Portion("train", "images/**", 90, 12_345)]).split("---\n")[1]
    )
    assert front["license"] == "cc-by-4.0"
    assert front["size_categories"] == ["n<1K"]
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": "images/**"}]
    names = front["dataset_info"]["features"][1]["dtype"]["class_label"]["names"]
    assert names == dict(zip("012", LABELS, strict=True))
    assert front["dataset_info"]["splits"] == [{"name": "train", "num_bytes": 12_345, "num_examples": 90}]


def test_a_licence_that_the_hub_does_not_know_is_named() -> None:
    """Such a licence is "other" with its own name; the card never claims a licence that was not given."""
    for licence, expected in (
        ("Hospital terms 7", {"license": "other", "license_name": "Hospital terms 7"}),
        ("", {}),
    ):
        text = card(draft(recipe={"publish": {"licence": licence}}), 1, [])
        front = yaml.safe_load(text.split("---\n")[1])
        assert {key: front[key] for key in front if key.startswith("license")} == expected
        assert "configs" not in front  # without the folder form there are no images to point at


PRIVATE = {"differential_privacy": {"epsilon": 7.95, "delta": 1e-5, "unit": "patient"}}


def test_a_promise_stands_beside_the_verdict() -> None:
    """Epsilon and delta in one sentence on page, card and markdown, before anything that was measured."""
    one = draft()
    private = dataclasses.replace(one, public_verdict=one.public_verdict | PRIVATE)
    for text in (
        report.public_html(private),
        report.restricted_html(private, evidence()),
        card(private, 1, []),
        report.markdown(private),
    ):
        plain = " ".join(text.split())
        told = plain.index("epsilon 7.95 and delta 1e-05: whether any one patient was in the training or not")
        assert re.search("Would have caught one copy|112 of 112 planted copies", plain).start() > told


def test_no_promise_is_told_as_none() -> None:
    """Without noise the row says so; of a set that was made elsewhere nothing is said."""
    one = draft()
    without = report.public_html(
        dataclasses.replace(one, public_verdict=one.public_verdict | {"differential_privacy": None})
    )
    assert "Differential privacy</dt><dd>none" in without
    assert "ifferential privacy" not in report.public_html(one)
