"""What do other judges say about the same leaky and clean sets? One table, on the features that they accept.

    pip install sdmetrics anonymeter mostlyai-qa       (in a throw-away environment, beside phantomset)
    python tests/benchmarks/peers.py --patients 600 --out peers.json

The peers judge tables, so each image becomes its 50 principal components, fitted on R, and its label. A peer
that is not installed, or that breaks down on these tables, is told in its cell. AuthPct and C_T are this
project's own implementations. The last column is phantomset's privacy axis, on the images themselves.

Sets: ``generator``, mixtures of patients who are in no part; ``copies-1``, ``copies-10``, so many bent copies
of training images among clean ones; ``kde-0.6``, a kernel density of T; ``train``, T itself.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pools import ask_for_data, divided, generated, load

from phantomset.data.records import ImageSet
from phantomset.validators import gate
from phantomset.validators.audit import examine
from phantomset.validators.context import DENSITY_SPACE, Context
from phantomset.validators.controls import jittered
from phantomset.validators.finding import Evidence, Rules
from phantomset.validators.ladder import elastic, to_uint8
from phantomset.validators.measures.copying import authentic_share, copying_test

ATTACKS = 300
TABLE = "images"


def sets_of(train: ImageSet, others: ImageSet, count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the images of each set that is judged, by name."""
    clean, bend = generated(others.images, count, rng), elastic(1.0)
    copies = [to_uint8(bend(image.astype(np.float64), image, rng)) for image in train.images[:10]]
    return {
        "generator": clean,
        "copies-1": np.concatenate([copies[:1], clean[1:]]),
        "copies-10": np.concatenate([copies, clean[10:]]),
        "kde-0.6": jittered(train.images, count, 0.6, rng),
        "train": train.images[:count],
    }


def tables(context: Context) -> dict[str, pd.DataFrame]:
    """Return T, H and S as tables of components and label, equally long."""
    evidence, space = context.evidence, context.spaces[DENSITY_SPACE]
    size = min(len(evidence.train), len(evidence.holdout), len(evidence.synthetic))
    found = {}
    for name in ("train", "holdout", "synthetic"):
        part = getattr(evidence, name)
        values = space.candidates(part.images[:size], torch.float32)[:, 0].numpy()
        found[name] = pd.DataFrame(values, columns=[f"c{i:02d}" for i in range(values.shape[1])])
        found[name]["label"] = part.labels[:size].astype(str)
    return found


def sdmetrics_overfitting(sets: dict[str, pd.DataFrame]) -> float:
    """Return DCROverfittingProtection, 0 to 1, higher is called better."""
    from sdmetrics.single_table import DCROverfittingProtection

    return DCROverfittingProtection.compute(
        real_training_data=sets["train"],
        synthetic_data=sets["synthetic"],
        real_validation_data=sets["holdout"],
        metadata=_metadata(sets["train"]),
        table_name=TABLE,
    )


def sdmetrics_baseline(sets: dict[str, pd.DataFrame]) -> float:
    """Return DCRBaselineProtection, 0 to 1, higher is called better."""
    from sdmetrics.single_table import DCRBaselineProtection

    return DCRBaselineProtection.compute(
        real_data=sets["train"],
        synthetic_data=sets["synthetic"],
        metadata=_metadata(sets["train"]),
        table_name=TABLE,
    )


def _metadata(table: pd.DataFrame) -> dict:
    kinds = {name: "categorical" if name == "label" else "numerical" for name in table.columns}
    return {"tables": {TABLE: {"columns": {name: {"sdtype": kind} for name, kind in kinds.items()}}}}


def anonymeter_linkability(sets: dict[str, pd.DataFrame]) -> float:
    """Return the linkability risk beyond the control's, 0 to 1, lower is better."""
    from anonymeter.evaluators import LinkabilityEvaluator

    columns = list(sets["train"].columns)
    evaluator = LinkabilityEvaluator(
        ori=sets["train"],
        syn=sets["synthetic"],
        control=sets["holdout"],
        aux_cols=(columns[::2], columns[1::2]),
        n_attacks=min(ATTACKS, len(sets["holdout"])),
    )
    evaluator.evaluate(n_jobs=1)
    return evaluator.risk().value


def anonymeter_singling_out(sets: dict[str, pd.DataFrame]) -> float:
    """Return the multivariate singling-out risk beyond the control's, 0 to 1, lower is better."""
    from anonymeter.evaluators import SinglingOutEvaluator

    evaluator = SinglingOutEvaluator(
        ori=sets["train"], syn=sets["synthetic"], control=sets["holdout"], n_attacks=ATTACKS
    )
    evaluator.evaluate(mode="multivariate")
    return evaluator.risk().value


def mostlyai_share(sets: dict[str, pd.DataFrame]) -> float:
    """Return the DCR share of MOSTLY AI's report: .5 is clean, more is closer to T."""
    from mostlyai import qa

    _, metrics = qa.report(
        syn_tgt_data=sets["synthetic"], trn_tgt_data=sets["train"], hol_tgt_data=sets["holdout"]
    )
    return float(metrics.distances.dcr_share)


def own_c_t(sets: dict[str, pd.DataFrame]) -> float:
    """Return C_T; strongly negative means copying."""
    parts = (_values(sets[name]) for name in ("train", "holdout", "synthetic"))
    return copying_test(*parts, np.random.default_rng(0))


def own_authentic(sets: dict[str, pd.DataFrame]) -> float:
    """Return AuthPct as a share."""
    return authentic_share(_values(sets["train"]), _values(sets["synthetic"]))


def _values(table: pd.DataFrame) -> np.ndarray:
    return table.drop(columns="label").to_numpy(np.float32)


PEERS: dict[str, Callable[[dict[str, pd.DataFrame]], float]] = {
    "SDMetrics overfitting": sdmetrics_overfitting,
    "SDMetrics baseline": sdmetrics_baseline,
    "Anonymeter linkability": anonymeter_linkability,
    "Anonymeter singling out": anonymeter_singling_out,
    "MOSTLY AI DCR share": mostlyai_share,
    "C_T": own_c_t,
    "AuthPct": own_authentic,
}


def asked(peer: Callable[[dict[str, pd.DataFrame]], float], sets: dict[str, pd.DataFrame]) -> float | str:
    """Return a peer's figure, or why there is none."""
    try:
        return round(float(peer(sets)), 4)
    except ImportError as error:
        return f"not installed ({error.name})"
    except Exception as error:  # a peer that breaks down is a result, too
        return f"broke down ({type(error).__name__})"


def main() -> None:
    """Judge each kind of set by everybody, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ask_for_data(parser)
    parser.add_argument("--out", type=Path, default=Path("peers.json"))
    options = parser.parse_args()
    train, holdout, reference, others = divided(load(options), options, 0)
    rng = np.random.default_rng([options.seed, 1])
    rows = {}
    for kind, images in sets_of(train, others, options.count, rng).items():
        labels = np.resize(others.labels, len(images))
        made = ImageSet(images, labels, np.full(len(images), -1), others.label_names)
        context = Context(Evidence(train, holdout, reference, made), Rules(), options.seed)
        sets = tables(context)
        rows[kind] = {name: asked(peer, sets) for name, peer in PEERS.items()}
        rows[kind]["phantomset privacy"] = gate.decide(examine(context, ("privacy",)), Rules()).axes[
            "privacy"
        ]
        options.out.write_text(json.dumps(rows, indent=2))
    print(pd.DataFrame(rows).T.to_string())


if __name__ == "__main__":
    main()
