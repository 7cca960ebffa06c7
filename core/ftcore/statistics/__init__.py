"""What prepared data hold, counted before anything is trained: how much is learned, and what would spoil it.

    found = statistics(prepared, tokenizer, config.fine_tuner)
    found.training.supervised_share, found.training.unended.count, found.training.unended.rows

All is counted chunk by chunk in numpy; of a row only its number, its length and a hash of its tokens are kept: 16 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any, Protocol

from ftcore.contracts import Prepared
from ftcore.statistics.columns import token_counts
from ftcore.statistics.count import shared, split
from ftcore.statistics.findings import SHOWN_ROWS, Bar, Finding, Lengths, Split, Statistics, Twins
from ftcore.turns import ends_of

__all__ = ["SHOWN_ROWS", "Bar", "Batches", "Finding", "Lengths", "Split", "Statistics", "Twins", "statistics"]

_PADDED_TO = 8
"""Trainers pad a batch to a multiple of this, which matrix units can tile."""


class Batches(Protocol):
    """What is read of `[fine_tuner]`."""

    @property
    def max_sequence_length(self) -> int: ...
    @property
    def device_train_batch_size(self) -> int: ...
    @property
    def grad_accumulation(self) -> int: ...
    @property
    def epochs(self) -> int | float: ...


def statistics(prepared: Prepared, tokenizer: Any, settings: Batches) -> Statistics:
    """Count everything.

    Args:
        prepared: what the trainer prepared; its columns `row`, `lost` and `lost_supervised` are used where it has them.
        tokenizer: with its chat template, for the tokens that begin and end.
        settings: `[fine_tuner]`, or as much of it as `Batches` names.
    """
    ends = ends_of(tokenizer)
    examples = prepared.train if prepared.examples is None else prepared.examples
    training, seen = split(examples, tokenizer, ends, prepared.facts)
    validation, held_out = None, None
    if prepared.validation is not None:
        validation, held_out = split(prepared.validation, tokenizer, ends, {})
    packed = prepared.examples is not None
    sizes = token_counts(prepared.train) if packed else seen.sizes
    batches = ceil(len(sizes) / settings.device_train_batch_size)
    steps = ceil(batches / settings.grad_accumulation)
    return Statistics(
        training=training,
        validation=validation,
        overlap=Twins() if held_out is None else shared(held_out, seen),
        skipped=_skipped(prepared),
        packed_rows=len(sizes) if packed else None,
        packing_efficiency=_share(sizes.sum(), len(sizes) * settings.max_sequence_length) if packed else None,
        padding=_padding(sizes, prepared.order() if prepared.order else None, settings.device_train_batch_size),
        steps_per_epoch=steps,
        steps=ceil(settings.epochs * steps),
    )


def _skipped(prepared: Prepared) -> int:
    """Bad training rows: as the trainer tells of them, or at least counts them."""
    named = sum(bad.count for bad in prepared.bad_rows if bad.purpose == "training")
    return named or int(prepared.facts.get("bad_rows", 0))


def _padding(sizes: Any, order: Sequence[int] | None, batch_size: int) -> float:
    import numpy as np

    if not len(sizes):
        return 0.0
    ordered = sizes if order is None else sizes[np.asarray(order)]
    starts = np.arange(0, len(ordered), batch_size)
    widest = np.maximum.reduceat(ordered, starts)
    rows: Any = np.diff(np.append(starts, len(ordered)))
    padded = int((-(-widest // _PADDED_TO) * _PADDED_TO * rows).sum())
    return 1 - _share(ordered.sum(), padded)


def _share(part: Any, whole: int) -> float:
    return float(part) / whole if whole else 0.0
