"""P6. Can a label or an attribute of training patients be guessed better than that of others?"""

from collections.abc import Sequence

import numpy as np
import torch

from phantomset.validators.context import DENSITY_SPACE, Context
from phantomset.validators.finding import Check, Finding, Status
from phantomset.validators.measures.neighbours import nearest
from phantomset.validators.measures.rates import excess_lower_bound
from phantomset.validators.policy import ALPHA_ATTRIBUTES, MOST_ATTRIBUTE_EXCESS

LABEL = "label"


def _run(context: Context) -> Sequence[Finding]:
    closest, who = _guessers(context)
    columns = _columns(context)
    level = 1 - ALPHA_ATTRIBUTES / len(columns)
    is_train = context.members.is_train
    findings = []
    for name, (real, synthetic) in columns.items():
        own, guess = real[who], synthetic[closest[who]]
        known = own != _UNKNOWN[name == LABEL]
        right = own == guess
        train, holdout = known & is_train, known & ~is_train
        findings.append(
            _judge(
                name,
                (int((right & train).sum()), int(train.sum())),
                (int((right & holdout).sum()), int(holdout.sum())),
                level,
            )
        )
    return findings


_UNKNOWN = ("", -1)
"""An empty cell of an attribute, and a label that is none."""


def _guessers(context: Context) -> tuple[np.ndarray, np.ndarray]:
    """Return the synthetic image nearest to each real one ``(N,)``, and the image ``(P,)`` of each patient
    that lies nearest to any: the one that an attacker would be surest of.
    """
    space, members = context.spaces[DENSITY_SPACE], context.members

    def encode(images: np.ndarray) -> np.ndarray:
        return space.candidates(images, torch.float32)[:, 0].numpy()

    distance, index = nearest(encode(context.real), encode(context.evidence.synthetic.images))
    order = np.lexsort((distance[:, 0], members.owner))
    first = np.searchsorted(members.owner[order], np.arange(members.patients))
    return index[:, 0], order[first]


def _columns(context: Context) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return what can be guessed: values of the real images ``(N,)`` and of the synthetic ones ``(M,)``."""
    train, holdout, synthetic = (
        getattr(context.evidence, part) for part in ("train", "holdout", "synthetic")
    )
    columns = {LABEL: (np.concatenate([train.labels, holdout.labels]), synthetic.labels)}
    for name in sorted(synthetic.attributes.keys() & train.attributes.keys() & holdout.attributes.keys()):
        real = np.concatenate([train.attributes[name], holdout.attributes[name]])
        columns[name] = (real, synthetic.attributes[name])
    return columns


def _judge(name: str, train: tuple[int, int], holdout: tuple[int, int], level: float) -> Finding:
    # What one side does not know at all is missing; nothing can be said of it, and nothing is held up by it.
    status: Status = "NOT_EVALUATED"
    advice = f"n_T = {train[1]}, n_H = {holdout[1]} patients with a value; both sides need some."
    excess = low = baseline = None
    if train[1] and holdout[1]:
        excess = train[0] / train[1] - holdout[0] / holdout[1]
        baseline = holdout[0] / holdout[1]
        low = excess_lower_bound(train, holdout, level)
        status = "FAIL" if low > MOST_ATTRIBUTE_EXCESS else "PASS"
        advice = (
            ""
            if status == "PASS"
            else (
                "The set gives away more about training patients than about others: train on more patients, "
                "or more briefly."
            )
        )
    return Finding(
        check="attributes",
        metric="right guesses of a training patient's value, beyond those of others",
        axis="privacy",
        status=status,
        value=excess,
        group=name,
        low=low,
        high=1.0 if low is not None else None,
        unit="share",
        bounds=(-1, 1),
        direction="lower is better",
        limit=f"FAIL if the lower bound > {MOST_ATTRIBUTE_EXCESS}",
        n=train[1] + holdout[1],
        baseline=0.0,
        advice=advice,
        restricted=True,
        details={"right_for_others": baseline},
    )


CHECK = Check(
    name="attributes",
    question="Can a label or an attribute of training patients be guessed better than that of others?",
    axis="privacy",
    required=False,
    run=_run,
    source="Giomi et al. 2023 (Anonymeter: the attack's rate against a control); Newcombe 1998",
)
