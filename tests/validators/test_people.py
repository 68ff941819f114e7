"""Re-identification, inference of attributes, and texts: what a set gives away beside its pixels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from phantomset.data.phantoms.cohort import phantoms
from phantomset.data.records import ImageSet
from phantomset.validators.checks import attributes, reidentification, texts, white_box
from phantomset.validators.context import Context
from phantomset.validators.finding import Evidence, Finding, Rules
from phantomset.validators.verification import Verifier

from .conftest import make_evidence

NAMES = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def visits() -> Evidence:
    """Phantoms, some with several visits: 130 patients in T and H, 270 in R, 90 fresh ones as S."""
    images, labels, patients = phantoms(620, seed=1)
    pool = ImageSet(images, labels, patients, NAMES)
    order = np.random.default_rng(0).permutation(np.unique(patients))
    parts = [pool.take(np.isin(patients, some)) for some in np.split(order, [130, 260, 530])]
    return Evidence(*parts[:3], replace(parts[3], patients=np.full(len(parts[3]), -1)))


def only(check, evidence: Evidence) -> Finding:
    (finding,) = check.CHECK.run(Context(evidence, Rules(), 0))
    return finding


def with_second_images(case: Evidence, count: int) -> Evidence:
    """Move one image of each of ``count`` training patients who have several from T into S."""
    patients, images = np.unique(case.train.patients, return_counts=True)
    chosen = patients[images > 1][:count]
    moved = np.array([np.flatnonzero(case.train.patients == patient)[0] for patient in chosen])
    synthetic = case.synthetic.images.copy()
    synthetic[:count] = case.train.images[moved]
    kept = case.train.take(np.setdiff1d(np.arange(len(case.train)), moved))
    return replace(case, train=kept, synthetic=replace(case.synthetic, images=synthetic))


def test_likeness_is_the_ratio_of_two_gaussians() -> None:
    """One patient's two images against two patients': scipy's densities, but for a constant."""
    between = np.array([3.0, 0.5, 0.0])
    model = Verifier(torch.zeros(3), torch.eye(3), torch.from_numpy(between))
    left, right = np.random.default_rng(0).standard_normal((2, 4, 3))
    joint = np.block([[np.diag(between + 1), np.diag(between)], [np.diag(between), np.diag(between + 1)]])
    own = stats.multivariate_normal(np.zeros(3), np.diag(between + 1))
    same = stats.multivariate_normal(np.zeros(6), joint)
    expected = [[same.logpdf(np.r_[a, b]) - own.logpdf(a) - own.logpdf(b) for b in right] for a in left]
    found = model.likeness(torch.from_numpy(left), torch.from_numpy(right)).numpy()
    assert np.ptp(np.array(expected) - found) == pytest.approx(0, abs=1e-9)


def test_fresh_patients_are_not_met_again(visits: Evidence) -> None:
    """The model qualifies on phantoms, and fresh patients as S raise no alarm."""
    finding = only(reidentification, visits)
    assert finding.status == "PASS"
    assert finding.details["verification_auc"] >= 0.95


def test_another_image_of_the_same_patient_is_found(visits: Evidence) -> None:
    """S shows other visits of 40 of 130 training patients, none of them an image of T: FAIL."""
    assert only(reidentification, with_second_images(visits, 40)).status == "FAIL"


def test_a_model_that_cannot_tell_patients_apart_is_not_asked(visits: Evidence) -> None:
    """Patients shuffled over R's images: AUC near .5, NOT_EVALUATED, the AUC is told."""
    shuffled = np.random.default_rng(1).permutation(visits.reference.patients)
    finding = only(reidentification, replace(visits, reference=replace(visits.reference, patients=shuffled)))
    assert finding.status == "NOT_EVALUATED"
    assert 0.35 < finding.value < 0.65
    assert f"{finding.value:.2f}" in finding.advice


def test_without_repeat_visits_nothing_is_learned(visits: Evidence) -> None:
    """One image a patient in R: NOT_EVALUATED, with the reason."""
    lonely = replace(visits.reference, patients=np.arange(len(visits.reference)) + 10**6)
    finding = only(reidentification, replace(visits, reference=lonely))
    assert (finding.status, finding.value) == ("NOT_EVALUATED", None)


def test_the_label_of_others_is_guessed_as_well(visits: Evidence) -> None:
    """Fresh patients as S: training patients' labels are not guessed better than those of others."""
    finding = only(attributes, visits)
    assert (finding.group, finding.status) == ("label", "PASS")
    assert finding.low < finding.value


