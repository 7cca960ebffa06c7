"""Several examples in one sequence, isolated from each other."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ftcore_sft.labels import IGNORED
from ftcore_sft.lengths import token_counts

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

_AT_A_TIME = 500
"""Packed rows that are made at once."""


def bins(lengths: Any, capacity: int) -> list[list[int]]:
    """Which examples go together: best-fit decreasing, which wastes at most 22 % (Johnson 1974).

    Args:
        lengths: of the examples, in tokens, each at most `capacity`; integers, shape [examples].
        capacity: tokens in a packed sequence.

    Returns:
        Lists of example numbers; every example is in exactly one.
    """
    import numpy as np

    packed: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, bin), sorted
    sizes = np.asarray(lengths, np.int64)
    order = np.argsort(-sizes, kind="stable")
    for example, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        place = bisect_left(room, (size, -1))
        if place == len(room):
            packed.append([example])
            left, index = capacity - size, len(packed) - 1
        else:
            left, index = room.pop(place)
            packed[index].append(example)
            left -= size
        insort(room, (left, index))
    return packed


def pack(dataset: Dataset, capacity: int) -> Dataset:
    """The dataset with packed rows, in memory; see `packed`."""
    import pyarrow as pa
    from datasets import Dataset

    return Dataset(pa.concat_tables(packed(dataset, capacity)))


def packed(dataset: Dataset, capacity: int) -> Iterator[pa.Table]:
    """The packed rows, some at a time: `input_ids`, `labels`, and `position_ids` that begin at 0 with every example.

    An example's first token is not supervised: its predecessor in the sequence belongs to another example.
    """
    examples = _Examples(dataset)
    chosen = bins(token_counts(dataset), capacity)
    for start in range(0, max(len(chosen), 1), _AT_A_TIME):
        yield examples.packed(chosen[start : start + _AT_A_TIME])


class _Examples:
    """The tokens and labels of a dataset by the numbers of its rows, where they lie: in memory, or in a mapped file."""

    def __init__(self, dataset: Dataset) -> None:
        import numpy as np

        table = dataset.with_format("arrow")[:]
        self._ids, self._labels = (_arrays(table.column(name)) for name in ("input_ids", "labels"))
        self._starts = np.cumsum([0, *(len(offsets) - 1 for _, offsets in self._ids)])

    def packed(self, chosen: Sequence[Sequence[int]]) -> pa.Table:
        """Sequences of these examples."""
        import numpy as np
        import pyarrow as pa

        numbers: Any = np.fromiter((example for members in chosen for example in members), np.int64)
        parts: Any = np.searchsorted(self._starts, numbers, side="right") - 1
        places = list(zip(parts.tolist(), (numbers - self._starts[parts]).tolist(), strict=True))
        ids, labels = self._end_to_end(self._ids, places), self._end_to_end(self._labels, places)
        offsets = np.cumsum([0, *(len(self._of(self._ids, *place)) for place in places)])
        labels[offsets[:-1][np.diff(offsets) > 0]] = IGNORED
        positions = np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))
        borders = pa.array(offsets[np.cumsum([0, *map(len, chosen)])], pa.int32())
        columns = {"input_ids": ids, "labels": labels, "position_ids": positions}
        return pa.table(
            {name: pa.ListArray.from_arrays(borders, pa.array(values, pa.int32())) for name, values in columns.items()}
        )

    def _end_to_end(self, lists: _Arrays, places: Sequence[tuple[int, int]]) -> Any:
        import numpy as np

        return np.concatenate([np.zeros(0, np.int32), *(self._of(lists, *place) for place in places)])

    @staticmethod
    def _of(lists: _Arrays, part: int, row: int) -> Any:
        values, offsets = lists[part]
        return values[offsets[row] : offsets[row + 1]]


_Arrays = list[tuple[Any, Any]]
"""The parts of a list column, each as its values end to end, and where each row begins, and the end."""


def _arrays(column: pa.ChunkedArray) -> _Arrays:
    return [(part.values.to_numpy(), part.offsets.to_numpy()) for part in column.chunks]
