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
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

from ftcore import cache, files
from ftcore.pieces import Source, aligned, merged, table

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
    whose = Source(source, type_fix, disk_fix)
    if key is not None and (known := _kept(folder / key, whose)) is not None:
        return known
    tables = (table(piece, whose) for piece in pieces)
    small, rest = _up_to(tables, memory_limit)
    if rest is None:
        return _in_memory(small, whose, key)
    kept = _kept(_keep(chain(small, rest), whose, folder, key), whose)
    if kept is None:
        raise whose.unwritten(folder, "what was written cannot be read")
    return kept


def _kept(entry: Path, source: Source) -> Dataset | None:
    """The rows of an entry; None where there is none, or it is damaged."""
    import pyarrow as pa
    from datasets import Dataset

    try:
        with source.readable_types():
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
        found = next(tables, None)
        if found is None:
            return first, None
        first.append(found)
        size += found.nbytes
    return first, tables


def _in_memory(tables: list[pa.Table], source: Source, key: str | None) -> Dataset:
    import pyarrow as pa
    from datasets import Dataset

    schema: pa.Schema | None = None
    for found in tables:
        schema = merged(schema, found.schema, source)
    if not any(found.num_rows for found in tables):
        raise source.no_rows()
    whole = pa.concat_tables([aligned(found, schema, source) for found in tables])
    with source.readable_types():
        # Naming the fingerprint keeps `datasets` from hashing all the data for one.
        return Dataset(whole, fingerprint=None if key is None else key[:16])


def _keep(tables: Iterator[pa.Table], source: Source, folder: Path, key: str | None) -> Path:
    """Write the rows as an entry; its folder."""
    with source.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # Its name is one that `ftcore cache prune` knows, should the process be killed.
        scratch = Path(tempfile.mkdtemp(dir=folder, prefix=f".{uuid4().hex}."))
    try:
        rows = _write(tables, source, scratch)
        with source.writing(folder):
            entry = folder / (key or _digest(scratch / FILE))
            if key is None and (entry / FILE).is_file():
                return entry
            with files.whole_folder(entry) as whole:
                (scratch / FILE).replace(whole / FILE)
                cache.describe(whole, "rows", f"{source.name}, {rows:,} rows")
            return entry
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(tables: Iterator[pa.Table], source: Source, scratch: Path) -> int:
    """Write one Arrow stream; how many rows it has. As long as the schema grows, there are several of them."""
    import pyarrow as pa

    parts: list[Path] = []
    writer: Any = None
    schema: pa.Schema | None = None
    rows = 0
    try:
        for found in tables:
            wider = merged(schema, found.schema, source)
            fitting = aligned(found, wider, source)
            with source.writing(scratch.parent):
                if wider != schema:
                    if writer is not None:
                        writer.close()
                    parts.append(scratch / f"{len(parts)}.arrow")
                    schema, writer = wider, pa.ipc.new_stream(str(parts[-1]), wider)
                writer.write_table(fitting)
            rows += found.num_rows
    finally:
        if writer is not None:
            with source.writing(scratch.parent):
                writer.close()
    if not rows:
        raise source.no_rows()
    with source.writing(scratch.parent):
        _join(parts, scratch / FILE, schema, source)
    return rows


def _join(parts: Sequence[Path], target: Path, schema: Any, source: Source) -> None:
    import pyarrow as pa

    if len(parts) == 1:
        parts[0].replace(target)
        return
    with pa.ipc.new_stream(str(target), schema) as writer:
        for part in parts:
            with pa.memory_map(str(part)) as mapped:
                for batch in pa.ipc.open_stream(mapped):
                    writer.write_table(aligned(pa.Table.from_batches([batch]), schema, source))
            part.unlink()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
