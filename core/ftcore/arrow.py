"""Rows that come in pieces, as one dataset. Public: data sources of plugins return what is made here.

    def pages() -> Iterator[list[dict[str, Any]]]: ...

    return arrow.dataset(pages(), request.locator.text, "shop")

    <cache>/<store>/<entry>/
        rows.arrow     all rows, as an Arrow stream that is mapped into memory when it is read
        about.json     for `ftcore cache`

One piece at a time is in memory, however many there are.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

from ftcore import cache, files
from ftcore.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    Piece: TypeAlias = pa.Table | pa.RecordBatch | Sequence[Mapping[str, Any]]

FILE = "rows.arrow"
"""The file of an entry that holds the rows."""


def dataset(
    pieces: Iterable[Piece],
    source: str,
    store: str | Path,
    *,
    key: str | None = None,
    memory_limit: int = 0,
    type_fix: str = "Make it one type",
    disk_fix: str = "Make room there, or set FTCORE_CACHE to another folder",
) -> Dataset:
    """All rows of the pieces, in order.

    A column that a piece does not have is null there, one that was null or of whole numbers may become text or of
    floating ones further on, and objects may get new keys; what was written before is then written again.

    Args:
        pieces: tables, record batches, or lists of rows as mappings. Nothing is taken of them where `key` is found.
        source: what the rows are, such as the data's id; for messages and `ftcore cache`.
        store: a folder of ftcore's cache, best named like the plugin; or, as an absolute path, another folder.
        key: names these rows: a hash, in hexadecimal digits, of everything that decides what they are. The first call
            keeps them under it, and the next one with the same key reads nothing else. Without one, the pieces are read every
            time, and the entry is named by its contents: the same rows are kept once, and a run that is still reading
            others is left alone.
        memory_limit: up to so many bytes stay in memory, and nothing is written.
        type_fix: what to do where a column changes its type; `{column}` in it is replaced by its name.
        disk_fix: what to do where the rows cannot be written.

    Raises:
        DataError: there is no row, a column changes its type or has one that `datasets` does not know, or the rows cannot
            be written.
    """
    folder = cache.cache_folder() / store
    if key is not None and (known := _kept(folder / key, source)) is not None:
        return known
    tables = (_table(piece, source, type_fix) for piece in pieces)
    small, rest = _up_to(tables, memory_limit)
    if rest is None:
        return _in_memory(small, source, key, type_fix)
    entry = _keep(chain(small, rest), source, folder, key, type_fix, disk_fix)
    kept = _kept(entry, source)
    if kept is None:
        raise _unwritten(source, folder, "what was written cannot be read", disk_fix)
    return kept


def _kept(entry: Path, source: str) -> Dataset | None:
    """The rows of an entry; None where there is none, or it is damaged."""
    import pyarrow as pa
    from datasets import Dataset

    try:
        with _readable_types(source):
            found = Dataset.from_file(str(entry / FILE))
    except (OSError, pa.ArrowInvalid):
        return None
    cache.used(entry)
    return found


def _up_to(tables: Iterator[pa.Table], limit: int) -> tuple[list[pa.Table], Iterator[pa.Table] | None]:
    """The first tables, and the others; None for those where all that is there was not larger than the limit."""
    first: list[pa.Table] = []
    size = 0
    while size <= limit and limit:
        table = next(tables, None)
        if table is None:
            return first, None
        first.append(table)
        size += table.nbytes
    return first, tables


def _in_memory(tables: list[pa.Table], source: str, key: str | None, fix: str) -> Dataset:
    import pyarrow as pa
    from datasets import Dataset

    schema: pa.Schema | None = None
    for table in tables:
        schema = _merged(schema, table.schema, source, fix)
    if not any(table.num_rows for table in tables):
        raise _no_rows(source)
    whole = pa.concat_tables([_aligned(table, schema, source, fix) for table in tables])
    with _readable_types(source):
        # Naming the fingerprint keeps `datasets` from hashing all the data for one.
        return Dataset(whole, fingerprint=None if key is None else key[:16])


def _keep(tables: Iterator[pa.Table], source: str, folder: Path, key: str | None, type_fix: str, disk_fix: str) -> Path:
    """Write the rows as an entry; its folder."""
    with _writing(source, folder, disk_fix):
        folder.mkdir(parents=True, exist_ok=True)
        # Its name is one that `ftcore cache prune` knows, should the process be killed.
        scratch = Path(tempfile.mkdtemp(dir=folder, prefix=f".{uuid4().hex}."))
    try:
        rows = _write(tables, source, scratch, type_fix, disk_fix)
        with _writing(source, folder, disk_fix):
            entry = folder / (key or _digest(scratch / FILE))
            if key is None and (entry / FILE).is_file():
                return entry
            with files.whole_folder(entry) as whole:
                (scratch / FILE).replace(whole / FILE)
                cache.describe(whole, "rows", f"{source}, {rows:,} rows")
            return entry
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(tables: Iterator[pa.Table], source: str, scratch: Path, type_fix: str, disk_fix: str) -> int:
    """Write one Arrow stream; how many rows it has. As long as the schema grows, there are several of them."""
    import pyarrow as pa

    parts: list[Path] = []
    writer: Any = None
    schema: pa.Schema | None = None
    rows = 0
    try:
        for table in tables:
            wider = _merged(schema, table.schema, source, type_fix)
            table = _aligned(table, wider, source, type_fix)
            with _writing(source, scratch.parent, disk_fix):
                if wider != schema:
                    if writer is not None:
                        writer.close()
                    parts.append(scratch / f"{len(parts)}.arrow")
                    schema, writer = wider, pa.ipc.new_stream(str(parts[-1]), wider)
                writer.write_table(table)
            rows += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    if not rows:
        raise _no_rows(source)
    with _writing(source, scratch.parent, disk_fix):
        _join(parts, scratch / FILE, schema, source, type_fix)
    return rows


def _join(parts: Sequence[Path], target: Path, schema: Any, source: str, fix: str) -> None:
    import pyarrow as pa

    if len(parts) == 1:
        parts[0].replace(target)
        return
    with pa.ipc.new_stream(str(target), schema) as writer:
        for part in parts:
            with pa.memory_map(str(part)) as mapped:
                for batch in pa.ipc.open_stream(mapped):
                    writer.write_table(_aligned(pa.Table.from_batches([batch]), schema, source, fix))
            part.unlink()


def _table(piece: Any, source: str, fix: str) -> pa.Table:
    """A piece as a table, without what other libraries say of its columns."""
    import pyarrow as pa

    if isinstance(piece, pa.RecordBatch):
        piece = pa.Table.from_batches([piece])
    if isinstance(piece, pa.Table):
        return piece.replace_schema_metadata(None)
    names = list(dict.fromkeys(name for row in piece for name in row))
    return pa.table([_column(name, piece, source, fix) for name in names], names=names)


def _column(name: str, rows: Sequence[Mapping[str, Any]], source: str, fix: str) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array([row.get(name) for row in rows])
    except (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError) as error:
        large = isinstance(error, OverflowError) or "too large" in str(error)
        what = "a number that does not fit into 64 bits" if large else "values of different types"
        if isinstance(error, UnicodeError):
            what = "half of a surrogate pair"
        why, fix = " ".join(str(error).split())[:200], fix.replace("{column}", name)
        raise DataError(f'the column "{name}" of "{source}" holds {what}', why=why, fix=fix) from None


def _merged(schema: pa.Schema | None, other: pa.Schema, source: str, fix: str) -> pa.Schema:
    """A schema that both fit into."""
    import pyarrow as pa

    other = other.remove_metadata()
    if schema is None or schema == other:
        return other
    for field in other:
        index = schema.get_field_index(field.name)
        if index < 0:
            continue
        try:
            pa.unify_schemas([pa.schema([schema.field(index)]), pa.schema([field])], promote_options="permissive")
        except pa.ArrowException:
            first, then = _type_name(schema.field(index).type), _type_name(field.type)
            raise _changes(field.name, source, f"it is {first} at first and {then} further on", fix) from None
    return pa.unify_schemas([schema, other], promote_options="permissive")


def _type_name(kind: pa.DataType) -> str:
    import pyarrow as pa

    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_boolean(kind):
        return "true or false"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "a number"
    if pa.types.is_struct(kind):
        return "an object"
    text = str(kind)
    return f"a list ({text})" if len(text) < 80 else "a list"


def _aligned(table: pa.Table, schema: Any, source: str, fix: str) -> pa.Table:
    """A table with the columns of a schema that it fits into."""
    import pyarrow as pa

    if table.schema.equals(schema):
        return table
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        try:
            columns.append(table.column(field.name).cast(field.type))
        except pa.ArrowException as error:
            raise _changes(field.name, source, " ".join(str(error).split())[:200], fix) from None
    return pa.table(columns, schema=schema)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@contextmanager
def _readable_types(source: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except pa.ArrowInvalid:
        raise
    except (ValueError, TypeError, NotImplementedError, KeyError) as error:
        raise DataError(
            f'"{source}" has a column of a type that cannot be read',
            why=" ".join(str(error).split())[:200],
            fix="Write it as text, numbers, lists or objects",
        ) from None


@contextmanager
def _writing(source: str, folder: Path, fix: str) -> Iterator[None]:
    """For what is done to the disk alone: an OSError may come from where the rows come from, too."""
    try:
        yield
    except OSError as error:
        raise _unwritten(source, folder, error.strerror or str(error), fix) from None


def _unwritten(source: str, folder: Path, why: str, fix: str) -> DataError:
    return DataError(f'the rows of "{source}" cannot be kept in {folder}', why=why, fix=fix)


def _changes(column: str, source: str, why: str, fix: str) -> DataError:
    fix = fix.replace("{column}", column)
    return DataError(f'the column "{column}" of "{source}" changes its type', why=why, fix=fix)


def _no_rows(source: str) -> DataError:
    return DataError(f'"{source}" has no rows', fix="Check the data")
