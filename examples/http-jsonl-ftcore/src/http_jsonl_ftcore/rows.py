"""From JSON lines to an Arrow file, a thousand rows at a time."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ftcore.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_AT_A_TIME = 1000


def write_arrow(body: Path, target: Path, url: str) -> int:
    """Write the rows of a file of JSON lines, gzipped or not, as an Arrow stream; how many there are.

    The file is read twice: a column that is empty for the first thousand rows, or has whole numbers at first, may turn
    out to be something else.

    Raises:
        DataError: with the line of what is wrong.
    """
    import pyarrow as pa

    schema: pa.Schema | None = None
    for lines, rows in _pieces(body, url):
        schema = _merged(schema, rows, url, lines)
    if schema is None or not schema.names:
        raise _bad(url, "it has no rows")
    count = 0
    with pa.ipc.new_stream(str(target), schema) as writer:
        for _, rows in _pieces(body, url):
            writer.write_batch(pa.RecordBatch.from_struct_array(pa.array(rows, pa.struct(schema))))
            count += len(rows)
    return count


def _merged(schema: pa.Schema | None, rows: list[dict[str, Any]], url: str, lines: str) -> pa.Schema:
    """A schema that these rows fit into as well: a column missing in some is null there."""
    import pyarrow as pa

    try:
        found = pa.schema(list(pa.array(rows).type))
        return found if schema is None else pa.unify_schemas([schema, found], promote_options="permissive")
    except (pa.ArrowException, OverflowError) as error:
        raise _bad(url, f"a column changes its type in {lines}: {error}") from None


def _pieces(body: Path, url: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    rows = _rows(body, url)
    while piece := list(islice(rows, _AT_A_TIME)):
        yield f"lines {piece[0][0]} to {piece[-1][0]}", [row for _, row in piece]


def _rows(body: Path, url: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows with the numbers of their lines."""
    number = 0
    try:
        with _opened(body) as text:
            for number, line in enumerate(text, start=1):
                if line.strip():
                    yield number, _row(line, number, url)
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
