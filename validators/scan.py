"""The copy scan and the attack family as functions of nearness, for the verdict and its controls alike."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from phantomset.validators.finding import EvidenceError
from phantomset.validators.measures.permutation import min_p_of_each
from phantomset.validators.measures.tail import LEAST_TAIL, fit_tail
from phantomset.validators.policy import ALPHA_FAMILY, ALPHA_SCAN, LEAST_HOLDOUT_SCAN
from phantomset.validators.scores import Nearness, attack_scores, auc_columns, concentrated_columns


@dataclass(frozen=True, slots=True)
class Scan:
    """The copy scan's answer.

    Attributes:
        p: least p over representations, times their number, at most 1.
        p_by_space: before that correction.
        alarm_distance: τ by space, below which .001 fresh training patients are expected.
        train_below, holdout_below: patients at or below τ, by space.
    """

    p: float
    p_by_space: dict[str, float]
    alarm_distance: dict[str, float]
    train_below: dict[str, int]
    holdout_below: dict[str, int]


def scan(q: Mapping[str, np.ndarray], is_train: np.ndarray) -> Scan:
    """Return the copy scan of patients' least calibrated distances ``(P,)``, by space.

    Raises:
        EvidenceError: there is one holdout patient, and so no tail; or a distance is not a number.
    """
    train = int(is_train.sum())
    holdout = len(is_train) - train
    if holdout < LEAST_TAIL:
        raise EvidenceError(
            f"n_H = {holdout} patients; the copy scan needs {LEAST_HOLDOUT_SCAN} in the holdout, 600 for the "
            "whole suite, 1,100 to be safe."
        )
    p, alarm, train_below, holdout_below = {}, {}, {}, {}
    for name, values in q.items():
        if np.isnan(values).any():  # a least value would pass over it, and over the copy beside it
            raise EvidenceError(f"{name}: a distance is not a number; look for damaged images.")
        tail = fit_tail(values[~is_train])
        p[name] = tail.p_value(float(values[is_train].min()), train)
        alarm[name] = tail.alarm_distance(train)
        below = values <= alarm[name]
        train_below[name] = int((below & is_train).sum())
        holdout_below[name] = int((below & ~is_train).sum())
    return Scan(min(1.0, len(p) * min(p.values())), p, alarm, train_below, holdout_below)


def alarms(near: Nearness, draws: int, rng: np.random.Generator) -> dict[str, bool]:
    """Return which parts of the suite alarm on a set, by the verdict's own levels: scan, family, AUC."""
    scores, is_train = attack_scores(near), near.members.is_train
    families = [concentrated_columns(scores, near), auc_columns(scores)]
    concentrated, area = min_p_of_each(families, is_train, draws, rng)
    return {
        "scan": scan(near.q, is_train).p <= ALPHA_SCAN,
        "family": concentrated.p <= ALPHA_FAMILY,
        "AUC": area.p <= ALPHA_FAMILY,
    }
