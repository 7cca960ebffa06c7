"""Every error that a user can cause, each with the exit code that the command ends with.

An error says what happened, why, and how to fix it, on one line. The command line prints that line without a
traceback; anything that is not an `FtcoreError` is a bug in ftcore or in a plugin and keeps its traceback (exit code 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


class FtcoreError(Exception):
    """Base of all expected errors.

    Args:
        what: what went wrong, as a sentence without its full stop.
        why: the cause, where it is not obvious.
        fix: what to type or change.
    """

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        self.what, self.why, self.fix = what, why, fix
        super().__init__(what, why, fix)

    def __str__(self) -> str:
        told = f"{self.what}: {self.why}" if self.why else self.what
        if self.fix:  # what a library says has a full stop already
            told = f"{told if _ends_open(told) else told[:-1]}. {self.fix}"
        return " ".join(told.split())

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.why, self.fix)


def _ends_open(text: str) -> bool:
    return not text.endswith(".") or text.endswith((" .", "/.", ".."))  # the folder here, or an omission


def _rebuild(kind: type[FtcoreError], what: str, why: str, fix: str) -> FtcoreError:
    # Keyword-only arguments do not survive pickle's default protocol, and launchers send errors between processes.
    return kind(what, why=why, fix=fix)


class ConfigError(FtcoreError):
    """The configuration cannot be used (exit code 2)."""

    exit_code = 2


class PluginError(FtcoreError):
    """A plugin that the configuration needs is missing, broken, or broke its contract (exit code 3)."""

    exit_code = 3


class DataError(FtcoreError):
    """The data cannot be read, or are not what the configuration says they are (exit code 4)."""

    exit_code = 4


class FailedAudit(DataError):
    """What the audit does not let pass, all of it together, one line each (exit code 4)."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(lines))

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def __reduce__(self) -> tuple[object, ...]:
        return FailedAudit, (self.lines,)


class FormatMismatch(DataError):
    """The columns are not the ones that this formatter reads (exit code 4)."""


class ModelError(FtcoreError):
    """The model or its tokenizer cannot be loaded as configured (exit code 5)."""

    exit_code = 5


class TrainingError(FtcoreError):
    """Training could not go on (exit code 6)."""

    exit_code = 6


class OutOfMemory(TrainingError):
    """The machine or its GPU has not enough memory (exit code 6).

    A plugin need not raise it: what torch and Python raise for want of memory is recognized.
    """


class SaveError(FtcoreError):
    """The trained model could not be saved or pushed; it still lies in the run directory (exit code 7)."""

    exit_code = 7


class ReportError(FtcoreError):
    """A tracker has not taken all records of a run; they are kept (exit code 8)."""

    exit_code = 8


class DiskError(FtcoreError):
    """The disk is full, or cannot be written; what was saved before is untouched (exit code 9)."""

    exit_code = 9


class RecordRefused(FtcoreError):
    """A tracker will never take this record; a reporter raises it, and the next records are still sent.

    It never ends a run: the user is warned. Whatever else a reporter raises means "not now, try again".
    """


class Interrupted(FtcoreError):
    """The user, or the machine, asked the run to stop (exit code 130)."""

    exit_code = 130


class FtcoreDeprecationWarning(DeprecationWarning):
    """A plugin uses something public that goes away; raised as a warning at the plugin's line, never as an error."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a configuration, found without heavy imports.

    Attributes:
        where: the key, as `section.key`, or an empty string for the configuration as a whole.
        message: what is wrong and why, without a full stop.
        fix: what to change; may be empty.
        severity: an "error" stops the run before any work, a "warning" is printed.
    """

    where: str
    message: str
    fix: str = ""
    severity: Literal["error", "warning"] = "error"


class InvalidConfig(ConfigError):
    """All the problems of one configuration, reported together (exit code 2, or that of the errors it gathers)."""

    def __init__(self, lines: Sequence[str], exit_code: int = ConfigError.exit_code) -> None:
        self.lines, self.exit_code = tuple(lines), exit_code
        super().__init__("\n".join(lines))

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def __reduce__(self) -> tuple[object, ...]:
        return InvalidConfig, (self.lines, self.exit_code)


EXIT_CODES: dict[int, str] = {
    0: "the command did what it was asked",
    1: "a bug in ftcore or in a plugin; the traceback is printed",
    2: "the command line or the configuration cannot be used",
    3: "a plugin is missing, broken, or broke its contract",
    4: "the data cannot be read or are not as configured",
    5: "the model or its tokenizer cannot be loaded as configured",
    6: "training could not go on, or memory ran out",
    7: "the model was trained, but could not be saved or pushed",
    8: "a tracker has not taken all records of a run (`ftcore report`)",
    9: "the disk is full or cannot be written; the last good checkpoint is kept",
    130: "the run was interrupted (Ctrl-C or SIGTERM)",
}
"""What the exit status of `ftcore` means."""
