"""The dossier itself: each cell a measured value, a signed human answer, or "not answered"."""

from dataclasses import dataclass
from pathlib import Path

from phantomset.data.workspace import write_atomically
from phantomset.pipelines.dossier.answers import Answer, form, is_form
from phantomset.pipelines.dossier.questions import FRAMEWORKS, Question
from phantomset.pipelines.draft import Draft, set_digest
from phantomset.pipelines.report.page import environment

MODE = 0o600


@dataclass(frozen=True, slots=True)
class Cell:
    """One question with what is known: what the run measured, and what people signed."""

    question: Question
    measured: str
    answers: tuple[Answer, ...]

    @property
    def state(self) -> str:
        """How it is answered: "measured", "signed" or "not answered"."""
        return "measured" if self.measured else "signed" if self.answers else "not answered"


@dataclass(frozen=True, slots=True)
class Part:
    """The cells of one list."""

    title: str
    source: str
    cells: tuple[Cell, ...]


def parts(draft: Draft, answers: dict[str, list[Answer]]) -> list[Part]:
    """Return every cell, by list. Nothing is guessed: what is neither measured nor signed is not answered."""
    return [
        Part(each.title, each.source, tuple(_cell(asked, draft, answers) for asked in each.questions))
        for each in FRAMEWORKS
    ]


def _cell(asked: Question, draft: Draft, answers: dict[str, list[Answer]]) -> Cell:
    measured = asked.measured(draft) if asked.measured else ""
    return Cell(asked, measured, tuple(answers.get(asked.name, ())))


def counted(found: list[Part]) -> dict[str, int]:
    """Return how many cells are measured, signed and not answered."""
    states = [cell.state for part in found for cell in part.cells]
    return {state: states.count(state) for state in ("measured", "signed", "not answered")}


def write(folder: Path, draft: Draft, answers: dict[str, list[Answer]]) -> tuple[Path, Path, dict[str, int]]:
    """Write ``dossier.html``, ``dossier.md`` and the form of what is not answered; return page, form, counts.

    All three are mode 0600: exact figures stand in them, though no real image and no record. What somebody
    wrote into an earlier form stays: the new one then lies beside it.
    """
    found = parts(draft, answers)
    counts = counted(found)
    facts = {"name": draft.name, "created": draft.created, "set": set_digest(draft.synthetic)}
    for template, autoescape in (("dossier.html", True), ("dossier.md", False)):
        made = environment(autoescape).get_template(template)
        text = made.render(parts=found, counts=counts, facts=facts, status=draft.verdict.status)
        write_atomically(folder / template, (text.strip() + "\n").encode(), mode=MODE)
    open_ones = [cell.question for part in found for cell in part.cells if cell.state == "not answered"]
    empty = _free(folder)
    write_atomically(empty, form(open_ones).encode(), mode=MODE)
    return folder / "dossier.html", empty, counts


def _free(folder: Path) -> Path:
    """Return where a form can be written: the first name that is not taken by what a person wrote."""
    names = ("answers.yaml", *(f"answers-{number}.yaml" for number in range(2, 1_000)))
    places = (folder / name for name in names)
    return next(place for place in places if not place.exists() or is_form(place))
