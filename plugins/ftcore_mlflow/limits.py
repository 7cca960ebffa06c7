"""What MLflow takes: names, lengths, and how much at once."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

KEY_LENGTH = 250
PARAM_LENGTH = 6000
TAG_LENGTH = 8000
PARAMS_PER_REQUEST = 100
METRICS_PER_REQUEST = 1000

# A request may have 1 MB of JSON, where a character takes up to 6 bytes (12 outside the basic plane).
_REQUEST_LENGTH = 80_000

ItemT = TypeVar("ItemT")


def key(name: str) -> str:
    """The name with what MLflow refuses in a parameter's or metric's name replaced by `_`."""
    safe = re.sub(r"[^\w.\- :/]", "_", name) or "_"
    if safe != posixpath.normpath(safe) or safe.startswith(("/", "..")) or safe == ".":
        safe = "_" if safe == "." else safe.replace("/", "_").replace("..", "__")
    return safe[:KEY_LENGTH]


def text(value: Any) -> str:
    """A setting as text: lists and tables as JSON, everything else as Python shows it."""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | tuple | dict) else str(value)


def cut(values: Mapping[str, str], longest: int) -> tuple[dict[str, str], list[str]]:
    """The values with none longer than `longest` characters, and the names of those that were cut."""
    too_long = [name for name, value in values.items() if len(value) > longest]
    return {name: value[:longest] for name, value in values.items()}, too_long


def param_batches(params: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Parameters in portions that fit into one request each."""
    batch: list[tuple[str, str]] = []
    length = 0
    for name, value in params:
        size = len(name) + len(value)
        if batch and (len(batch) == PARAMS_PER_REQUEST or length + size > _REQUEST_LENGTH):
            yield batch
            batch, length = [], 0
        batch.append((name, value))
        length += size
    if batch:
        yield batch


def portions(items: Sequence[ItemT], size: int) -> Iterator[Sequence[ItemT]]:
    """The items in portions of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))
