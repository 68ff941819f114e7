"""The command line. Bodies import lazily: `phantomset --help` answers in half a second."""

import errno
import itertools
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from typer._click.exceptions import ClickException

from phantomset.data.errors import (
    BAD_INPUT,
    BUG,
    INTERRUPTED,
    OK,
    Interrupted,
    PhantomsetError,
    WorkspaceError,
)
from phantomset.pipelines.cli import audit, dossier, look, people, releases
from phantomset.pipelines.cli.look import AsJson, Place, print_json

if TYPE_CHECKING:
    from phantomset.pipelines.cli.asking import Drawing
    from phantomset.pipelines.cli.launch import Machinery
    from phantomset.pipelines.recipes.recipe_file import RecipeFile
    from phantomset.pipelines.stages import Stage

    Reader = Callable[[Machinery], RecipeFile]

STOPPED = "interrupted; the same command resumes"

UNWRITABLE = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)
)
"""What the system says of a workspace in which nothing can be written: no fault of ours."""

app = typer.Typer(
    name="phantomset",
    help="Labelled synthetic image sets, published only with privacy evidence, or blocked.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a shipped recipe.")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe.")
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where to train and judge.")]
Threads = Annotated[int | None, typer.Option(metavar="N", help="CPU threads; default: as many as there are.")]
Workers = Annotated[
    str | None,
    typer.Option(metavar="N|dask|ADDRESS", help="What decodes the input; default: a process a CPU."),
]
Plain = Annotated[bool, typer.Option("--plain", help="Run without Prefect; digests are the same.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check all that can be told without opening files; make nothing.")
]
Machine = tuple[Path | None, str, int | None, bool, str | None]
"""Workspace, device, threads, plain, workers: what `Machinery` is made of, once it may be imported."""

Seed = Annotated[int | None, typer.Option(metavar="N", help="Another seed: other phantoms, other chance.")]


@app.callback(invoke_without_command=True)
def _about(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"phantomset {version_of('phantomset')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def demo(
    leaky: Annotated[
        bool, typer.Option("--leaky", help="A generator that memorises: it is blocked.")
    ] = False,
    seed: Seed = None,
    override: Set = None,
    workspace: Place = None,
    device: Device = "auto",
    threads: Threads = None,
    plain: Plain = False,
    as_json: AsJson = False,
) -> int:
    """Run the whole pipeline on phantoms, offline: from DICOM files to a release, or to its refusal."""

    def read(machinery: "Machinery") -> "RecipeFile":
        from phantomset.pipelines.cli.launch import demo_recipe

        return demo_recipe(leaky, seed, override or [], machinery)

    return _run(read, (workspace, device, threads, plain, None), "publish", as_json)


