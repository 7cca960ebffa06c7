"""The data source `file`: data files and folders of this machine.

Reads JSON (an array, or one object around it), JSON lines, CSV, TSV, Parquet and Arrow files, each also gzipped;
a folder of them; and a folder written by the `save_to_disk` of `datasets`. Options of an id: `split`, `rows`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ftcore import arrow, hookimpl
from ftcore.contracts import DataRequest
from ftcore.errors import ConfigError, DataError
from ftcore_data import _options, _paths
from ftcore_data._options import Options
from ftcore_data._settings import FileSettings
from ftcore_data._tables import tables

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

OPTIONS = ("split", "rows")
_VERSION = "1"  # of what a cached Arrow file holds


@hookimpl
def ftcore_settings() -> type[FileSettings]:
    return FileSettings


@hookimpl
def ftcore_load_dataset(request: DataRequest, settings: FileSettings | None) -> Dataset:
    """Load a file or a folder. Raises ConfigError for its options, DataError for everything else."""
    settings = settings or FileSettings()
    options = _options.read(request, OPTIONS)
    path = _paths.find(request)
    if path.is_dir() and ((path / "dataset_dict.json").is_file() or (path / "state.json").is_file()):
        return _from_save_to_disk(path, options, request, settings)
    return _read(_files(path, options, request), options, request, settings)


def _files(path: Path, options: Options, request: DataRequest) -> list[Path]:
    """The files to read, in order."""
    if not path.is_dir():
        if options.get("split"):
            raise ConfigError(
                f'the id "{request.locator.text}" asks for a split of a single file',
                why="only folders have splits",
                fix="Remove split=…, or keep the front of the file with rows=…",
            )
        if not path.is_file():
            raise DataError(f'"{path}" is neither a file nor a folder', fix="Name a data file")
        return [path]
    found = _paths.folder(path)
    if not found.splits and not options.get("split"):
        return found.others
    if found.others and not options.get("split"):
        raise _paths.ambiguous(path, found.others)
    if not found.splits:
        raise DataError(
            f'the folder "{path}" has no splits',
            why="none of its files or folders is named like one, e.g. train.jsonl",
            fix="Remove split=…",
        )
    return found.splits[_options.choose_split(list(found.splits), options.get("split"), request)]


def _read(files: Sequence[Path], options: Options, request: DataRequest, settings: FileSettings) -> Dataset:
    def read() -> Iterator[pa.Table]:
        left = options.rows
        for file in files:
            for table in tables(file, settings):
                yield table if left is None else table.slice(0, left)
                left = None if left is None else left - table.num_rows
                if left is not None and left <= 0:
                    return

    key = _key(files, options, settings)
    large = options.rows is None and sum(file.stat().st_size for file in files) > settings.memory_limit_mb << 20
    dataset = arrow.dataset(
        read(),
        request.locator.text,
        "file" if settings.cache_dir is None else Path(settings.cache_dir).expanduser().absolute(),
        key=key,
        memory_limit=0 if large else settings.memory_limit_mb << 20,
        type_fix='Make it one type, or read it as text: [file] text_columns = ["{column}"]',
        disk_fix="Make room there, or set [file] cache_dir or FTCORE_CACHE to another folder",
    )
    if not dataset.column_names:
        raise DataError(f'"{request.locator.text}" has no columns', why="its rows are all empty", fix="Check the data")
    _require(settings.text_columns, dataset.column_names, request)
    return dataset


def _require(wanted: Sequence[str], columns: Sequence[str], request: DataRequest) -> None:
    for name in wanted:
        if name not in columns:
            raise DataError(
                f'"{request.locator.text}" has no column "{name}", which [file] text_columns names',
                why=f"its columns are {', '.join(columns)}",
                fix="Correct text_columns",
            )


def _key(files: Sequence[Path], options: Options, settings: FileSettings) -> str:
    """A fingerprint of the files as they are now and of how they are read."""
    parts: list[object] = [_VERSION, options.rows]
    parts += [settings.encoding, settings.csv_delimiter, sorted(settings.text_columns)]
    for file in files:
        try:
            facts = file.stat()
        except OSError as error:
            raise DataError(f'cannot read the data file "{file}"', why=error.strerror or str(error)) from None
        parts += [str(file.resolve()), facts.st_size, facts.st_mtime_ns]
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _from_save_to_disk(path: Path, options: Options, request: DataRequest, settings: FileSettings) -> Dataset:
    import json

    import datasets

    if settings.text_columns:
        raise ConfigError(
            f'[file] text_columns has no effect on "{path}"',
            why="a folder from save_to_disk brings the types of its columns along",
            fix="Remove text_columns, or cast the columns before save_to_disk",
        )
    try:
        if (path / "dataset_dict.json").is_file():
            splits = json.loads((path / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
            path = path / _options.choose_split(splits, options.get("split"), request)
        elif options.get("split"):
            raise ConfigError(
                f'the id "{request.locator.text}" asks for a split of a single dataset',
                why="the folder holds one Dataset, not a DatasetDict",
                fix="Remove split=…",
            )
        dataset = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'cannot read the folder "{path}", which save_to_disk wrote',
            why=" ".join(f"{type(error).__name__}: {error}".split())[:200],
            fix="Copy or write it again",
        ) from None
    assert isinstance(dataset, datasets.Dataset)
    if not len(dataset):
        raise DataError(f'"{request.locator.text}" has no rows', fix="Check the data")
    return dataset if options.rows is None else dataset.take(min(options.rows, len(dataset)))
