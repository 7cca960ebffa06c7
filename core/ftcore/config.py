"""From a TOML file to validated settings, with every problem found in one go."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ftcore import toml
from ftcore.errors import ConfigError, InvalidConfig, Problem
from ftcore.plugins import Plugins
from ftcore.settings.audit import AuditSettings
from ftcore.settings.base import RawText, Section
from ftcore.settings.contradictions import contradictions
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

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
_SHOWN = 60


@dataclass(frozen=True)
class Config:
    """A valid configuration.

    Attributes:
        path: the file it was read from.
        fine_tuner, stages, run, audit: the core's sections.
        sections: the plugins' sections by plugin name; every working plugin that has one is there, with its
            defaults where the file does not mention it.
        given: what the user wrote, by section: to tell a default from a choice.
        lines: the line in the file of each `section` and `section.key`.
        overrides: what came from `--set`, as given.
    """

    path: Path
    fine_tuner: FineTunerSettings
    stages: StageSettings
    run: RunSettings
    audit: AuditSettings
    sections: Mapping[str, Section] = field(default_factory=dict)
    given: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    overrides: Sequence[str] = ()

    def section(self, plugin: str) -> Section | None:
        """The section of a plugin, or None if it has none."""
        return self.sections.get(plugin)

    def was_given(self, section: str, key: str) -> bool:
        """Whether the user set a key, rather than leaving it to its default."""
        return key in self.given.get(section, {})

    def locate(self, where: str) -> str:
        """`file:line` of a key, or the file alone."""
        return _locate(self.path, self.lines, where)


def load(path: Path, plugins: Plugins, overrides: Sequence[str] = ()) -> Config:
    """Read and validate a configuration.

    Args:
        path: the TOML file.
        plugins: whose sections are understood.
        overrides: `section.key=value` texts that replace what the file says.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
        InvalidConfig: with one line for each problem.
    """
    values, lines = toml.read(path)
    problems: list[Problem] = []
    tables = _tables(values, problems)
    _override(tables, overrides, problems)
    tables = {name: _expand(name, table, problems) for name, table in tables.items()}

    models = dict(CORE_SECTIONS) | plugin_sections(plugins)
    for name in tables.keys() - models.keys():
        problems.append(_unknown_section(name, models, plugins))
    parsed = {name: _parse(name, model, tables.get(name, {}), problems) for name, model in models.items()}
    problems += contradictions(tables.get("fine_tuner", {}))
    run_table = _merge_run_names(tables, problems)
    if parsed.get("run") is not None:
        parsed["run"] = _parse("run", RunSettings, run_table, [])

    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        raise InvalidConfig([describe(problem, path, lines) for problem in problems])
    fine_tuner, stages, run, audit = (parsed.pop(name) for name in CORE_SECTIONS)
    assert isinstance(fine_tuner, FineTunerSettings)
    assert isinstance(stages, StageSettings)
    assert isinstance(run, RunSettings)
    assert isinstance(audit, AuditSettings)
    sections = {name: section for name, section in parsed.items() if section is not None}
    return Config(path, fine_tuner, stages, run, audit, sections, tables, lines, tuple(overrides))


def plugin_sections(plugins: Plugins) -> dict[str, type[Section]]:
    """The models of the plugins' own sections, by plugin name."""
    return {name: plugins.call("ftcore_settings", name) for name in plugins.implementing("ftcore_settings")}


def describe(problem: Problem, path: Path, lines: Mapping[str, int]) -> str:
    """A problem as one line, with the place in the file."""
    fix = f". {problem.fix}" if problem.fix else ""
    warning = "warning: " if problem.severity == "warning" else ""
    return f"{_locate(path, lines, problem.where)}: {warning}{problem.message}{fix}"


def _locate(path: Path, lines: Mapping[str, int], where: str) -> str:
    while where and where not in lines:
        where = where.rpartition(".")[0]
    return f"{path}:{lines[where]}" if where else str(path)


def _tables(values: Mapping[str, Any], problems: list[Problem]) -> dict[str, dict[str, Any]]:
    tables = {}
    for name, value in values.items():
        if isinstance(value, dict):
            tables[name] = value
        else:
            owner = next((section for section, model in CORE_SECTIONS.items() if name in model.model_fields), None)
            fix = f"Put it under [{owner}]" if owner else "Put it under the section that it belongs to"
            problems.append(Problem(name, f"the key '{_short(name)}' stands outside of any section", fix))
    return tables


def _override(tables: dict[str, dict[str, Any]], overrides: Iterable[str], problems: list[Problem]) -> None:
    for override in overrides:
        target, equals, value = override.partition("=")
        section, dot, key = target.strip().partition(".")
        if not (equals and dot and section and key):
            problems.append(
                Problem("", f"--set {_short(override)} is not of the form section.key=value", "Give all three")
            )
            continue
        tables[section] = {**tables.get(section, {}), key: RawText(value.strip())}


