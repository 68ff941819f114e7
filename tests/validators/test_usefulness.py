"""What a set is good for: gains with intervals, the certificate's rule, the detector, kinds, looks."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from sklearn.metrics import roc_auc_score

from phantomset.data.records import ImageSet
from phantomset.validators import classifier, gate
from phantomset.validators.checks import appearance as appearance_check
from phantomset.validators.checks import certificate, detector, labels, modes
from phantomset.validators.checks.certificate import Compared, decide
from phantomset.validators.context import Context
from phantomset.validators.crew import side_by_side
from phantomset.validators.finding import Evidence, Finding, Rules
from phantomset.validators.measures import appearance
from phantomset.validators.measures.gain import Draws, Gain, draw, gain
from phantomset.validators.measures.modes import cells, dropped
from phantomset.validators.measures.prdc import covered, prdc

from .conftest import make_evidence, smooth_images, with_synthetic

FULL = Rules(utility="full")


def guesses(truth: np.ndarray, strength: float, seeds: int = 3, seed: int = 0) -> np.ndarray:
    """Return ``(seeds, N, 2)`` probabilities that know the truth the better, the greater the strength."""
    rng = np.random.default_rng(seed)
    score = strength * (truth - 0.5) + rng.standard_normal((seeds, len(truth)))
    one = 1 / (1 + np.exp(-score))
    return np.stack([1 - one, one], axis=-1)


def test_a_gain_is_the_difference_of_two_areas() -> None:
    """Value and baseline are scikit-learn's AUROC, averaged over seeds; a gain lies above 0 for sure."""
    truth = np.arange(400) % 2
    weak, strong = guesses(truth, 0.5), guesses(truth, 3.0, seed=1)
    draws = draw(np.arange(400), 3, 300, np.random.default_rng(0))
    found = gain(truth, strong, weak, draws, (0, 1))
    assert found is not None
    for value, runs in ((found.value, strong), (found.baseline, weak)):
        assert value == pytest.approx(np.mean([roc_auc_score(truth, run[:, 1]) for run in runs]))
    assert 0 < found.low < found.value - found.baseline < found.high


def test_no_gain_has_the_interval_zero() -> None:
    """The same runs against themselves differ by exactly 0 in every sample."""
    truth = np.arange(60) % 2
    runs = guesses(truth, 1.0)
    found = gain(truth, runs, runs, draw(np.arange(60), 3, 50, np.random.default_rng(0)), (0, 1))
    assert found == Gain(found.value, found.value, 0.0, 0.0)  # type: ignore[union-attr]


def test_patients_are_drawn_whole() -> None:
    """All images of a patient have one weight, and the weights of a sample count as many patients."""
    patients = np.repeat([7, 3, 9, 4], [1, 2, 3, 4])
    weights = draw(patients, 2, 20, np.random.default_rng(0)).weights
    first = np.unique(patients, return_index=True)[1]
    assert (weights[:, first].sum(1) == 4).all()
    assert all(
        (weights[:, patients == each] == weights[:, [np.argmax(patients == each)]]).all() for each in patients
    )


def test_one_class_alone_tells_nothing() -> None:
    """Where all images are of one class no area can be formed: no gain, and no error."""
    truth = np.zeros(10, int)
    runs = guesses(truth, 1.0)
    assert gain(truth, runs, runs, Draws(np.ones((5, 10), np.float32), np.zeros((5, 3), int)), (0, 1)) is None


