"""What a plugin needs to be tried: a database's address, an id of data, rows that it can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PluginSetup:
    """What a plugin needs to be tried. Everything may be left out that the plugin can do without.

    Attributes:
        config: tables of the configuration, e.g. `{"acme": {"database": "tickets.db"}}`.
        rows: of a formatter: rows that it reads.
        data: of a data source: an id of data that are there, with the prefix, e.g. "acme:tickets".
        missing: of a data source: an id of its own of data that are not there.
        large: of a data source that streams: an id of at least 8 MB of rows.
        model: of a model source or a loader: the id of a model that is there, as `base_model_id` names it.
        down: of a reporter: tables of a configuration with which its tracker cannot be reached.
    """

    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    data: str | None = None
    missing: str | None = None
    large: str | None = None
    model: str | None = None
    down: Mapping[str, Mapping[str, Any]] | None = None

    @classmethod
    def from_pyproject(cls, name: str, start: Path) -> PluginSetup:
        """What `[tool.ftcore.conformance.NAME]` of the nearest `pyproject.toml` says; the defaults where it says nothing.

        Texts that begin with `./` are paths from the folder of that file.

        Raises:
            ValueError: it has a key that there is not.
        """
        import tomli

        for folder in (start.absolute(), *start.absolute().parents):
            if (folder / "pyproject.toml").is_file():
                tables = tomli.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
                table = tables.get("tool", {}).get("ftcore", {}).get("conformance", {}).get(name, {})
                known = [item.name for item in fields(cls)]
                if unknown := sorted(table.keys() - set(known)):
                    where = f"[tool.ftcore.conformance.{name}] in {folder / 'pyproject.toml'}"
                    raise ValueError(f"{where} has {', '.join(unknown)}; its keys are {', '.join(known)}")
                return cls(**{key: _rooted(value, folder) for key, value in table.items()})
        return cls()


def _rooted(value: Any, folder: Path) -> Any:
    """The value with texts that begin with `./` as paths from the folder."""
    if isinstance(value, str):
        return str(folder / value) if value.startswith("./") else value
    if isinstance(value, dict):
        return {key: _rooted(item, folder) for key, item in value.items()}
    return [_rooted(item, folder) for item in value] if isinstance(value, list) else value