def test_an_attribute_that_travels_with_its_images_is_inferred(visits: Evidence) -> None:
    """S is T with its random attribute: always right for T, by chance for H: FAIL, and by name."""
    rng = np.random.default_rng(2)

    def with_code(part: ImageSet) -> ImageSet:
        return replace(part, attributes={"Code": rng.choice(["x", "y"], len(part))})

    train, holdout = with_code(visits.train), with_code(visits.holdout)
    leaky = replace(
        visits, train=train, holdout=holdout, synthetic=replace(train, patients=train.patients * 0 - 1)
    )
    found = {f.group: f for f in attributes.CHECK.run(Context(leaky, Rules(), 0))}
    assert set(found) == {"label", "Code"}
    assert found["Code"].status == "FAIL"
    assert found["Code"].value == pytest.approx(0.5, abs=0.1)


def test_an_attribute_that_the_holdout_lacks_is_not_evaluated(visits: Evidence) -> None:
    """A column without a value for H, or a label for T, has no control: NOT_EVALUATED, not blocking."""

    def with_sex(part: ImageSet, value: str) -> ImageSet:
        return replace(part, attributes={"Sex": np.full(len(part), value)})

    case = replace(
        visits,
        train=replace(with_sex(visits.train, "F"), labels=np.full(len(visits.train), -1)),
        holdout=with_sex(visits.holdout, ""),
        synthetic=with_sex(visits.synthetic, "F"),
    )
    found = {f.group: f for f in attributes.CHECK.run(Context(case, Rules(), 0))}
    assert {name: f.status for name, f in found.items()} == {
        "label": "NOT_EVALUATED",
        "Sex": "NOT_EVALUATED",
    }
    assert "n_T = 130, n_H = 0 patients with a value" in found["Sex"].advice


def with_texts(part: ImageSet, cells: list[str]) -> ImageSet:
    return replace(part, attributes={"Report": np.resize(np.array(cells), len(part))})


OWN = [f"patient {n} has a shadow of {n} mm beside the heart border since spring" for n in range(60)]
COMMON = ["no acute finding in the chest", "stable"]


@pytest.mark.parametrize(
    ("cells", "status"),
    [
        (COMMON, "PASS"),
        (["Stable, compared with last year"], "PASS"),
        ([OWN[3]], "FAIL"),
        ([OWN[3].upper().replace(" ", "  ")], "FAIL"),
        (["seen today: a shadow of 7 mm beside the heart border, nothing else"], "FAIL"),
        (["kept by nobody but the holdout: code 20261126"], "INCONCLUSIVE"),
    ],
    ids=["shared", "new", "copied", "another spelling", "quoted", "of the holdout"],
)
def test_a_text_of_ones_own_may_not_be_repeated(cells: list[str], status: str) -> None:
    """Whole cells, whatever their spelling, and six words in a row; what many share is nobody's."""
    case = make_evidence(60, 50, 40, 50)
    holdout = ["kept by nobody but the holdout: code 20261126", *COMMON * 30]
    case = replace(
        case,
        train=with_texts(case.train, [*OWN, *COMMON * 30]),
        holdout=with_texts(case.holdout, holdout),
        reference=with_texts(case.reference, COMMON),
        synthetic=with_texts(case.synthetic, cells),
    )
    assert only(texts, case).status == status


@pytest.mark.parametrize(
    ("cell", "status"),
    [("Marie  Curie", "FAIL"), ("left effusion", "PASS"), ("stridor", "PASS"), ("pleural effusion", "PASS")],
    ids=["a name", "a rare code", "one word", "a shared code"],
)
def test_a_name_among_codes_is_found(cell: str, status: str) -> None:
    """Two words or more that one patient alone has, none of them part of a code: a name, not a finding."""
    case = make_evidence(60, 50, 40, 50)
    codes = ["pleural effusion", "normal", "oedema"]
    case = replace(
        case,
        train=with_texts(case.train, ["marie curie", "left effusion", "stridor", *codes * 25]),
        holdout=with_texts(case.holdout, codes),
        reference=with_texts(case.reference, codes),
        synthetic=with_texts(case.synthetic, [cell, *codes]),
    )
    assert only(texts, case).status == status


def test_rare_classes_and_numbers_are_no_texts() -> None:
    """A class of three patients and an age that one patient has are codes, not words of somebody's own."""
    case = make_evidence(60, 50, 40, 50)
    labels = np.zeros_like(case.train.labels)
    labels[:3] = 1
    ages = replace(
        case.train, labels=labels, attributes={"Age": (20 + np.arange(len(labels))).astype(np.str_)}
    )
    made = replace(case.synthetic, attributes={"Age": np.full(len(case.synthetic), "33")})
    assert only(texts, replace(case, train=ages, synthetic=made)).status == "PASS"


def test_the_model_itself_is_not_judged() -> None:
    """No weights leave, so attacks on them are NOT_EVALUATED, and the finding says what follows."""
    finding = only(white_box, make_evidence(60, 50, 40, 50))
    assert finding.status == "NOT_EVALUATED"
    assert "No release carries weights" in finding.advice
