"""Would this judgement have noticed a leak, and does it stay silent without one? On every run, on the real S.

Planted images live in memory only. Controls have their own streams of chance.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from phantomset.validators.context import Context
from phantomset.validators.crew import side_by_side
from phantomset.validators.distances import Candidates
from phantomset.validators.finding import Finding, Status
from phantomset.validators.ladder import LADDER, Rung, make_copies, to_uint8
from phantomset.validators.measures.permutation import Column, min_p, min_p_of_each
from phantomset.validators.measures.rates import clopper_pearson, lower_bound
from phantomset.validators.policy import ALPHA_FAMILY, ALPHA_SCAN
from phantomset.validators.scan import alarms, scan
from phantomset.validators.scores import attack_scores, concentrated_columns, planted, whole

COPIES = 24
"""Of each rung, of as many patients. Each is one trial of a rung that must be noticed in a single copy."""

TENS = 8
"""Subsets of ten of these, each a trial of a rung that needs ten."""

LEAST_SHARE, POOLED_SHARE = 0.75, 0.9
"""To be noticed, on each rung and on all together. At a power of .9 a rung misses 18 of 24 once in 130 runs
(6 of 8: once in 26); at a power of .5 it reaches 18 of 24 once in 90 (6 of 8: once in 7)."""

LEAST_FAMILY_POOL = 80

SEARCH_REPEATS = 59
"""The fewest repeats of which all hits prove a power of .95 with 95% confidence."""

POWER = 0.95
DRAWS = 999
SLICE_PATIENTS = 100
RELABELINGS, MOST_ALARMS = 20, 4
DOSE_IMAGES = 150
JITTER = 0.6
PLANTED, FAMILY, DOSE, SLICE, MIXTURE = "planted", "family", "dose", "slice", "mixture"
FAMILY_RUNG = "elastic 1 px"


def control_sets(context: Context) -> dict[str, Candidates]:
    """Return every set that the controls want to be looked at, so that one pass measures them all."""
    copies = np.concatenate([made for _, made in _pools(context)])
    return {PLANTED: Candidates(copies, tail=len(copies)), **_replacement_sets(context)}


def _pools(context: Context) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the pools of altered copies of training images, by the name of their use."""
    images = context.evidence.train.images
    for rung in LADDER:
        rng = context.rng("controls", "copies", rung.name)
        yield rung.name, make_copies(rung, images, _train_positions(context, COPIES, rng), rng)
    rng = context.rng("controls", "copies", FAMILY)
    rung = next(rung for rung in LADDER if rung.name == FAMILY_RUNG)
    positions = _train_positions(context, max(LEAST_FAMILY_POOL, 2 * context.exposed), rng)
    yield FAMILY, make_copies(rung, images, positions, rng)


