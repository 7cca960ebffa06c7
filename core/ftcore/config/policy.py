"""What plugins say of everybody's configuration (`ftcore_policy`): values where the user gives none, and locks.

The user's files and `--set` win over a policy's value, unless it is locked: then another value is an error. That is judged
in the end, on the values in force, so that no way of writing a key goes around a lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, time
from difflib import get_close_matches
from itertools import combinations
from typing import Any

from pydantic import ValidationError

from ftcore.config import tables
from ftcore.contracts import Policy
from ftcore.errors import Problem
from ftcore.plugins import Plugins
from ftcore.settings.base import Section
from ftcore.settings.contradictions import excluded
from ftcore.text import shown

HOOK = "ftcore_policy"

RUN_NAMES = {"run_name": "name", "run_name_prefix": "name_prefix", "run_name_suffix": "name_suffix"}
"""Keys of `[mlflow]` that mean a key of `[run]`."""

_SHOWN = 6

Tables = Mapping[str, Mapping[str, Any]]
Read = Callable[[Tables], dict[str, dict[str, Any]]]
"""Reads tables as the sections' fields want their values."""


@dataclass(frozen=True)
class Ruling:
    """What a policy says of one key.

    Attributes:
        where: the key, as `section.key`, or a key in its table.
        value: as TOML has it.
        plugin: whose policy it is.
        blame: the plugin with its distribution and version, for messages.
        locked: no other value is allowed.
        reason: why; may be empty.
        unused: why it is left out, where it is.
    """

    where: str
    value: Any
    plugin: str
    blame: str
    locked: bool
    reason: str
    unused: str = ""

    @property
    def because(self) -> str:
        """The reason in brackets, or nothing."""
        return f" ({self.reason})" if self.reason else ""


def asked(plugins: Plugins) -> list[str]:
    """The plugins with a policy."""
    return plugins.implementing(HOOK)


def gather(
    plugins: Plugins, models: Mapping[str, type[Section]], said: Tables, problems: list[Problem]
) -> list[Ruling]:
    """The rulings of all policies.

    Args:
        plugins: who is asked.
        models: the sections that there are; a ruling on another one is left out, and says so.
        said: what the user says, read as the fields want it.
        problems: where two policies differ, it is added here.

    Raises:
        PluginError: a plugin failed to answer, or answered something else than a policy.
    """
    found: list[Ruling] = []
    for name in asked(plugins):
        try:
            settings = models[name].model_validate(said.get(name, {})) if name in models else None
        except ValidationError:
            continue  # nothing begins with such a section: its problems are reported as anybody's
        answer = plugins.call(HOOK, name, settings=settings)
        if answer is None:
            continue
        if not isinstance(answer, Policy):
            raise plugins.breach(name, f"{HOOK} must return a Policy or None and returned a {type(answer).__name__}")
        try:
            rulings = list(_rulings(name, str(plugins.get(name)), answer))
        except (TypeError, AttributeError) as error:
            raise plugins.breach(name, f"its policy cannot be written as TOML: {error}") from None
        found += [_usable(ruling, models, plugins) for ruling in rulings]
    problems += _conflicts([ruling for ruling in found if not ruling.unused], said)
    return found


def in_force(rulings: Sequence[Ruling], said: Tables, read: Tables) -> list[Ruling]:
    """The rulings whose value counts: the user says nothing of the key, nor anything that excludes a value not locked.

    Args:
        rulings: all of them.
        said: what the user says.
        read: the same as the fields want it.
    """
    gone = excluded(read.get("fine_tuner", {}))
    return [
        ruling
        for ruling in rulings
        if not ruling.unused
        and not tables.says(said, ruling.where)
        and (ruling.locked or not (_own_key(ruling.where) in gone or tables.says(said, _other_name(ruling.where))))
    ]


def under(said: Tables, rulings: Sequence[Ruling]) -> dict[str, dict[str, Any]]:
    """What the user says, with the policies' values where there is nothing."""
    below: dict[str, Any] = {}
    for ruling in rulings:
        below = tables.merged(below, tables.nested(ruling.where, ruling.value))
    return tables.merged(below, said)


def violations(rulings: Sequence[Ruling], values: Tables, said: Tables, read: Read) -> Iterator[Problem]:
    """Where the values in force are not what a policy has locked.

    Args:
        rulings: all of them.
        values: what is in force.
        said: what the user says.
        read: as the values in force were read.
    """
    for ruling in rulings:
        if not ruling.locked or ruling.unused:
            continue
        wanted = tables.get(read(tables.nested(ruling.where, ruling.value)), ruling.where)
        where = ruling.where
        found = tables.get(values, where)
        other = _other_name(where)
        if found == wanted and tables.get(said, other) not in (None, "", wanted) and tables.has(said, other):
            where, found = other, tables.get(said, other)
        if found != wanted:
            stands = f"{where} = {shown(found)}" if tables.has(values, where) else f"a configuration without {where}"
            message = f"{stands} is not allowed: {ruling.blame} locks it to {shown(wanted)}{ruling.because}"
            yield Problem(where, message, "Remove it")


