"""From pieces to one dataset: in memory where it is small, else on disk and mapped into memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ftcore.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

Read = Callable[[], "Iterator[pa.Table]"]
"""Starts reading from the front; each call gives the same pieces."""


def collect(read: Read, what: str, key: str, cache_dir: Path, memory_limit: int, expected: int = 0) -> Dataset:
    """All pieces as one dataset.

    Args:
        what: the data's id, for messages.
        key: a fingerprint of the source in hex; the file on disk is named by it, and found again by it.
        memory_limit: in bytes of Arrow data.
        expected: about how many bytes are to come, where that is known.

    Raises:
        DataError: the pieces do not fit together, or there is no row.
    """
    from datasets import Dataset

    cached = cache_dir / f"{key}.arrow"
    if not cached.is_file():
        pieces = None if expected > memory_limit else _fitting(read, memory_limit)
        if pieces is not None:
            return _in_memory(pieces, what, key)
        _write(read, what, cached)
    with _readable_types(what):
        return Dataset.from_file(str(cached))


def _fitting(read: Read, memory_limit: int) -> list[pa.Table] | None:
    """All pieces, or None where together they are larger than the limit."""
    pieces: list[pa.Table] = []
    size = 0
    for piece in read():
        pieces.append(piece)
        size += piece.nbytes
        if size > memory_limit:
            return None
    return pieces


def _in_memory(pieces: list[pa.Table], what: str, key: str) -> Dataset:
    import pyarrow as pa
    from datasets import Dataset

    if not any(piece.num_rows for piece in pieces):
        raise _no_rows(what)
    schema: pa.Schema | None = None
    for piece in pieces:
        schema = _merged(schema, piece.schema, what)
    table = pa.concat_tables([_aligned(piece, schema, what) for piece in pieces])
    # Naming the fingerprint keeps `datasets` from hashing all the data for one.
    with _readable_types(what):
        return Dataset(table, fingerprint=key[:16])


def _write(read: Read, what: str, cached: Path) -> None:
    """Write the pieces as one Arrow stream; a second time if the first pass met a wider schema on its way."""

    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=cached.parent, prefix=f".{cached.name}.")
        os.close(handle)
    except OSError as error:
        raise _cannot_cache(cached, what, error) from None
    scratch = Path(name)
    try:
        schema = _write_once(read, what, scratch, None)
        if schema is not None:
            _write_once(read, what, scratch, schema)
        scratch.replace(cached)
    except OSError as error:
        raise _cannot_cache(cached, what, error) from None
    finally:
        scratch.unlink(missing_ok=True)


def _write_once(read: Read, what: str, scratch: Path, known: pa.Schema | None) -> pa.Schema | None:
    """Write in one pass; returns None, or the schema of all pieces where that is wider than what was written with."""
    import pyarrow as pa

    written = schema = known
    writer: pa.RecordBatchStreamWriter | None = None
    rows = 0
    try:
        for piece in read():
            rows += piece.num_rows
            schema = _merged(schema, piece.schema, what)
            written = written or schema
            if schema == written:
                writer = writer or pa.ipc.new_stream(str(scratch), schema)
                writer.write_table(_aligned(piece, schema, what))
    finally:
        if writer is not None:
            writer.close()
    if not rows:
        raise _no_rows(what)
    return None if schema == written else schema


def _no_rows(what: str) -> DataError:
    return DataError(f'"{what}" has no rows', fix="Check the data")


@contextmanager
def _readable_types(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, NotImplementedError, KeyError) as error:
        raise DataError(
            f'"{what}" has a column of a type that cannot be read',
            why=" ".join(str(error).split())[:200],
            fix="Write it as text, numbers, lists or objects",
        ) from None


def _cannot_cache(cached: Path, what: str, error: OSError) -> DataError:
    return DataError(
        f'"{what}" does not fit into memory and cannot be written to {cached.parent}',
        why=error.strerror or str(error),
        fix="Make room there, or set [file] cache_dir or HF_DATASETS_CACHE to another folder",
    )


def _merged(schema: pa.Schema | None, other: pa.Schema, what: str) -> pa.Schema:
    """A schema that both fit into: a column missing in one is null there, whole numbers become floating ones."""
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
            raise DataError(
                f'the column "{field.name}" of "{what}" changes its type',
                why=f"it is {_type_name(schema.field(index).type)} at first and {_type_name(field.type)} further on",
                fix=f'Make it one type, or read it as text: [file] text_columns = ["{field.name}"]',
            ) from None
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


def _aligned(piece: pa.Table, schema: pa.Schema, what: str) -> pa.Table:
    import pyarrow as pa

    if piece.schema.equals(schema):
        return piece.replace_schema_metadata(None)
    columns = []
    for field in schema:
        if field.name not in piece.column_names:
            columns.append(pa.nulls(piece.num_rows, field.type))
            continue
        try:
            columns.append(piece.column(field.name).cast(field.type))
        except pa.ArrowException as error:
            raise DataError(
                f'the column "{field.name}" of "{what}" changes its type',
                why=" ".join(str(error).split())[:200],
                fix=f'Make it one type, or read it as text: [file] text_columns = ["{field.name}"]',
            ) from None
    return pa.table(columns, schema=schema)
