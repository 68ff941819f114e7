"""Does the synthetic table carry words, names or numbers that are a real patient's own?"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from phantomset.data.records import ImageSet
from phantomset.validators.context import Context
from phantomset.validators.finding import Check, Finding, Status

SHARED_BY = 11
"""A text that so many patients share is nobody's own: the cell size of 1/11 that regulators use."""

SENTENCE_WORDS = 4
RUN_WORDS = 6
"""So many words in a row, the same as in a real cell, are a quotation."""

_NUMBER = re.compile(r"-?\d{1,5}(\.\d+)?|\d+\+|\d+-\d{1,3}")
_IDENTIFIER = re.compile(r"\d{6,}|\d{4}-\d\d-\d\d|\d{1,2}[./]\d{1,2}[./]\d{2,4}|@")


@dataclass
class _Known:
    """What the real cells of one column say, and who says it."""

    owners: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    runs: dict[tuple[str, ...], set[int]] = field(default_factory=lambda: defaultdict(set))
    in_train: set[int] = field(default_factory=set)

    def add(self, text: str, patient: int, is_train: bool) -> None:
        self.owners[text].add(patient)
        for run in _runs(text):
            self.runs[run].add(patient)
        if is_train:
            self.in_train.add(patient)

    @property
    def is_free(self) -> bool:
        """Whether most values are so rare that the column is no list of codes."""
        rare = sum(len(patients) < SHARED_BY for patients in self.owners.values())
        return 2 * rare > len(self.owners)

    @cached_property
    def shared_words(self) -> set[str]:
        """The words of the values that many patients share: asked when all cells are known."""
        shared = (text for text, patients in self.owners.items() if len(patients) >= SHARED_BY)
        return {word for text in shared for word in text.split()}

    def _is_name(self, text: str) -> bool:
        """Whether one patient alone has these words, and no code of the column uses any of them."""
        words = text.split()
        return len(words) > 1 and len(self.owners.get(text, ())) == 1 and self.shared_words.isdisjoint(words)

    def betrayed(self, text: str) -> set[int]:
        """Return the patients of whom a synthetic cell repeats a text that is their own."""
        found: set[int] = set()
        patients = self.owners.get(text, set())
        is_own = (self.is_free and not _NUMBER.fullmatch(text)) or _is_telling(text) or self._is_name(text)
        if is_own and len(patients) < SHARED_BY:
            found |= patients
        for run in _runs(text):
            known = self.runs.get(run, set())
            found |= known if len(known) < SHARED_BY else set()
        return found


def _run(context: Context) -> Sequence[Finding]:
    evidence = context.evidence
    known: dict[str, _Known] = defaultdict(_Known)
    for part in (evidence.train, evidence.holdout, evidence.reference):
        for column, text, row in _cells(part):
            known[column].add(text, int(part.patients[row]), part is evidence.train)
    cells = list(_cells(evidence.synthetic))
    told = sorted({(column, text) for column, text, _ in cells if column in known})
    in_train = outside = 0
    for column, text in told:
        patients = known[column].betrayed(text)
        in_train += bool(patients & known[column].in_train)
        outside += bool(patients - known[column].in_train)
    status: Status = "FAIL" if in_train else "INCONCLUSIVE" if outside else "PASS"
    advice = {
        "FAIL": f"{in_train} texts of the synthetic table are a training patient's own: leave it out.",
        "INCONCLUSIVE": f"{outside} texts of the synthetic table are those of patients whom the generator "
        "should not know: the split or the table is not what it claims to be.",
    }.get(status, "")
    return [
        Finding(
            check="texts",
            metric="texts of the synthetic table that are a real patient's own",
            axis="privacy",
            status=status,
            value=float(in_train + outside),
            unit="texts",
            direction="lower is better",
            limit="0",
            n=len(cells),
            baseline=0.0,
            advice=advice,
            restricted=True,
        )
    ]


def _cells(part: ImageSet) -> Iterator[tuple[str, str, int]]:
    """Yield column, text in one spelling, and row, of each cell that holds something, labels among them."""
    names = np.array([*part.label_names, ""])  # the label -1 reads the last
    for column, values in {"label": names[part.labels], **part.attributes}.items():
        for row, value in enumerate(values.tolist()):
            text = " ".join(str(value).split()).casefold()
            if text:
                yield column, text, row


def _is_telling(text: str) -> bool:
    return len(text.split()) >= SENTENCE_WORDS or _IDENTIFIER.search(text) is not None


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    words = re.findall(r"\w+", text)
    for start in range(len(words) - RUN_WORDS + 1):
        yield tuple(words[start : start + RUN_WORDS])


CHECK = Check(
    name="texts",
    question="Does the synthetic table carry words or numbers that are a real patient's own?",
    axis="privacy",
    required=False,
    run=_run,
    source="El Emam et al. 2020 (cell size of 1/11)",
)
