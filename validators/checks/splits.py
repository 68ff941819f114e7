"""Are train, holdout and reference a random split by patient?"""

from collections.abc import Hashable, Iterator, Sequence, Set
from itertools import combinations

import numpy as np
import torch
from scipy import stats

from phantomset.validators.context import DENSITY_SPACE, Context
from phantomset.validators.extractors import texture
from phantomset.validators.finding import Check, Finding, Status
from phantomset.validators.measures.kernel import kid_permutation_p
from phantomset.validators.policy import ALPHA_EXCHANGEABLE, LEAST_REFERENCE

DRAWS = 999
MOST_IMAGES = 4000
"""The kernel matrix has the square of this many entries."""


def _run(context: Context) -> Iterator[Finding]:
    # One by one: what is wrong with a part is told although the last question cannot be asked of it.
    yield _disjoint(context)
    yield _twins(context)
    yield _reference_size(context)
    yield _exchangeable(context)


def _disjoint(context: Context) -> Finding:
    evidence = context.evidence
    parts = [set(part.patients.tolist()) for part in (evidence.train, evidence.holdout, evidence.reference)]
    return _in_two_parts(parts, "patients", "split again by patient and train anew.")


def _twins(context: Context) -> Finding:
    """Count pictures that stand in two parts, under whatever patients' names."""
    evidence = context.evidence
    parts = [
        {image.tobytes() for image in part.images}
        for part in (evidence.train, evidence.holdout, evidence.reference)
    ]
    advice = "so these hold the same people: remove duplicates, split again by patient and train anew."
    return _in_two_parts(parts, "images", advice)


def _in_two_parts(parts: Sequence[Set[Hashable]], what: str, advice: str) -> Finding:
    shared = sum(len(one & other) for one, other in combinations(parts, 2))
    return Finding(
        check="splits",
        metric=f"{what} in two parts",
        axis="privacy",
        status="INCONCLUSIVE" if shared else "PASS",
        value=float(shared),
        unit=what,
        direction="lower is better",
        limit="0",
        n=sum(map(len, parts)),
        baseline=0.0,
        advice=f"{shared} {what} are in two parts; {advice}" if shared else "",
    )


def _reference_size(context: Context) -> Finding:
    n = context.reference_patients
    return Finding(
        check="splits",
        metric="reference patients",
        axis="privacy",
        status="PASS" if n >= LEAST_REFERENCE else "INCONCLUSIVE",
        value=float(n),
        unit="patients",
        direction="higher is better",
        limit=f">= {LEAST_REFERENCE}",
        n=n,
        advice=""
        if n >= LEAST_REFERENCE
        else f"n_R = {n} patients; {LEAST_REFERENCE} are needed to fit the representations.",
    )


def _exchangeable(context: Context) -> Finding:
    """Compare T and H: images by a kernel test, images per patient by a rank test, both by patient.

    The images twice: pixels' components see classes, place and contrast, and are blind to grain, by which
    another device shows; the wavelet bank sees that.
    """
    context.need(2, "train", "holdout")
    members, rng = context.members, context.rng("splits")
    pixels = context.spaces[DENSITY_SPACE].candidates(context.real, torch.float32)[:, 0].numpy()
    spaces = {"pixels": pixels, "texture": texture(context.evidence.reference.images).features(context.real)}
    owner, is_train, rows = members.owner, members.is_train, slice(None)
    if len(owner) > MOST_IMAGES:
        kept = rng.choice(members.patients, int(members.patients * MOST_IMAGES / len(owner)), replace=False)
        rows = np.isin(owner, kept)
        patients, owner = np.unique(owner[rows], return_inverse=True)
        is_train = is_train[patients]
    tests = {
        name: kid_permutation_p(features[rows], owner, is_train, DRAWS, rng)[1]
        for name, features in spaces.items()
    }
    counts = np.bincount(members.owner, minlength=members.patients)
    per_patient = stats.mannwhitneyu(counts[members.is_train], counts[~members.is_train])
    tests["images_per_patient"] = float(per_patient.pvalue)
    p = float(min(1.0, len(tests) * min(tests.values())))
    status: Status = "PASS" if p >= ALPHA_EXCHANGEABLE else "INCONCLUSIVE"
    return Finding(
        check="splits",
        metric="train and holdout are alike: least of three p, times three",
        axis="privacy",
        status=status,
        value=p,
        unit="p",
        bounds=(0, 1),
        direction="higher is better",
        limit=f">= {ALPHA_EXCHANGEABLE}",
        n=members.patients,
        baseline=1.0,
        advice=""
        if status == "PASS"
        else "Train and holdout differ beyond chance: split all patients at random, and train anew.",
        restricted=True,
        details=tests,
    )


CHECK = Check(
    name="splits",
    question="Are train, holdout and reference a random split by patient?",
    axis="privacy",
    required=True,
    run=_run,
    source="Gretton et al. 2012 (kernel two-sample test, permuted by patient)",
)