def _train_positions(context: Context, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return one random image of each of ``count`` random training patients, positions in T."""
    patients = context.evidence.train.patients
    order = rng.permutation(len(patients))
    _, first = np.unique(patients[order], return_index=True)
    return rng.permutation(order[first])[:count]


# Positive: planted copies ---------------------------------------------------------------------------


def positive_control(context: Context) -> Sequence[Finding]:
    """Plant copies of training patients, each rung of the ladder at its dose; they must be noticed."""
    hits, trials = {}, {}
    size = _copies(context)
    for position, rung in enumerate(LADDER):
        pool = np.arange(position * size, (position + 1) * size)
        rng = context.rng("controls", "positive", rung.name)
        picks = (
            [rng.choice(pool, min(10, size), replace=False) for _ in range(TENS)]
            if rung.dose == 10
            else [pool[i : i + 1] for i in range(size)]
        )
        hits[rung.name] = sum(_noticed(context, picked, rng) for picked in picks)
        trials[rung.name] = len(picks)
    findings = [_rung_finding(rung, hits[rung.name], trials[rung.name]) for rung in LADDER]
    return [*findings, _pooled_finding(hits, trials)]


def _copies(context: Context) -> int:
    """Return how many copies of a rung there are: with few patients `_train_positions` gave what there is."""
    return min(COPIES, context.train_patients)


def _noticed(context: Context, picked: np.ndarray, rng: np.random.Generator) -> bool:
    """Return whether the planted copies turn the verdict to FAIL; of one copy the scan alone can tell."""
    near = planted(context.view(), context.view(PLANTED), picked)
    if scan(near.q, near.members.is_train).p <= ALPHA_SCAN:
        return True
    return len(picked) > 1 and alarms(near, DRAWS, rng)["family"]


def _rung_finding(rung: Rung, hits: int, trials: int) -> Finding:
    low, high = clopper_pearson(hits, trials)
    status: Status = "REPORTED"
    if rung.dose:
        status = "PASS" if hits >= LEAST_SHARE * trials else "INCONCLUSIVE"
    dose = max(1, rung.dose)
    return Finding(
        check="positive_control",
        metric=f"{dose} planted, noticed: {rung.name}",
        axis="controls",
        status=status,
        value=hits / trials,
        low=low,
        high=high,
        unit="share",
        bounds=(0, 1),
        direction="higher is better",
        limit=f">= {LEAST_SHARE}" if rung.dose else "",
        n=trials,
        advice=""
        if status != "INCONCLUSIVE"
        else f"{hits} of {trials} were noticed: on these images the suite cannot see this kind of copy.",
        restricted=True,
        details={"hits": hits},
    )


def _pooled_finding(hits: dict[str, int], trials: dict[str, int]) -> Finding:
    required = [rung.name for rung in LADDER if rung.dose]
    total, noticed = sum(trials[name] for name in required), sum(hits[name] for name in required)
    single = [rung.name for rung in LADDER if rung.dose == 1]
    one_hits, one_trials = sum(hits[name] for name in single), sum(trials[name] for name in single)
    low, high = clopper_pearson(noticed, total)
    passed = noticed >= POOLED_SHARE * total
    seen = [name for name in single if hits[name] >= LEAST_SHARE * trials[name]]
    unseen = [name for name in single if name not in seen]
    by_hits: dict[tuple[int, int], list[str]] = {}
    for name in sorted(seen, key=lambda name: -hits[name] / trials[name]):
        by_hits.setdefault((hits[name], trials[name]), []).append(name)
    alone = [f"{_proven(*counts)} of {'; '.join(names)}" for counts, names in by_hits.items()]
    missed = "; ".join(f"{name} ({hits[name]} of {trials[name]})" for name in unseen)
    sentence = (
        "Would have caught one copy of a training image, all kinds together and with 95% confidence, in "
        f"{_proven(one_hits, one_trials)} of cases; each kind by itself: {'. '.join(alone) or 'none'}."
        + (f" Not reliably noticed: {missed}." if unseen else "")
    )
    told = f"Would have caught one copy of a training image ({'; '.join(seen) or 'no kind'})."
    told += f" Not reliably noticed: {'; '.join(unseen)}." if unseen else ""
    return Finding(
        check="positive_control",
        metric="copies of required kinds, noticed",
        axis="controls",
        status="PASS" if passed else "INCONCLUSIVE",
        value=noticed / total,
        low=low,
        high=high,
        unit="share",
        bounds=(0, 1),
        direction="higher is better",
        limit=f">= {POOLED_SHARE}",
        n=total,
        advice="" if passed else "Too few planted copies were noticed for a silence to mean anything.",
        restricted=True,
        details={"power": sentence, "public_power": told},
    )


def _proven(hits: int, trials: int) -> str:
    """Return in words the share that trials prove, 95% one-sided, rounded down: more is not proven."""
    return f"at least {int(100 * lower_bound(hits, trials))}% ({hits} of {trials})"


# Positive: the attack family alone ------------------------------------------------------------------


def family_control(context: Context) -> Sequence[Finding]:
    """Plant k bent copies with the scan off; find the least k that the attack family notices."""
    pool = np.arange(len(LADDER) * _copies(context), context.view(PLANTED).size)
    exposed = min(context.exposed, context.synthetic_tail, len(pool))
    hits = {k: _family_hits(context, pool, k) for k in (0, exposed)}
    again, k95, enough = hits[exposed], None, POWER * SEARCH_REPEATS
    if again >= enough:
        low, k95 = 1, exposed  # bisection: noticing grows with k
        while low < k95:
            k = (low + k95) // 2
            hits[k] = hits[k] if k in hits else _family_hits(context, pool, k)
            low, k95 = (low, k) if hits[k] >= enough else (k + 1, k95)
        # The least that a search finds had luck: fresh draws must notice as many, or one more is asked for.
        while k95 < exposed and (again := _family_hits(context, pool, k95, "again")) < enough:
            k95 += 1
        again = again if k95 < exposed else hits[exposed]
    return [_family_finding(context, exposed, hits, k95, again)]


def _family_hits(context: Context, pool: np.ndarray, k: int, *names: str) -> int:
    """Return in how many of 59 repeats k planted copies make the concentrated family alarm."""
    rng = context.rng("controls", "family", k, *names)
    own, copies = context.view(), context.view(PLANTED)

    def columns(picked: np.ndarray) -> list[Column]:
        near = planted(own, copies, picked)
        return concentrated_columns(attack_scores(near), near)

    draws = [rng.choice(pool, k, replace=False) for _ in range(SEARCH_REPEATS)]
    families = list(side_by_side(columns, draws))
    answers = min_p_of_each(families, context.members.is_train, DRAWS, rng)
    # Over several draws twice the median p must alarm; here one draw stands for all of them.
    limit = ALPHA_FAMILY / 2 if context.rules.cross_fit else ALPHA_FAMILY
    return sum(answer.p <= limit for answer in answers)


def _family_finding(
    context: Context, exposed: int, hits: dict[int, int], k95: int | None, again: int
) -> Finding:
    """Return k₉₅ with its power: ``again`` of 59 repeats that did not choose it."""
    n, k = context.train_patients, k95 or exposed
    passed = k95 is not None and exposed == context.exposed
    details: dict[str, object] = {"hits_by_k": dict(sorted(hits.items())), "hits_again": again}
    advice = ""
    if hits[0] >= POWER * SEARCH_REPEATS:
        details["power"] = "The attack family alarms on the set as it is: planted copies say nothing more."
    elif passed:
        details["k95_share"] = k / n
        details["power"] = (
            f"Would have caught {k} exposed patients of {n:,} without the copy scan in "
            f"{_proven(again, SEARCH_REPEATS)} of cases, with 95% confidence."
        )
    elif exposed < context.exposed:
        advice = (
            f"The set has {len(context.evidence.synthetic)} images; to plant {context.exposed} copies, "
            f"{2 * context.exposed} are needed."
        )
    else:
        advice = (
            f"{exposed} exposed patients, 3% of T, were noticed in {hits[exposed]} of {SEARCH_REPEATS} "
            f"trials. n_H = {context.holdout_patients} patients; about 600 are needed, 1,100 to be safe."
        )
    return Finding(
        check="family_control",
        metric="exposed patients that the attack family notices",
        axis="controls",
        status="PASS" if passed else "INCONCLUSIVE",
        value=float(k),
        unit="patients",
        bounds=(1, float(n)),
        direction="lower is better",
        limit=f"noticed in {POWER:.0%} of trials at k <= {context.exposed}, 3% of T",
        n=n,
        advice=advice,
        restricted=True,
        details=details,
    )


# Sets that take the place of S ----------------------------------------------------------------------


def _replacement_sets(context: Context) -> dict[str, Candidates]:
    rng, evidence = context.rng("controls", "replacement"), context.evidence
    sets = {
        DOSE: Candidates(jittered(evidence.train.images, DOSE_IMAGES, JITTER, rng)),
        MIXTURE: Candidates(_mixed(evidence.reference.images, DOSE_IMAGES, rng)),
    }
    if context.holdout_patients >= 2 * SLICE_PATIENTS:
        patients = evidence.holdout.patients
        posing = np.isin(patients, rng.choice(np.unique(patients), SLICE_PATIENTS, replace=False))
        rows = np.concatenate([np.ones(len(evidence.train), bool), ~posing])
        sets[SLICE] = Candidates(evidence.holdout.images[posing], rows=rows)
    return sets


def _mixed(images: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return mixtures of pairs of images: a generator that knows these alone."""
    i, j = rng.integers(len(images), size=(2, count))
    share = rng.uniform(0.3, 0.7, size=(count, 1, 1, 1))
    return to_uint8(share * images[i] + (1 - share) * images[j])


def dose_control(context: Context) -> Sequence[Finding]:
    """Replace S by jittered training images (kernel density of T, 0.6 deviations); that must fail."""
    found = alarms(whole(context.view(DOSE)), DRAWS, context.rng("controls", DOSE))
    found.pop("AUC")  # a policy may forgive it
    return [_silence_or_alarm("dose_control", "training images with jitter in place of S", found, True)]


def jittered(images: np.ndarray, count: int, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Return ``count`` draws ``(count, C, H, W)`` uint8 from a kernel density of images.

    Each principal component moves by ``strength`` deviations, then shrinks so that its variance stays.
    """
    # 400 images give the leading components, and the decomposition stays cheap.
    images = images[rng.permutation(len(images))[:400]]
    flat = images.reshape(len(images), -1).astype(np.float64)
    mean = flat.mean(0)
    _, singular, axes = np.linalg.svd(flat - mean, full_matrices=False)
    spread = singular / np.sqrt(max(1, len(flat) - 1))
    start = (flat[rng.integers(len(flat), size=count)] - mean) @ axes.T
    moved = (start + strength * spread * rng.standard_normal(start.shape)) / np.sqrt(1 + strength**2)
    return to_uint8(moved @ axes + mean).reshape(count, *images.shape[1:])


# Negative: no leak, no alarm ------------------------------------------------------------------------


def negative_control(context: Context) -> Sequence[Finding]:
    """Holdout patients pose as S, labels are drawn anew, and a set made of R alone: none may alarm."""
    return [_holdout_slice(context), _relabelings(context), _reference_mixture(context)]


def _holdout_slice(context: Context) -> Finding:
    if SLICE not in context.extra_sets:
        return Finding(
            check="negative_control",
            metric="fresh patients pose as synthetic",
            axis="controls",
            status="INCONCLUSIVE",
            n=context.holdout_patients,
            advice=f"n_H = {context.holdout_patients} patients; this control needs {2 * SLICE_PATIENTS}, "
            "the whole suite about 600 for a PASS, 1,100 to be safe.",
        )
    found = alarms(whole(context.view(SLICE)), DRAWS, context.rng("controls", SLICE))
    return _silence_or_alarm("negative_control", "fresh patients pose as synthetic", found, False)


def _reference_mixture(context: Context) -> Finding:
    found = alarms(whole(context.view(MIXTURE)), DRAWS, context.rng("controls", MIXTURE))
    return _silence_or_alarm("negative_control", "a set made of reference patients", found, False)


def _relabelings(context: Context) -> Finding:
    """Draw T and H anew 20 times: the family may alarm at .05 in 4 of 20, the scan at .001 never."""
    rng, members = context.rng("controls", "relabel"), context.members
    columns = concentrated_columns(context.scores, context.nearness)
    family = scanned = 0
    for _ in range(RELABELINGS):
        labels = rng.permutation(members.is_train)
        family += min_p(columns, labels, DRAWS, rng).p <= 0.05
        scanned += scan(context.nearness.q, labels).p <= ALPHA_SCAN
    passed = family <= MOST_ALARMS and scanned == 0
    return Finding(
        check="negative_control",
        metric="alarms under random labels",
        axis="controls",
        status="PASS" if passed else "INCONCLUSIVE",
        value=float(family),
        unit="of 20",
        bounds=(0, RELABELINGS),
        direction="lower is better",
        limit=f"family at .05: <= {MOST_ALARMS} of {RELABELINGS}; scan at {ALPHA_SCAN}: 0",
        n=RELABELINGS,
        baseline=1.0,
        advice=""
        if passed
        else f"With random labels the family alarmed {family} times and the scan {scanned}: p-values "
        "cannot be trusted on this set.",
        restricted=True,
        details={"scan": scanned},
    )


def _silence_or_alarm(check: str, metric: str, found: dict[str, bool], expected: bool) -> Finding:
    loud = [name for name, alarm in found.items() if alarm]
    passed = bool(loud) == expected
    advice = ""
    if not passed:
        advice = (
            "The suite did not notice a set that is all leak."
            if expected
            else f"The suite alarmed ({', '.join(loud)}) on a set that holds no training patient."
        )
    return Finding(
        check=check,
        metric=metric,
        axis="controls",
        status="PASS" if passed else "INCONCLUSIVE",
        value=float(len(loud)),
        unit="alarms",
        direction="at least 1" if expected else "0",
        limit=">= 1" if expected else "0",
        n=1,
        advice=advice,
        restricted=True,
        details=dict(found),
    )


CONTROLS: dict[str, Callable[[Context], Sequence[Finding]]] = {
    "positive_control": positive_control,
    "family_control": family_control,
    "dose_control": dose_control,
    "negative_control": negative_control,
}
"""Every control of a run, by the name under which the gate requires it."""
