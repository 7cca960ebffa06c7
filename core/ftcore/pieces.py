"""Pieces of rows, as tables that fit together; and the errors where they do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcore.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Source:
    """Where rows come from, as its errors tell of it.

    Attributes:
        name: what the rows are.
        type_fix: what to do where a column changes its type; `{column}` in it is replaced by its name.
        disk_fix: what to do where the rows cannot be written.
    """

    name: str
    type_fix: str
    disk_fix: str

    def no_rows(self) -> DataError:
        """There is not a single one."""
        return DataError(f'"{self.name}" has no rows', fix="Check the data")

    def wrong_column(self, column: str, what: str, why: str) -> DataError:
        """A column changes its type, or holds what cannot be in one."""
        fix = self.type_fix.replace("{column}", column)
        return DataError(f'the column "{column}" of "{self.name}" {what}', why=why, fix=fix)

    def unwritten(self, folder: Path, why: str) -> DataError:
        """The rows cannot be kept."""
        return DataError(f'the rows of "{self.name}" cannot be kept in {folder}', why=why, fix=self.disk_fix)

    @contextmanager
    def writing(self, folder: Path) -> Iterator[None]:
        """For what is done to the disk alone: an OSError may come from where the rows come from, too."""
        try:
            yield
        except OSError as error:
            raise self.unwritten(folder, error.strerror or str(error)) from None

    @contextmanager
    def readable_types(self) -> Iterator[None]:
        """For what makes a dataset of a table; ArrowInvalid, which tells of damage, passes."""
        import pyarrow as pa

        try:
            yield
        except pa.ArrowInvalid:
            raise
        except (ValueError, TypeError, NotImplementedError, KeyError) as error:
            raise DataError(
                f'"{self.name}" has a column of a type that cannot be read',
                why=_line(error),
                fix="Write it as text, numbers, lists or objects",
            ) from None


def table(piece: Any, source: Source) -> pa.Table:
    """A table, a record batch or a list of rows as a table, without what other libraries say of its columns.

    Raises:
        DataError: the values of a column are not of one type.
    """
    import pyarrow as pa

    if isinstance(piece, pa.RecordBatch):
        piece = pa.Table.from_batches([piece])
    if isinstance(piece, pa.Table):
        return piece.replace_schema_metadata(None)
    names = list(dict.fromkeys(name for row in piece for name in row))
    return pa.table([_column(name, piece, source) for name in names], names=names)


def _column(name: str, rows: Sequence[Mapping[str, Any]], source: Source) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array([row.get(name) for row in rows])
    except (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError) as error:
        if isinstance(error, UnicodeError):
            what = "holds half of a surrogate pair"
        elif isinstance(error, OverflowError) or "too large" in str(error):
            what = "holds a number that does not fit into 64 bits"
        else:
            what = "holds values of different types"
        raise source.wrong_column(name, what, _line(error)) from None


def merged(schema: pa.Schema | None, other: pa.Schema, source: Source) -> pa.Schema:
    """A schema that both fit into: a column missing in one is null there, whole numbers become floating ones.

    Raises:
        DataError: a column has types that nothing fits.
    """
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
            why = f"it is {_type_name(schema.field(index).type)} at first and {_type_name(field.type)} further on"
            raise source.wrong_column(field.name, "changes its type", why) from None
    return pa.unify_schemas([schema, other], promote_options="permissive")


def aligned(found: pa.Table, schema: Any, source: Source) -> pa.Table:
    """A table with the columns of a schema that `merged` has made of its own.

    Raises:
        DataError: a value does not fit after all.
    """
    import pyarrow as pa

    if found.schema.equals(schema):
        return found
    columns = []
    for field in schema:
        if field.name not in found.column_names:
            columns.append(pa.nulls(found.num_rows, field.type))
            continue
        try:
            columns.append(found.column(field.name).cast(field.type))
        except pa.ArrowException as error:
            raise source.wrong_column(field.name, "changes its type", _line(error)) from None
    return pa.table(columns, schema=schema)


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


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
