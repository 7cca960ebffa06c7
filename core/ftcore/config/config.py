"""From a TOML file to validated settings, with every problem found in one go."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ftcore import extras, secrets
from ftcore.config import extends, policy, renamed, toml, variables, wording
from ftcore.config.overrides import put
from ftcore.config.policy import Ruling
from ftcore.config.source import Source
from ftcore.errors import ConfigError, InvalidConfig, Problem
from ftcore.plugins import Plugins
from ftcore.settings.audit import AuditSettings
from ftcore.settings.base import Section
from ftcore.settings.contradictions import contradictions
from ftcore.settings.fine_tuner import FineTunerSettings
from ftcore.settings.run import RunSettings
from ftcore.settings.stages import StageSettings
from ftcore.text import LONGEST, short, shown

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


def load(
    path: Path,
    plugins: Plugins,
    overrides: Sequence[str] = (),
    chosen: Mapping[str, Collection[str]] | None = None,
) -> Config:
    """Read and validate a configuration.

    Args:
        path: the TOML file.
        plugins: whose sections are understood, and whose policies count.
        overrides: `section.key=value` texts that replace what the file says.
        chosen: by section, the keys that are the user's choice, in a file that has all defaults too (a run
            directory's); None where everything in the file is. Such a file has what policies gave; of today's only
            the locks count, on the keys of `overrides`.

    Raises:
        ConfigError: the file, or one that it extends, cannot be read or is not TOML.
        PluginError: a plugin has failed to give its policy, or a configuration to extend.
        InvalidConfig: with one line for each problem.
    """
    models = CORE_SECTIONS | plugins.sections
    layers, outdated = renamed.in_layers(extends.read(path, plugins), models)
    current, outdated_overrides = renamed.in_overrides(overrides, models)
    chosen = chosen if chosen is None else renamed.in_keys(chosen, models)
    problems: list[Problem] = []
    said = _tables(extends.merged(layers), models, problems)
    overridden = put(said, current, CORE_SECTIONS, problems)
    problems += [_unknown_section(name, models, plugins) for name in said if name not in models]

    def read(tables: Mapping[str, Mapping[str, Any]], unset: list[Problem]) -> Tables:
        known = {name: table for name, table in tables.items() if name in models}
        return {name: models[name].read(variables.expand(name, table, unset)) for name, table in known.items()}

    rulings: list[Ruling] = []
    if policy.asked(plugins) and (chosen is None or overridden):
        rulings = policy.gather(plugins, models, read(said, []), problems)
    if chosen is not None:
        rulings = policy.only(rulings, overridden)
    counting = policy.in_force(rulings, said, read(said, [])) if chosen is None and rulings else []
    source = Source(path, layers, overridden, {ruling.where: ruling.blame for ruling in counting})

    unset: list[Problem] = []
    written = policy.under(said, counting)
    values = read(written, unset)
    problems += unset
    if toml.is_too_deep(values):  # not a file, which was looked at: a text behind --set or in a variable was a table
        raise ConfigError("a value of --set or of an environment variable is nested too deeply")
    for table in values.values():
        _notice_secrets(table)
    given = {
        name: {
            key: value
            for key, value in table.items()
            if key in said[name] and (chosen is None or key in chosen.get(name, ()))
        }
        for name, table in values.items()
        if name in said
    }
    reported = {problem.where for problem in unset}
    broken = policy.violations(rulings, values, given, lambda tables: read(tables, []))
    problems += [problem for problem in broken if problem.where not in reported]
    problems += _contradictions(values if chosen is None else given, given)
    effective = {**values, "run": _with_mlflow_names(values, problems)}
    expected = {*said, *CORE_SECTIONS, *(policy.asked(plugins) if chosen is None else ())}
    parsed: dict[str, Section] = {}
    incomplete: dict[str, list[Problem]] = {}
    for name, model in models.items():
        try:
            parsed[name] = model.model_validate(effective.get(name, {}))
        except ValidationError as error:
            found = list(wording.problems(name, effective.get(name, {}), models, error))
            here = [problem for problem in found if name in expected or problem.where in source.policies]
            problems += [problem for problem in here if problem.where not in reported]
            incomplete[name] = [problem for problem in found if problem not in here]

    if any(problem.severity == "error" for problem in problems):
        raise InvalidConfig(in_order(source, problems))
    return Config(
        path=path,
        **{name: parsed.pop(name) for name in CORE_SECTIONS},  # type: ignore[arg-type]
        sections=parsed,
        incomplete=incomplete,
        given=given,
        written=written,
        source=source,
        overrides=tuple(overrides),
        outdated=(*outdated, *outdated_overrides),
        policies=tuple(rulings),
        folders=_folders(source, said),
    )


def _contradictions(values: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[Problem]:
    """What cannot both be meant, whoever gave it; what has no effect is told only of what the user wrote."""
    yield from (problem for problem in contradictions(values) if problem.severity == "error")
    yield from (problem for problem in contradictions(given) if problem.severity == "warning")


def _folders(source: Source, said: Mapping[str, Mapping[str, Any]]) -> dict[str, Path]:
    """The folder of each key that stands in a file elsewhere than the configuration itself."""
    keys = {f"{section}.{key}" for section, table in said.items() for key in table} - source.overridden
    found = {where: layer.folder for where in keys if (layer := source.layer(where)) and layer.folder is not None}
    return {where: folder for where, folder in sorted(found.items()) if folder != source.path.parent}


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
    """The problems as lines, in the order of the files."""
    return [source.describe(problem) for problem in sorted(problems, key=lambda problem: source.order(problem.where))]


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


def _with_mlflow_names(values: Mapping[str, Mapping[str, Any]], problems: list[Problem]) -> dict[str, Any]:
    """The `[run]` table with `[mlflow] run_name*` filled in: they name the run too, whatever tracker is used."""
    merged = dict(values.get("run", {}))
    refused = {problem.where for problem in problems}
    for old, new in policy.RUN_NAMES.items():
        value = values.get("mlflow", {}).get(old)
        if value in (None, ""):
            continue
        where = f"mlflow.{old}"
        if merged.get(new) not in (None, "", value) and where not in refused:
            message = f"run.{new} = {shown(merged[new])} and {where} = {shown(value)} name the same thing"
            problems.append(Problem(where, message, "Remove one of them"))
        merged[new] = value
    return merged
