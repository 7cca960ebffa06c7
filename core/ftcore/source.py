"""Where each key of a configuration was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ftcore.errors import Problem
from ftcore.text import short


@dataclass(frozen=True)
class Source:
    """The file and the command line that a configuration comes from.

    Attributes:
        path: the file.
        lines: the line in it, from 1, of each `section` and `section.key`.
        overridden: the keys, as `section.key`, whose value came from `--set`.
    """

    path: Path
    lines: Mapping[str, int] = field(default_factory=dict)
    overridden: frozenset[str] = frozenset()

    def place(self, where: str) -> str:
        """`file:line` of a key or of the section around it, `--set section.key`, or the file alone."""
        if where in self.overridden:
            return f"--set {short(where)}"
        if line := self.line(where):
            return f"{self.path}:{line}"
        inside = sorted(key for key in self.overridden if where and key.startswith(f"{where}."))
        return f"--set {short(inside[0])}" if inside else str(self.path)

    def line(self, where: str) -> int:
        """The line of a key or of the section around it; 0 where the file has neither."""
        while where and where not in self.lines:
            where = where.rpartition(".")[0]
        return self.lines.get(where, 0)

    def describe(self, problem: Problem) -> str:
        """A problem as one line, with its place."""
        fix = f". {problem.fix}" if problem.fix else ""
        warning = "warning: " if problem.severity == "warning" else ""
        # A plugin's message may quote a value with a line break in it.
        return f"{self.place(problem.where)}: {warning}{problem.message}{fix}".replace("\n", "\\n").replace("\r", "\\r")
