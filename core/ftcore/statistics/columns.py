"""Prepared data as arrays, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

_ROWS = 2000
"""At a time: of rows that are thousands of tokens long, this many are tens of MiB."""


def token_counts(dataset: Any) -> Any:
    """The length of each row of prepared data, as an int32 array."""
    import numpy as np

    counts: Any = np.empty(len(dataset), np.int32)
    start = 0
    for chunk in chunks(dataset, ["input_ids"]):
        counts[start : start + len(chunk)] = np.diff(flat(chunk["input_ids"])[1])
        start += len(chunk)
    return counts


def chunks(dataset: Any, columns: Sequence[str]) -> Iterator[Any]:
    """Some columns of a dataset as Arrow tables of some thousand rows, none of them empty."""
    for chunk in dataset.select_columns(list(columns)).with_format("arrow").iter(batch_size=_ROWS):
        if len(chunk):
            yield chunk


def flat(lists: Any) -> tuple[Any, Any]:
    """A list column as its values end to end, and where each row begins, and the end: shape [rows + 1], from 0."""
    array = lists.combine_chunks()
    offsets = array.offsets.to_numpy().astype("int64")
    return array.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]], offsets - offsets[0]


def column(chunk: Any, name: str, default: Any) -> Any:
    """A column of numbers as an int64 array, or what stands for it where it is not there."""
    return chunk[name].to_numpy().astype("int64") if name in chunk.column_names else default
