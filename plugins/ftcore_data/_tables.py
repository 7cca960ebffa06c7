"""Rows and columnar files as Arrow tables, piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcore.errors import DataError
from ftcore_data import _csv, _json
from ftcore_data._json import Row
from ftcore_data._settings import FileSettings
from ftcore_data._text import open_bytes, unreadable

if TYPE_CHECKING:
    import pyarrow as pa

ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow")
"""The files that are read, each also with `.gz` behind it."""

_ROWS, _CHARACTERS = 4096, 32 << 20  # of one piece


def ending(path: Path) -> str:
    """The ending that tells a file's format, without `.gz`, in lower case."""
    name = path.name.lower().removesuffix(".gz")
    return "." + name.rpartition(".")[2] if "." in name else ""


def tables(path: Path, settings: FileSettings) -> Iterator[pa.Table]:
    """The pieces of one file, in order; their schemas may differ where a column is null in one of them.

    Raises:
        DataError: the file cannot be read.
    """
    kind = ending(path)
    if kind in (".json", ".jsonl", ".ndjson"):
        yield from _from_rows(path, _json.rows(path, settings.encoding, kind != ".json"), settings)
    elif kind in (".csv", ".tsv"):
        delimiter = settings.csv_delimiter or ("," if kind == ".csv" else "\t")
        yield from _from_rows(path, _csv.rows(path, settings.encoding, delimiter), settings)
    elif kind in (".parquet", ".arrow"):
        for table in _columnar(path, kind):
            yield _plain(path, table, settings)
    else:
        raise unreadable(
            path,
            f'the ending "{kind}" is unknown' if kind else "its name has no ending that tells its format",
            f"Known are {', '.join(ENDINGS)}, each also with .gz",
        )


def _from_rows(path: Path, rows: Iterable[Row], settings: FileSettings) -> Iterator[pa.Table]:
    piece: list[Row] = []
    size = 0
    for row in rows:
        piece.append(row)
        size += row.size
        if len(piece) >= _ROWS or size >= _CHARACTERS:
            yield _table(path, piece, settings)
            piece, size = [], 0
    if piece:
        yield _table(path, piece, settings)


def _table(path: Path, rows: Sequence[Row], settings: FileSettings) -> pa.Table:
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in rows for name in row.cells))
    columns = []
    for name in names:
        if not _encodes(name):
            place = next(row.place for row in rows if name in row.cells)
            raise unreadable(
                path, f"the name of a column in {place} holds half of a surrogate pair", "Correct the text"
            )
        values = [row.cells.get(name) for row in rows]
        if name in settings.text_columns:
            values = [_as_text(value) for value in values]
        try:
            columns.append(pa.array(values))
        except (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError) as error:
            raise _not_a_column(path, name, rows, error) from None
    return pa.table(columns, names=names)


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _not_a_column(path: Path, name: str, rows: Sequence[Row], error: Exception) -> DataError:
    """Why these values do not make one column."""
    if isinstance(error, UnicodeError):
        place = next(row.place for row in rows if _has_surrogate(row.cells.get(name)))
        return unreadable(path, f'"{name}" in {place} holds half of a surrogate pair', "Correct the text")
    seen: dict[str, str] = {}
    for row in rows:
        if row.cells.get(name) is not None:
            seen.setdefault(kind_of(row.cells[name]), row.place)
    if len(seen) > 1:
        first, second = list(seen.items())[:2]
        why = f'"{name}" is {first[0]} in {first[1]} and {second[0]} in {second[1]}'
    elif isinstance(error, OverflowError) or "too large" in str(error):
        why = f'"{name}" holds a number that does not fit into 64 bits'
    else:
        why = f'"{name}" holds values of different shapes inside of its lists or objects'
    return unreadable(path, why, f'Make them alike, or read them as text: [file] text_columns = ["{name}"]')


def _has_surrogate(value: Any) -> bool:
    return "\\ud" in json.dumps(value).lower() and not _encodes(json.dumps(value, ensure_ascii=False))


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def kind_of(value: Any) -> str:
    """What a value is, in words."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"


def _columnar(path: Path, kind: str) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.stat().st_size == 0:
        raise unreadable(path, "it is empty", "Check the file")
    named = "Parquet" if kind == ".parquet" else "Arrow"
    try:
        with _source(path) as source:
            if kind == ".parquet":
                with pq.ParquetFile(source) as file:
                    for batch in file.iter_batches(_ROWS):
                        yield pa.Table.from_batches([batch])
            else:
                yield from _batches(source)
    except pa.ArrowException as error:
        reason = _reason(error)
        raise unreadable(path, f"it is no valid {named} file: {reason}", "Copy or write it again") from None
    except OSError as error:
        # Arrow reports damaged pages and metadata as OSError without a number.
        reason = error.strerror or _reason(error)
        raise unreadable(path, f"it is no valid {named} file: {reason}", "Copy or write it again") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")


def _source(path: Path) -> Any:
    import pyarrow as pa

    if path.suffix.lower() == ".gz":
        with open_bytes(path) as unpacked:
            return pa.BufferReader(unpacked.read())  # both formats are read from several places
    return pa.memory_map(str(path))


def _batches(source: Any) -> Iterator[pa.Table]:
    import pyarrow as pa

    if source.read(6) == b"ARROW1":
        source.seek(0)
        reader = pa.ipc.open_file(source)
        batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
    else:
        source.seek(0)
        batches = iter(pa.ipc.open_stream(source))
    for batch in batches:
        yield pa.Table.from_batches([batch])


def _plain(path: Path, table: pa.Table, settings: FileSettings) -> pa.Table:
    """Without dictionary encoding, which `datasets` does not read, and with the text columns as text."""
    import pyarrow as pa

    names = table.column_names
    if len(set(names)) < len(names) or "" in names:
        twice = next((name for name in names if names.count(name) > 1), "")
        why = f'two columns are named "{twice}"' if twice else "a column has no name"
        raise unreadable(path, why, "Rename it")
    for index, field in enumerate(table.schema):
        column = table.column(index)
        if pa.types.is_dictionary(field.type):
            column = column.cast(field.type.value_type)
        if field.name in settings.text_columns and not pa.types.is_string(column.type):
            column = pa.chunked_array([[_as_text(value) for value in column.to_pylist()]], pa.string())
        if column.type != field.type:
            table = table.set_column(index, field.name, column)
    return table