@pytest.mark.parametrize(
    ("alone", "added", "in_class", "words"),
    [
        ((-0.02, 0.01), (-0.01, 0.02), (-0.02, 0.01), "can replace"),
        ((-0.02, 0.01), (0.01, 0.02), (-0.09, -0.04), "use as augmentation"),  # a class is lost
        ((-0.20, -0.10), (0.005, 0.03), (-0.2, 0.0), "use as augmentation"),
        ((-0.20, -0.10), (-0.02, 0.005), (-0.2, 0.0), "does not help"),
        ((-0.20, -0.10), (-0.02, 0.050), (-0.2, 0.0), "cannot be told"),  # a gain is not ruled out
        ((-0.20, 0.05), (-0.02, 0.005), (-0.2, 0.0), "cannot be told"),  # neither is the loss certain
    ],
)
def test_the_words_follow_the_rule(
    alone: tuple[float, float], added: tuple[float, float], in_class: tuple[float, float], words: str
) -> None:
    """Each line of the rule, by a worked case; margin 0.03, gain 0.01."""
    whole = Compared("all", 100, False, Gain(0.9, 0.92, *alone), Gain(0.93, 0.92, *added))
    part = Compared("rare", 20, False, Gain(0.9, 0.92, *in_class), Gain(0.93, 0.92, 0.0, 0.0))
    assert decide([whole, part]) == words


def taught(case: Evidence, **strengths: float) -> Context:
    """Return a context whose classifiers have "learned" to the given strengths."""
    context = Context(case, FULL, 0)
    truth = case.holdout.labels
    for side, strength in strengths.items():
        context._taught[side] = guesses(truth, strength, seed=len(side))  # type: ignore[index]
    return context


@pytest.fixture(scope="module")
def with_sex(evidence: Evidence) -> Evidence:
    """The clean case with an attribute: two sexes, and a site with too few patients to be told apart."""
    parts = []
    for part in (evidence.train, evidence.holdout, evidence.reference):
        sex = np.where(part.patients % 2 == 0, "F", "M")
        site = np.where(part.patients % 20 == 0, "north", "south")
        columns = {"PatientSex": sex, "Site": site}
        parts.append(ImageSet(part.images, part.labels, part.patients, part.label_names, columns))
    return Evidence(*parts, evidence.synthetic)


def test_the_certificate_tells_classes_and_subgroups(with_sex: Evidence) -> None:
    """Words with their rule first; then all, each class, and each subgroup of at least 100 patients."""
    found = list(certificate.CHECK.run(taught(with_sex, synthetic=3.0, train=3.0, both=3.0)))
    assert found[0].details["words"] in certificate.SENTENCES
    assert found[0].details["rule"] == certificate.RULE
    groups = {finding.group: finding.restricted for finding in found[1:]}
    assert groups == {
        **{"all": False, "plain": False, "bright": False},
        **{"PatientSex: F": True, "PatientSex: M": True, "Site: south": True},
    }
    for finding in found[1:]:
        assert finding.low is not None
        assert finding.high is not None
        assert finding.low - 0.02 <= finding.value <= finding.high + 0.02
    assert {finding.status for finding in found} == {"REPORTED"}


def test_what_teaches_as_well_can_replace(evidence: Evidence) -> None:
    """Classifiers that are sure of every patient leave no doubt; ones that know nothing do not help."""
    for strength, words in ((60.0, "can replace"), (0.0, "does not help")):
        context = taught(evidence, synthetic=strength, train=60.0, both=60.0)
        assert next(iter(certificate.CHECK.run(context))).details["words"] == words


def test_unasked_is_not_evaluated(clean: Context) -> None:
    """By default neither certificate nor detector trains anything, and both say how to ask for them."""
    for check in (certificate.CHECK, detector.CHECK):
        (finding,) = check.run(clean)
        assert finding.status == "NOT_EVALUATED"
        assert "gate.utility: full" in finding.advice
    assert set(clean._taught) <= {"synthetic", "train"}


