"""One dataset, counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any

from ftcore.contracts import IGNORED
from ftcore.statistics.columns import chunks, column, flat
from ftcore.statistics.findings import SHOWN_ROWS, Bar, Finding, Lengths, Split, Twins
from ftcore.statistics.learned import Blank, Learned, doubled
from ftcore.turns import Ends

_BARS = 16


@dataclass(frozen=True)
class Seen:
    """Of each example: its length (int32), its tokens' hash (int64), and its number in the user's data (int32)."""

    sizes: Any
    hashes: Any
    numbers: Any

    @classmethod
    def of(cls, rows: int) -> Seen:
        """Room for so many examples."""
        import numpy as np

        return cls(np.empty(rows, np.int32), np.empty(rows, np.int64), np.empty(rows, np.int32))


def split(dataset: Any, tokenizer: Any, ends: Ends, facts: Mapping[str, Any]) -> tuple[Split, Seen]:
    """Count a dataset.

    Args:
        facts: what the trainer says of the whole; read where the dataset lacks the columns.
    """
    import numpy as np

    columns = [
        name for name in ("input_ids", "labels", "row", "lost", "lost_supervised") if name in dataset.column_names
    ]
    names = ("unsupervised", "truncated", "cut_answers", "cut_prompts", "unended", "double_bos")
    found = {name: _Rows() for name in names}
    counts = dict.fromkeys(("tokens", "supervised", "lost_tokens", "lost_supervised", "ended"), 0)
    seen = Seen.of(len(dataset))
    blank = Blank(tokenizer)
    start = 0
    for chunk in chunks(dataset, columns):
        ids, offsets = flat(chunk["input_ids"])
        labels, _ = flat(chunk["labels"])
        length = np.diff(offsets)
        number = column(chunk, "row", np.arange(start, start + len(length)))
        lost, lost_supervised = (column(chunk, name, np.zeros_like(length)) for name in ("lost", "lost_supervised"))
        learned = Learned(ids, labels != IGNORED, offsets, ends.ids)
        none, cut = learned.counts == 0, lost > 0
        found["unsupervised"].add(none, number)
        found["truncated"].add(cut, number)
        found["cut_answers"].add((lost_supervised > 0) & ~none, number)
        found["cut_prompts"].add(cut & none, number)
        found["unended"].add(~none & ~cut & ~learned.closed(blank), number)
        found["double_bos"].add(doubled(ids, offsets, tokenizer.bos_token_id), number)
        counts["tokens"] += len(ids)
        counts["supervised"] += int(learned.counts.sum())
        counts["lost_tokens"] += int(lost.sum())
        counts["lost_supervised"] += int(lost_supervised.sum())
        counts["ended"] += int(learned.with_end.sum())
        here = slice(start, start + len(length))
        seen.sizes[here], seen.hashes[here], seen.numbers[here] = length, _hashes(ids, offsets), number
        start += len(length)
    findings: dict[str, Any] = {name: rows.finding for name, rows in found.items()}
    if "lost" not in columns:  # somebody else's trainer: what it says of the whole
        findings["truncated"] = Finding(int(facts.get("truncated_rows", 0)))
        counts["lost_tokens"] = int(facts.get("lost_tokens", 0))
        counts["lost_supervised"] = int(facts.get("lost_supervised_tokens", 0))
    return Split(rows=start, lengths=_lengths(seen.sizes), duplicates=_twins(seen), **(findings | counts)), seen


class _Rows:
    """Gathers a finding chunk by chunk."""

    def __init__(self) -> None:
        self.count = 0
        self.rows: list[int] = []

    def add(self, mask: Any, numbers: Any) -> None:
        self.count += int(mask.sum())
        if len(self.rows) < SHOWN_ROWS:
            self.rows += numbers[mask][: SHOWN_ROWS - len(self.rows)].tolist()

    @property
    def finding(self) -> Finding:
        return Finding(self.count, tuple(self.rows))


def _hashes(ids: Any, offsets: Any) -> Any:
    """A hash of each row's tokens, int64; two of a million different rows share one with a chance of 1 in 10^7."""
    import numpy as np

    raw, width = ids.tobytes(), ids.itemsize
    borders = (offsets * width).tolist()
    return np.fromiter((hash(raw[begin:end]) for begin, end in pairwise(borders)), np.int64, len(borders) - 1)


def _twins(seen: Seen) -> Twins:
    import numpy as np

    ordered = np.sort(seen.hashes)
    same = ordered[1:] == ordered[:-1]
    count = int(same.sum())
    if not count:
        return Twins()
    order = np.argsort(seen.hashes, kind="stable")  # of equal rows, the first one stays in front
    some = np.sort(order[1:][same])[:SHOWN_ROWS]
    first = order[np.searchsorted(ordered, seen.hashes[some])]
    return Twins(count, pairs(seen.numbers[some], seen.numbers[first]))


def shared(seen: Seen, others: Seen) -> Twins:
    """The examples that are among the others too, each with the first of those that it equals."""
    import numpy as np

    if not len(others.hashes):
        return Twins()
    ordered = np.sort(others.hashes)
    place = np.minimum(np.searchsorted(ordered, seen.hashes), len(ordered) - 1)
    both = np.flatnonzero(ordered[place] == seen.hashes)
    some = both[:SHOWN_ROWS]
    there = np.asarray([np.flatnonzero(others.hashes == seen.hashes[row])[0] for row in some], np.int64)
    return Twins(len(both), pairs(seen.numbers[some], others.numbers[there]))


def pairs(rows: Any, others: Any) -> tuple[tuple[int, int], ...]:
    """Two arrays of row numbers, side by side."""
    return tuple(zip(rows.tolist(), others.tolist(), strict=True))


def _lengths(sizes: Any) -> Lengths:
    import numpy as np

    if not len(sizes):
        return Lengths()
    shortest, median, p95, longest = np.quantile(sizes, [0, 0.5, 0.95, 1], method="inverted_cdf").astype(int).tolist()
    width = _round_width(longest - shortest + 1)
    low = shortest // width * width
    counts = np.bincount((sizes - low) // width)
    bars = (Bar(low + width * at, low + width * (at + 1) - 1, count) for at, count in enumerate(counts.tolist()))
    return Lengths(shortest, median, p95, longest, tuple(bars))


def _round_width(span: int) -> int:
    """The narrowest of 1, 2, 5, 10, 20, 50, … that covers a span with few enough bars, one more for its ragged start."""
    width, scale = 1, 1
    while ceil(span / width) >= _BARS:
        step = {1: 2, 2: 5, 5: 10}[width // scale]
        width = step * scale
        scale = scale * 10 if step == 10 else scale
    return width
