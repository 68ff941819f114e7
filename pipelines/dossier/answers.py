"""Answers of people: read from a file, signed with their own key, kept beside the judgement."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from phantomset.data.errors import ReleaseError
from phantomset.data.workspace import Workspace
from phantomset.pipelines.dossier.questions import Question, questions
from phantomset.pipelines.releases import statements
from phantomset.pipelines.releases.signing import Signer
from phantomset.pipelines.releases.signoff import Request

KIND, FOLDER = "urn:phantomset:dossier-answers:v1", "answers"
LONGEST = 2_000
MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What one person answered to one question, and signed."""

    text: str
    name: str
    role: str
    day: str


def read(path: Path) -> dict[str, str]:
    """Return the answers in a YAML file, by the name of their question; empty ones are left out.

    Raises:
        ReleaseError: it is missing, no YAML, answers a question that is not asked, or is too long.
    """
    try:
        whole: Any = yaml.safe_load(path.read_bytes()[:MAX_BYTES])
    except OSError as error:
        raise ReleaseError(f"answers: cannot read {path} ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ReleaseError(f"answers: {path} is no YAML file") from None
    if not isinstance(whole, dict):
        raise ReleaseError(f"answers: {path} is not made of `question: answer` lines")
    given = {str(name): text for name, text in cast("dict[Any, Any]", whole).items()}
    wrong = [problem for name, text in given.items() if (problem := _problem(name, text))]
    if wrong:
        raise ReleaseError("\n".join(f"{path}: {problem}" for problem in wrong))
    return {name: " ".join(str(text).split()) for name, text in given.items() if text}


def _problem(name: str, text: Any) -> str:
    """Say what is wrong with an answer; "" where nothing is."""
    known = questions()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        return f"{name}: no such question" + (f"; did you mean {near[0]!r}?" if near else "")
    if text is not None and not isinstance(text, str):
        return f"{name}: an answer is text; put it in quotes"
    return f"{name}: longer than {LONGEST:,} characters" if text and len(text) > LONGEST else ""


def sign(
    workspace: Workspace, request: Request, given: dict[str, str], who: tuple[str, str], signer: Signer
) -> None:
    """Sign answers and keep them; the same key's earlier answers to this verdict give way to these.

    Raises:
        ReleaseError: there is none, or name or function is missing.
    """
    if not given:
        raise ReleaseError("answers: the file answers no question; fill in the text behind a question's name")
    statements.state(request.subject(workspace, KIND, FOLDER), *who, signer, {"answers": given})


def signed(workspace: Workspace, request: Request) -> dict[str, list[Answer]]:
    """Return the answers whose signatures hold, by question; several people may answer one."""
    found: dict[str, list[Answer]] = {}
    for each in statements.stated(request.subject(workspace, KIND, FOLDER)):
        given = each.content.get("answers", {})
        for name, text in cast("dict[str, str]", given).items() if isinstance(given, dict) else ():
            found.setdefault(name, []).append(Answer(str(text), each.name, each.role, each.day))
    return found


def is_form(path: Path) -> bool:
    """Say whether a file is a form that nobody has written in, to the letter."""
    try:
        text = path.read_text("utf-8")
        names: Any = yaml.safe_load(text) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    known = questions()
    return isinstance(names, dict) and text == form([known[name] for name in names if name in known])  # pyright: ignore[reportUnknownVariableType]


def form(unanswered: list[Question]) -> str:
    """Return a YAML file to fill in: each question as a comment above its name."""
    lines = ["# Answers for the dossier: write each behind its name, in quotes. Unknown ones stay empty."]
    lines += [f'\n# {each.text}\n{each.name}: ""' for each in unanswered]
    return "\n".join(lines) + "\n"