@app.command()
def run(
    recipe: RecipeName,
    override: Set = None,
    workspace: Place = None,
    device: Device = "auto",
    threads: Threads = None,
    workers: Workers = None,
    plain: Plain = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Run all stages of a recipe: ingest, train, generate, validate, publish or block."""
    read, machine = _reader(recipe, override), (workspace, device, threads, plain, workers)
    return (_dry_run if dry_run else _run)(read, machine, "publish", as_json)


def _up_to(stage: "Stage", summary: str) -> None:
    """Add the command that runs a recipe up to a stage."""

    def command(
        recipe: RecipeName,
        override: Set = None,
        workspace: Place = None,
        device: Device = "auto",
        threads: Threads = None,
        workers: Workers = None,
        plain: Plain = False,
        dry_run: DryRun = False,
        as_json: AsJson = False,
    ) -> int:
        read, machine = _reader(recipe, override), (workspace, device, threads, plain, workers)
        return (_dry_run if dry_run else _run)(read, machine, stage, as_json)

    app.command(name=stage, help=summary)(command)


_up_to("ingest", "Take the images in: de-identified, deduplicated, split by patient.")
_up_to("train", "The same, and train the generator.")
_up_to("validate", "The same, and judge the set: privacy, controls, fidelity, utility.")
_up_to("publish", "The same, and publish the set or block it: all stages, as `run` does.")


@app.command()
def generate(
    recipe: RecipeName,
    where: Annotated[
        str | None, typer.Option(metavar="A=B,...", help='What to make, as "label=pneumonia".')
    ] = None,
    count: Annotated[int | None, typer.Option(metavar="N", help="How many images.")] = None,
    truncation: Annotated[
        float | None, typer.Option(metavar="0..1", help="Below 1: typical images, less variety.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Another draw from the same generator.")
    ] = None,
    grid: Annotated[bool, typer.Option("--grid", help="Draw them, a row a class.")] = False,
    towards: Annotated[
        int | None, typer.Option(metavar="SEED", help="Draw the way from the set's seed to another.")
    ] = None,
    fine: Annotated[
        int | None, typer.Option(metavar="SEED", help="Draw with the fine styles of another seed.")
    ] = None,
    override: Set = None,
    workspace: Place = None,
    device: Device = "auto",
    threads: Threads = None,
    workers: Workers = None,
    plain: Plain = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """The same, and make the labelled synthetic set: of what, how many, how typical."""
    from phantomset.pipelines.cli import asking

    given = [*asking.overrides(where, count, truncation, seed), *(override or [])]
    read, machine = _reader(recipe, given), (workspace, device, threads, plain, workers)
    drawing = asking.Drawing(grid, towards, fine)
    return (_dry_run if dry_run else _run)(read, machine, "generate", as_json, drawing)


@app.command()
def translate(
    recipe: RecipeName,
    override: Set = None,
    workspace: Place = None,
    device: Device = "auto",
    threads: Threads = None,
    workers: Workers = None,
    plain: Plain = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Restore images, or harmonise a domain: train the translator and apply it. The result is restricted."""
    from phantomset.pipelines.cli import console, launch, summary

    read, machine = _reader(recipe, override), (workspace, device, threads, plain, workers)
    if dry_run:
        return _dry_run(read, machine, "translate", as_json)
    machinery = launch.Machinery(*machine)
    with console.watching() as watch:
        made = launch.translate(read(machinery), machinery, watch)
    summary.show_translated(made, as_json)
    return OK


def _reader(recipe: str, override: list[str] | None) -> "Reader":
    """Return what reads a recipe; unlike the demo's it needs no place to write."""

    def read(_machinery: "Machinery") -> "RecipeFile":
        from phantomset.pipelines.recipes import recipe_file

        return recipe_file.read(recipe, override or [])

    return read


def _run(
    read: "Reader",
    machine: Machine,
    until: "Stage",
    as_json: bool,
    drawing: "Drawing | None" = None,
) -> int:
    """Run a recipe, print what came of it, and return the exit code."""
    from phantomset.pipelines import compute
    from phantomset.pipelines.cli import console, summary
    from phantomset.pipelines.cli.launch import Machinery, launch

    machinery = Machinery(*machine)
    with console.watching() as watch:
        chosen = read(machinery)
        if drawing:
            drawing.require(chosen.recipe)
        outcome, workspace, ledger = launch(chosen, machinery, watch, until)
    pictures: list[Path] = []
    if drawing:
        where = compute.choose(machinery.device, machinery.threads)
        pictures = drawing.draw(chosen.recipe, workspace, where, outcome)
    if as_json:
        drawn = {"pictures": [str(path) for path in pictures]} if pictures else {}
        print_json(summary.as_json(outcome, workspace, ledger) | drawn)
    else:
        summary.show(console.screen(), outcome, ledger)
        for path in pictures:
            typer.echo(f"picture  {path} (restricted: no gate has seen it)")
    return summary.exit_code(outcome)


def _dry_run(
    read: "Reader",
    machine: Machine,
    until: 'Stage | Literal["translate"]',
    as_json: bool,
    drawing: "Drawing | None" = None,
) -> int:
    """Check recipe, source and machine, and say what a run would take."""
    from phantomset.pipelines.cli.launch import Machinery, dry_run

    machinery = Machinery(*machine)
    chosen = read(machinery)
    if drawing:
        drawing.require(chosen.recipe)
    answer = dry_run(chosen, machinery, until)
    if as_json:
        print_json({"exit_code": OK, **answer})
    else:
        for name, value in answer.items():
            typer.echo(f"{name:<18} {value}")
    return OK


@app.command()
def serve(
    recipe: RecipeName,
    cron: Annotated[str, typer.Option(metavar="CRON", help='When, such as "0 3 * * *".')],
    override: Set = None,
    workspace: Place = None,
    device: Device = "auto",
) -> int:
    """Run a recipe on a schedule, by Prefect, until interrupted; one run at a time."""
    from phantomset.pipelines.cli import launch
    from phantomset.pipelines.cli.launch import Machinery
    from phantomset.pipelines.recipes import recipe_file

    chosen = recipe_file.read(recipe, override or [])
    launch.serve(chosen, cron, Machinery(workspace, device))
    return OK


app.command()(audit.audit)
app.add_typer(releases.releases)
app.add_typer(people.keys)
app.command(name="sign-off")(people.sign_off)
app.command()(people.waive)
app.command()(dossier.dossier)
app.add_typer(look.recipes)
app.command()(look.explain)
app.command()(look.doctor)
app.command()(look.mark)


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors become one message on stderr, or one JSON object."""
    as_json = "--json" in arguments
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        code = int(app(args=list(arguments), prog_name="phantomset", standalone_mode=False) or OK)
        return _fail(as_json, code, STOPPED) if code == INTERRUPTED else code
    except ClickException as error:
        return _fail(as_json, BAD_INPUT, error.format_message(), "see `phantomset --help`")
    except PhantomsetError as error:
        return _fail(as_json, error.exit_code, str(error))
    except (KeyboardInterrupt, typer.Abort):
        return _fail(as_json, INTERRUPTED, STOPPED)
    except Exception as error:
        root = _workspace_of(arguments)
        told = _unwritable(error, root)
        return _fail(as_json, told.exit_code, str(told)) if told else _fail(as_json, BUG, *_bug(error, root))
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminated(number: int, frame: FrameType | None) -> None:
    """Turn the signal into an exception: training saves where it stands on the way out."""
    del number, frame
    raise Interrupted(STOPPED)


def _fail(as_json: bool, code: int, message: str, hint: str = "") -> int:
    """Say what is wrong, once, where it is looked for; return the exit code."""
    if as_json:
        print_json({"exit_code": code, "error": message, "hint": hint})
    else:
        for line in message.splitlines():
            typer.echo(f"phantomset: {line}", err=True)
        if hint:
            typer.echo(f"  {hint}", err=True)
    return code


def _workspace_of(arguments: Sequence[str]) -> Path:
    """Return where the workspace of a command lies, whatever became of the command."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    named = [value for key, value in itertools.pairwise(words) if key == "--workspace"]
    unnamed = os.environ.get("PHANTOMSET_WORKSPACE", "phantomset-workspace")
    return Path(named[-1] if named else unnamed).absolute()


def _unwritable(error: Exception, root: Path) -> WorkspaceError | None:
    """Return an error in our words, if the system refused to write in the workspace; None of any other.

    Told here and not where it struck: within a stage, an error in the user's input takes back what is new.
    """
    if not isinstance(error, OSError) or error.errno not in UNWRITABLE:
        return None
    # A write that fails names no file; one that is named elsewhere may be the source's, and is not shown.
    name: Any = error.filename
    is_path = isinstance(name, str | bytes | Path)
    if is_path and not Path(os.fsdecode(name)).absolute().is_relative_to(root):
        return None
    return WorkspaceError(
        f"workspace: cannot read or write in {root} ({os.strerror(error.errno)}). Free some space there or "
        "mend the permissions, and give the same command again: what was done is kept."
    )


def _bug(error: Exception, root: Path) -> tuple[str, str]:
    """Return a message by type and place, and where the whole trace lies.

    The error's text may carry what was read, so it goes into the restricted part and nowhere else.
    """
    import traceback

    frame = traceback.extract_tb(error.__traceback__)[-1]
    message = f"bug: {type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}"
    log = root / "restricted" / "faults.log"
    try:
        if not log.parent.is_dir():
            return message, "please report it, with the command and `phantomset doctor`"
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.writelines(traceback.format_exception(error))
    except OSError as unwritten:
        return message, f"please report it; its trace could not be written to {log} ({unwritten.strerror})"
    return message, f"please report it; the whole trace is in {log} (restricted: it may name patients)"
