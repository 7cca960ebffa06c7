"""Labels of a batch of rendered conversations: by the markers where these suffice, else traced row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ftcore.contracts import Conversation
from ftcore.errors import DataError
from ftcore_sft.labels import IGNORED, labels_by_ids, labels_in, marked_spans
from ftcore_sft.markers import Markers
from ftcore_sft.probes import render
from ftcore_sft.tracing import Untraceable, answer_spans


@dataclass(frozen=True)
class Batch:
    """Conversations on their way to labels.

    Attributes:
        conversations: as the formatter made them.
        texts: as the chat template wrote them.
        encoded: as the tokenizer encoded them, all together.
        flat: int64 array, their tokens end to end, shape [tokens].
        offsets: int64 array, where each begins, and the end of the last; shape [rows + 1].
    """

    conversations: Sequence[Conversation]
    texts: Sequence[str]
    encoded: Any
    flat: Any
    offsets: Any

    def ids(self, row: int) -> Any:
        """The tokens of one row."""
        return self.flat[self.offsets[row] : self.offsets[row + 1]]

    def characters(self, row: int) -> Any:
        """Which characters of the text each of its tokens covers.

        Raises:
            DataError: the tokenizer does not tell.
        """
        if not self.encoded.encodings:
            raise DataError(
                "the tokenizer does not tell which characters its tokens cover",
                why="it is written in Python, and where the assistant's turns are must be looked up in the text",
                fix="Use the model's fast tokenizer, or set train_on_responses_only = false",
            )
        return self.encoded.encodings[row].offsets


@dataclass
class Labelled:
    """Labels, and the rows that took more than the markers.

    Attributes:
        labels: int64 array, shape [tokens].
        quoting: rows whose own texts hold markers; they were traced.
        refused: rows whose turns cannot be told apart, each with the reason; their labels are masked.
    """

    labels: Any
    quoting: list[int] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)


def encode(tokenizer: Any, conversations: Sequence[Conversation], texts: Sequence[str]) -> Batch:
    """Rendered conversations with their tokens; the template has written BOS and EOS already."""
    import numpy as np

    encoded = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)
    rows = encoded["input_ids"]
    lengths = np.fromiter((len(ids) for ids in rows), dtype=np.int64, count=len(rows))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = np.fromiter((token for ids in rows for token in ids), dtype=np.int64, count=int(offsets[-1]))
    return Batch(conversations, texts, encoded, flat, offsets)


def label(batch: Batch, tokenizer: Any, markers: Markers | None) -> Labelled:
    """The labels of a batch; without markers every token is supervised."""
    if markers is None:
        return Labelled(batch.flat)
    found = _by_turns(batch, tokenizer, markers)
    if markers.generation:
        found.labels[~marked_as_generated(batch, tokenizer)] = IGNORED
    return found


def _by_turns(batch: Batch, tokenizer: Any, markers: Markers) -> Labelled:
    found, unmarked = _by_markers(batch, markers)
    for row, conversation in enumerate(batch.conversations):
        quoting = any(markers.quoted_in(turn["content"]) for turn in conversation)
        if quoting:
            found.quoting.append(row)
        if quoting or not markers.reliable or _odd(conversation, batch.texts[row], markers):
            _write(found, batch, row, _traced(batch, row, tokenizer, markers))
        elif unmarked[row]:
            # Here tokens merged across a marker's edge; the text still shows where the turns are.
            _write(found, batch, row, marked_spans(batch.texts[row], markers))
    return found


def _by_markers(batch: Batch, markers: Markers) -> tuple[Labelled, Any]:
    """Labels by the markers' tokens, and which rows do not have a marker for each turn."""
    import numpy as np

    rows = len(batch.conversations)
    if not (markers.reliable and markers.answer_ids and markers.question_ids):
        return Labelled(np.full(len(batch.flat), IGNORED, dtype=np.int64)), np.ones(rows, dtype=bool)
    labels, questions, answers = labels_by_ids(batch.flat, batch.offsets, markers)
    expected = np.asarray([_turns(conversation) for conversation in batch.conversations])
    return Labelled(labels), ~_as_expected(questions, answers, *expected.T)


def _turns(conversation: Conversation) -> tuple[int, int, int]:
    """How often the user, the assistant and tools speak."""
    roles = [turn["role"] for turn in conversation]
    return roles.count("user"), roles.count("assistant"), roles.count("tool")


def _as_expected(questions: Any, answers: Any, users: Any, assistants: Any, tools: Any) -> Any:
    """Whether there is a marker for each turn and no other; some templates let tools speak as users."""
    return (answers == assistants) & (users <= questions) & (questions <= users + tools)


def _odd(conversation: Conversation, text: str, markers: Markers) -> bool:
    """Whether a row has other markers than those of its turns, or turns that have none of their own."""
    return not _as_expected(text.count(markers.question), text.count(markers.answer), *_turns(conversation))


def _write(found: Labelled, batch: Batch, row: int, spans: list[tuple[int, int]] | Untraceable) -> None:
    begin, end = batch.offsets[row], batch.offsets[row + 1]
    if isinstance(spans, Untraceable):
        found.labels[begin:end] = IGNORED
        found.refused[row] = str(spans)
    else:
        found.labels[begin:end] = labels_in(spans, batch.ids(row), batch.characters(row))


def _traced(batch: Batch, row: int, tokenizer: Any, markers: Markers) -> list[tuple[int, int]] | Untraceable:
    try:
        return answer_spans(
            batch.conversations[row], batch.texts[row], markers, lambda conversation: render(tokenizer, conversation)
        )
    except Untraceable as error:
        return error


def marked_as_generated(batch: Batch, tokenizer: Any) -> Any:
    """Which tokens the template's `{% generation %}` marks, as a mask of shape [tokens]."""
    import numpy as np

    encoded = tokenizer.apply_chat_template(
        list(batch.conversations), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    return np.concatenate([np.asarray(mask, dtype=bool) for mask in encoded["assistant_masks"]])
