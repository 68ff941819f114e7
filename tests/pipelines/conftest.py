"""A small run on real digits, with a scripted judge where the judges are not what is tested."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from phantomset.data.sources import digits
from phantomset.data.workspace import Workspace
from phantomset.pipelines import cli, report
from phantomset.pipelines.compute import Machine
from phantomset.pipelines.judgement.lineage import Lineage
from phantomset.pipelines.ledger import RunLedger
from phantomset.pipelines.recipe import Recipe
from phantomset.pipelines.stages import Job
from phantomset.validators import audit, gate
from phantomset.validators.finding import Evidence, Finding, Rules, Verdict

Answer = tuple[int, str, str]
"""Exit code, stdout and stderr of a command."""

SMALL = {
    "name": "small",
    "seed": 3,
    "source": {"format": "digits"},
    "image": {"size_px": 8},
    "model": {"budget": {"images": 80}, "batch_size": 40, "settings": {"latent": 4, "widths": [8]}},
    "generate": {"count": 30},
    "publish": {"formats": ["npz"], "source_owner": "nobody", "source_terms": "CC0"},
}


@pytest.fixture(scope="session")
def some_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return so many of the digits as a run's tests need: most of a run's time would go into the others."""
    images, labels = digits.load()
    return images[:600], labels[:600]


@pytest.fixture(autouse=True)
def few_digits(monkeypatch: pytest.MonkeyPatch, some_digits: tuple[np.ndarray, np.ndarray]) -> None:
    """Let the source have no more than these."""
    monkeypatch.setattr(digits, "load", lambda: some_digits)


@pytest.fixture
def small() -> Callable[..., Recipe]:
    """Return a recipe for a run of a second; keywords replace its sections."""

    def make(**changes: object) -> Recipe:
        return Recipe.model_validate({**SMALL, **changes})

    return make


@pytest.fixture
def job(tmp_path: Path, small: Callable[..., Recipe]) -> Callable[..., Job]:
    """Return a job for such a recipe, in a workspace of its own or a named one."""

    def make(recipe: Recipe | None = None, place: str = "workspace") -> Job:
        workspace = Workspace.open(tmp_path / place)
        chosen = recipe or small()
        return Job(chosen, workspace, Machine("cpu", 1, True), RunLedger(workspace, chosen))

    return make


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Call the command line in this process; return exit code, stdout and stderr."""

    def run(*arguments: str) -> Answer:
        code = cli.call(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """A recipe file for a run of a second."""
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return str(path)


class Judges:
    """Judges whose answer a test decides; counts how often they were asked."""

    def __init__(self) -> None:
        self.answer, self.asked = "PASS", 0
        self.more: tuple[Finding, ...] = ()
        self.axes: dict[str, str] = {}

    def judge(
        self, evidence: Evidence, rules: Rules, seed: int, report: object = None, **options: object
    ) -> Verdict:
        self.asked += 1
        self.options, self.evidence = options, evidence
        assert len(evidence.synthetic) > 0
        finding = Finding("copies", "copies", "privacy", self.answer, value=0.0, limit="0", unit="images")
        axes = {
            "privacy": self.answer,
            "controls": "PASS",
            "fidelity": "PASS",
            "utility": "PASS",
            **self.axes,
        }
        status = next(word for word in ("FAIL", "INCONCLUSIVE", "PASS") if word in axes.values())
        digest = f"{'-'.join(axes.values())}-{seed}"
        findings = (finding, *self.more)
        return Verdict(status, ("as told",), findings, axes, "some power", gate.suite(), rules, digest)  # type: ignore[arg-type]


@pytest.fixture
def judges(monkeypatch: pytest.MonkeyPatch) -> Judges:
    """Put scripted judges, and reports of one line, in the place of the real ones: those have own tests."""
    scripted = Judges()
    monkeypatch.setattr(audit, "judge", scripted.judge)
    for page in ("restricted_html", "public_html"):
        monkeypatch.setattr(report, page, lambda draft, *_: f"<p>{draft.verdict.status}</p>")
    return scripted


@pytest.fixture
def book(tmp_path: Path) -> Lineage:
    """Return a ledger of judgements without an entry, outside of every workspace."""
    return Lineage(tmp_path / "config" / "judgements.jsonl")
