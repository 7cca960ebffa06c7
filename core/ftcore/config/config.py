"""A valid configuration, and where everything in it was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftcore.config.policy import Ruling
from ftcore.config.source import Source
from ftcore.errors import Problem
from ftcore.settings.audit import AuditSettings
from ftcore.settings.base import Section
from ftcore.settings.fine_tuner import FineTunerSettings
from ftcore.settings.run import RunSettings
from ftcore.settings.stages import StageSettings

CORE_SECTIONS: dict[str, type[Section]] = {
    "fine_tuner": FineTunerSettings,
    "stages": StageSettings,
    "run": RunSettings,
    "audit": AuditSettings,
}
"""The sections that belong to ftcore itself; every other one belongs to the plugin of its name."""


@dataclass(frozen=True)
class Config:
    """A valid configuration.

    Attributes:
        path: the file it was read from.
        fine_tuner, stages, run, audit: the core's sections.
        sections: the plugins' sections by plugin name, with their defaults where the file does not mention them.
        incomplete: by plugin name, what is missing in sections that the file does not mention and that cannot do
            with defaults alone; an error only where the plugin has a part in the run.
        given: what the user wrote, by section, as the fields' types: to tell a default from a choice.
        written: what the user wrote and policies gave, as it stands there, `${NAME}` not replaced.
        source: where it was written.
        overrides: what came from `--set`, as given.
        outdated: a line for each key that stands there under its old name.
        policies: what plugins' policies say; the ones in force are in `source.policies`.
        folders: where a relative path in the value of a key is looked up, where that is not the folder of `path`.
    """

    path: Path
    fine_tuner: FineTunerSettings
    stages: StageSettings
    run: RunSettings
    audit: AuditSettings
    sections: Mapping[str, Section] = field(default_factory=dict)
    incomplete: Mapping[str, Sequence[Problem]] = field(default_factory=dict)
    given: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    written: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: Source = field(default_factory=lambda: Source(Path("config.toml")))
    overrides: Sequence[str] = ()
    outdated: Sequence[str] = ()
    policies: Sequence[Ruling] = ()
    folders: Mapping[str, Path] = field(default_factory=dict)

    def section(self, plugin: str) -> Section | None:
        """The section of a plugin, or None if it has none."""
        return self.sections.get(plugin)

    def was_given(self, section: str, key: str) -> bool:
        """Whether the user set a key, rather than leaving it to its default."""
        return key in self.given.get(section, {})

    def locate(self, where: str) -> str:
        """`file:line` of a key, `--set section.key` or a plugin's policy where it comes from there, or the file alone."""
        return self.source.place(where)

    @property
    def ruled(self) -> list[Ruling]:
        """What policies gave: their rulings that are in force and are not what the user said."""
        return [ruling for ruling in self.policies if ruling.where in self.source.policies]

    def folder(self, where: str) -> Path:
        """Where a relative path in a key's value is looked up, besides the working directory."""
        return self.folders.get(where, self.path.parent)


def in_order(source: Source, problems: Sequence[Problem]) -> list[str]:
    """The problems as lines, in the order of the files."""
    return [source.describe(problem) for problem in sorted(problems, key=lambda problem: source.order(problem.where))]
