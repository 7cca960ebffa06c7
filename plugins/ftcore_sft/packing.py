"""Several examples in one sequence, isolated from each other."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Any

from ftcore_sft.labels import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset


def bins(lengths: list[int], capacity: int) -> list[list[int]]:
    """Which examples go together: best-fit decreasing, which wastes at most 22 % (Johnson 1974).

    Args:
        lengths: of the examples, in tokens, each at most `capacity`.
        capacity: tokens in a packed sequence.

    Returns:
        Lists of example numbers; every example is in exactly one.
    """
    packed: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, bin), sorted
    for example in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        place = bisect_left(room, (lengths[example], -1))
        if place == len(room):
            packed.append([example])
            left, index = capacity - lengths[example], len(packed) - 1
        else:
            left, index = room.pop(place)
            packed[index].append(example)
            left -= lengths[example]
        insort(room, (left, index))
    return packed


def pack(dataset: Dataset, capacity: int) -> Dataset:
    """The dataset with packed rows: `input_ids`, `labels`, and `position_ids` that begin at 0 with every example.

    An example's first token is not supervised: its predecessor in the sequence belongs to another example.
    """
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset

    table = dataset.with_format("arrow")[:]
    ids, labels = (table[name].combine_chunks() for name in ("input_ids", "labels"))
    offsets = ids.offsets.to_numpy()
    lengths = np.diff(offsets)
    flat_ids, flat_labels = ids.values.to_numpy(), labels.values.to_numpy().copy()
    flat_labels[offsets[:-1][lengths > 0]] = IGNORED
    positions = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)

    chosen = bins(lengths.tolist(), capacity)
    order = np.fromiter((example for members in chosen for example in members), dtype=np.int64, count=len(lengths))
    # The tokens of the examples in their new order.
    starts: Any = np.repeat(offsets[:-1][order], lengths[order])
    within = np.arange(offsets[-1]) - np.repeat(np.cumsum(lengths[order]) - lengths[order], lengths[order])
    gather = starts + within
    sizes = [int(lengths[members].sum()) for members in chosen]
    new_offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int32())

    def lists(values: Any) -> Any:
        return pa.ListArray.from_arrays(new_offsets, pa.array(values[gather], pa.int32()))

    columns = {"input_ids": lists(flat_ids), "labels": lists(flat_labels), "position_ids": lists(positions)}
    return Dataset(pa.table(columns))
