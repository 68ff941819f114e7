"""How to read each thing in a report: one plain paragraph a figure, and one sentence a verdict."""

import re
from typing import Any

from phantomset.data import catalogue
from phantomset.data.errors import RecipeError

CHECKS = "phantomset.validators.checks"

AXES = {
    "privacy": "Privacy",
    "controls": "Controls",
    "fidelity": "Fidelity",
    "utility": "Utility",
}

STATUS = {
    "PASS": "passed",
    "FAIL": "failed",
    "INCONCLUSIVE": "inconclusive",
    "NOT_EVALUATED": "not evaluated",
    "REPORTED": "reported only",
}

HEADLINE = {
    "PASS": "Passed. This set may be released.",
    "FAIL": "Blocked. This set did not pass.",
    "INCONCLUSIVE": "Blocked. The evidence does not suffice.",
}

WAIVED = "Did not pass in fidelity. Released under a waiver."

CONTROLS = {
    "positive_control": "Are planted copies of training images found?",
    "family_control": "Do the attacks notice planted training patients?",
    "dose_control": "Is a set of nothing but jittered training images noticed?",
    "negative_control": "Do the checks stay silent when fresh real patients pose as the synthetic set?",
}
"""Questions of the controls, which are no checks of their own and have no file."""

AXIS_TEXT = {
    "privacy": (
        "Each check compares the synthetic images with the patients the generator was trained on, and, in "
        "the same way, with patients it has never seen. A set that keeps its training patients private is "
        "no closer to the first than to the second."
    ),
    "controls": (
        "A smoke detector is tested with smoke. Before the verdict, copies of training images are planted "
        "among the synthetic ones, and the checks must find them; then fresh real patients pose as the "
        "synthetic set, and the checks must stay silent. If either control goes wrong, no check is believed "
        "and nothing is published."
    ),
    "fidelity": (
        "How much the synthetic images look like real ones that the generator has not seen, as a whole set. "
        "Beside each figure stands the same figure for real images: no synthetic set is expected to do "
        "better than that."
    ),
    "utility": (
        "Whether a model can learn from the set. One classifier is trained on the synthetic images, another "
        "on real ones, and both are tested on the same real images that neither has seen. The closer the "
        "two, the more of what matters for the task has been kept."
    ),
}

METRICS: tuple[tuple[str, str], ...] = (
    (
        r"alike",
        "How often two parts that were drawn at random would differ as much as these two. A small value "
        "means that the split is not random, and then no comparison of the two can be trusted.",
    ),
    (
        r"\bp\b|\bleast p\b",
        "How often pure chance alone would bring a figure as conspicuous as this one, if no patient were "
        "exposed. Small values are alarms; a large value is the absence of an alarm, not a proof.",
    ),
    (
        r"precision at FPR",
        "Of those whom an attacker would name as training patients, the share that he would get right. Blind "
        "guessing scores the share of training patients among all.",
    ),
    (
        r"TPR",
        "The share of training patients whom an attacker would name while wrongly naming only the given "
        "share of others. Blind guessing scores that given share itself. The upper end of the interval "
        "decides.",
    ),
    (
        r"trained on real and synthetic",
        "A classifier that learned from real and synthetic images together beside one that learned from the "
        "same real ones alone, both tested on unseen real images: what adding the set brings.",
    ),
    (
        r"certificate",
        "What the set is good for, in words, by a rule that was fixed before it was measured. It decides "
        "nothing: whether a set may leave is a question of privacy first.",
    ),
    (
        r"detector",
        "How well a network that has seen both kinds tells a new synthetic image from the image of a new "
        "patient: 0.5 is a coin flip. Few generators come near it; a useful set may be told apart.",
    ),
    (
        r"leaves out",
        "Real images are grouped into kinds that look alike. Of the unseen ones, so many are of a kind that "
        "the set does not have at all; real images of the same number leave out so many by chance.",
    ),
    (
        r"sharpness|grey levels",
        "How far the distribution of this property lies from that of unseen real images. It has no scale of "
        "its own, so read it beside the same distance for training images.",
    ),
    (
        r"show their label",
        "The share of a class's images in which a classifier of real images sees the class.",
    ),
    (
        r"[Cc]alibration",
        "How far a classifier's certainty lies from how often it is right: 0 is honest. Beside it stands the "
        "same for one that learned from real images.",
    ),
    (
        r"TSTR|TRTR|trained on synthetic",
        "A classifier that learned from synthetic images alone (TSTR) beside one that learned from real ones "
        "(TRTR), both tested on unseen real images. What counts is how much is lost between the two.",
    ),
    (
        r"AUC",
        "How well an attacker who holds a person's image could tell whether that person was in the training "
        "data: 0.5 is a coin flip, 1 is certainty. The upper end of the interval decides.",
    ),
    (
        r"identical",
        "Copies that agree in every pixel. Even one is too many.",
    ),
    (
        r"C_T|AuthPct|NNDR",
        "A statistic of the literature, for comparison with it. It has been shown to miss copies, so it "
        "decides nothing here.",
    ),
    (
        r"Fréchet|FD",
        "How far apart two sets lie as wholes, in the features of a small network or filter bank, as "
        "Gaussians: 0 is the same. It has no scale of its own, so read it beside the distance of real "
        "images.",
    ),
    (
        r"faintest fault",
        "A test of the features themselves: real images are blurred, made noisy and the like, and must move "
        "farther than two halves of real images lie apart, which is 1. The fault that moves least is shown.",
    ),
    (
        r"KID|[Kk]ernel",
        "How far apart the two sets lie as wholes; around 0 where they cannot be told apart, and by chance "
        "slightly below it.",
    ),
    (
        r"[Cc]overage",
        "The share of unseen real images that have a synthetic image in their neighbourhood. Low values "
        "mean that the generator leaves out a part of what is real.",
    ),
    (
        r"[Dd]ensity",
        "How deep the synthetic images lie inside the crowd of real ones. About 1 is usual; more can mean "
        "that the generator plays safe.",
    ),
    (r"[Pp]recision", "The share of synthetic images that lie among real ones."),
    (r"[Rr]ecall", "The share of unseen real images that lie among synthetic ones."),
    (
        r"Vendi",
        "The effective number of different images, divided by that of real images: 1 is as varied as real "
        "ones, less means that the generator repeats itself.",
    ),
    (r"accuracy", "The share of images that a classifier names rightly, each class counting the same."),
)
"""Patterns in a metric's name, and how to read the figure. The first row that fits is used."""

