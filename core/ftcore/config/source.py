"""Where each key of a configuration was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ftcore.config import tables
from ftcore.config.extends import Layer
from ftcore.errors import Problem
from ftcore.text import short


@dataclass(frozen=True)
class Source:
    """The files, the command line and the policies that a configuration comes from.

    Attributes:
        path: the user's file.
        layers: it and the files that it extends, the strongest first.
        overridden: the keys, as `section.key`, whose value came from `--set`.
        policies: by key, the plugin whose policy its value came from.
        commands: by key, the command that gives it a value whatever is written.
    """

    path: Path
    layers: Sequence[Layer] = ()
    overridden: frozenset[str] = frozenset()
    policies: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)

    def place(self, where: str) -> str:
        """`file:line` of a key or of the section around it, `--set section.key`, a policy, or the file alone."""
        if where in self.commands:
            return self.commands[where]
        if set_here := next((key for key in _with_parents(where) if key in self.overridden), ""):
            return f"--set {short(set_here)}"
        if policy := next((self.policies[key] for key in _with_parents(where) if key in self.policies), ""):
            return f"the policy of {policy}"
        if found := self.layer(where):
            return f"{found.name}:{found.line(where)}"
        inside = sorted(key for key in self.overridden if where and key.startswith(f"{where}."))
        return f"--set {short(inside[0])}" if inside else str(self.path)

    def layer(self, where: str) -> Layer | None:
        """The file that has the key, or else the nearest table around it."""
        for key in _with_parents(where):
            for layer in self.layers:
                if key in layer.lines or tables.has(layer.values, key):
                    return layer
        return None

    def order(self, where: str) -> tuple[int, int]:
        """Sorts keys as a reader of the files meets them, the user's file first; what no file has comes before."""
        found = self.layer(where)
        return (0, 0) if found is None else (self.layers.index(found), found.line(where))

    def describe(self, problem: Problem) -> str:
        """A problem as one line, with its place."""
        fix = f". {problem.fix}" if problem.fix else ""
        warning = "warning: " if problem.severity == "warning" else ""
        # A plugin's message may quote a value with a line break in it.
        return f"{self.place(problem.where)}: {warning}{problem.message}{fix}".replace("\n", "\\n").replace("\r", "\\r")


def _with_parents(where: str) -> list[str]:
    """The key, then the tables around it, the innermost first."""
    found = []
    while where:
        found.append(where)
        where = where.rpartition(".")[0]
    return found
