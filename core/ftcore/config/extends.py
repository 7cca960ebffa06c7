"""The files that a configuration is built on: `extends = "base.toml"` or `extends = "acme:defaults"`.

What a file says wins over what it extends, and of a list the later ones win over the earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import reduce
from pathlib import Path
from typing import Any

from ftcore import extras, locators
from ftcore.config import tables, toml, variables
from ftcore.errors import ConfigError, PluginError, Problem
from ftcore.plugins import Plugins
from ftcore.text import shown

KEY = "extends"

_MOST = 32  # a plugin that answers every name with a text that extends another would never end


@dataclass(frozen=True)
class Layer:
    """A file, or a plugin's text, with a part in a configuration.

    Attributes:
        name: what messages call it: a path, or `plugin:name`.
        values: what it says, `extends` left out.
        lines: the line, from 1, of each `section` and `section.key`.
        folder: where its relative paths are looked up; None for a text.
        plugin: whose it is; "" for the user's own files.
    """

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    folder: Path | None = None
    plugin: str = ""

    def line(self, where: str) -> int:
        """The line of a key, or of the table around it; 0 where there is neither."""
        while where and where not in self.lines:
            where = where.rpartition(".")[0]
        return self.lines.get(where, 0)


def read(path: Path, plugins: Plugins) -> list[Layer]:
    """A configuration file and everything that it extends, the strongest first.

    Raises:
        ConfigError: one of them cannot be read, is not TOML, or extends itself.
        PluginError: a plugin that one of them names cannot answer.
    """
    reader = _Reader(plugins)
    reader.add(path, str(path), "", ())
    return list(reader.found.values())


def merged(layers: Iterable[Layer]) -> dict[str, Any]:
    """What the layers, the strongest first, say together."""
    nothing: dict[str, Any] = {}
    return reduce(tables.merged, (layer.values for layer in reversed([*layers])), nothing)


@dataclass(frozen=True)
class _Reader:
    """Reads files and texts, each once: one that is extended twice counts where it is strongest.

    Attributes:
        found: the layers so far, by what tells one from another.
    """

    plugins: Plugins
    found: dict[str, Layer] = field(default_factory=dict)

    def add(self, source: Path | str, name: str, plugin: str, above: Sequence[str]) -> None:
        """Read a file, or take a text, and then what it extends; `above` are those that led here."""
        identity = _identity(source, name)
        if identity in self.found:
            return
        if len(self.found) == _MOST:
            first = next(iter(self.found.values())).name
            raise ConfigError(f"{first} is built on more than {_MOST - 1} others", fix="Put some of them together")
        values, lines = toml.read(source) if isinstance(source, Path) else toml.parse(source, name)
        extended = values.pop(KEY, [])
        folder = source.parent if isinstance(source, Path) else None
        layer = self.found[identity] = Layer(name, values, lines, folder, plugin)
        for text in reversed(_named(layer, extended)):
            self._extend(layer, text, (*above, identity))

    def _extend(self, layer: Layer, text: str, above: Sequence[str]) -> None:
        plugin, rest = locators.split_prefix(text)
        source = self._answer(layer, plugin, rest) if plugin else _beside(layer, text)
        name = text if plugin and isinstance(source, str) else str(source)
        if isinstance(source, Path) and not _is_file(source):
            raise ConfigError(f"{_saying(layer, text)}: there is no file {source}", fix="Check the path")
        identity = _identity(source, name)
        if identity in above:
            circle = " → ".join(self.found[one].name for one in above[above.index(identity) :])
            raise ConfigError(
                f"{_saying(layer, text)}: it extends itself: {circle} → {name}", fix="Remove one of these"
            )
        self.add(source, name, plugin, above)

    def _answer(self, layer: Layer, plugin: str, name: str) -> Path | str:
        saying = _saying(layer, f"{plugin}:{name}")
        record = self.plugins.get(plugin)
        offering = self.plugins.implementing("ftcore_base_config")
        if record is None:
            close = get_close_matches(plugin, offering, n=1)
            fix = f"Did you mean {close[0]}?" if close else "Install the plugin's package, or name a file"
            raise PluginError(f"{saying} names no installed plugin", fix=extras.install_command(plugin) or fix)
        if record.state != "ok":
            fix = record.remedy
            raise PluginError(
                f"{saying} names a plugin that is {record.state}", why=f"{record}: {record.reason}", fix=fix
            )
        if plugin not in offering:
            why = f"those that have some: {', '.join(offering) or 'none'}"
            raise PluginError(f"{saying} names a plugin without configurations", why=why, fix="Name a file")
        try:
            answer = self.plugins.call("ftcore_base_config", plugin, name=name)
        except ConfigError as error:
            raise ConfigError(f"{saying}: {error.what}", why=error.why, fix=error.fix) from None
        if not isinstance(answer, Path | str):
            got = f"a {type(answer).__name__}" if answer is not None else "None"
            raise self.plugins.breach(plugin, f"ftcore_base_config must return a Path or a text and returned {got}")
        return answer.expanduser() if isinstance(answer, Path) else answer


def _identity(source: Path | str, name: str) -> str:
    return str(source.absolute().resolve()) if isinstance(source, Path) else name


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long a name, a folder that may not be read
        return False


def _saying(layer: Layer, text: str) -> str:
    return f"{layer.name}:{layer.line(KEY)}: {KEY} = {shown(text)}"


def _named(layer: Layer, extended: Any) -> list[str]:
    """What stands behind `extends`, its variables replaced."""
    texts = extended if isinstance(extended, list) else [extended]
    place = f"{layer.name}:{layer.line(KEY)}"
    if not all(isinstance(text, str) and text.strip() for text in texts):
        must = "it must be a path, plugin:name, or a list of these"
        raise ConfigError(f"{place}: {KEY} = {shown(extended)} is not allowed: {must}")
    problems: list[Problem] = []
    replaced = [variables.replaced(KEY, text, problems) for text in texts]
    if problems:
        raise ConfigError(f"{place}: {problems[0].message}", fix=problems[0].fix)
    return replaced


def _beside(layer: Layer, text: str) -> Path:
    """The file that a text names: a relative path from the folder of the file that it stands in."""
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:  # no such user's home
        raise ConfigError(f"{_saying(layer, text)}: {error}") from None
    if layer.folder is None and not path.is_absolute():
        why = f"{layer.name} is the text of a plugin, which lies in no folder"
        raise ConfigError(
            f"{_saying(layer, text)} is a relative path", why=why, fix="Report it to the plugin's authors"
        )
    return path if layer.folder is None else layer.folder / path
