"""From a TOML file to validated settings, with every problem found in one go."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import tomli
from pydantic import ValidationError

from ftcore import extras, secrets, toml, variables, wording
from ftcore.errors import ConfigError, InvalidConfig, Problem
from ftcore.plugins import Plugins
from ftcore.settings.audit import AuditSettings
from ftcore.settings.base import RawText, Section
from ftcore.settings.contradictions import contradictions
from ftcore.settings.fine_tuner import FineTunerSettings
from ftcore.settings.run import RunSettings
from ftcore.settings.stages import StageSettings
from ftcore.source import Source
from ftcore.text import LONGEST, is_unicode, short, shown

CORE_SECTIONS: dict[str, type[Section]] = {
    "fine_tuner": FineTunerSettings,
    "stages": StageSettings,
    "run": RunSettings,
    "audit": AuditSettings,
}
"""The sections that belong to ftcore itself; every other one belongs to the plugin of its name."""

Tables = dict[str, dict[str, Any]]


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
        written: the same as it stands there, `${NAME}` not replaced.
        source: where it was written.
        overrides: what came from `--set`, as given.
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

    def section(self, plugin: str) -> Section | None:
        """The section of a plugin, or None if it has none."""
        return self.sections.get(plugin)

    def was_given(self, section: str, key: str) -> bool:
        """Whether the user set a key, rather than leaving it to its default."""
        return key in self.given.get(section, {})

    def locate(self, where: str) -> str:
        """`file:line` of a key, `--set section.key` where it comes from there, or the file alone."""
        return self.source.place(where)


def load(
    path: Path,
    plugins: Plugins,
    overrides: Sequence[str] = (),
    chosen: Mapping[str, Collection[str]] | None = None,
) -> Config:
    """Read and validate a configuration.

    Args:
        path: the TOML file.
        plugins: whose sections are understood.
        overrides: `section.key=value` texts that replace what the file says.
        chosen: by section, the keys that are the user's choice, in a file that has all defaults too (a run
            directory's); None where everything in the file is.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
        InvalidConfig: with one line for each problem.
    """
    values, lines = toml.read(path)
    models = CORE_SECTIONS | plugins.sections
    problems: list[Problem] = []
    tables = _tables(values, models, problems)
    overridden = _override(tables, overrides, problems)
    source = Source(path, lines, overridden)
    problems += [_unknown_section(name, models, plugins) for name in tables if name not in models]

    unset: list[Problem] = []
    given = {
        name: models[name].read(variables.expand(name, table, unset))
        for name, table in tables.items()
        if name in models
    }
    problems += unset
    if toml.is_too_deep(given):  # not the file, which was looked at: a text behind --set or in a variable was a table
        raise ConfigError("a value of --set or of an environment variable is nested too deeply")
    for table in given.values():
        _notice_secrets(table)
    in_force = given
    if chosen is not None:
        given = {
            name: {key: value for key, value in table.items() if key in chosen.get(name, ())}
            for name, table in given.items()
        }
    problems += contradictions(given)
    effective = {**in_force, "run": _with_mlflow_names(in_force, problems)}
    parsed: dict[str, Section] = {}
    incomplete: dict[str, list[Problem]] = {}
    reported = {problem.where for problem in unset}
    for name, model in models.items():
        try:
            parsed[name] = model.model_validate(effective.get(name, {}))
        except ValidationError as error:
            found = list(wording.problems(name, effective.get(name, {}), models, error))
            if name in in_force or name in CORE_SECTIONS:
                problems += [problem for problem in found if problem.where not in reported]
            else:
                incomplete[name] = found

    if any(problem.severity == "error" for problem in problems):
        raise InvalidConfig(in_order(source, problems))
    return Config(
        path=path,
        **{name: parsed.pop(name) for name in CORE_SECTIONS},  # type: ignore[arg-type]
        sections=parsed,
        incomplete=incomplete,
        given=given,
        written=tables,
        source=source,
        overrides=tuple(overrides),
    )


def _notice_secrets(value: Any, key: str = "") -> None:
    """Let nothing be shown or written that a key of the configuration calls a secret."""
    if isinstance(value, str):
        if secrets.is_secret_key(key):
            secrets.remember(value)
        elif "://" in value:
            secrets.remember_passwords(value)
    elif isinstance(value, dict):
        for name, item in value.items():
            _notice_secrets(item, str(name))
    elif isinstance(value, list):
        for item in value:
            _notice_secrets(item, key)


def in_order(source: Source, problems: Sequence[Problem]) -> list[str]:
    """The problems as lines, in the order of the file."""
    return [source.describe(problem) for problem in sorted(problems, key=lambda problem: source.line(problem.where))]


def _tables(values: Mapping[str, Any], models: Mapping[str, type[Section]], problems: list[Problem]) -> Tables:
    tables: Tables = {}
    for name, value in values.items():
        if isinstance(value, dict):
            tables[name] = value
            continue
        homes = [f"[{section}]" for section, model in models.items() if name in model.model_fields]
        if name in models and name not in CORE_SECTIONS["fine_tuner"].model_fields:
            message = f"{name} = {shown(value)} is not allowed: {name} is a section, not a key"
            problems.append(Problem(name, message, f"Write [{name}] on a line of its own, and the keys under it"))
        else:
            fix = f"Put it under {' or '.join(homes)}" if homes else "Put it under the section that it belongs to"
            problems.append(Problem(name, f"the key '{short(name)}' stands outside of any section", fix))
    return tables


def _override(tables: Tables, overrides: Sequence[str], problems: list[Problem]) -> frozenset[str]:
    """Put the values of `--set` in place; returns the keys that have one."""
    targets = set()
    for override in overrides:
        target, equals, value = override.partition("=")
        section, _, key = target.strip().partition(".")
        section, key = section.strip(), key.strip()
        if not (equals and section and key):
            homes = [name for name, model in CORE_SECTIONS.items() if target.strip() in model.model_fields]
            example = f"{homes[0]}.{target.strip()}=…" if homes else "fine_tuner.epochs=3"
            message = f"--set {short(override)} is not of the form section.key=value"
            problems.append(Problem("", message, f"Give all three, like --set {example}"))
            continue
        if not is_unicode(override):
            problems.append(Problem("", f"--set {short(override)} has bytes that are no UTF-8", "Give it as UTF-8"))
            continue
        tables[section] = {**tables.get(section, {}), key: RawText(_unquoted(value))}
        targets.add(f"{section}.{key}")
    return frozenset(targets)


def _unquoted(value: str) -> str:
    r"""A text in TOML's quotes (`"a\n"`) without them; anything else as it is."""
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        try:
            return str(tomli.loads(f"value = {value}")["value"])
        except tomli.TOMLDecodeError:
            return value
    return value


