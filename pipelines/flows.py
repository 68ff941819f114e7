"""The stages under Prefect: one flow, one subflow a stage. The only file that imports Prefect.

What crosses this edge is written to Prefect's database in clear text, so it is short enough to read: the
recipe without the paths of its source, digests, counts, and scores that may leave. Prefect's record is a
view; `runs/` is the truth.
"""

import time
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any

from phantomset.data.errors import InputError, Interrupted, PhantomsetError
from phantomset.data.keys import pseudonym
from phantomset.pipelines import compute

compute.quiet_prefect(None)  # Prefect reads its settings when it is imported

from prefect import flow, task  # noqa: E402
from prefect.artifacts import (  # noqa: E402
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.client.schemas.objects import State  # noqa: E402
from prefect.client.schemas.schedules import CronSchedule  # noqa: E402
from prefect.exceptions import TerminationSignal  # noqa: E402
from prefect.flow_runs import suspend_flow_run  # noqa: E402
from prefect.runtime import deployment  # noqa: E402
from prefect.states import Completed  # noqa: E402
from prefect.types.entrypoint import EntrypointType  # noqa: E402

from phantomset.pipelines import places, report, stages  # noqa: E402
from phantomset.pipelines.judgement.judging import Judgement  # noqa: E402
from phantomset.pipelines.ledger import RunLedger  # noqa: E402
from phantomset.pipelines.recipe import Recipe  # noqa: E402
from phantomset.pipelines.stages import STAGES, TRANSLATION_STAGES, Job, Outcome, Stage, Watch  # noqa: E402
from phantomset.pipelines.synthesis.translation import Translated, task_of  # noqa: E402

SECONDS_BETWEEN_UPDATES = 5.0
"""The training's progress artifact is written at most this often: each write is a call to the server."""


class Refused(Exception):  # noqa: N818 - what Prefect may know of an error
    """Stands for an error: its type and a keyed digest of its text, never the text."""


class _Call:
    """What the flows of one run share in memory and Prefect does not see."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.work: Callable[[], Any] = lambda: None
        self.result: Any = None
        self.error: Exception | None = None
        self.began = False
        self.made: Any = None


_CALL: ContextVar[_Call] = ContextVar("call")


def run(job: Job, until: Stage = "publish") -> Outcome:
    """Run the stages as `stages.run` does, each as a subflow, and return what they made.

    Raises:
        InputError: as `stages.run`.
        Interrupted: Prefect or a signal ended the run; training has saved where it stood.
    """
    if until != "ingest":
        stages.require_run(job.recipe)
    return _called(job, until)


def translate(job: Job) -> Translated:
    """Run the stages as `stages.translate` does, each as a subflow, and return what they made.

    Raises:
        InputError: as `stages.translate`.
        Interrupted: as `run`.
    """
    task_of(job.recipe)
    return _called(job)


def _called(job: Job, until: Stage = "publish") -> Any:
    """Run the flow in this process, and return what it made."""
    call = _Call(job)
    token = _CALL.set(call)
    try:
        phantomset(job.recipe.without_paths(), until=until)
    except Refused:
        if call.error is None:
            raise
        raise call.error from None
    except TerminationSignal:
        raise Interrupted("stopped by a signal; the same command resumes") from None
    except Exception as error:
        if call.began or isinstance(error, PhantomsetError):
            raise
        raise InputError(
            f"prefect: no server answered ({type(error).__name__}), so nothing was run. "
            "Check PREFECT_API_URL, or use --plain: it runs without Prefect and gives the same digests."
        ) from None
    finally:
        _CALL.reset(token)
    return call.made


@flow(name="phantomset", log_prints=False, persist_result=False)
def phantomset(
    recipe: Recipe, workspace: str | None = None, device: str = "auto", until: Stage = "publish"
) -> State[Any]:
    """Real images in, a judged synthetic set out: published, or blocked with reasons. A recipe with a section
    ``translate`` is translated instead, which publishes nothing.

    Args:
        recipe: what to make. A path of the source that says "kept-back" is looked up in the workspace.
        workspace: folder of the workspace, for a run that Prefect starts itself.
        device: auto, cpu or cuda, for such a run.
        until: the last stage.
    """
    # `serve` sends this function to its processes by value, with the globals that it names: only this one.
    return _run(recipe, workspace, device, until)


def _run(recipe: Recipe, workspace: str | None, device: str, until: Stage) -> State[Any]:
    call = _CALL.get(None)
    if call is None:
        return _deployed(recipe, workspace, device, until)
    call.began = True
    job = replace(call.job, watch=_with_artifact(call.job.watch))
    call.made = _sanitised(lambda: _stages(job, until))
    return _state(call.made)


def _stages(job: Job, until: Stage) -> Outcome | Translated:
    if job.recipe.translate is not None and until != "ingest":
        return stages.translate(job, _as_subflow)
    return stages.run(job, until, _as_subflow)


def _deployed(recipe: Recipe, workspace: str | None, device: str, until: Stage) -> State[Any]:
    """Run in a process that Prefect started: what a command line would have chosen is chosen here.

    A set that waits for a sign-off suspends the run, which ends the process. Resumed in Prefect, it begins
    anew, finds every stage done, and publishes; or waits again, where somebody has still to sign.
    """

    def work() -> Outcome | Translated:
        machine = compute.choose(device)
        with places.held(Path(workspace) if workspace else None) as workspace_:
            whole = places.recall(recipe, workspace_)
            job = Job(whole, workspace_, machine, RunLedger(workspace_, whole), Watch())
            token = _CALL.set(_Call(job))
            try:
                return _stages(replace(job, watch=_with_artifact(job.watch)), until)
            finally:
                _CALL.reset(token)

    made: Outcome | Translated = _sanitised(work)
    if isinstance(made, Outcome) and made.awaits and deployment.id:
        suspend_flow_run(key=str(uuid.uuid4()))  # under a key that was used, Prefect would go on
    return _state(made)


def _state(made: Outcome | Translated) -> State[Any]:
    """Return how the flow ended: a blocked set is a normal end under its own name."""
    if isinstance(made, Translated):
        told = f"{made.name}, restricted"
        name = "GivenUp" if made.is_given_up else "Translated"
        return Completed(name=name, message=f"{told}; {made.warning}" if made.warning else told)
    if made.judgement is None:
        return Completed(message="done")
    status = made.judgement.verdict.status
    if made.awaits:
        return Completed(name="AwaitsSignOff", message=f"verdict {status}; run again when it is signed")
    if made.released:  # with fidelity waived, whatever the verdict
        return Completed(name="Published", message=f"verdict {status}")
    if made.blocked:
        return Completed(name="Blocked", message=f"verdict {status}")
    return Completed(message=f"verdict {status}")


def _as_subflow(stage: str, reference: str, work: Callable[[], Any]) -> Any:
    """Run one stage as a subflow; its noun stays in memory, its digest is what Prefect sees."""
    call = _CALL.get()
    call.work = work
    try:
        _SUBFLOWS[stage](reference)
    except Refused:
        # The stages see the error itself and take back what wrong input had made; `_run` sanitises it.
        raise call.error or PhantomsetError("a subflow failed and did not say why") from None
    if stage == "validate":
        _publish_findings(call.result[0])
    return call.result


def _do(reference: str) -> str:
    """Do the work of the stage at hand; ``reference`` names the noun before it in Prefect's record."""
    del reference
    call = _CALL.get()
    call.result = _sanitised(call.work)
    return str(call.result[1])


def _subflow(stage: str) -> Callable[[str], Any]:
    """Return the flow of one stage, with its one task."""
    do = task(name=stage, log_prints=False, persist_result=False)(_do)

    # Called, not submitted: signals reach the main thread only, and training must hear them to save.
    @flow(name=stage, log_prints=False, persist_result=False)
    def around(reference: str) -> str:
        return do(reference)

    return around


_SUBFLOWS: dict[str, Callable[[str], Any]] = {
    stage: _subflow(stage) for stage in (*STAGES, *set(TRANSLATION_STAGES).difference(STAGES))
}


def _sanitised(work: Callable[[], Any]) -> Any:
    """Run, and let no text of an exception reach Prefect; a signal passes, after training has saved."""
    try:
        return work()
    except Refused:
        raise
    except Exception as error:
        call = _CALL.get(None)
        if call is not None:
            call.error = error
        text = f"{type(error).__name__} {pseudonym('error', str(error))[:12]}"
    raise Refused(text)


def _with_artifact(watch: Watch) -> Watch:
    """Return the watch with training drawn as a progress artifact as well."""
    artifact: list[Any] = []
    last = 0.0

    def training(progress: Any) -> None:
        nonlocal last
        watch.training(progress)
        if not progress.done and time.monotonic() - last < SECONDS_BETWEEN_UPDATES:
            return
        last = time.monotonic()
        share = 100 * progress.images_seen / max(progress.budget_images, 1)
        if not artifact:
            text = f"{progress.budget_images:,} images to show"
            artifact.append(create_progress_artifact(share, key="training", description=text))
        else:
            update_progress_artifact(artifact[0], share)

    return replace(watch, training=training)


def _publish_findings(judgement: Judgement) -> None:
    """Write the figures that may leave as a table, and the public report as text."""
    rows = judgement.draft.public_verdict["fidelity"]
    create_table_artifact(rows, key="findings", description=f"verdict {judgement.verdict.status}")
    create_markdown_artifact(report.markdown(judgement.draft), key="report")


def serve(recipe: Recipe, cron: str, workspace: Path, device: str) -> None:
    """Run a recipe on a schedule until interrupted, one run at a time, each in a process of its own.

    Raises:
        InputError: the schedule is not one, or no server answers.
    """
    try:
        CronSchedule(cron=cron)
    except ValueError:
        raise InputError(
            f'serve: {cron!r} is no schedule; write five fields, such as --cron "0 3 * * *" for 3 at night'
        ) from None
    with get_client(sync_client=True) as client:
        error = client.api_healthcheck()
    if error is not None:
        raise InputError(
            f"serve: no Prefect server answered ({type(error).__name__}). Check PREFECT_API_URL, or start "
            "one with `prefect server start`"
        )
    phantomset.serve(
        name=recipe.name,
        cron=cron,
        limit=1,
        parameters={
            "recipe": recipe.without_paths().plain(),
            "workspace": str(workspace),
            "device": device,
        },
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
