"""`${NAME}` and `${NAME:-default}` in a configuration, read from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from ftcore.errors import Problem
from ftcore.settings.base import RawText
from ftcore.text import is_unicode

_VARIABLE = re.compile(
    r"(?P<escaped>\$\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<other>\$\{)"
)


def expand(section: str, table: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
    """The table with the variables in its texts replaced; what cannot be replaced is added to the problems."""

    def inside(where: str, value: Any) -> Any:
        if isinstance(value, str) and "${" in value:
            return replaced(where, value, problems)
        if isinstance(value, list):
            return [inside(where, item) for item in value]
        if isinstance(value, dict):
            return {key: inside(where, item) for key, item in value.items()}
        return value

    return {key: inside(f"{section}.{key}", value) for key, value in table.items()}


def replaced(where: str, text: str, problems: list[Problem]) -> str:
    """The text with its variables replaced; what cannot be replaced is added to the problems."""

    def substitute(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if match["escaped"]:
            return "${"
        if match["other"]:
            fix = "Write ${NAME} or ${NAME:-default}; a ${ that is meant as it stands is written $${"
            problems.append(Problem(where, f"{where} has a ${{ that no variable's name and }} follow", fix))
            return ""
        value = os.environ.get(name)
        if value is None and default is None:
            fix = f"Set it, or give a default: ${{{name}:-value}}"
            problems.append(Problem(where, f"{where} reads the environment variable {name}, which is not set", fix))
            return ""
        if value is not None and not is_unicode(value):
            problems.append(
                Problem(where, f"the environment variable {name} has bytes that are no UTF-8", "Set it again")
            )
            return ""
        # As in a shell, `:-` also replaces a variable that is set and empty.
        return default if default is not None and not value else value or ""

    result = _VARIABLE.sub(substitute, text)
    from_environment = any(found["name"] for found in _VARIABLE.finditer(text))
    return RawText(result) if from_environment or isinstance(text, RawText) else result


def names(text: str) -> list[str]:
    """The variables that a text reads, in their order."""
    return list(dict.fromkeys(found["name"] for found in _VARIABLE.finditer(text) if found["name"]))