def _unknown_section(name: str, models: Mapping[str, type[Section]], plugins: Plugins) -> Problem:
    record = plugins.get(name)
    if record is not None:
        reason = f"is {record.state}: {record.reason}" if record.state != "ok" else "has no settings"
        return Problem(name, f"the section [{name}] cannot be used: {record} {reason}", "Remove the section or mend it")
    message = f"the section [{short(name)}] belongs to nothing that is installed"
    if command := extras.install_command(name):
        fix = f"Type {command}, or remove the section"
    elif close := get_close_matches(name[:LONGEST], models, n=1, cutoff=0.6):
        fix = f"Did you mean [{close[0]}]?"
    else:
        fix = "Install the plugin of that name, or remove the section"
    return Problem(name, message, fix)


_RUN_NAMES = {"run_name": "name", "run_name_prefix": "name_prefix", "run_name_suffix": "name_suffix"}


def _with_mlflow_names(given: Mapping[str, Mapping[str, Any]], problems: list[Problem]) -> dict[str, Any]:
    """The `[run]` table with `[mlflow] run_name*` filled in: they name the run too, whatever tracker is used."""
    merged = dict(given.get("run", {}))
    for old, new in _RUN_NAMES.items():
        value = given.get("mlflow", {}).get(old)
        if value in (None, ""):
            continue
        if merged.get(new) not in (None, "", value):
            message = f"run.{new} = {shown(merged[new])} and mlflow.{old} = {shown(value)} name the same thing"
            problems.append(Problem(f"mlflow.{old}", message, "Remove one of them"))
        merged[new] = value
    return merged
