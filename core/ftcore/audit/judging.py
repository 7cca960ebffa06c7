"""A thing that is wrong with prepared data, and how the limits of `[audit]` judge it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ftcore.contracts import BadRows
from ftcore.errors import DataError
from ftcore.settings.audit import AuditSettings, Check
from ftcore.settings.fine_tuner import FineTunerSettings
from ftcore.statistics import Finding, Statistics, Twins


@dataclass(frozen=True)
class Violation:
    """One thing that is wrong.

    Attributes:
        check: its name, as in `[audit] ignore`; "nothing" where there is nothing to learn, which cannot be ignored, and
            "bad_rows", which has a key of its own.
        severity: an "error" stops the run.
        what, why, fix: as of an `FtcoreError`.
        rows: the first rows that have it, numbered from 0 in the user's data.
        count: how many have it; 0 where it is not about rows.
    """

    check: Check | Literal["nothing", "bad_rows"]
    severity: Literal["error", "warning"]
    what: str
    why: str = ""
    fix: str = ""
    rows: Sequence[int] = ()
    count: int = 0

    @property
    def error(self) -> DataError:
        """The error that stops a run for it."""
        return DataError(self.what, why=self.why, fix=self.fix)

    def __str__(self) -> str:
        return str(self.error)


@dataclass(frozen=True)
class Case:
    """What is judged.

    Attributes:
        found: the statistics.
        facts: what the trainer says (`longest_untruncated`, `answer_part`).
        settings: `[fine_tuner]`.
        limits: `[audit]`.
        config: the configuration's path as the user would type it.
        bad_rows: rows that could not be used.
        first: the text of the first training example, empty without one.
        longest: the number of the longest training row, None without one.
        ends: the tokens that end an answer: the EOS, and what the chat template writes behind one.
        stops: the tokens that the model's own settings stop generating at; empty where that is not known.
    """

    found: Statistics
    facts: Mapping[str, Any]
    settings: FineTunerSettings
    limits: AuditSettings
    config: str
    bad_rows: Sequence[BadRows] = ()
    first: str = ""
    longest: int | None = None
    ends: Sequence[str] = ()
    stops: Sequence[str] = ()

    def show(self, rows: Sequence[int]) -> str:
        """The command that shows the first of some rows."""
        return f"`ftcore preview {self.config} --row {rows[0]}` shows one" if rows else ""

    def need(self) -> str:
        """How long `max_sequence_length` would have to be."""
        longest = self.facts.get("longest_untruncated", 0)
        return f" (the longest needs {longest})" if longest else ""


def above(case: Case, check: Check, key: str, found: Finding, what: str, why: str, fix: str) -> Iterator[Violation]:
    """A finding in the training rows: an error above its limit, else a warning."""
    if not found.count:
        return
    rows = case.found.training.rows
    severity, excess = judged(case, key, found.count, rows)
    reasons = "; ".join(part for part in (why, excess) if part)
    if severity == "error":
        fix += f", or raise {key}"
    hint = case.show(found.rows)
    yield Violation(
        check,
        severity,
        f"{counted(found, rows, 'training')} {what}",
        reasons,
        f"{fix}; {hint}" if hint else fix,
        found.rows,
        found.count,
    )


def doubled(
    case: Case, check: Check, key: str, twins: Twins, rows: int, what: str, pair: str, why: str, fix: str
) -> Iterator[Violation]:
    """As `above`, for rows that equal others; `pair` has two places for their numbers."""
    if not twins.count:
        return
    severity, excess = judged(case, key, twins.count, rows)
    shown = ", ".join(pair.format(*numbers) for numbers in twins.pairs[:3])
    more = " …" if twins.count > 3 else ""
    yield Violation(
        check,
        severity,
        f"{twins.count:,} of {rows:,} {what} ({shown}{more})",
        "; ".join(part for part in (why, excess) if part),
        f"{fix}, or raise {key}" if severity == "error" else fix,
        tuple(row for row, _ in twins.pairs),
        twins.count,
    )


def judged(case: Case, key: str, count: int, rows: int) -> tuple[Literal["error", "warning"], str]:
    """By the limit `key`: the severity, and for an error the reason."""
    limit: float = getattr(case.limits, key)
    if count / rows <= limit:
        return "warning", ""
    return "error", f"that is more than the share of {limit:g} that [audit] {key} allows"


def counted(found: Finding, rows: int, purpose: str) -> str:
    """As in `3 of 200 training examples (rows 4, 7, 9)`."""
    text = f"{found.count:,} of {rows:,} {purpose} examples"
    if not found.rows:
        return text
    numbers = ", ".join(str(row) for row in found.rows)
    more = found.count - len(found.rows)
    names = f"rows {numbers} and {more:,} more" if more else f"row{'s' * (len(found.rows) > 1)} {numbers}"
    return f"{text} ({names})"