REPRESENTATIONS = {
    "pix": "pixels as they are",
    "hp": "edges and texture, without slow changes of brightness",
    "scan": "pixels, at the best of 50 shifts and mirrored shifts",
    "scanhp": "edges and texture, at the best of 50 shifts and mirrored shifts",
    "scanpca": "the directions in which images differ most, at the best of 50 shifts and mirrored shifts",
    "affine": "edges and texture, at the best of zooms, turns, blurs and mirrored ones",
    "patch": "edges and texture, in the best of nine windows",
    "pca": "the directions in which images differ most",
    "white": "the directions in which edges differ, each counting the same",
    "learned": "the whole image, forgiving what bending, blur, noise and mixing do to an image",
    "lines": "what sets an image apart from its neighbours, which noise does not move",
    "tex": "texture, wherever it stands",
}
"""What each representation of the copy scan compares, by its name in the names of the pairs."""

ATTACKS = {
    "ens-mean": "patients whom the representations find near on average, by the one that finds them nearest",
    "ens-max": "patients whom a single representation finds far nearer than it finds others",
    "domias": "patients around whom synthetic images crowd more than other patients do, and the nearest one",
    "votes-hp": "patients to whom most synthetic images are nearest, by edges and texture",
    "votes-scanhp": "the same of the closest hundredth, at the best of 50 shifts and mirrored shifts",
    "votes-pca": "the same, by the directions in which images differ most",
    "votes-learned": "the same, forgiving what bending, blur, noise and mixing do to an image",
    "votes-sum": "the same, votes of four representations added up",
    "met-again": "patients of whom the set seems to hold a further image; the figure is a log ratio, more is "
    "surer",
}
"""What each attack on more than one representation ranks by, by its name in the names of the pairs."""

LIMITS = (
    "This is an audit, not a guarantee. It bounds what the listed attacks find with the patients at hand, "
    "and cannot show that no other attack would find more. It does not say that the images are anonymous: "
    "that judgement belongs to the controller of the data."
)

NOT_EVIDENCE = (
    "Synthetic images support research and development. They are not clinical evidence and must not be used "
    "to diagnose or to treat anyone."
)


def promise(privacy: dict[str, Any] | None) -> str:
    """Return in one sentence what differentially private training promised; "" without.

    >>> promise({"epsilon": 7.95, "delta": 1e-05, "unit": "patient"})[:67]
    'Differential privacy, epsilon 7.95 and delta 1e-05: whether any one'
    """
    if not privacy:
        return ""
    epsilon, delta, unit = privacy["epsilon"], privacy["delta"], privacy["unit"]
    return (
        f"Differential privacy, epsilon {epsilon:g} and delta {delta:g}: whether any one {unit} was in the "
        f"training or not changes the odds of any set that could have come out by a factor of at most "
        f"e^{epsilon:g}, but for a chance of {delta:g}; this holds for the images and not for the figures of "
        f"this report, and the epsilons of several sets from the same {unit}s add up."
    )


def how_to_read(check: str, metric: str) -> str:
    """Return the plain paragraph for a figure; the question of its check where no pattern fits."""
    return next((text for pattern, text in METRICS if re.search(pattern, metric)), question(check))


def question(check: str) -> str:
    """Return the question that a check asks, as its file states it; its name in words if there is no file."""
    if check in CONTROLS:
        return CONTROLS[check]
    try:
        return catalogue.load(CHECKS, check).question
    except RecipeError:
        return capital(check.replace("_", " "))


def capital(text: str) -> str:
    """Return a text with a capital first letter, the rest as it is.

    >>> capital("attack AUC")
    'Attack AUC'
    """
    return text[:1].upper() + text[1:]
