"""Rows of CSV and TSV files. Every cell is text, exactly as it stands there: 007 stays 007."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ftcore_data._json import Row
from ftcore_data._text import open_text, unreadable

_DELIMITERS = {";": ";", "\t": "\\t", "|": "|", ",": ","}


def rows(path: Path, encoding: str, delimiter: str) -> Iterator[Row]:
    """The rows of a file whose first line names the columns; empty lines are no rows.

    Raises:
        DataError: with the line of what is wrong.
    """
    csv.field_size_limit(sys.maxsize)  # the module refuses cells above 128 KiB otherwise; documents are longer
    with open_text(path, encoding, newline="") as text:
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        try:
            names = next(reader, [])
            _check_names(path, names, delimiter)
            start = reader.line_num + 1
            for cells in reader:
                if cells:
                    yield _row(path, start, names, cells)
                start = reader.line_num + 1
        except csv.Error as error:
            why = f"line {reader.line_num}: {error}"
            if "unexpected end of data" in str(error):
                why = "a quotation mark is opened and never closed"
            raise unreadable(path, why, "Correct the file; a quotation mark inside a quoted cell is doubled") from None


def _row(path: Path, line: int, names: Sequence[str], cells: Sequence[str]) -> Row:
    if len(cells) != len(names):
        raise unreadable(
            path,
            f"line {line} has {len(cells)} cells and there are {len(names)} columns",
            "Put quotation marks around cells that hold the delimiter or a line break",
        )
    return Row(f"line {line}", dict(zip(names, cells, strict=True)), sum(map(len, cells)))


def _check_names(path: Path, names: Sequence[str], delimiter: str) -> None:
    if not names:
        raise unreadable(path, "its first line is empty", "Name the columns in the first line")
    for number, name in enumerate(names, start=1):
        if not name.strip():
            fix = "Name it in the first line (pandas writes such a column unless index=False)"
            raise unreadable(path, f"column {number} has no name", fix)
        if name in names[: number - 1]:
            raise unreadable(path, f'two columns are named "{name[:60]}"', "Rename one of them")
    if len(names) == 1:
        other = next((mark for mark in _DELIMITERS if mark != delimiter and mark in names[0]), None)
        if other:
            raise unreadable(
                path,
                f"its first line has one column that holds '{_DELIMITERS[other]}'",
                f'Set [file] csv_delimiter = "{_DELIMITERS[other]}"',
            )
