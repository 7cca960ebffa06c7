"""The values of `--set section.key=value`, put into a configuration's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tomli

from ftcore.errors import Problem
from ftcore.settings.base import RawText, Section
from ftcore.text import is_unicode, short

Tables = dict[str, dict[str, Any]]


def put(
    tables: Tables, overrides: Sequence[str], core: Mapping[str, type[Section]], problems: list[Problem]
) -> frozenset[str]:
    """Put the values of `--set` in place.

    Args:
        tables: what the files say; changed.
        overrides: the texts behind `--set`.
        core: ftcore's own sections, for examples in messages.
        problems: what is wrong with the texts is added here.

    Returns:
        The keys, as `section.key`, that have such a value.
    """
    targets = set()
    for override in overrides:
        target, equals, value = override.partition("=")
        section, _, key = target.strip().partition(".")
        section, key = section.strip(), key.strip()
        if not (equals and section and key):
            homes = [name for name, model in core.items() if target.strip() in model.model_fields]
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
