"""Which column holds what, and what a cell must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from ftcore.contracts import Conversation, DataView, Message
from ftcore.errors import FormatMismatch
from ftcore.settings.data import DataSettings

SYSTEM = "system"
"""The column with system prompts where none is named; unlike a named one it may be missing."""


def require(data: DataView, formatter: str, wanted: Mapping[str, str]) -> None:
    """Check that columns are there.

    Args:
        formatter: who needs them, for the message.
        wanted: the column names, each with the key that sets it.

    Raises:
        FormatMismatch: naming every missing column, the columns there are, and similar names.
    """
    missing = {name: key for name, key in wanted.items() if name not in data.columns}
    if not missing:
        return
    names = " and ".join(f'"{name}"' for name in missing)
    fixes = [_fix(name, key, data.columns) for name, key in missing.items()]
    raise FormatMismatch(
        f"the formatter '{formatter}' needs the column{'s' if len(missing) > 1 else ''} {names}",
        why=f"the columns of the training data are {', '.join(data.columns) or 'none'}",
        fix="; ".join(fixes),
    )


def _fix(name: str, key: str, columns: Sequence[str]) -> str:
    lowered = {column.lower(): column for column in columns}
    close = get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f'Did you mean {key} = "{lowered[close[0]]}"?' if close else f"Name the column with {key}"


def system_column(data: DataView) -> str | None:
    """The column with system prompts: the named one, else `system` where it is there and no text overrides it."""
    settings = data.settings
    if settings.system_prompt_override_text is not None:
        return None
    if settings.system_prompt_column is not None:
        return settings.system_prompt_column
    return SYSTEM if SYSTEM in data.columns else None


def wanted_system(settings: DataSettings) -> dict[str, str]:
    """The system column if it must be there, for `require`."""
    if settings.system_prompt_column is None or settings.system_prompt_override_text is not None:
        return {}
    return {settings.system_prompt_column: "system_prompt_column"}


def text(row: Mapping[str, Any], column: str) -> str:
    """A cell that must hold text; returned as it is.

    Raises:
        ValueError: the cell is missing, null, not text, or blank.
    """
    value = optional_text(row, column)
    if value is None:
        raise ValueError(f'"{column}" is null')
    return checked(value, f'"{column}"')


def checked(value: Any, what: str) -> str:
    """A text that says something; returned as it is.

    Raises:
        ValueError: it is null, not text, or blank.
    """
    if value is None:
        raise ValueError(f"{what} is null")
    if not isinstance(value, str):
        raise ValueError(f"{what} is not text but {kind(value)}")
    if not value:
        raise ValueError(f"{what} is empty")
    if value.isspace():
        raise ValueError(f"{what} is only white space")
    return value


def optional_text(row: Mapping[str, Any], column: str) -> str | None:
    """A cell that may be null or empty.

    Raises:
        ValueError: the cell is missing or not text.
    """
    try:
        value = row[column]
    except KeyError:
        raise ValueError(f'there is no column "{column}"') from None
    if value is not None and not isinstance(value, str):
        raise ValueError(f'"{column}" is not text but {kind(value)}')
    return value


def kind(value: object) -> str:
    """What a value is, in words."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return "a list"
    return f"a {type(value).__name__}"


def system_turn(prompt: str | None) -> Conversation:
    """A system turn, or none where the prompt is null or blank."""
    return [Message(role="system", content=prompt)] if prompt and not prompt.isspace() else []


def system_prompt(row: Mapping[str, Any], column: str | None, override: str | None) -> str | None:
    """The system prompt of a row: the text for all rows if there is one, else the cell, else None.

    Raises:
        ValueError: the cell is missing or not text.
    """
    if override is not None or column is None:
        return override
    return optional_text(row, column)
