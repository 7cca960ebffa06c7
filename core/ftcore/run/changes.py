"""What a run was begun with and what it would go on with, compared.

The settings that may differ are declared beside them (`Section.may_change`); of the rest, a difference stops the run,
because half of the training would be of one kind and half of another. Data are compared by their contents.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import tomli

from ftcore import __version__, files
from ftcore.config import CORE_SECTIONS, Config, policy
from ftcore.errors import ConfigError, InvalidConfig
from ftcore.plugins import Plugins
from ftcore.plugins.selection import Choice
from ftcore.run import manifest, runs
from ftcore.secrets import masked
from ftcore.settings.base import Section
from ftcore.text import shown

LEARNING_STAGES = ("loader", "trainer", "model")
"""Whoever serves these decides what is learned; rows and examples are compared themselves."""

LEARNING_LIBRARIES = frozenset(
    {"torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "unsloth", "unsloth_zoo", "gguf"}
)
"""The libraries that compute what is learned; those that only read, write or report may have other versions."""

_NOTHING = "nothing"


@dataclass(frozen=True)
class Change:
    """A difference.

    Attributes:
        what: the setting as `section.key`, or what else differs.
        old: what the run was begun with, as a user would write it.
        new: what it is today.
        matters: whether what is learned depends on it.
    """

    what: str
    old: str
    new: str
    matters: bool

    def __str__(self) -> str:
        return f"{self.what} was {self.old} and is {self.new}"


def changes(
    folder: Path, facts: Mapping[str, Any], config: Config, plugins: Plugins, selected: Sequence[Choice]
) -> list[Change]:
    """The differences between a run directory, with its manifest, and today's configuration and packages."""
    then = {choice["stage"]: choice["plugin"] for choice in facts.get("stages", ())}
    now: dict[str, str] = {choice.stage: choice.plugin for choice in selected if choice.plugin}
    learning = {stages.get(stage) for stages in (then, now) for stage in LEARNING_STAGES}
    given = _given(facts)
    found = [*_settings(_tables(folder), tomli.loads(runs.as_toml(config)), plugins, learning, given)]
    found += _policies(facts.get("policies", {}), policy.facts(config.ruled, plugins))
    found += [
        Change(f"the {stage}", str(then.get(stage, _NOTHING)), str(now.get(stage, _NOTHING)), matters=True)
        for stage in LEARNING_STAGES
        if then.get(stage) != now.get(stage)
    ]
    return [*found, *_versions(facts, plugins, learning)]


def changeable(name: str, model: type[Section], learning: bool) -> frozenset[str]:
    """The keys of a section that may differ when a run goes on.

    Args:
        learning: whether the section is that of a plugin that decides what is learned; any key of another may differ.
    """
    return model.changeable() if name in CORE_SECTIONS or learning else frozenset(model.model_fields)


def data_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """The differences between the data of two manifests; what was not seen then is none.

    Only the examples decide: rows may have other columns, and come from elsewhere.
    """
    found = []
    for key, what in (("data_fingerprints", "rows"), ("example_fingerprints", "examples")):
        for purpose in ("training", "validation"):
            old, new = (facts.get(key, {}).get(purpose) for facts in (then, now))
            if old != new and key in then:
                text = f"the fingerprint of the {purpose} {what}"
                found.append(Change(text, str(old or _NOTHING), str(new or _NOTHING), matters=what == "examples"))
    if then.get("processes", now["processes"]) != now["processes"]:  # the order of the data depends on it
        found.append(Change("the number of processes", str(then["processes"]), str(now["processes"]), matters=True))
    return found


def require_none(name: str, found: Sequence[Change]) -> None:
    """Stop where one of the differences matters.

    Raises:
        InvalidConfig: it names them all, one on a line.
    """
    lines = [f"{change}: the result depends on it" for change in found if change.matters]
    if lines:
        several = "these are" if len(lines) > 1 else "this is"
        advice = f"the run {name} cannot go on while {several} different. Change it back, or add --accept-changes"
        raise InvalidConfig([*lines, advice])