def headline(ruled: Sequence[Ruling]) -> str:
    """What policies gave, in one line."""
    by_plugin: dict[str, list[str]] = {}
    for ruling in ruled:
        by_plugin.setdefault(ruling.plugin, []).append(ruling.where + " (locked)" * ruling.locked)
    return "; ".join(f"{plugin} gives {_few(keys)}" for plugin, keys in by_plugin.items())


def facts(ruled: Sequence[Ruling], plugins: Plugins) -> dict[str, Any]:
    """What policies gave, by plugin, for a run's manifest."""
    found: dict[str, Any] = {}
    for ruling in ruled:
        record = plugins.get(ruling.plugin)
        assert record is not None
        about: dict[str, Any] = {
            "distribution": record.distribution,
            "version": record.version,
            "gives": {},
            "locked": {},
        }
        entry = found.setdefault(ruling.plugin, about)
        entry["gives"][ruling.where] = ruling.value
        if ruling.locked:
            entry["locked"][ruling.where] = ruling.reason
    return found


def only(rulings: Sequence[Ruling], keys: frozenset[str]) -> list[Ruling]:
    """The locks on some keys, and no default: for a run that has all its settings, of which `--set` changes some."""
    return [
        ruling
        for ruling in rulings
        if ruling.locked
        and any(f"{ruling.where}.".startswith(f"{key}.") or key == _other_name(ruling.where) for key in keys)
    ]


def _rulings(name: str, blame: str, policy: Policy) -> Iterator[Ruling]:
    def inside(where: str, value: Any) -> Iterator[Ruling]:
        if where in policy.locked:
            yield Ruling(where, _as_toml(value), name, blame, locked=True, reason=policy.locked[where])
        elif isinstance(value, Mapping) and value:
            for key, item in value.items():
                yield from inside(f"{where}.{key}", item)
        else:
            yield Ruling(where, _as_toml(value), name, blame, locked=False, reason=policy.reason)

    for section, table in policy.values.items():
        for key, value in table.items():
            yield from inside(f"{section}.{key}", value)


def _as_toml(value: Any) -> Any:
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return {str(key): _as_toml(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_toml(item) for item in value]
    if isinstance(value, str | int | float | bool | date | time):
        return value
    raise TypeError(f"it has a {type(value).__name__}")


def _usable(ruling: Ruling, models: Mapping[str, type[Section]], plugins: Plugins) -> Ruling:
    section = ruling.where.partition(".")[0]
    if section in models:
        return ruling
    record = plugins.get(section)
    state = (
        "is not installed" if record is None else f"is {record.state}" if record.state != "ok" else "has no settings"
    )
    close = get_close_matches(section, models, n=1) if record is None else []
    hint = f"; did you mean [{close[0]}]?" if close else ""
    return replace(ruling, unused=f"the plugin '{section}' {state}{hint}")


def _conflicts(rulings: Sequence[Ruling], said: Tables) -> Iterator[Problem]:
    for one, other in combinations(rulings, 2):
        first, second = sorted((one, other), key=lambda ruling: len(ruling.where))
        if one.plugin == other.plugin or not f"{second.where}.".startswith(f"{first.where}."):
            continue
        same = tables.get(tables.nested(first.where, first.value), second.where) == second.value
        settled = tables.says(said, second.where) and not (one.locked or other.locked)
        if not same and not settled:
            fix = "Write the key into your file" if not (one.locked or other.locked) else "Leave one of them out"
            message = (
                f"{one.blame} gives {one.where} the value {shown(one.value)} and {other.blame} gives {other.where} "
                f"{shown(other.value)}: two policies that differ"
            )
            yield Problem(second.where, message, f"{fix} (FTCORE_DISABLE={other.plugin})" if "Leave" in fix else fix)


def _few(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more


def _own_key(where: str) -> str:
    return where.removeprefix("fine_tuner.") if where.startswith("fine_tuner.") else ""


def _other_name(where: str) -> str:
    """The other key of the same meaning: `[mlflow] run_name*` name the run too; else a key that does not exist."""
    section, _, key = where.partition(".")
    if section == "mlflow" and key in RUN_NAMES:
        return f"run.{RUN_NAMES[key]}"
    if section == "run":
        return next((f"mlflow.{old}" for old, new in RUN_NAMES.items() if new == key), "\0")
    return "\0"
