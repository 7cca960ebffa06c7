"""The files of a new plugin's package."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from packaging.version import Version

from ftcore import __version__
from ftcore.errors import ConfigError
from ftcore.new_plugin.choices import LICENSES, TRAINS, VALIDATES
from ftcore.new_plugin.names import Names

_TEMPLATES = Path(__file__).parent / "templates"
_SUFFIX = ".in"  # what is no module of ftcore should not look like one to the tools
_PLACEHOLDER = re.compile(r"PLUGIN_[A-Z]+")
_HIDDEN = "dot_"  # package data with a leading dot are forgotten easily


@dataclass(frozen=True)
class NewPlugin:
    """What a new package is made of.

    Attributes:
        names: its names.
        kind: one of `KINDS`.
        author: who holds the copyright.
        license: one of `LICENSES`.
    """

    names: Names
    kind: str
    author: str
    license: str

    def files(self) -> dict[Path, str]:
        """The text of each file, by its path in the package's folder; a kind may add to a file of all kinds."""
        folders = (_TEMPLATES / "any", _TEMPLATES / self.kind)
        found: dict[Path, str] = {}
        for folder in folders:
            for template in sorted(folder.rglob(f"*{_SUFFIX}")):
                path = self._path(template.relative_to(folder))
                if path is not None:
                    found[path] = found.get(path, "") + self._filled(template.read_text(encoding="utf-8"))
        return dict(sorted(found.items()))

    def requirements(self) -> list[str]:
        """What the package depends on."""
        pydantic = ["pydantic>=2.10"] if self.kind in VALIDATES else []
        return [requirement("train" if self.kind in TRAINS else ""), *pydantic]

    def _path(self, template: Path) -> Path | None:
        """Where a template's text goes; None for the text of another licence."""
        if template.name.startswith("LICENSE."):
            return Path("LICENSE") if template.name == f"LICENSE.{self.license}{_SUFFIX}" else None
        name = self._filled(str(template)).removesuffix(_SUFFIX)
        return Path(*(part.replace(_HIDDEN, ".", 1) if part.startswith(_HIDDEN) else part for part in Path(name).parts))

    def _filled(self, template: str) -> str:
        values = {
            "PLUGIN_NAME": self.names.plugin,
            "PLUGIN_DISTRIBUTION": self.names.distribution,
            "PLUGIN_PACKAGE": self.names.package,
            "PLUGIN_IDENTIFIER": self.names.identifier,
            "PLUGIN_KIND": self.kind,
            "PLUGIN_AUTHOR": self.author,
            "PLUGIN_CREDIT": json.dumps(self.author, ensure_ascii=False),  # as TOML has it too
            "PLUGIN_YEAR": str(date.today().year),
            "PLUGIN_LICENSE": LICENSES[self.license],
            "PLUGIN_REQUIRES": ", ".join(f'"{text}"' for text in self.requirements()),
        }
        return _PLACEHOLDER.sub(lambda found: values[found[0]], template)


def requirement(extra: str = "", version: str = __version__) -> str:
    """From the ftcore that a package is written with; no upper bound, since a newer ftcore keeps to what is public."""
    this = Version(version)
    lowest = this.public if this.is_prerelease else f"{this.major}.{this.minor}"
    return f"ftcore{f'[{extra}]' if extra else ''}>={lowest}"


def write(plugin: NewPlugin, folder: Path) -> list[Path]:
    """Write the package into a folder, which may be there already; no file in it is ever replaced.

    Returns:
        The paths of the files, in the folder.

    Raises:
        ConfigError: one of the files is there already, or cannot be written.
    """
    files = plugin.files()
    if folder.is_file():
        raise ConfigError(f"{folder} is a file", fix="Choose a folder with --into")
    if there := [str(path) for path in _in_the_way(folder, files)]:
        raise ConfigError(
            f"{folder} has {', '.join(there[:3])}{' and others' if len(there) > 3 else ''} already",
            why="no file is replaced",
            fix="Choose another folder with --into",
        )
    try:
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with (folder / path).open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
    except OSError as error:
        raise ConfigError(
            f"{error.filename or folder} cannot be written",
            why=error.strerror or str(error),
            fix="Choose another folder with --into",
        ) from error
    return list(files)


def _in_the_way(folder: Path, files: dict[Path, str]) -> Iterator[Path]:
    """The files that are there."""
    for path in files:
        if (folder / path).exists() or (folder / path).is_symlink():
            yield path