def require_same_settings(folder: Path, config: Config, plugins: Plugins, selected: Sequence[Choice]) -> None:
    """Stop a process that a launcher has started, where it reads other settings than the one that made the run directory:
    a plugin with a policy may be missing on its machine, or an environment variable.

    Raises:
        ConfigError: what is learned depends on the difference.
    """
    learning = {choice.plugin for choice in selected if choice.stage in LEARNING_STAGES}
    found = _settings(_tables(folder), tomli.loads(runs.as_toml(config)), plugins, learning, _given(runs.facts(folder)))
    if different := [str(change) for change in found if change.matters]:
        raise ConfigError(
            "this process has other settings than the run that it belongs to",
            why="; ".join(different),
            fix="Install the same plugins, and set the same variables, wherever the run is launched to",
        )


def renewed(folder: Path, config: Config, plugins: Plugins, selected: Sequence[Choice]) -> dict[str, Any]:
    """What the manifest says from now on where a run goes on; its directory gets the settings in force."""
    files.write_text(folder / "config.toml", runs.as_toml(config))
    first = manifest.first_manifest("", config, plugins, selected, datetime.now().astimezone())
    kept = (
        "ftcore",
        "config_file",
        "config_dir",
        "config_folders",
        "origins",
        "policies",
        "overrides",
        "chosen",
        "seed",
        "stages",
        "plugins",
        "python",
        "libraries",
    )
    return {key: first[key] for key in kept}


def _tables(folder: Path) -> dict[str, Any]:
    try:
        return tomli.loads((folder / "config.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder} is no run directory", why=f"its config.toml cannot be read: {error}") from error


def _given(facts: Mapping[str, Any]) -> dict[str, str]:
    """The plugin whose policy gave a value then, by `section.key`."""
    found: dict[str, str] = {}
    for plugin, about in facts.get("policies", {}).items():
        for where in about["gives"]:
            found[".".join(where.split(".")[:2])] = f"{plugin} ({about['distribution']} {about['version']})"
    return found


def _policies(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    """Policies that are others now, or gone; what they change in the settings is told besides."""
    for plugin in sorted(then.keys() | now.keys()):
        old, new = then.get(plugin), now.get(plugin)
        if masked(old) != masked(new):
            yield Change(f"the policy of {plugin}", _policy(old), _policy(new), matters=False)


def _policy(about: Mapping[str, Any] | None) -> str:
    if about is None:
        return _NOTHING
    gives = ", ".join(f"{where} = {shown(value)}" for where, value in about["gives"].items())
    return f"that of {about['distribution']} {about['version']}, which gives {gives}"


def _settings(
    old: Mapping[str, Any], new: Mapping[str, Any], plugins: Plugins, learning: set[Any], given: Mapping[str, str]
) -> Iterator[Change]:
    sections = CORE_SECTIONS | plugins.sections
    for name, model in sections.items():
        before, after = old.get(name), new.get(name)
        if before is None or after is None or before == after:
            continue  # a plugin that was not there then, or is not now, and has no part in the run
        harmless = changeable(name, model, name in learning)
        for key in sorted(before.keys() | after.keys()):
            first, second = before.get(key, _NOTHING), after.get(key, _NOTHING)
            if first != second:
                by = f" by the policy of {given[where]}" if (where := f"{name}.{key}") in given else ""
                yield Change(where, f"{shown(first)}{by}", shown(second), matters=key not in harmless)


def _versions(facts: Mapping[str, Any], plugins: Plugins, learning: set[Any]) -> Iterator[Change]:
    then, now = facts.get("libraries", {}), manifest.library_versions()
    for name in sorted(then.keys() | now.keys()):
        old, new = str(then.get(name, _NOTHING)), str(now.get(name, _NOTHING))
        # One that was not there, or is not any more, was not used: the plugins that use it are compared.
        if old != new:
            yield Change(name, old, new, matters=name in LEARNING_LIBRARIES and _NOTHING not in (old, new))
    for name in sorted(filter(None, learning)):
        record, before = plugins.get(name), facts.get("plugins", {}).get(name)
        if record is not None and before is not None and before["version"] != record.version:
            what = f"the plugin {name} ({record.distribution})"
            yield Change(what, str(before["version"]), str(record.version), matters=True)
    for name, new in (("ftcore", __version__), ("python", platform.python_version())):
        if facts.get(name) != new:
            yield Change(name, str(facts.get(name, _NOTHING)), new, matters=False)
