"""The ledger of what was kept out. What each code means, and what to do, stands in `reasons`."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from phantomset.data.keys import pseudonym
from phantomset.data.quarantine.reasons import REASONS, stage_of

CODES: Mapping[str, str] = {code: reason.meaning for code, reason in REASONS.items()}
"""Every reason code with its meaning."""

CHOSEN = frozenset(code for code, reason in REASONS.items() if reason.is_choice)
"""Codes that say nothing about the quality of the input: they do not count toward the accepted share."""


class Unfit(Exception):  # noqa: N818 - not an error: the file goes to quarantine and the run goes on
    """Raised inside a source where a file cannot become an image; carries the reason code, nothing else."""

    def __init__(self, code: str) -> None:
        if code not in CODES:
            raise ValueError(f"quarantine: no code {code!r}")
        super().__init__(code)
        self.code = code


@dataclass(slots=True)
class Ledger:
    """What was kept out of one cohort: keyed name of the path, code and size, never a value from the file.

    ``released`` are the files that a person let in all the same: keyed name, code, who.
    """

    format: str = ""
    entries: list[tuple[str, str, int]] = field(default_factory=list[tuple[str, str, int]])
    released: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])

    def add(self, key: str, code: str, size_bytes: int = 0) -> None:
        """Enter one file. ``key`` is where the source found it; it is stored as an HMAC only."""
        if code not in CODES:
            raise ValueError(f"quarantine: no code {code!r}")
        self.entries.append((pseudonym("path", key), code, size_bytes))

    @classmethod
    def read(cls, path: Path, kind: str) -> "Ledger":
        """Return a ledger that was written, of an input of the format ``kind``."""
        import pandas as pd

        frame = pd.read_parquet(path)
        out, let_in = frame[frame["reviewer"] == ""], frame[frame["reviewer"] != ""]
        return cls(
            kind,
            [
                (str(a), str(b), int(c))
                for a, b, c in zip(out["path"], out["code"], out["bytes"], strict=True)
            ],
            [
                (str(a), str(b), str(c))
                for a, b, c in zip(let_in["path"], let_in["code"], let_in["reviewer"], strict=True)
            ],
        )

    @property
    def counts(self) -> dict[str, int]:
        """Files by reason code, sorted by code."""
        return dict(sorted(Counter(code for _, code, _ in self.entries).items()))

    @property
    def faults(self) -> int:
        """How many entries speak against the input; duplicates and classes not asked for do not."""
        return sum(code not in CHOSEN for _, code, _ in self.entries)

    def write(self, path: Path) -> None:
        """Write the ledger as parquet, and in words beside it.

        Columns: path (HMAC), code, bytes, stage, format, and who released it ("" where it was kept out).
        """
        import pandas as pd

        kept_out = [(path, code, size, "") for path, code, size in sorted(self.entries)]
        let_in = [(path, code, 0, reviewer) for path, code, reviewer in sorted(self.released)]
        rows = [
            (path, code, size, stage_of(code), self.format, reviewer)
            for path, code, size, reviewer in kept_out + let_in
        ]
        frame = pd.DataFrame(rows, columns=["path", "code", "bytes", "stage", "format", "reviewer"])
        texts = dict.fromkeys(("path", "code", "stage", "format", "reviewer"), "string")
        frame.astype(texts | {"bytes": "int64"}).to_parquet(path, index=False)
        path.with_suffix(".txt").write_text(self.in_sentences(), encoding="utf-8")
        for written in (path, path.with_suffix(".txt")):
            written.chmod(0o600)

    def in_sentences(self) -> str:
        """Return the ledger for people: how many, why, and what to do, largest first."""
        ordered = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        lines = [
            f"{count:,} x {code}: {REASONS[code].meaning}.\n    {REASONS[code].remedy}"
            for code, count in ordered
        ]
        if self.released:
            lines.append(f"{len(self.released):,} released by a person who looked at them.")
        return "\n".join([f"{len(self.entries):,} files were kept out.", *lines]) + "\n"


def in_words(counts: Mapping[str, int]) -> str:
    """Return the counts as ``3 TRUNCATED, 1 EMPTY_FILE``, largest first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {code}" for code, count in ordered) or "none"
