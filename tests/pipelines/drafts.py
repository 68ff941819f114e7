"""Drafts as a run would hand them over: one that passes, one that fails, one that cannot be settled."""

import numpy as np

from phantomset.data.records import ImageSet
from phantomset.pipelines.draft import Counts, Draft
from phantomset.validators.finding import Evidence, Finding, Rules, Verdict

LABELS = ("effusion", "nodule", "normal")
PLACE = "/srv/hospital/archive-7/in"  # a place of the house: it must be found in nothing public


def images(
    count: int, seed: int, labels: tuple[str, ...] = LABELS, channels: int = 1, side: int = 16
) -> ImageSet:
    """Return smooth random images: blobs whose place depends on the label, with noise."""
    rng = np.random.default_rng(seed)
    codes = np.arange(count) % len(labels)
    y, x = np.mgrid[0:side, 0:side] / (side - 1)
    centers = rng.uniform(0.2, 0.8, (count, channels, 2)) * 0.4 + 0.5 * (codes / len(labels))[:, None, None]
    squares = (x - centers[..., 0, None, None]) ** 2 + (y - centers[..., 1, None, None]) ** 2
    blobs = 190 * np.exp(-squares / 0.05)
    pixels = np.clip(blobs + rng.normal(25, 10, (count, channels, side, side)), 0, 255).astype(np.uint8)
    return ImageSet(pixels, codes.astype(np.int64), np.full(count, -1, np.int64), labels)


def evidence(synthetic: ImageSet | None = None) -> Evidence:
    """Return real parts of 60, 60 and 30 images beside the synthetic set."""
    parts = [images(count, seed) for count, seed in ((60, 11), (60, 12), (30, 13))]
    return Evidence(*parts, synthetic=synthetic or images(90, 1))


def findings(status: str) -> tuple[Finding, ...]:
    """Return findings as the suite makes them; the copy scan, or its power, decides."""
    copies = "FAIL" if status == "FAIL" else "PASS"
    power = "INCONCLUSIVE" if status == "INCONCLUSIVE" else "PASS"
    return (
        Finding(
            "splits", "patients in two parts", "privacy", "PASS", 0.0, unit="patients", limit="0", n=2_411
        ),
        Finding("identity", "synthetic images identical to a real one", "privacy", "PASS", 0.0, n=90),
        Finding(
            "copies",
            "copy scan, least p over representations",
            "privacy",
            copies,
            0.00031 if copies == "FAIL" else 0.41273,
            unit="p",
            bounds=(0, 1),
            direction="higher is better",
            limit="FAIL at p <= 0.001",
            n=1_204,
            advice="Train on more patients or stop earlier: 7 pairs are listed." if copies == "FAIL" else "",
            restricted=True,
        ),
        Finding("attacks", "attack family, AUC columns: least p", "privacy", "PASS", 0.3391, restricted=True),
        Finding(
            "strength",
            "attack AUC",
            "privacy",
            power,
            0.51874,
            low=0.50213,
            high=0.61377 if power == "INCONCLUSIVE" else 0.55102,
            unit="AUC",
            bounds=(0, 1),
            direction="lower is better",
            limit="joint upper 95% bound <= 0.6",
            n=1_204,
            baseline=0.5,
            advice="Bring at least 600 patients a side: the interval is too wide." if power != "PASS" else "",
            restricted=True,
        ),
        Finding("reidentification", "verification", "privacy", "NOT_EVALUATED", advice="No repeat visits."),
        Finding(
            "copying_test", "C_T, data-copying statistic Z_U", "privacy", "REPORTED", -0.7312, restricted=True
        ),
        Finding(
            "positive_control",
            "1 planted, noticed: exact",
            "controls",
            "PASS",
            1.0,
            low=0.63,
            high=1.0,
            bounds=(0, 1),
            n=8,
        ),
        Finding(
            "family_control", "exposed patients noticed", "controls", "PASS", 9.0, bounds=(1, 1_204), n=1_204
        ),
        Finding(
            "negative_control",
            "fresh patients pose as synthetic",
            "controls",
            "PASS",
            0.0,
            bounds=(0, 1),
            n=20,
        ),
        Finding(
            "distance",
            "Fréchet distance to the holdout",
            "fidelity",
            "PASS",
            0.0183412,
            "texture",
            limit="at most 2.5",
            n=1_204,
            baseline=1.0,
            direction="lower is better",
        ),
        *(
            Finding(
                "coverage",
                "coverage",
                "fidelity",
                "PASS",
                value,
                name,
                bounds=(0, 1),
                limit=limit,
                baseline=real,
            )
            for name, value, real, limit in (
                ("all", 0.93417, 0.96112, "at least 0.8 x 0.96112"),
                ("effusion", 0.91, 0.95, ""),
                ("nodule", 0.884, 0.97, ""),
                ("normal", 0.958, 0.962, ""),
            )
        ),
        Finding("distance", "kernel distance, p", "fidelity", "REPORTED", 0.03217, unit="p", restricted=True),
        Finding(
            "utility", "TSTR AUC", "utility", "PASS", 0.94128, bounds=(0.5, 1), baseline=0.95871, n=1_190
        ),
        Finding("subgroups", "coverage", "fidelity", "PASS", 0.77, "site 3", bounds=(0, 1)),
    )


