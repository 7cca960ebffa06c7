"""Rows that could not be made into examples, judged by `[audit] bad_rows` and `max_bad_rows`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from ftcore.audit.judging import Violation
from ftcore.contracts import BadRows, Prepared
from ftcore.settings.audit import AuditSettings


def bad_rows(prepared: Prepared, rows: int) -> tuple[BadRows, ...]:
    """What a trainer says of bad rows; of one that only counts them, what follows from that.

    Args:
        rows: how many training examples there are.
    """
    counted = int(prepared.facts.get("bad_rows", 0))
    if prepared.bad_rows or not counted:
        return tuple(prepared.bad_rows)
    return (BadRows("training", counted, rows + counted),)


def unusable(found: Iterable[BadRows], limits: AuditSettings) -> Iterator[Violation]:
    """An error for too many, else a warning, each with the first of them.

    A trainer that does not name any has told of them itself, and is judged only.
    """
    for bad in found:
        what = f"{bad.count:,} of {bad.rows:,} {bad.purpose} rows cannot be used"
        shown = "; ".join(f"row {number}: {reason}" for number, reason in bad.first)
        if limits.bad_rows == "stop":
            why, fix = '[audit] bad_rows is "stop"', 'Mend them, or set it to "skip"'
        elif bad.count / bad.rows > limits.max_bad_rows:
            why = f"that is more than the share of {limits.max_bad_rows:g} that [audit] max_bad_rows allows"
            fix = "Mend them, or raise max_bad_rows"
        else:
            if bad.first:
                yield _violation("warning", bad, f"{what} and are skipped", shown, "Mend them")
            continue
        yield _violation("error", bad, f"{what} ({shown})" if shown else what, why, fix)


def _violation(severity: Literal["error", "warning"], bad: BadRows, what: str, why: str, fix: str) -> Violation:
    numbers = tuple(number for number, _ in bad.first)
    return Violation("bad_rows", severity, what, why, fix, numbers, bad.count)
