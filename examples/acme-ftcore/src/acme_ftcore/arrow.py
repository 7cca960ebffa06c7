"""From rows that come in pieces to a dataset on disk: whatever their number, one piece of them is in memory."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ftcore import cache, files
from ftcore.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

_FILE = "rows.arrow"


def on_disk(pieces: Iterable[Sequence[Sequence[Any]]], columns: Sequence[str], source: str) -> Dataset:
    """Rows of texts as a dataset that lies in ftcore's cache and is mapped into memory.

    The database is read anew by every run, since nothing says cheaply whether it is as it was. The entry is named by
    what is in it: the same rows are kept once, and a run that is still reading others is left alone.

    Raises:
        DataError: there is no row, or a cell is no text.
    """
    from datasets import Dataset

    store = cache.cache_folder() / "acme"
    unnamed = store / uuid4().hex
    with files.whole_folder(unnamed) as folder:
        rows = _write(folder / _FILE, pieces, columns)
        if not rows:
            raise DataError(f'there are no tickets "{source}"', why="none is solved", fix="Check the month in the id")
        cache.describe(folder, "tickets", f"{source}, {rows} rows")
    with (unnamed / _FILE).open("rb") as file:
        entry = store / hashlib.file_digest(file, "sha256").hexdigest()[:16]
    try:
        unnamed.rename(entry)
    except OSError:  # an earlier run has read the same rows
        shutil.rmtree(unnamed)
        cache.used(entry)
    return Dataset.from_file(str(entry / _FILE))


def _write(path: Path, pieces: Iterable[Sequence[Sequence[Any]]], columns: Sequence[str]) -> int:
    import pyarrow as pa

    schema = pa.schema([(name, pa.string()) for name in columns])
    rows = 0
    with pa.ipc.new_stream(str(path), schema) as writer:
        for piece in pieces:
            cells = [_texts(name, values) for name, values in zip(columns, zip(*piece, strict=True), strict=True)]
            writer.write_batch(pa.record_batch(cells, schema=schema))
            rows += len(piece)
    return rows


def _texts(column: str, values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(values, pa.string())
    except pa.ArrowException as error:
        raise DataError(f"the column {column} of the tickets holds other things than text", why=str(error)) from None