def test_no_verdict_depends_on_what_the_set_is_good_for(clean: Context) -> None:
    """The gate decides the same with and without these findings; subgroups' figures stay in the house."""
    useless = Finding(
        "certificate", "utility certificate", "utility", "REPORTED", details={"words": "does not help"}
    )
    kept = Finding("certificate", "AUROC", "utility", "REPORTED", 0.71, "PatientSex: F", restricted=True)
    asked = Finding("detector", "AUC", "fidelity", "NOT_EVALUATED")
    found = [Finding(name, "x", axis, "PASS", 0.0) for axis, names in gate.REQUIRED.items() for name in names]
    with_them = gate.decide([*found, useless, kept, asked], Rules())
    assert (with_them.status, with_them.axes) == ("PASS", gate.decide(found, Rules()).axes)
    told = dict(useless.details, sentence="It does not.", rule="R")
    told_set = [*found, Finding("certificate", "c", "utility", "REPORTED", details=told), kept]
    public = gate.public(gate.decide(told_set, Rules()), clean.evidence)
    assert public["certificate"] == {"words": "does not help", "sentence": "It does not.", "rule": "R"}
    assert "PatientSex" not in str(public)
    assert gate.public(gate.decide(found, Rules()), clean.evidence)["certificate"] == {}


def test_the_detector_knows_noise_from_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh patients are told from others by chance; the same with stripes are told apart. n is patients."""
    monkeypatch.setattr(classifier, "STEPS", 100)
    monkeypatch.setattr(detector, "SEEDS", 2)
    case = make_evidence(200, 150, 120, 200)
    striped = case.synthetic.images.copy()
    striped[:, :, ::2] = np.clip(striped[:, :, ::2].astype(int) + 60, 0, 255)
    marked = ImageSet(striped, case.synthetic.labels, case.synthetic.patients, case.synthetic.label_names)
    (fresh,) = detector.CHECK.run(Context(case, FULL, 0))
    (told,) = detector.CHECK.run(Context(with_synthetic(case, marked), FULL, 0))
    assert (fresh.n, told.n) == (150, 150)
    assert 0.3 < fresh.value < 0.7
    assert fresh.low <= fresh.value <= fresh.high
    assert 0.3 < fresh.baseline < 0.7
    assert told.value > 0.95


def test_too_few_images_ask_no_detector() -> None:
    """60 synthetic images leave 30 a side: not evaluated, with the numbers that are needed."""
    (finding,) = detector.CHECK.run(Context(make_evidence(120, 120, 120, 60), FULL, 0))
    assert finding.status == "NOT_EVALUATED"
    assert "100 synthetic images" in finding.advice


def test_a_dropped_kind_is_measured() -> None:
    """Three far-apart kinds, the set without the third: its share of the real images is left out."""
    rng = np.random.default_rng(0)
    kinds = np.repeat([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]], 100, axis=0)
    reference, real, same = (kinds + rng.standard_normal(kinds.shape) for _ in range(3))
    made = np.concatenate([same[:200], same[:100]])
    centres = cells(reference, np.random.default_rng(1))
    assert len(centres) == 12
    found = dropped(centres, real, made, 199, rng)
    assert found.share == pytest.approx(1 / 3)
    assert found.p == pytest.approx(1 / 200)
    like = dropped(centres, real, same, 199, rng)
    assert like.share < 0.02
    assert like.p > 0.01


def test_the_statistic_is_chi_squared() -> None:
    """With permutations that never reach it, p is 1 / (B + 1); the statistic agrees with scipy's."""
    from phantomset.validators.measures.modes import _chi_squared

    own, made = np.array([10, 20, 30, 40]), np.array([25, 25, 25, 25])
    expected = stats.chi2_contingency(np.stack([own, made]), correction=False).statistic
    assert _chi_squared(own, own + made) == pytest.approx(expected)


