"""What editors need to complete and check a configuration: its schema beside it, and a line in it that names the schema.

The line `#:schema PATH` is read by taplo, by Even Better TOML (which is taplo in an editor) and by others, for the file
that it stands in, whatever folder the editor has open. A rule in a `.taplo.toml` is read only from the folder that the
editor has open, and would take the place of rules that are there; so none is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftcore.config import toml
from ftcore.errors import ConfigError
from ftcore.files import write_json

SCHEMA_FILE = "ftcore.schema.json"
"""The schema's name, beside the configurations that it is for."""

DIRECTIVE = f"#:schema ./{SCHEMA_FILE}"
"""The first line of a configuration that editors complete and check; the path is relative to it."""

_DIRECTIVE = re.compile(r"#:schema\s+(?P<target>\S+)")


def install(config: Path, schema: Mapping[str, Any]) -> list[str]:
    """Write the schema beside a configuration, and the line that names it into the configuration.

    Nothing else of the configuration changes. Another configuration in the same folder shares the schema.

    Returns:
        What was done, one line for each file.

    Raises:
        ConfigError: there is no such configuration, another file or line stands in the way, or a file cannot be
            written; of the configuration, nothing is changed then.
    """
    toml.read(config)
    text = _read(config)
    line, target = _named(text)
    if line and f"#:schema {target}" != DIRECTIVE:
        raise ConfigError(
            f"{config}:{line}: the line #:schema {target} names another schema",
            fix=f"Remove it, or write {DIRECTIVE}",
        )
    file = config.parent / SCHEMA_FILE
    if not _is_ours(file, schema):
        raise ConfigError(f"{file} is there and is no schema of ftcore", fix="Remove or rename it")
    try:
        write_json(file, schema)
        if not line:
            _prepend(config, text)
    except OSError as error:
        raise ConfigError(f"{error.filename or file} cannot be written", why=error.strerror or str(error)) from error
    named = f"names it in line {line} already" if line else "names it in its first line"
    return [f"{file} is written; do so again when plugins come or go", f"{config} {named}: {DIRECTIVE}"]


def _read(config: Path) -> str:
    # As it is: line ends and a mark at the beginning are the user's.
    return config.read_bytes().decode("utf-8")


def _named(text: str) -> tuple[int, str]:
    """The line that names a schema, and which; 0 where none does. It counts only above the first key."""
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        if found := _DIRECTIVE.match(line.strip()):
            return number, found["target"]
        if line.strip() and not line.lstrip().startswith("#"):
            break
    return 0, ""


def _is_ours(file: Path, schema: Mapping[str, Any]) -> bool:
    """Whether a schema may be written there: the file is missing, or is one of ftcore's."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return True
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("title") == schema["title"]


def _prepend(config: Path, text: str) -> None:
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    ending = "\r\n" if "\r\n" in text else "\n"
    # In place: whoever owns the file, its rights and the links to it stay as they are.
    config.write_bytes(f"{mark}{DIRECTIVE}{ending}{text.removeprefix(mark)}".encode())
