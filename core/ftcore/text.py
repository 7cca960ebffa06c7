"""Values of any length and content, as one readable piece of a message."""

from __future__ import annotations

from typing import Any

LONGEST = 60
"""Characters of a value that a message shows."""


def shown(value: Any) -> str:
    """A value for a message, as TOML would write it, cut where it is long."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{short(value)}"'
    if isinstance(value, list):
        return short("[" + ", ".join(shown(item) for item in value[:LONGEST]) + "]")
    if isinstance(value, dict):
        return short("{ " + ", ".join(f"{key} = {shown(item)}" for key, item in value.items()) + " }")
    return short(str(value))


def is_unicode(text: str) -> bool:
    """Whether a text can be written: one from the command line or the environment may hold bytes that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def short(text: str) -> str:
    """A text on one line, cut where it is long."""
    cut = text[:LONGEST].replace("\n", "\\n").replace("\t", "\\t")
    return "".join(char if char.isprintable() else "�" for char in cut) + ("…" if len(text) > LONGEST else "")


def duration(seconds: float) -> str:
    """A time for people, in one word."""
    if seconds < 0.0009995:
        return f"{1e6 * seconds:.0f}µs"
    return f"{1000 * seconds:.1f}ms" if seconds < 0.99995 else f"{seconds:.1f}s"