def test_fresh_patients_leave_out_what_chance_does(clean: Context) -> None:
    """A set of fresh patients leaves out little; one image of each class, again and again, most."""
    fresh = {f.group: f for f in modes.CHECK.run(clean) if f.unit == "share"}
    assert set(fresh) == {"plain", "bright"}
    assert all(f.value < 0.15 for f in fresh.values())
    first = np.unique(clean.evidence.synthetic.labels, return_index=True)[1]
    few = clean.evidence.synthetic.take(np.repeat(first, 100))
    context = Context(with_synthetic(clean.evidence, few), Rules(), 0)
    context.__dict__["_fitted"] = clean._fitted
    assert min(f.value for f in modes.CHECK.run(context) if f.unit == "share") > 0.5


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    """By its formula on a small image: the four neighbours minus four times the pixel, edges repeated."""
    image = np.array([[[[10, 20], [30, 60]]]], np.uint8)
    laplacian = np.array([20 + 30 - 2 * 10, 10 + 60 - 2 * 20, 10 + 60 - 2 * 30, 30 + 20 - 2 * 60])
    assert appearance.sharpness(image)[0] == pytest.approx(np.log10(1 + laplacian.var()), rel=1e-6)
    assert appearance.sharpness(np.full((2, 3, 8, 8), 77, np.uint8)).tolist() == [0, 0]


def test_grey_levels_lie_apart_as_scipy_says() -> None:
    """The distance of two shares of levels is scipy's Wasserstein distance of the pixels."""
    rng = np.random.default_rng(0)
    one, other = (rng.integers(low, 200, (5, 1, 6, 6), dtype=np.uint8) for low in (0, 90))
    found = appearance.levels_apart(appearance.intensities(one), appearance.intensities(other))
    assert found == pytest.approx(stats.wasserstein_distance(one.ravel(), other.ravel()))


def test_blurred_images_are_less_sharp_and_as_bright(evidence: Evidence) -> None:
    """Blur moves sharpness far beyond the distance of real images, and hardly the grey levels."""
    blurred = ndimage.gaussian_filter(evidence.synthetic.images.astype(float), (0, 0, 1.5, 1.5)).astype(
        np.uint8
    )
    part = evidence.synthetic
    context = Context(
        with_synthetic(evidence, ImageSet(blurred, part.labels, part.patients, part.label_names)), Rules(), 0
    )
    found: dict[str, Any] = {
        f.metric.split(",")[0]: f for f in appearance_check.CHECK.run(context) if f.group == "all"
    }
    assert found["sharpness"].value > 10 * found["sharpness"].baseline
    assert found["grey levels"].value < 10
    assert sum(found["sharpness"].details["synthetic"]) == pytest.approx(1)
    assert len(found["grey levels"].details["edges"]) == 33


def test_each_class_shows_its_label(clean: Context) -> None:
    """Per class the share that R's classifier names rightly; together they are the balanced accuracy."""
    whole, *classes = labels.CHECK.run(clean)
    assert [finding.group for finding in classes] == ["plain", "bright"]
    assert np.mean([finding.value for finding in classes]) == pytest.approx(whole.value)
    assert {finding.status for finding in classes} == {"REPORTED"}


def test_covered_images_are_those_that_coverage_counts() -> None:
    """One far real image is not covered; the share of the others is prdc's coverage."""
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((60, 3)), rng.standard_normal((80, 3))
    real[7] += 100
    found = covered(real, fake, 5)
    assert not found[7]
    assert found.mean() == pytest.approx(prdc(real, fake, 5).coverage)


def test_lessons_side_by_side_are_those_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread has one core, torch's global generator is left alone, and the bits are the same."""
    monkeypatch.setattr(classifier, "STEPS", 3)
    images = smooth_images(40, 0, seed=2).images
    labels = np.arange(len(images)) % 2
    before, state = torch.get_num_threads(), torch.get_rng_state()

    def lesson(seed: int) -> tuple[int, np.ndarray]:
        learned = classifier.train_classifier(images, labels, 2, seed)
        return torch.get_num_threads(), learned.probabilities(images[:5])

    torch.set_num_threads(3)
    try:
        together = list(side_by_side(lesson, range(6)))
        assert torch.get_num_threads() == 3
        torch.set_num_threads(1)
        alone = [lesson(seed) for seed in range(6)]
    finally:
        torch.set_num_threads(before)
    assert [threads for threads, _ in together] == [1] * 6
    np.testing.assert_array_equal([p for _, p in together], [p for _, p in alone])
    assert torch.equal(torch.get_rng_state(), state)
