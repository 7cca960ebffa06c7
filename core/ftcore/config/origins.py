"""Where each value of a configuration comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ftcore.config import CORE_SECTIONS, Config, tables, variables
from ftcore.config.policy import RUN_NAMES, Ruling
from ftcore.secrets import masked
from ftcore.settings.base import Section

Kind = Literal["default", "plugin", "derived", "file", "extended", "set", "policy"]


@dataclass(frozen=True)
class Origin:
    """Where a value comes from.

    Attributes:
        where: the key, as `section.key`; a key in its table where the parts of a table come from several places.
        value: what is in force, as TOML has it, secrets masked.
        kind: "default" (ftcore's), "plugin" (the default of a plugin's section), "derived" (it follows from another key),
            "file", "extended" (a file or text that the file extends), "set" (`--set`), or "policy".
        place: the file and line, the option, or the plugin.
        environment: the environment variables that the value was read from.
        locked: the plugin whose policy allows no other value; "" where there is none.
        reason: what the policy says.
    """

    where: str
    value: Any
    kind: Kind
    place: str
    environment: tuple[str, ...] = ()
    locked: str = ""
    reason: str = ""

    def __str__(self) -> str:
        """Where it comes from, for people."""
        said = {"default": "ftcore's default", "plugin": f"the default of the plugin '{self.place}'"}.get(
            self.kind, self.place
        )
        if self.kind == "policy":
            said = f"the policy of {self.place}{', locked' * bool(self.locked)}{f': {self.reason}' * bool(self.reason)}"
        elif self.locked:
            said += f", locked by {self.locked}"
        variables = f", from {' and '.join(self.environment)} in the environment" if self.environment else ""
        return said + variables


def origins(config: Config, effective: Mapping[str, Mapping[str, Any]]) -> list[Origin]:
    """The origin of every value in force.

    Args:
        effective: all settings in force, as TOML has them.
    """
    return [
        _origin(config, where, masked(tables.get(effective, where)))
        for section, table in effective.items()
        for key in table
        for where in _parts(config, f"{section}.{key}")
    ]


def written(config: Config) -> dict[str, str]:
    """By key, where each value that is no default was written; names of variables stand beside it."""
    found = {}
    for where in (f"{section}.{key}" for section, table in config.written.items() for key in table):
        for part in _parts(config, where):
            found[part] = config.locate(part) + "".join(f", ${{{name}}}" for name in _read(config, part))
    return found


def _parts(config: Config, where: str) -> Iterator[str]:
    """The key itself, or the keys in its table where those come from several places."""
    value = tables.get(config.written, where)
    inner = [key for key, _ in tables.leaves(tables.nested(where, value))] if isinstance(value, Mapping) else []
    as_one = {config.locate(key) for key in inner} <= {config.locate(where)}
    yield from [where] if as_one or not all(tables.has(config.written, key) for key in inner) else inner


def _origin(config: Config, where: str, value: Any) -> Origin:
    covering = [one for one in config.policies if _covers(one, where)]
    ruling = next((one for one in covering if one.locked), covering[0] if covering else None)
    lock = {"locked": ruling.blame, "reason": ruling.reason} if ruling is not None and ruling.locked else {}
    if not tables.has(config.written, where):
        return _unwritten(config, where, value)
    environment = tuple(_read(config, where))
    place = config.locate(where)
    if _is_ruled(config, where):
        assert ruling is not None
        return Origin(where, value, "policy", ruling.blame, environment, **{"reason": ruling.reason, **lock})
    if where in config.source.overridden:
        return Origin(where, value, "set", place, environment, **lock)
    found = config.source.layer(where)
    kind: Kind = "file" if found is None or found is config.source.layers[0] else "extended"
    return Origin(where, value, kind, place, environment, **lock)


def _unwritten(config: Config, where: str, value: Any) -> Origin:
    section, _, key = where.partition(".")
    if section == "run":
        for old, new in RUN_NAMES.items():
            if new == key and config.written.get("mlflow", {}).get(old) not in (None, "", "null"):
                return Origin(where, value, "derived", f"mlflow.{old}, {config.locate(f'mlflow.{old}')}")
    model: Section = getattr(config, section) if section in CORE_SECTIONS else config.sections[section]
    default = type(model).model_fields[key].get_default(call_default_factory=True)
    if getattr(model, key) != default:
        return Origin(where, value, "derived", "it follows from other keys")
    own = section in CORE_SECTIONS
    return Origin(where, value, "default" if own else "plugin", "ftcore" if own else section)


def _read(config: Config, where: str) -> list[str]:
    """The variables that were set and read for a value."""
    texts = [value for _, value in tables.leaves(tables.nested(where, tables.get(config.written, where)))]
    names = [name for text in _texts(texts) for name in variables.names(text)]
    return [name for name in dict.fromkeys(names) if os.environ.get(name)]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)


def _is_ruled(config: Config, where: str) -> bool:
    return any(_covers(ruling, where) for ruling in config.ruled)


def _covers(ruling: Ruling, where: str) -> bool:
    return not ruling.unused and f"{where}.".startswith(f"{ruling.where}.")
