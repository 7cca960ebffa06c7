"""Do the markers find the assistant's turns, and nothing else? Seen on probe conversations, token by token."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from ftcore.errors import DataError
from ftcore_sft.labelling import Batch, Labelled, encode, label, marked_as_generated
from ftcore_sft.labels import IGNORED, labels_in, marked_spans
from ftcore_sft.markers import Markers, derived_markers, given_markers, own_markers
from ftcore_sft.probes import ANSWERS, accepted

_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


def trained_markers(tokenizer: Any, question: str | None, answer: str | None) -> Markers:
    """The markers to train with: those that are configured, or else the template's own, in either case verified.

    Where nothing is configured and the template marks what the assistant generates (`{% generation %}`), what it leaves
    unmarked is not trained on.

    Raises:
        DataError: the template does not write the configured ones, they mark other text than the assistant's turns, or
            none can be read off the template.
    """
    conversations, texts = zip(*accepted(tokenizer), strict=True)
    batch = encode(tokenizer, conversations, texts)
    if question is not None and answer is not None:
        return _verified_given(batch, tokenizer, given_markers(tokenizer, question, answer))
    markers, traced = _verified(batch, tokenizer, derived_markers(tokenizer))
    if _GENERATION.search(str(tokenizer.chat_template)):
        missing = (traced.labels != IGNORED) & ~marked_as_generated(batch, tokenizer)
        return replace(markers, generation=bool(missing.any()))
    return markers


def _verified(batch: Batch, tokenizer: Any, markers: Markers) -> tuple[Markers, Labelled]:
    """The markers, marked as unreliable where tracing finds other tokens; and what tracing finds."""
    traced = _traced(batch, tokenizer, markers)
    found = label(batch, tokenizer, markers)
    return replace(markers, reliable=markers.reliable and bool((found.labels == traced.labels).all())), traced


def _verified_given(batch: Batch, tokenizer: Any, markers: Markers) -> Markers:
    found = _as_marked(batch, markers)
    traced = _traced(batch, tokenizer, _own(tokenizer, markers))
    wrong = (found.labels != IGNORED) != (traced.labels != IGNORED)
    blank = [
        not tokenizer.decode([token], clean_up_tokenization_spaces=False).strip()
        for token in batch.flat[wrong].tolist()
    ]
    if not all(blank):
        row = int((wrong.nonzero()[0][blank.index(False)] >= batch.offsets).sum()) - 1
        raise DataError(
            f"question_part = {markers.question!r} and answer_part = {markers.answer!r} do not mark the answers",
            why=f"of {batch.texts[row]!r} they would train on {_learned(batch, found, row, tokenizer)!r}"
            f"{own_markers(tokenizer)}",
            fix="Correct them, or remove both to read them off the template",
        )
    return _verified(batch, tokenizer, markers)[0]


def _as_marked(batch: Batch, markers: Markers) -> Labelled:
    """The labels of the probes if nothing but the markers is looked at."""
    import numpy as np

    rows = range(len(batch.texts))
    return Labelled(
        np.concatenate(
            [labels_in(marked_spans(batch.texts[row], markers), batch.ids(row), batch.characters(row)) for row in rows]
        )
    )


def _own(tokenizer: Any, given: Markers) -> Markers:
    try:
        return derived_markers(tokenizer)
    except DataError:
        return given


def _traced(batch: Batch, tokenizer: Any, markers: Markers) -> Labelled:
    """The labels of the probes found by tracing.

    Raises:
        DataError: they are not the answers.
    """
    traced = label(batch, tokenizer, replace(markers, reliable=False))
    for row, conversation in enumerate(batch.conversations):
        learned = _learned(batch, traced, row, tokenizer)
        spoken = [turn["content"] for turn in conversation if turn["content"]]
        if row in traced.refused or any((text in learned) != (text in ANSWERS) for text in spoken):
            raise DataError(
                "the assistant's turns cannot be found in what the chat template writes",
                why=f"of {batch.texts[row][:300]!r} only {learned!r} would be trained on",
                fix="Set train_on_responses_only = false, or chat_template to another one",
            )
    return traced


def _learned(batch: Batch, found: Labelled, row: int, tokenizer: Any) -> str:
    labels = found.labels[batch.offsets[row] : batch.offsets[row + 1]]
    kept = [label for label in labels.tolist() if label != IGNORED]
    return str(tokenizer.decode(kept, clean_up_tokenization_spaces=False))
