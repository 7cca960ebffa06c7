"""Rules for data sources: the same rows each time, streamed where they are many, and clear about what is not there."""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from collections.abc import Iterator
from typing import Any, Literal
from unittest import mock

from ftcore import locators
from ftcore.contracts import DataRequest
from ftcore.errors import FtcoreError
from ftcore.fingerprint import fingerprint
from ftcore.testing.conformance.rule import Broken, NotTried, raised, refusal, rule
from ftcore.testing.conformance.subject import Subject, where

_LARGE = 8_000_000
"""Bytes of rows from which one can tell whether they were streamed."""


@rule(
    "data-rows",
    why="everything after it reads a datasets.Dataset",
    fix="return datasets.Dataset.from_generator(…), from_list(…), or what load_dataset gives for one split",
)
def rows(subject: Subject) -> Iterator[str]:
    """An id of its own becomes a datasets.Dataset with rows and columns."""
    loaded = _load(subject, _id(subject))
    from datasets import Dataset

    if not isinstance(loaded, Dataset):
        yield f"it returned a {type(loaded).__name__}, not a datasets.Dataset"
    elif not len(loaded) or not loaded.column_names:
        yield f"it returned {len(loaded)} rows with {len(loaded.column_names)} columns"


@rule(
    "data-deterministic",
    why="a run that goes on must find the rows that it was begun with, in their order",
    fix="order what you read (ORDER BY a key), sample with request.seed, and nothing else",
)
def deterministic(subject: Subject) -> Iterator[str]:
    """Loaded twice, the rows are the same, in the same order."""
    first, second = (_load(subject, _id(subject)) for _ in range(2))
    if len(first) != len(second):
        yield f"it gave {len(first)} rows, and then {len(second)}"
    elif fingerprint(first) != fingerprint(second):
        yield "it gave other rows the second time, or in another order"


@rule(
    "data-validation",
    why="a user asks for validation data with the same prefix",
    fix="decide by request.purpose, or raise DataError where there are none",
)
def validation(subject: Subject) -> Iterator[str]:
    """Asked for validation data, it gives rows or raises an FtcoreError."""
    try:
        loaded = _load(subject, _id(subject), "validation")
    except FtcoreError:
        return
    if not hasattr(loaded, "column_names"):
        yield f"it returned a {type(loaded).__name__}, not a datasets.Dataset"


@rule(
    "data-streams",
    why="rows that do not fit in memory end the process without a word",
    fix="read with a cursor or page by page, and give the pieces to ftcore.arrow.dataset, which writes to the disk as it goes",
)
def streams(subject: Subject) -> Iterator[str]:
    """A large dataset is read a part at a time, and lies on the disk afterwards, not in memory."""
    if subject.setup.large is None:
        raise NotTried(f"no id of many rows was given, as `large`, in {where(subject.name)}")
    import pyarrow as pa

    held = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        loaded = _load(subject, subject.setup.large)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    held, size = pa.total_allocated_bytes() - held, loaded.data.nbytes
    if size < _LARGE:
        raise Broken(
            f'"{subject.setup.large}" has {size / 1e6:.1f} MB of rows: too few to tell (at least {_LARGE / 1e6:.0f} MB)'
        )
    for what, bytes_ in (("Python's objects", peak), ("Arrow's tables", held)):
        if bytes_ > size / 2:
            yield f"for {size / 1e6:.0f} MB of rows it held {bytes_ / 1e6:.0f} MB in {what}"


@rule(
    "data-refuses",
    why="a mistyped id is the user's mistake: one line that says what there is, and no traceback",
    fix="raise DataError with what was looked for, where, and what to use instead",
)
def refuses(subject: Subject) -> Iterator[str]:
    """An id of data that are not there raises an FtcoreError, however odd the id is."""
    given = [subject.setup.missing] if subject.setup.missing else []
    for path in (
        *given,
        "ftcore-no-such-data",
        "../../ftcore no such data",
        "ftcore/ünïcode/%00",
        "'; DROP TABLE x; --",
    ):
        text = path if path in given else f"{subject.name}:{path}"
        yield from refusal(lambda text=text: _load(subject, text), f'"{text}"')  # type: ignore[misc]


@rule(
    "data-refuses-options",
    why="a misspelt option would be ignored in silence, and the run trained on other rows than asked for",
    fix="look at request.locator.options, and raise ConfigError for a key that you do not know",
)
def refuses_options(subject: Subject) -> Iterator[str]:
    """An option that it does not know raises an FtcoreError."""
    text = _id(subject)
    text += ("&" if "?" in text else "?") + "ftcore_no_such_option=1"
    yield from refusal(lambda: _load(subject, text), f'"{text}"')


@rule(
    "data-leaves-secrets",
    why="errors are printed, logged and kept in the run's manifest",
    fix="name the environment variable or the host in messages, never the connection's text",
)
def leaves_secrets(subject: Subject) -> Iterator[str]:
    """The errors for data that are not there tell no secret of its settings."""
    config = subject.config("data")
    settings = config.section(subject.name)
    kept = _secret_values(settings)
    if not kept:
        raise NotTried("its settings hold no secret here")
    try:
        _load(subject, subject.setup.missing or f"{subject.name}:ftcore-no-such-data")
    except Exception as error:
        if any(secret in f"{error!r} {raised(error)}" for secret in kept):
            yield f"the {type(error).__name__} has a secret of [{subject.name}] in it"


def _secret_values(settings: Any) -> list[str]:
    from pydantic import SecretStr

    values = [] if settings is None else [getattr(settings, name) for name in type(settings).model_fields]
    return [value.get_secret_value() for value in values if isinstance(value, SecretStr) and value.get_secret_value()]


def _id(subject: Subject) -> str:
    assert subject.record
    if subject.setup.data is None:
        raise Broken(f"there is no id of data to try it with: give one, as `data`, in {where(subject.name)}")
    return subject.setup.data


def _load(subject: Subject, text: str, purpose: Literal["training", "validation"] = "training") -> Any:
    config = subject.config("data")
    request = DataRequest(
        locator=locators.parse(text),
        purpose=purpose,
        num_proc=1,
        seed=config.fine_tuner.seed,
        base_dir=config.path.parent,
    )
    import datasets

    # An empty cache each time: rows that were kept from the first time would look the same the second time.
    empty = tempfile.mkdtemp(dir=subject.folder)
    with (
        mock.patch.object(datasets.config, "HF_DATASETS_CACHE", empty),
        mock.patch.dict(os.environ, {"FTCORE_CACHE": empty}),
    ):
        return subject.call("ftcore_load_dataset", request=request, settings=config.section(subject.name))
