"""Keys that have another name now: read under the old one, and told of, until the old one goes away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ftcore.config.extends import Layer
from ftcore.settings.base import Section

Models = Mapping[str, type[Section]]


def in_layers(layers: Iterable[Layer], models: Models) -> tuple[list[Layer], list[str]]:
    """The layers with today's names, and one line for each old one: a warning with its place.

    Where a table has both names, the old one stays, and is an unknown key.
    """
    current, told = [], []
    for layer in layers:
        values, lines = dict(layer.values), dict(layer.lines)
        for section, old, new in _renames(models):
            table = values.get(section)
            if not isinstance(table, Mapping) or old not in table or new in table:
                continue
            values[section] = {new if key == old else key: value for key, value in table.items()}
            before, after = f"{section}.{old}", f"{section}.{new}"
            line = layer.line(before)
            told.append(f"{layer.name}:{line}: {_warning(section, old, new)}")
            lines = {_moved(where, before, after): number for where, number in lines.items()}
        current.append(replace(layer, values=values, lines=lines))
    return current, told


def in_overrides(overrides: Sequence[str], models: Models) -> tuple[list[str], list[str]]:
    """The texts of `--set` with today's names, and one line for each old one."""
    now = {f"{section}.{old}": (section, old, new) for section, old, new in _renames(models)}
    current, told = [], []
    for override in overrides:
        target, equals, value = override.partition("=")
        found = now.get(target.strip()) if equals else None
        if found is not None:
            section, old, new = found
            told.append(f"--set {section}.{old}: {_warning(section, old, new)}")
            override = f"{section}.{new}={value}"
        current.append(override)
    return current, told


def in_keys(keys: Mapping[str, Iterable[str]], models: Models) -> dict[str, set[str]]:
    """Keys by section, with today's names."""
    return {
        section: {models[section].renames().get(key, key) for key in found} if section in models else set(found)
        for section, found in keys.items()
    }


def _renames(models: Models) -> Iterable[tuple[str, str, str]]:
    return [(section, old, new) for section, model in models.items() for old, new in model.renames().items()]


def _warning(section: str, old: str, new: str) -> str:
    return f"warning: {old} of [{section}] is called {new} now, and the old name goes away. Write {new}"


def _moved(where: str, before: str, after: str) -> str:
    return after + where.removeprefix(before) if f"{where}.".startswith(f"{before}.") else where


def as_properties(model: type[Section], properties: Mapping[str, Any]) -> dict[str, Any]:
    """The old names in a section's JSON Schema: they mean the same, and editors strike them through."""
    return {old: {**properties[new], "deprecated": True} for old, new in model.renames().items() if new in properties}