def _expand(section: str, table: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
    """The table with `${NAME}` and `${NAME:-default}` replaced from the environment."""

    def expand(where: str, value: Any) -> Any:
        if isinstance(value, str) and "${" in value:
            return _expand_text(where, value, problems)
        if isinstance(value, list):
            return [expand(where, item) for item in value]
        if isinstance(value, dict):
            return {key: expand(where, item) for key, item in value.items()}
        return value

    return {key: expand(f"{section}.{key}", value) for key, value in table.items()}


def _expand_text(where: str, text: str, problems: list[Problem]) -> str:
    def substitute(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        value = os.environ.get(name) or default
        if value is None:
            problems.append(
                Problem(
                    where,
                    f"{where} reads the environment variable {name}, which is not set",
                    f"Set it, or give a default: ${{{name}:-value}}",
                )
            )
            return ""
        return value

    return RawText(_VARIABLE.sub(substitute, text))


def _parse(name: str, model: type[Section], table: Mapping[str, Any], problems: list[Problem]) -> Section | None:
    try:
        return model.model_validate(dict(table))
    except ValidationError as error:
        problems += _problems(name, model, error)
        return None


def _problems(section: str, model: type[Section], error: ValidationError) -> Iterable[Problem]:
    by_key: dict[str, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        by_key.setdefault(str(details["loc"][0]) if details["loc"] else "", []).append(details)
    for key, group in by_key.items():
        where = f"{section}.{key}" if key else section
        yield _problem(where, section, key, model, group)


def _problem(where: str, section: str, key: str, model: type[Section], group: Sequence[ErrorDetails]) -> Problem:
    kind = group[0]["type"]
    if kind == "extra_forbidden":
        return _unknown_key(where, section, key, model)
    if kind == "missing":
        return Problem(where, f"[{section}] has no {key}, which is required", f"Add {key} = …")
    # A union reports one error for each of its members; together they say what is allowed.
    wanted = " or ".join(dict.fromkeys(_wanted(details) for details in group))
    return Problem(where, f"{where} = {_shown(group[0]['input'])} is not allowed: {wanted}")


def _wanted(details: ErrorDetails) -> str:
    message = details["msg"].removeprefix("Value error, ")
    inside = [str(part) for part in details["loc"][1:] if isinstance(part, int)]
    at = f" (item {int(inside[0]) + 1})" if inside else ""
    return message[:1].lower() + message[1:] + at


def _unknown_key(where: str, section: str, key: str, model: type[Section]) -> Problem:
    homes = [name for name, other in CORE_SECTIONS.items() if key in other.model_fields]
    if homes:
        fix = f"It belongs under [{homes[0]}]"
    elif close := get_close_matches(key[:_SHOWN], model.model_fields, n=1, cutoff=0.6):
        fix = f"Did you mean {close[0]}?"
    else:
        fix = f"Keys of [{section}]: {', '.join(model.model_fields)}" if len(model.model_fields) <= 12 else ""
        fix = fix or "`ftcore schema` lists the keys"
    return Problem(where, f"[{section}] has no key '{_short(key)}'", fix)


def _unknown_section(name: str, models: Mapping[str, type[Section]], plugins: Plugins) -> Problem:
    message = f"the section [{_short(name)}] belongs to nothing that is installed"
    record = plugins.get(name)
    if record is not None:
        reason = f"is {record.state}: {record.reason}" if record.state != "ok" else "has no settings"
        return Problem(name, f"the section [{name}] cannot be used: {record} {reason}", "Remove the section or mend it")
    if close := get_close_matches(name[:_SHOWN], models, n=1, cutoff=0.6):
        return Problem(name, message, f"Did you mean [{close[0]}]?")
    return Problem(name, message, "Install the plugin of that name, or remove the section")


_RUN_NAMES = {"run_name": "name", "run_name_prefix": "name_prefix", "run_name_suffix": "name_suffix"}


def _merge_run_names(tables: Mapping[str, Mapping[str, Any]], problems: list[Problem]) -> dict[str, Any]:
    """`[mlflow] run_name*` name the run too, whatever tracker is used; the `[run]` table with them filled in."""
    merged = dict(tables.get("run", {}))
    for old, new in _RUN_NAMES.items():
        value = tables.get("mlflow", {}).get(old)
        if value in (None, "", "null"):
            continue
        if merged.get(new) not in (None, "", "null", value):
            message = f"run.{new} = {_shown(merged[new])} and mlflow.{old} = {_shown(value)} name the same thing"
            problems.append(Problem(f"mlflow.{old}", message, "Remove one of them"))
        merged[new] = value
    return merged


def _shown(value: Any) -> str:
    """A value for a message, as TOML would write it, cut where it is long."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + _short(value).replace("\n", "\\n") + '"'
    return _short(str(value))


def _short(text: str) -> str:
    printable = "".join(char if char.isprintable() or char == "\n" else "�" for char in text[: _SHOWN + 1])
    return printable if len(text) <= _SHOWN else printable[:_SHOWN] + "…"


__all__ = ["CORE_SECTIONS", "Config", "ConfigError", "describe", "load", "plugin_sections"]
