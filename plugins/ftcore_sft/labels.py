"""Which tokens are trained on: the assistant's turns, found by the markers that open turns.

A token is supervised from the end of an `answer_part` up to the special token that ends the turn, which is learned too:
a model that never sees it never stops. What a template writes behind it (ChatML a line break) is nobody's answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ftcore_sft.markers import Markers

IGNORED = -100


def labels_by_ids(flat: Any, offsets: Any, markers: Markers) -> tuple[Any, Any, Any]:
    """Labels of many rows at once.

    Args:
        flat: int64 array, the rows' tokens end to end, shape [tokens].
        offsets: int64 array, where each row begins, and the end of the last; shape [rows + 1].
        markers: with their tokens.

    Returns:
        The labels, shape [tokens], and how many question and how many answer markers each row has, shape [rows].
    """
    import numpy as np

    answers = _occurrences(flat, offsets, markers.answer_ids)
    questions = _occurrences(flat, offsets, markers.question_ids)
    # What holds from each position on: 1 behind an answer marker, -1 behind an end, at a question marker and at a
    # row's start.
    events: Any = np.zeros(len(flat) + 1, dtype=np.int8)
    if markers.end_id is not None:
        events[np.flatnonzero(flat == markers.end_id) + 1] = -1
    events[offsets[:-1]] = -1
    events[questions] = -1
    events[answers + len(markers.answer_ids)] = 1
    events[offsets[1:-1]] = -1  # an answer marker at the very end of a row opens nothing in the next
    last = np.maximum.accumulate(np.where(events != 0, np.arange(len(events)), 0))
    supervised = (events[last] == 1)[: len(flat)]
    per_row = (
        np.bincount(np.searchsorted(offsets, starts, side="right") - 1, minlength=len(offsets) - 1)
        for starts in (questions, answers)
    )
    return np.where(supervised, flat, IGNORED), *per_row


def _occurrences(flat: Any, offsets: Any, marker: Sequence[int]) -> Any:
    """Where the marker's tokens begin, never across the border of two rows."""
    import numpy as np

    width = len(marker)
    if len(flat) < width:
        return np.empty(0, dtype=np.int64)
    hits = flat[: len(flat) - width + 1] == marker[0]
    for shift in range(1, width):
        hits = hits & (flat[shift : len(flat) - width + 1 + shift] == marker[shift])
    starts = np.flatnonzero(hits)
    row = np.searchsorted(offsets, starts, side="right")
    return starts[starts + width <= offsets[row]]


def marked_spans(text: str, markers: Markers) -> list[tuple[int, int]]:
    """The characters [start, end) of the assistant's turns of one row, found by the markers in its text.

    For tokens that merge across a marker's edge; the row's own texts must hold no marker.
    """
    spans: list[tuple[int, int]] = []
    position = 0
    while (start := text.find(markers.answer, position)) >= 0:
        start += len(markers.answer)
        end = text.find(markers.end, start) if markers.end else -1
        stops = [text.find(markers.question, start), end + len(markers.end) if end >= 0 else -1]
        position = min((stop for stop in stops if stop >= 0), default=len(text))
        spans.append((start, position))
    return spans


def labels_in(spans: Iterable[tuple[int, int]], ids: Any, characters: Sequence[tuple[int, int]]) -> Any:
    """Labels of one row: a token is supervised where its last character is in one of the spans.

    Args:
        spans: the characters [start, end) of the assistant's turns.
        ids: int64 array, the row's tokens.
        characters: which characters [start, end) of the text each token covers.
    """
    import numpy as np

    first, last = np.asarray(characters, dtype=np.int64).reshape(-1, 2).T
    supervised: Any = np.zeros(len(ids), dtype=bool)
    for start, end in spans:
        supervised |= (last > start) & (last <= end) & (last > first)
    return np.where(supervised, ids, IGNORED)
