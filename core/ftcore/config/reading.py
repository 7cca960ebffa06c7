"""From a TOML file to validated settings, with every problem found in one go."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ftcore import secrets
from ftcore.config import extends, policy, renamed, tables, toml, variables, wording
from ftcore.config.config import CORE_SECTIONS, Config, in_order
from ftcore.config.extends import Layer
from ftcore.config.overrides import put
from ftcore.config.policy import Ruling
from ftcore.config.source import Source
from ftcore.errors import ConfigError, InvalidConfig, Problem
from ftcore.plugins import Plugins
from ftcore.settings.base import Section
from ftcore.settings.contradictions import contradictions
from ftcore.text import short, shown

Tables = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Reading:
    """What was read, whether it can be used or not.

    Attributes:
        config: the configuration; of one that cannot be used, what it would be without its mistakes: wrong values have
            their defaults, missing ones a stand-in, and what a lock forbids the lock's value. None where it would be
            none at all.
        problems: what is wrong.
        source: where it was written.
        wrong: the keys with a problem, as `section.key`.
        forbidden: the problems are locks' and nothing else, so that `config` is what it will be without those keys.
    """

    config: Config | None
    problems: Sequence[Problem]
    source: Source
    wrong: frozenset[str] = frozenset()
    forbidden: bool = False

    @property
    def valid(self) -> bool:
        """Whether it can be used."""
        return not any(problem.severity == "error" for problem in self.problems)

    def required(self) -> Config:
        """The configuration. Raises InvalidConfig where it cannot be used."""
        if not self.valid:
            raise InvalidConfig(in_order(self.source, self.problems))
        assert self.config is not None
        return self.config


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
    return read(path, plugins, overrides, chosen).required()


def read(
    path: Path,
    plugins: Plugins,
    overrides: Sequence[str] = (),
    chosen: Mapping[str, Collection[str]] | None = None,
) -> Reading:
    """As `load`, and what was read of a configuration that cannot be used.

    Raises:
        ConfigError: the file, or one that it extends, cannot be read or is not TOML.
        PluginError: a plugin has failed to give its policy, or a configuration to extend.
    """
    models = CORE_SECTIONS | plugins.sections
    layers, outdated = renamed.in_layers(extends.read(path, plugins), models)
    current, outdated_overrides = renamed.in_overrides(overrides, models)
    problems: list[Problem] = []
    said = _tables(extends.merged(layers), models, problems)
    overridden = put(said, current, CORE_SECTIONS, problems)
    problems += [wording.unknown_section(name, models, plugins) for name in said if name not in models]
    reader = _Reader(
        path=path,
        plugins=plugins,
        models=models,
        layers=layers,
        overrides=tuple(overrides),
        chosen=chosen if chosen is None else renamed.in_keys(chosen, models),
        outdated=(*outdated, *outdated_overrides),
        found=tuple(problems),
    )
    return reader.read(said, overridden)


@dataclass(frozen=True)
class _Reader:
    """What a configuration is read with.

    Attributes:
        found: the problems that were found before.
        (the others): as `load` and `Config` have them.
    """

    path: Path
    plugins: Plugins
    models: Mapping[str, type[Section]]
    layers: Sequence[Layer]
    overrides: Sequence[str]
    chosen: Mapping[str, Collection[str]] | None
    outdated: Sequence[str]
    found: Sequence[Problem]

    def read(self, said: Tables, overridden: frozenset[str]) -> Reading:
        """Judge what the user says.

        Args:
            said: the tables.
            overridden: the keys that came from `--set`.
        """
        chosen, problems = self.chosen, list(self.found)
        rulings: list[Ruling] = []
        if policy.asked(self.plugins) and (chosen is None or overridden):
            rulings = policy.gather(self.plugins, self.models, self._typed(said, []), problems)
        if chosen is not None:
            rulings = policy.only(rulings, overridden)
        counting = policy.in_force(rulings, said, self._typed(said, [])) if chosen is None and rulings else []
        source = Source(self.path, self.layers, overridden, {ruling.where: ruling.blame for ruling in counting})

        unset: list[Problem] = []
        written = policy.under(said, counting)
        values = self._typed(written, unset)
        problems += unset
        if toml.is_too_deep(
            values
        ):  # not a file, which was looked at: a text behind --set or in a variable was a table
            raise ConfigError("a value of --set or of an environment variable is nested too deeply")
        for table in values.values():
            _notice_secrets(table)
        given = {
            name: {key: value for key, value in table.items() if key in said[name] and self._is_chosen(name, key)}
            for name, table in values.items()
            if name in said
        }
        reported = {problem.where for problem in unset}
        broken = list(policy.violations(rulings, values, given, lambda tables: self._typed(tables, [])))
        problems += [problem for problem in broken if problem.where not in reported]
        problems += _contradictions(values if chosen is None else given, given)
        effective = {**values, "run": _with_mlflow_names(values, problems)}
        expected = {*said, *CORE_SECTIONS, *(policy.asked(self.plugins) if chosen is None else ())}
        parsed: dict[str, Section] = {}
        incomplete: dict[str, list[Problem]] = {}
        for name, model in self.models.items():
            table = effective.get(name, {})
            try:
                parsed[name] = model.model_validate(table)
            except ValidationError as error:
                found = list(wording.problems(name, table, self.models, error))
                here = [problem for problem in found if name in expected or problem.where in source.policies]
                problems += [problem for problem in here if problem.where not in reported]
                incomplete[name] = [problem for problem in found if problem not in here]
                if name in CORE_SECTIONS and (saved := _without_mistakes(model, table, error)) is not None:
                    parsed[name] = saved

        errors = [problem for problem in problems if problem.severity == "error"]
        wrong = frozenset(problem.where for problem in errors)
        allowed = tables.without(said, wrong)
        if chosen is None and allowed != said and all(problem in broken for problem in errors):
            mended = self.read(allowed, overridden - wrong)
            if mended.valid:
                return Reading(mended.config, problems, source, wrong, forbidden=True)
        if not CORE_SECTIONS.keys() <= parsed.keys():
            return Reading(None, problems, source, wrong)
        config = Config(
            path=self.path,
            **{name: parsed.pop(name) for name in CORE_SECTIONS},  # type: ignore[arg-type]
            sections=parsed,
            incomplete=incomplete,
            given=given,
            written=written,
            source=source,
            overrides=self.overrides,
            outdated=self.outdated,
            policies=tuple(rulings),
            folders=_folders(source, said),
        )
        return Reading(config, problems, source, wrong)

    def _typed(self, said: Mapping[str, Mapping[str, Any]], unset: list[Problem]) -> Tables:
        """Tables as the sections' fields want their values, variables replaced."""
        known = {name: table for name, table in said.items() if name in self.models}
        return {name: self.models[name].read(variables.expand(name, table, unset)) for name, table in known.items()}

    def _is_chosen(self, section: str, key: str) -> bool:
        return self.chosen is None or key in self.chosen.get(section, ())


_STAND_IN = "missing"
"""The value of a text that is required and not there, to look for further mistakes with."""


def _without_mistakes(model: type[Section], table: Mapping[str, Any], error: ValidationError) -> Section | None:
    """A section with the defaults of what is wrong in it; None where that is none either."""
    wrong = {str(details["loc"][0]) for details in error.errors() if details["loc"]}
    required = {key for key, field in model.model_fields.items() if field.is_required()}
    kept = {key: value for key, value in table.items() if key not in wrong}
    try:
        return model.model_validate(kept | dict.fromkeys(wrong & required, _STAND_IN))
    except ValidationError:
        return None


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
