"""The edge to Prefect, as far as it needs no server: names, schema, what crosses, what a signal does."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from phantomset.data.errors import InputError, Interrupted
from phantomset.data.workspace import Workspace
from phantomset.pipelines import compute, flows, stages
from phantomset.pipelines.recipe import Recipe
from phantomset.pipelines.recipes import recipe_file
from phantomset.pipelines.releases import release, signoff
from phantomset.pipelines.report.words import question
from phantomset.pipelines.stages import Job, Outcome, Watch
from phantomset.validators.finding import Finding

from .people import key

ROOT = Path(__file__).parents[2]

TRANSLATES = {
    "model": {"family": "pix2pix", "batch_size": 16, "budget": {"images": 64}, "settings": {"width": 8}},
    "translate": {"task": "denoise"},
}


def test_every_variable_is_known_to_this_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that the pinned version does not know would silently do nothing: telemetry would be on."""
    from prefect.settings import get_current_settings

    monkeypatch.setattr(os, "environ", {})
    compute.quiet_prefect(Path("/home/x"))
    names = {name for name in os.environ if name.startswith("PREFECT_")}
    assert len(names) >= 13
    assert names <= set(get_current_settings().to_environment_variables(exclude_unset=False))


def test_the_settings_are_in_force() -> None:
    """What is set before the import is what Prefect uses, in a process where it was not imported before."""
    code = (
        "from phantomset.pipelines import flows; from prefect.settings import get_current_settings;"
        "s = get_current_settings(); print(s.server.analytics_enabled, s.logging.to_api.enabled,"
        "s.results.persist_by_default, s.server.ui.v2_enabled, s.server.ephemeral.enabled)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False", "False", "False", "True"], done.stderr


def test_the_run_form_knows_the_recipe() -> None:
    """The flow's parameter is the typed recipe: its schema names sections, sources and families."""
    text = str(flows.phantomset.parameters.model_dump())
    for word in ("licence", "gamma_start", "size_px", "labels", "privacy"):
        assert word in text


def test_an_error_crosses_as_type_and_digest() -> None:
    """What an exception says may name a patient; its type and a keyed digest do not."""

    def fail() -> None:
        raise ValueError("Smith^John")

    with pytest.raises(flows.Refused) as caught:
        flows._sanitised(fail)
    assert "Smith" not in str(caught.value)
    assert str(caught.value).startswith("ValueError ")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_signal_passes_untouched() -> None:
    """Training has to hear it to save: it is no exception of ours."""

    def stop() -> None:
        raise flows.TerminationSignal(signal=15)

    with pytest.raises(flows.TerminationSignal):
        flows._sanitised(stop)


