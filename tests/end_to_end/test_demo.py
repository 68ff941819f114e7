"""The demo's way, small and with the real judges: DICOM files in, a verdict out, nothing on trust."""

import json
from pathlib import Path

import pytest

from phantomset.data.store.archive import Store
from phantomset.data.workspace import Workspace
from phantomset.ganmodels import recovery
from phantomset.pipelines import cli
from phantomset.pipelines.cli import launch

OPTIONS = "--plain --threads 1 --set model.budget.images=1280 --set generate.count=150"


@pytest.fixture
def few_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cohort of a tenth of the demo's size."""
    monkeypatch.setattr(launch, "DEMO_PATIENTS", 280)


@pytest.mark.slow
def test_too_few_patients_are_never_published(
    few_patients: None, own_place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """280 patients leave no test any power, and 1,280 images teach nothing: the set is blocked.

    Everything runs for real: phantoms as DICOM, ingest and quarantine, training, all checks and controls.
    """
    code = cli.call(["demo", *OPTIONS.split(), "--json"])
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert code in (3, 4)
    assert answer["verdict"] in ("FAIL", "INCONCLUSIVE")
    assert answer["axes"]["privacy"] != "PASS"
    assert any("1,100 to be safe" in reason for reason in answer["reasons"])
    counts = answer["counts"]
    assert counts["files"] == counts["images"] + sum(counts["quarantine"].values())
    assert "100%" in err
    workspace = own_place / "workspace"
    assert {path.name for path in (workspace / "blocked" / "phantom" / "1").iterdir()} == {
        "verdict.json",
        "report.html",
    }
    assert not list((workspace / "releases").glob("*/v*"))
    assert Path(answer["restricted_report"]).stat().st_size > 10_000
    hold_pixels_back(workspace)


@pytest.mark.slow
def test_some_fifty_images_end_told_and_blocked(
    monkeypatch: pytest.MonkeyPatch, own_place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """57 training patients leave none to watch the critic by: log and report say so, with advice; the run
    ends, and its set is blocked for want of patients."""
    monkeypatch.setattr(launch, "DEMO_PATIENTS", 140)
    code = cli.call(["demo", *OPTIONS.split(), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert code in (3, 4)
    assert answer["counts"]["parts"]["train"] == 57
    assert answer["axes"]["privacy"] == "INCONCLUSIVE"
    assert any("n_H = 55 patients" in reason for reason in answer["reasons"])
    log = [json.loads(line) for line in Path(answer["run"], "log.jsonl").read_text().splitlines()]
    told = [line for line in log if line.get("code") == "not-watched"]
    assert [line["advice"] for line in told] == [recovery.ADVICE["not-watched"]]
    assert told[0]["advice"] in Path(answer["report"]).read_text()


def hold_pixels_back(workspace: Path) -> None:
    """No public part of the workspace holds the bytes of a real image, or of what it was compared by."""
    store = Store(Workspace(workspace))
    some = store.digests()[::100]
    real = [image.tobytes() for _, image in store.read(some)]
    real += [pack.read_bytes()[:1000] for pack in (workspace / "restricted" / "objects").glob("*.pack")]
    assert len(real) > len(some) > 1
    for part in ("runs", "blocked", "releases"):
        for path in (workspace / part).rglob("*"):
            assert not path.is_file() or not any(image in path.read_bytes() for image in real)
