"""How often does the gate cry wolf on sets that hold nothing of a training patient? With exact intervals.

    python tests/benchmarks/false_alarms.py --data pneumoniamnist.npz --out pneumonia.jsonl
    python tests/benchmarks/false_alarms.py --data kermany-cxr-64.zip --patient subtype id_in_name \\
        --out kermany.jsonl
    python tests/benchmarks/false_alarms.py --data nih-cxr14-1000-96.zip --patient patient_id \\
        --patients 200 --reference 130 --count 180 --out nih.jsonl
    python tests/benchmarks/false_alarms.py --data ham10000-nv-mel-150.zip --patient lesion_id \\
        --patients 450 --reference 310 --count 400 --out ham.jsonl

A world is a draw of patients: a population, reference patients, and others who make the synthetic sets, as
they are (``fresh``) or by a generator that knows them alone (``generator``: mixtures with bending, and a
kernel density). Its distances are computed once and kept in ``--cache``. Each trial deals the population to
train and holdout anew, draws a set of one kind, and asks the whole privacy axis; the first ``--controls-on``
trials are measured from the start and asked for the controls as well. Trials of one world share its images,
so they are not fully independent; the patients' labels are drawn anew in each.

Results are appended line by line: an interrupted job goes on where it stopped.
"""

import argparse
import functools
import time
from collections import Counter
from pathlib import Path

import numpy as np
from pools import ask_for_data, go_on, load
from worlds import Remembered, World

from phantomset.validators import controls, gate
from phantomset.validators.audit import examine
from phantomset.validators.context import Context
from phantomset.validators.finding import Rules
from phantomset.validators.measures.rates import clopper_pearson

KINDS = ("fresh", "generator")


def trial(world: World, options: argparse.Namespace, number: int) -> dict:
    """Judge one set and return what was said."""
    rng = np.random.default_rng([options.seed, number, 2])
    kind = KINDS[number % len(KINDS)]
    patients = rng.permutation(np.unique(world.population.patients))
    is_train = np.isin(world.population.patients, patients[: len(patients) // 2])
    columns = np.sort(rng.permutation(world.kinds[kind])[: options.count])
    rules = Rules(privacy=options.policy)
    context: Context = Remembered(world, is_train, columns, rules, number)
    asked = ("privacy",)
    if number < options.controls_on:
        context, asked = (
            Context(context.evidence, rules, number, controls.control_sets),
            ("privacy", "controls"),
        )
    started = time.process_time()
    findings = examine(context, asked)
    verdict = gate.decide(findings, rules)
    return {
        "trial": number,
        "kind": kind,
        **{axis: verdict.axes[axis] for axis in asked},
        "loud": [
            f"{f.check}: {f.metric}: {f.status}"
            for f in verdict.findings
            if f.status in ("FAIL", "INCONCLUSIVE")
        ],
        "p": {f"{f.check} {f.group}: {f.metric}": f.value for f in findings if f.unit == "p"},
        "cpu_seconds": round(time.process_time() - started, 1),
    }


def report(results: list[dict]) -> None:
    """Print each axis's outcomes with exact 95% intervals, and what was loud how often."""
    for kind in (*KINDS, "all"):
        own = [result for result in results if kind in (result["kind"], "all")]
        for axis in ("privacy", "controls"):
            outcomes = Counter(result[axis] for result in own if axis in result)
            for outcome in ("FAIL", "INCONCLUSIVE", "PASS"):
                if outcomes.total():
                    low, high = clopper_pearson(outcomes[outcome], outcomes.total())
                    said = f"{outcomes[outcome]} of {outcomes.total()} [{low:.4f}, {high:.4f}]"
                    print(f"{kind}: {axis} {outcome}: {said}")
    for what, count in Counter(line for result in results for line in result["loud"]).most_common():
        print(f"  {count:3d}  {what}")
    print(f"  CPU seconds a trial: {np.mean([result['cpu_seconds'] for result in results]):.1f}")


def main() -> None:
    """Run the trials that are not in the file yet, and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ask_for_data(parser)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; a rerun goes on")
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--worlds", type=int, default=2, help="among which the trials are shared")
    parser.add_argument("--controls-on", type=int, default=20, metavar="N", help="on the first N trials")
    parser.add_argument("--policy", default="standard")
    options = parser.parse_args()
    pool = load(options)

    @functools.lru_cache(maxsize=1)
    def world(number: int) -> World:
        return World.open(pool, options, number)

    def one(number: int) -> dict:
        return trial(world(number * options.worlds // options.trials), options, number)

    report(go_on(options.out, options.trials, one))


if __name__ == "__main__":
    main()