@pytest.fixture
def without_server(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Let the flow and the subflows run as plain functions; return what was written as artifacts."""
    written: list[tuple[str, Any]] = []
    monkeypatch.setattr(flows, "phantomset", flows.phantomset.fn)
    monkeypatch.setattr(flows, "_SUBFLOWS", dict.fromkeys(flows._SUBFLOWS, flows._do))
    monkeypatch.setattr(flows, "create_table_artifact", lambda rows, **_: written.append(("findings", rows)))
    monkeypatch.setattr(flows, "create_markdown_artifact", lambda text, **_: written.append(("report", text)))
    monkeypatch.setattr(
        flows, "create_progress_artifact", lambda share, **_: written.append(("training", share)) or "id"
    )
    monkeypatch.setattr(
        flows, "update_progress_artifact", lambda name, share: written.append(("update", share))
    )
    return written


def test_the_flow_runs_the_stages_and_writes_three_artifacts(
    job: Callable[..., Job], judges: Any, without_server: list[tuple[str, Any]]
) -> None:
    """The same functions as without Prefect; figures of fidelity, report and progress are shown."""
    judges.more = (Finding("coverage", "coverage", "fidelity", "PASS", 0.93417),)
    outcome = flows.run(job())
    assert outcome.released is not None
    kinds = [kind for kind, _ in without_server]
    assert {"training", "findings", "report"} <= set(kinds)
    rows = dict(without_server)["findings"]
    assert [(row["check"], row["value"]) for row in rows] == [("coverage", 0.93)]
    assert [entry.digest for entry in outcome.entries] == [
        entry.digest for entry in stages.run(job(place="plain")).entries
    ]


def test_a_translation_is_a_flow_too(
    job: Callable[..., Job], small: Callable[..., Recipe], without_server: list[tuple[str, Any]]
) -> None:
    """Its stages run as subflows, training is seen, and what is made is what is made without Prefect; neither
    the command for one nor that for the other takes the other's recipe."""
    recipe = small(**TRANSLATES)
    work = job(recipe)
    made = flows.translate(work)
    assert [entry.stage for entry in work.ledger.entries] == ["ingest", "train", "translate"]
    assert "training" in {kind for kind, _ in without_server}
    plain = stages.translate(job(recipe, place="plain"))
    assert (made.name, made.figures, made.count) == (plain.name, plain.figures, plain.count)
    assert np.array_equal(*(np.load(each.folder / "translations.npz")["images"] for each in (made, plain)))
    assert flows.run(work, "ingest").cohort is not None
    with pytest.raises(InputError, match="never published"):
        flows.run(work)
    with pytest.raises(InputError, match="no section translate"):
        flows.translate(job())


def test_a_deployed_translation(
    small: Callable[..., Recipe], without_server: list[tuple[str, Any]], tmp_path: Path
) -> None:
    """A recipe that translates, on a schedule, ends under its own name; what was made is named."""
    state = flows.phantomset(small(**TRANSLATES), workspace=str(tmp_path / "w"), device="cpu")
    (folder,) = (tmp_path / "w" / "restricted" / "translations").iterdir()
    assert state.name == "Translated"
    assert state.message.startswith(f"{folder.name}, restricted")


def test_restricted_findings_do_not_cross(
    job: Callable[..., Job], judges: Any, without_server: list[tuple[str, Any]]
) -> None:
    """A p-value stays in the data office, and what a single check of privacy says."""
    judges.answer = "FAIL"
    judges.more = (Finding("modes", "kinds, p", "fidelity", "FAIL", 0.0004, restricted=True),)
    flows._publish_findings(stages.run(job(), "validate").judgement)
    written = dict(without_server)
    assert written["findings"] == []
    assert f"| {question('copies')} | kept back |" in written["report"]


def test_our_errors_come_back_whole(
    job: Callable[..., Job], small: Callable[..., Recipe], without_server: list[tuple[str, Any]]
) -> None:
    """The command line tells the error itself, not what Prefect was told of it; nothing is left behind."""
    work = job(small(generate={"count": 1, "classes": {"eleven": 1}}))
    before = set(work.workspace.root.rglob("*"))
    with pytest.raises(InputError, match="no class 'eleven'"):
        flows.run(work)
    assert set(work.workspace.root.rglob("*")) == before


def test_a_terminated_run_is_an_interruption(
    job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 130, and the same command resumes."""

    def stopped(*_: Any, **__: Any) -> None:
        raise flows.TerminationSignal(signal=15)

    monkeypatch.setattr(flows, "phantomset", stopped)
    with pytest.raises(Interrupted):
        flows.run(job())


def test_a_server_that_does_not_answer_is_told_with_a_way_out(
    job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a traceback of the client library."""

    def unreachable(*_: Any, **__: Any) -> None:
        raise RuntimeError("Timed out")

    monkeypatch.setattr(flows, "phantomset", unreachable)
    with pytest.raises(InputError, match="--plain"):
        flows.run(job())


def test_serving_without_a_server_is_told_with_a_way_out(
    small: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where no server answers that is said, and nothing is served."""
    client = SimpleNamespace(api_healthcheck=lambda: ConnectionError("refused"))
    monkeypatch.setattr(flows, "get_client", lambda **_: nullcontext(client))
    monkeypatch.setattr(flows.phantomset, "serve", lambda **_: pytest.fail("served"))
    with pytest.raises(InputError, match="no Prefect server answered"):
        flows.serve(small(), "0 3 * * *", tmp_path, "cpu")


@pytest.mark.parametrize(
    ("status", "end", "name"),
    [
        ("PASS", "released", "Published"),
        ("FAIL", "blocked", "Blocked"),
        ("INCONCLUSIVE", "blocked", "Blocked"),
        ("FAIL", "released", "Published"),  # fidelity was waived
        ("PASS", "", "Completed"),  # a run up to validate publishes nothing
    ],
)
def test_a_blocked_set_is_a_normal_end(status: str, end: str, name: str) -> None:
    """The flow's state says what became of the set; a block is no failure."""
    judgement: Any = SimpleNamespace(verdict=SimpleNamespace(status=status))
    place: dict[str, Any] = {end: Path("there")} if end else {}
    state = flows._state(Outcome(judgement=judgement, **place))
    assert (state.name, state.message) == (name, f"verdict {status}")
    assert state.is_completed()


def test_progress_is_written_at_a_low_rate(without_server: list[tuple[str, Any]]) -> None:
    """Each write is a call to the server: the first, at most one in five seconds, and the last."""
    seen: list[int] = []
    watch = flows._with_artifact(Watch(training=lambda progress: seen.append(progress.images_seen)))
    for images in range(0, 101, 10):
        watch.training(SimpleNamespace(images_seen=images, budget_images=100, done=images == 100))
    assert len(seen) == 11
    assert without_server == [("training", 0.0), ("update", 100.0)]


def test_a_deployed_run_chooses_for_itself_and_finds_kept_back_paths(
    small: Callable[..., Recipe], judges: Any, without_server: list[tuple[str, Any]], tmp_path: Path
) -> None:
    """In a process that Prefect started there is no command line: workspace and device are parameters."""
    judges.answer = "FAIL"
    state = flows.phantomset(small(), workspace=str(tmp_path / "w"), device="cpu")
    assert state.name == "Blocked"
    assert list((tmp_path / "w" / "blocked" / "small").iterdir())
    lost = small(source={"format": "folder", "path": "/x/y", "labels": {"from": "folder"}}).without_paths()
    with pytest.raises(flows.Refused, match="RecipeError"):
        flows.phantomset(lost, workspace=str(tmp_path / "w"))


def test_a_deployed_run_is_suspended_until_people_have_signed(
    small: Callable[..., Recipe],
    judges: Any,
    without_server: list[tuple[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A PASS that waits suspends the run, as often as it is resumed; when it is signed it is published."""

    class Suspended(BaseException):
        """As Prefect's own signal it is no `Exception`."""

    keys: list[str] = []

    def suspend(key: str) -> None:
        keys.append(key)
        raise Suspended

    monkeypatch.setattr(flows, "deployment", SimpleNamespace(id="of-a-server"))
    monkeypatch.setattr(flows, "suspend_flow_run", suspend)
    recipe, place = small(gate={"sign_off": "one"}), tmp_path / "w"
    for _ in range(2):
        with pytest.raises(Suspended):
            flows.phantomset(recipe, workspace=str(place), device="cpu")
    assert len(set(keys)) == 2
    workspace = Workspace.open(place)
    assert release.list_releases(workspace) == []
    (request,) = signoff.waiting(workspace)
    signoff.sign(workspace, request, "Anna Grey", "data protection officer", key(tmp_path / "a"))
    assert flows.phantomset(recipe, workspace=str(place), device="cpu").name == "Published"
    assert len(release.list_releases(workspace)) == 1


def test_errors_of_a_deployed_run_are_sanitised(
    tmp_path: Path, small: Callable[..., Recipe], without_server: list[tuple[str, Any]]
) -> None:
    """There too."""
    broken = small(source={"format": "folder", "path": str(tmp_path / "none"), "labels": {"from": "folder"}})
    with pytest.raises(flows.Refused, match=r"^SourceError \w{12}$"):
        flows.phantomset(broken, workspace=str(tmp_path / "w"), device="cpu")


def test_the_deployment_file_holds_a_valid_recipe() -> None:
    """prefect.yaml deploys the shipped digits recipe, by a name that can be imported, its schedule off."""
    (deployment,) = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert deployment["entrypoint"] == f"{flows.__name__}.phantomset"
    assert not deployment["schedules"][0]["active"]
    shipped = recipe_file.read("digits").recipe
    deployed = Recipe.model_validate(deployment["parameters"]["recipe"])
    assert (deployed.model, deployed.image, deployed.gate) == (shipped.model, shipped.image, shipped.gate)
