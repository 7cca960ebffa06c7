"""What ended each of several processes that train together, left in the run directory: one of them tells it for all.

<run>/.error.<rank>.json
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from ftcore import errors, files
from ftcore.errors import FtcoreError, TrainingError
from ftcore.secrets import masked

LIFELINE = "FTCORE_LIFELINE"
"""The variable with the number of an open pipe that ends with the launcher. Whoever finds it has a launcher that watches,
and tells what there is to tell."""

LOST = "a process that trains together with this one is gone"
"""The error of a process that has nothing to tell but that another one ended."""

_SIGNS = ("connection closed by peer", "connection reset by peer", "gloo", "nccl", "socket closed")


def lost(error: BaseException) -> TrainingError | None:
    """The error for a process whose partner ended in the middle of an exchange; None for any other failure."""
    if isinstance(error, FtcoreError) and error.what == LOST:
        return None
    cause: BaseException | None = error
    while cause is not None:
        text = str(cause)
        if isinstance(cause, RuntimeError) and any(sign in text.lower() for sign in _SIGNS):
            return TrainingError(
                LOST,
                why=text.splitlines()[0][:300],
                fix="What ended it stands in its own log, run.<rank>.log; go on with ftcore run CONFIG --resume",
            )
        cause = cause.__cause__ or cause.__context__
    return None


def leave(folder: Path, rank: int, error: FtcoreError) -> None:
    """Write down what ended the process of this rank."""
    words = {
        "kind": type(error).__name__,
        "what": error.what,
        "why": error.why,
        "fix": error.fix,
        "lines": getattr(error, "lines", None),
        "exit_code": error.exit_code,
    }
    with contextlib.suppress(OSError):  # a full disk, say; whoever waits for it waits in vain for a moment
        files.write_json(_path(folder, rank), masked(words))


def of(folder: Path, rank: int) -> FtcoreError | None:
    """What ended the process of this rank; None where it left no word."""
    try:
        words = json.loads(_path(folder, rank).read_text(encoding="utf-8"))
        kind = getattr(errors, words["kind"], FtcoreError)
        several = kind in (errors.FailedAudit, errors.InvalidConfig)
        found = kind(words["lines"]) if several else kind(words["what"], why=words["why"], fix=words["fix"])
        found.exit_code = words["exit_code"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, FtcoreError) else None


def forget(folder: Path) -> None:
    """Remove what processes of an earlier attempt left."""
    for path in folder.glob(".error.*.json"):
        path.unlink(missing_ok=True)


def _path(folder: Path, rank: int) -> Path:
    return folder / f".error.{rank}.json"
