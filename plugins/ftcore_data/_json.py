"""Rows of JSON files: one object a line, one array, or one object around an array.

Python's own parser rather than Arrow's, because that one turns texts which look like dates into timestamps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ftcore_data._text import open_text, unreadable

_FIX = "Correct the file"
_PIECE = 1 << 20
_SPACE = " \t\r\n"


@dataclass(frozen=True)
class Row:
    """One object of a file.

    Attributes:
        place: where it stands, as "line 3" or "item 3".
        cells: the object.
        size: its length as text, in characters.
    """

    place: str
    cells: dict[str, Any]
    size: int


def rows(path: Path, encoding: str, one_per_line: bool) -> Iterator[Row]:
    """The rows of a file.

    Args:
        one_per_line: whether the file's ending promises JSON lines; `.json` files that hold them are read as well.

    Raises:
        DataError: with the line of what is wrong.
    """
    with open_text(path, encoding) as text:
        first = _first_character(text)
        if first == "[":
            yield from _Array(path, text).rows()
        elif one_per_line or _is_lines(path, text):
            yield from _lines(path, text)
        else:
            yield from _document(path, text)


def _first_character(text: TextIO) -> str:
    while (character := text.read(1)) and character in _SPACE:
        pass
    text.seek(0)
    return character


def _is_lines(path: Path, text: TextIO) -> bool:
    """Whether the first line is an object of its own and another line follows."""
    line = next((line for line in text if line.strip()), "")
    try:
        complete = isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        complete = False
    more = complete and any(line.strip() for line in text)
    text.seek(0)
    return more


def _lines(path: Path, text: TextIO) -> Iterator[Row]:
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            value = _DECODER.decode(line)
        except json.JSONDecodeError as error:
            why = f"{place} is not valid JSON: {error.msg} (column {error.colno})"
            raise unreadable(path, why, _FIX) from None
        except (ValueError, RecursionError) as error:
            raise unreadable(path, f"{place}: {_reason(error)}", _FIX) from None
        yield _row(path, place, value, len(line))


def _document(path: Path, text: TextIO) -> Iterator[Row]:
    content = text.read()
    try:
        value = _DECODER.decode(content)
    except json.JSONDecodeError as error:
        raise _invalid(path, error.lineno, error) from None
    except (ValueError, RecursionError) as error:
        raise unreadable(path, _reason(error), _FIX) from None
    if not isinstance(value, dict):
        raise unreadable(path, f"it holds {_kind(value)}, not a list of objects", _FIX)
    lists = {name: items for name, items in value.items() if _is_rows(items)}
    if len(lists) > 1:
        found = ", ".join(f'"{name}"' for name in list(lists)[:8])
        raise unreadable(path, f"it holds several lists of rows ({found})", "Keep one list a file")
    if not lists:
        raise unreadable(path, "it is one object without a list of rows", "Write a list of objects, or one a line")
    (items,) = lists.values()
    for number, item in enumerate(items, start=1):
        yield _row(path, f"item {number}", item, 1024)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


class _Array:
    """Reads `[{…}, {…}]` item by item, so that a large array never lies in memory as a whole."""

    def __init__(self, path: Path, text: TextIO) -> None:
        self._path, self._text = path, text
        self._buffer, self._at, self._line, self._ended = "", 0, 1, False

    def rows(self) -> Iterator[Row]:
        self._take("[")
        if self._peek() == "]":
            return
        number = 0
        while True:
            number += 1
            start = self._peek()
            if not start:
                raise unreadable(self._path, f"its list ends too early, after item {number - 1}", _FIX)
            value, size = self._value()
            yield _row(self._path, f"item {number}", value, size)
            if self._peek() == "]":
                break
            self._take(",", after=number)
        self._take("]")
        if self._peek():
            raise unreadable(self._path, f"something follows the list in line {self._here()}", _FIX)

    def _peek(self) -> str:
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in _SPACE:
                    return self._buffer[self._at]
                self._at += 1
            if not self._more(_PIECE):
                return ""

    def _take(self, character: str, after: int = 0) -> None:
        found = self._peek()
        if not found:
            raise unreadable(self._path, f"its list ends too early, after item {after}", _FIX)
        if found != character:
            raise unreadable(self._path, f"line {self._here()} is not valid JSON: expected '{character}'", _FIX)
        self._at += 1

    def _value(self) -> tuple[Any, int]:
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                line = self._line + error.lineno - 1  # before more text moves the buffer's start
                if not self._cut_off(error) or not self._more(max(_PIECE, len(self._buffer))):
                    raise _invalid(self._path, line, error) from None
            except (ValueError, RecursionError) as error:
                raise unreadable(self._path, f"line {self._here()}: {_reason(error)}", _FIX) from None
            else:
                size = end - self._at
                self._at = end
                return value, size

    def _cut_off(self, error: json.JSONDecodeError) -> bool:
        """Whether the error may only come from the end of what has been read so far."""
        return error.msg.startswith("Unterminated string") or error.pos > len(self._buffer) - 64

    def _more(self, size: int) -> bool:
        if self._ended:
            return False
        piece = self._text.read(size)
        self._ended = not piece
        self._line += self._buffer.count("\n", 0, self._at)
        self._buffer, self._at = self._buffer[self._at :] + piece, 0
        return bool(piece)

    def _here(self) -> int:
        return self._line + self._buffer.count("\n", 0, self._at)


def _row(path: Path, place: str, value: Any, size: int) -> Row:
    if not isinstance(value, dict):
        raise unreadable(path, f"{place} is {_kind(value)}, not an object", "Write each row as {column: value}")
    if "" in value:
        raise unreadable(path, f"{place} has a column without a name", _FIX)
    return Row(place, value, size)


def _invalid(path: Path, line: int, error: json.JSONDecodeError) -> Exception:
    return unreadable(path, f"line {line} is not valid JSON: {error.msg} (column {error.colno})", _FIX)


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'the name "{twice[:60]}" stands twice in one object')
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _reason(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]


def _kind(value: Any) -> str:
    names = {
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "null")
