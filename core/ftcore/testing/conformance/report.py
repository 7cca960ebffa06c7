"""What came of holding a plugin against the rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Outcome:
    """What came of one rule.

    Attributes:
        rule: the rule's id, e.g. "formatter-pure".
        status: "skipped" where the rule could not be tried here.
        found: what was found, or why it was skipped; empty where the rule is kept.
        why: what goes wrong where the rule is broken.
        fix: what to do then.
    """

    rule: str
    status: Literal["passed", "failed", "skipped"]
    found: tuple[str, ...] = ()
    why: str = ""
    fix: str = ""

    def __str__(self) -> str:
        lines = [f"{self.rule}: {self.found[0] if self.found else self.status}"]
        lines += [f"    {text}" for text in self.found[1:]]
        if self.status == "failed":
            lines += [f"    why: {self.why}", f"    fix: {self.fix}"]
        return "\n".join(lines)


@dataclass(frozen=True)
class Report:
    """What came of all rules for one plugin.

    Attributes:
        plugin: the plugin with its distribution and version.
        kinds: what was looked at.
        outcomes: one for each rule, in the order of the run.
    """

    plugin: str
    kinds: tuple[str, ...]
    outcomes: tuple[Outcome, ...]

    def of(self, status: Literal["passed", "failed", "skipped"]) -> list[Outcome]:
        """The outcomes of one status."""
        return [outcome for outcome in self.outcomes if outcome.status == status]

    def __str__(self) -> str:
        failed, skipped = self.of("failed"), self.of("skipped")
        lines = [f"{self.plugin} as {', '.join(self.kinds) or 'a plugin'}: {len(self.of('passed'))} rules kept"]
        lines += [f"{len(failed)} broken:", *map(str, failed)] if failed else []
        lines += [f"{len(skipped)} not tried:", *map(str, skipped)] if skipped else []
        return "\n".join(lines)
