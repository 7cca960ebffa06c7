"""Rows of JSON lines, a thousand at a time."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from ftcore.errors import DataError

_AT_A_TIME = 1000


def pieces(body: Path, url: str) -> Iterator[list[dict[str, Any]]]:
    """The rows of a file of JSON lines, gzipped or not.

    Raises:
        DataError: with the line of what is wrong.
    """
    rows = _rows(body, url)
    while piece := list(islice(rows, _AT_A_TIME)):
        yield piece


def _rows(body: Path, url: str) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        with _opened(body) as text:
            for number, line in enumerate(text, start=1):
                if line.strip():
                    yield _row(line, number, url)
    except UnicodeDecodeError:
        raise _bad(url, f"behind line {number} it is not UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise _bad(url, f"its gzip data are damaged or cut off behind line {number}") from None


def _row(line: str, number: int, url: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise _bad(url, f"line {number} is not valid JSON: {error.msg} (column {error.colno})") from None
    except (ValueError, RecursionError):
        raise _bad(url, f"line {number} cannot be read: it is nested too deeply, or has a number too long") from None
    if not isinstance(row, dict):
        raise _bad(url, f"line {number} is not an object")
    return row


def _opened(body: Path) -> TextIO:
    # By its first bytes: gzip may be the file's own, or what the server made of it on the way.
    with body.open("rb") as start:
        zipped = start.read(2) == b"\x1f\x8b"
    opened: Any = gzip.open if zipped else open
    text: TextIO = opened(body, "rt", encoding="utf-8-sig", newline="\n")
    return text


def _bad(url: str, why: str) -> DataError:
    return DataError(f"{url} is not a file of JSON lines", why=why, fix="Write one object in each line, as UTF-8")
