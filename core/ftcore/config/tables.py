"""Tables in tables, as TOML has them: merging them, and looking up a dotted key."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two tables as one: tables merge key by key, and of anything else, lists too, `over` has its way."""
    both = dict(under)
    for key, value in over.items():
        below = both.get(key)
        both[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return both


def says(tables: Mapping[str, Any], where: str) -> bool:
    """Whether the tables decide what `where` (`section.key`) is: they have it, or no table where it would lie."""
    value: Any = tables
    for part in where.split("."):
        if not isinstance(value, Mapping):
            return True
        if part not in value:
            return False
        value = value[part]
    return True


def has(tables: Mapping[str, Any], where: str) -> bool:
    """Whether there is a value at `where`."""
    return says(tables, where) and get(tables, where) is not _NOTHING


def get(tables: Mapping[str, Any], where: str) -> Any:
    """The value at `where`; a value of its own that equals no other where there is none."""
    value: Any = tables
    for part in where.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _NOTHING
        value = value[part]
    return value


def nested(where: str, value: Any) -> dict[str, Any]:
    """The tables that have this one value."""
    for part in reversed(where.split(".")):
        value = {part: value}
    return value  # type: ignore[no-any-return]


def without(tables: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """The tables without the values at some keys, as `section.key`."""
    return {
        name: without(value, [key.partition(".")[2] for key in keys if key.startswith(f"{name}.")])
        if isinstance(value, Mapping)
        else value
        for name, value in tables.items()
        if name not in keys
    }


def leaves(tables: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no table (or an empty one), by its dotted key."""
    for key, value in tables.items():
        where = f"{above}.{key}" if above else key
        if isinstance(value, Mapping) and value:
            yield from leaves(value, where)
        else:
            yield where, value


_NOTHING = object()