def draft(status: str = "PASS", synthetic: ImageSet | None = None, **changes: object) -> Draft:
    """Return a draft of the given verdict."""
    reasons = {
        "PASS": (),
        "FAIL": ("copies: 7 training patients lie below the threshold (p = 0.00031)",),
        "INCONCLUSIVE": ("membership: the upper bound 0.61377 is above the margin 0.60",),
    }[status]
    axes = {"privacy": status, "controls": "PASS", "fidelity": "PASS", "utility": "PASS"}
    power = (
        "112 of 112 planted copies. With the copy scan off, 9 exposed patients of 1,204 were noticed "
        "in 58 of 59 trials."
    )
    synthetic = synthetic or images(90, 1)
    counts = Counts(
        files=5_123,
        images=4_812,
        patients=2_411,
        classes={"effusion": 1_011, "nodule": 803, "normal": 2_998},
        quarantine={"TRUNCATED": 3, "NOT_RECOGNISED": 304, "CONSTANT_IMAGE": 4},
        dropped={"private element": 91_234, "not on the allow-list": 41_002},
        parts={"train": 1_204, "holdout": 803, "reference": 404},
    )
    fields: dict[str, object] = {
        "name": "chest-demo",
        "recipe": {
            "name": "chest-demo",
            "seed": 7,
            "source": {
                "format": "dicom",
                "path": PLACE,
                "labels": {"table": "labels-of-dr-grey.csv", "key": "file", "column": "finding"},
                "patient": {"tag": "PatientID"},
            },
            "image": {"size_px": 16, "channels": 1},
            "model": {"family": "r3gan", "budget": {"images": 400_000, "minutes": None}},
            "gate": {"privacy": "standard", "fidelity": "demo"},
            "publish": {
                "formats": ["folder", "npz"],
                "licence": "CC-BY-4.0",
                "source_owner": "nobody",
                "source_terms": "Phantoms, CC0.",
            },
        },
        "synthetic": synthetic,
        "verdict": Verdict(status, reasons, findings(status), axes, power, "1.0", Rules("standard", "demo")),  # type: ignore[arg-type]
        "public_verdict": {
            "status": status,
            "suite": "1.0",
            "axes": axes,
            "patients": {"train": 1_200, "holdout": 800, "reference": 400},
            "k95_band": "<= 1% of T",
            "says": "No copy was detected, at the power stated."
            if status == "PASS"
            else "It was not let out.",
            "not_evaluated": ["inference of a protected attribute (P6)"],
            "power": "Would have caught one copy of a training image (exact; mirror).",
        },
        "counts": counts,
        "curve": tuple(
            {
                "step": seen // 64,
                "images": seen,
                "critic_loss": 0.6 + float(np.exp(-seen / 9e4)) + 0.05 * float(np.sin(seen / 4_000)),
                "generator_loss": 1.4 - float(np.exp(-seen / 7e4)) + 0.06 * float(np.cos(seen / 3_000)),
                "gap": 3.0,
            }
            for seen in range(640, 400_001, 640)
        ),
        "notes": ("Pixels were not screened for burned-in text.",),
        "versions": {"phantomset": "0.1.0", "torch": "2.14.1"},
        "created": "2030-01-02",
    }
    return Draft(**(fields | changes))  # type: ignore[arg-type]
