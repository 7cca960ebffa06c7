"""The largest batch that a run will meet."""

from __future__ import annotations

from typing import Any

from ftcore.contracts import IGNORED, BatchShape
from ftcore.statistics.columns import token_counts

_MULTIPLE = 8
"""The trainer pads to a multiple of this."""


def longest_possible(rows: int, max_length: int) -> BatchShape:
    """As large as the settings allow, every token supervised."""
    return BatchShape(rows, max_length, rows * (max_length - 1), padded=rows > 1)


def longest_of(dataset: Any, rows: int) -> BatchShape:
    """The longest rows of prepared data in one batch.

    Args:
        dataset: a `datasets.Dataset` with list columns `labels`, and `position_ids` where it is packed.
        rows: how many sequences a batch has.
    """
    lengths = token_counts(dataset)
    longest = lengths.argsort(kind="stable")[-rows:]
    length = -(-int(lengths[longest[-1]]) // _MULTIPLE) * _MULTIPLE
    supervised = sum(sum(label != IGNORED for label in dataset[int(row)]["labels"][1:]) for row in longest)
    padded = bool((lengths[longest] != length).any()) or "position_ids" in dataset.column_names
    return BatchShape(len(longest), length, max(supervised, 1), padded)
