"""What a new plugin may be called."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass

from ftcore.config import CORE_SECTIONS
from ftcore.errors import ConfigError
from ftcore.plugins import discovery
from ftcore.text import short

LONGEST = 30
"""Characters of a name: it stands in front of ids and file names."""

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_FIX = "Take letters a to z, digits, and single '-' or '_' between them"


@dataclass(frozen=True)
class Names:
    """The names of a plugin and of its package.

    Attributes:
        plugin: of the entry point, which a configuration uses.
        distribution: what `pip install` is given.
        package: what Python imports.
    """

    plugin: str

    @property
    def distribution(self) -> str:
        return f"ftcore-{self.plugin.replace('_', '-')}"

    @property
    def package(self) -> str:
        return f"ftcore_{self.identifier}"

    @property
    def identifier(self) -> str:
        """The plugin's name as a part of Python names."""
        return self.plugin.replace("-", "_")


def chosen(name: str) -> Names:
    """The names of a new plugin.

    Raises:
        ConfigError: nothing can be called so, or something is.
    """
    if why := _unusable(name):
        better = _better(name)
        fix = f"Did you mean {better}?" if better else f"Choose another, like my-{name}" if _means_else(name) else _FIX
        raise ConfigError(f'a plugin cannot be named "{short(name)}"', why=why, fix=fix)
    names = Names(name)
    if why := _taken(names):
        raise ConfigError(f'the name "{name}" is taken', why=why, fix=f"Choose another, like my-{name} or {name}-2")
    return names


def _unusable(name: str) -> str:
    if _means_else(name):
        return "the name means something else in a configuration"
    if not 2 <= len(name) <= LONGEST:
        return f"the prefix of an id has 2 to {LONGEST} characters"
    if re.match(r"ftcore[-_]", name):
        return "the package is called ftcore-NAME anyway"
    if not _NAME.fullmatch(name):
        return "it would not do as the name of a section, of a package and of a Python module"
    return ""


def _means_else(name: str) -> bool:
    return name in discovery.RESERVED | CORE_SECTIONS.keys()


def _better(name: str) -> str:
    """A name like it that could be used; "" where there is none."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"([a-z0-9])([A-Z])", r"\1-\2", name).lower())
    better = "-".join(words).removeprefix("ftcore-").lstrip("0123456789-")[:LONGEST].rstrip("-")
    return better if better != name and not _unusable(better) and not _taken(Names(better)) else ""


def _taken(names: Names) -> str:
    """Who has one of the names already; "" where all are free."""
    for _, record in discovery.entry_points():
        if record.name == names.plugin:
            return f"{record} is installed here"
        if record.distribution.lower().replace("_", "-") == names.distribution:
            return f"the package {names.distribution} is installed here, with the plugin '{record.name}'"
    if importlib.util.find_spec(names.package) is not None:
        return f"Python has a package {names.package} here"
    return ""
