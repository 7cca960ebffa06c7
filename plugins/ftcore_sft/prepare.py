"""From rows to tokens and labels, in one pass over batches."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcore.contracts import Conversation, Formatter
from ftcore.errors import DataError, FtcoreError, PluginError
from ftcore_sft.labelling import encode, label
from ftcore_sft.labels import IGNORED
from ftcore_sft.markers import Markers

if TYPE_CHECKING:
    from datasets import Dataset

_BATCH = 1000
_ROWS_PER_PROCESS = 20_000
"""A process costs about a second to start, which is what it encodes some 20,000 rows in."""

_SHOWN_BAD_ROWS = 5


@dataclass(frozen=True)
class Recipe:
    """How a conversation becomes tokens and labels; picklable, for worker processes.

    Attributes:
        formatter: row to conversation.
        tokenizer: with its chat template.
        markers: None trains on every token.
        max_length: longer examples are cut at their end, in tokens.
    """

    formatter: Formatter
    tokenizer: Any
    markers: Markers | None
    max_length: int


@dataclass
class Tally:
    """What preparing found. `quoting_rows` hold markers of the chat template in their own texts; `bad` holds the first
    bad rows as (row number from 0, reason)."""

    rows: int = 0
    bad_rows: int = 0
    truncated_rows: int = 0
    lost_tokens: int = 0
    lost_supervised_tokens: int = 0
    longest_untruncated: int = 0
    quoting_rows: int = 0
    bad: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add what another part of the data had."""
        self.rows += other.rows
        self.bad_rows += other.bad_rows
        self.truncated_rows += other.truncated_rows
        self.lost_tokens += other.lost_tokens
        self.lost_supervised_tokens += other.lost_supervised_tokens
        self.longest_untruncated = max(self.longest_untruncated, other.longest_untruncated)
        self.quoting_rows += other.quoting_rows
        self.bad = (self.bad + other.bad)[:_SHOWN_BAD_ROWS]

    def refuse(self, reasons: Mapping[int, str]) -> None:
        """Count these rows as bad, too."""
        self.bad_rows += len(reasons)
        self.bad = sorted([*self.bad, *reasons.items()])[:_SHOWN_BAD_ROWS]

    def counts(self) -> dict[str, int]:
        """All but the examples of bad rows."""
        return {key: value for key, value in vars(self).items() if isinstance(value, int)}


def prepare(rows: Dataset, recipe: Recipe, num_proc: int, sink: Path | None = None) -> tuple[Dataset, Tally]:
    """Tokens and labels of all good rows, in order.

    Args:
        sink: a file for the result, which then stays on disk; by default it stays in memory.

    Returns:
        A dataset with `input_ids` and `labels` (lists of int32 of equal length), `row`, `lost` and `lost_supervised`
        (int32, see `ftcore.contracts.Prepared`), and what was found.
    """
    import pyarrow as pa
    from datasets import Dataset

    tally = Tally()
    tables: list[Any] = []
    with contextlib.ExitStack() as stack:
        write = tables.append
        if sink is not None:
            write = stack.enter_context(pa.ipc.new_stream(str(sink), _empty().schema)).write_table
        for table, found in _encoded(rows, recipe, worth_processes(len(rows), num_proc)):
            write(table)
            tally.add(found)
    if sink is not None:
        return Dataset.from_file(str(sink)), tally
    return Dataset(pa.concat_tables(tables) if tables else _empty()), tally


def _encoded(rows: Dataset, recipe: Recipe, processes: int) -> Iterator[tuple[Any, Tally]]:
    if processes == 1:
        for start, batch in _batches(rows):
            yield _encode(start, batch, recipe)
        return
    from multiprocess import get_context

    # Forked workers would inherit locks that the tokenizer's threads may hold at that moment.
    with get_context("spawn").Pool(processes, initializer=_start_worker, initargs=(recipe,)) as pool:
        yield from pool.imap(_encode_in_worker, _batches(rows))


def worth_processes(rows: int, num_proc: int) -> int:
    """How many processes help: at most as many as there are cores, and as the data are worth."""
    return max(1, min(num_proc, os.cpu_count() or 1, rows // _ROWS_PER_PROCESS))


def _batches(rows: Dataset) -> Iterator[tuple[int, dict[str, list[Any]]]]:
    for start in range(0, len(rows), _BATCH):
        yield start, rows[start : start + _BATCH]


_worker_recipe: Recipe | None = None


def _start_worker(recipe: Recipe) -> None:
    global _worker_recipe
    _worker_recipe = recipe


def _encode_in_worker(numbered: tuple[int, dict[str, list[Any]]]) -> tuple[Any, Tally]:
    assert _worker_recipe is not None
    return _encode(*numbered, _worker_recipe)


def _encode(start: int, batch: Mapping[str, list[Any]], recipe: Recipe) -> tuple[Any, Tally]:
    import numpy as np

    conversations, numbers, tally = _format(start, batch, recipe.formatter)
    if not conversations:
        return _empty(), tally
    texts = _render(conversations, numbers, recipe.tokenizer)
    encoded = encode(recipe.tokenizer, conversations, texts)
    labelled = label(encoded, recipe.tokenizer, recipe.markers)
    tally.quoting_rows = len(labelled.quoting) - sum(row in labelled.refused for row in labelled.quoting)
    tally.refuse({numbers[row]: reason for row, reason in labelled.refused.items()})
    good = np.asarray([row not in labelled.refused for row in range(len(texts))])
    if not good.any():
        return _empty(), tally
    lengths = np.diff(encoded.offsets)
    of_good: Any = np.repeat(good, lengths)
    flat, labels, lengths = encoded.flat[of_good], labelled.labels[of_good], lengths[good]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tally.longest_untruncated = int(lengths.max())
    kept, lost, lost_supervised = _cut(lengths, offsets, labels, recipe.max_length)
    tally.truncated_rows = int((lost > 0).sum())
    tally.lost_tokens, tally.lost_supervised_tokens = int(lost.sum()), int(lost_supervised.sum())
    flat, labels = flat[kept], labels[kept]
    offsets = np.concatenate([[0], np.cumsum(lengths - lost)])
    numbers = np.asarray(numbers)[good].tolist()
    return _table(_lists(flat, offsets), _lists(labels, offsets), numbers, lost, lost_supervised), tally


def _format(
    start: int, batch: Mapping[str, list[Any]], formatter: Formatter
) -> tuple[list[Conversation], list[int], Tally]:
    """The conversations of the good rows, and the numbers of these rows."""
    conversations: list[Conversation] = []
    numbers: list[int] = []
    columns = list(batch)
    tally = Tally()
    for number, values in enumerate(zip(*batch.values(), strict=True), start=start):
        tally.rows += 1
        try:
            conversation = formatter(dict(zip(columns, values, strict=True)))
        except ValueError as error:
            tally.bad_rows += 1
            if len(tally.bad) < _SHOWN_BAD_ROWS:
                tally.bad.append((number, str(error)))
            continue
        except (FtcoreError, MemoryError):
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {error}; the row's columns are {', '.join(columns)}"
            raise _failed(formatter, number, why) from error
        if not isinstance(conversation, list) or not all(isinstance(turn, Mapping) for turn in conversation[:1]):
            raise _failed(formatter, number, f"it returned a {type(conversation).__name__}, not a list of turns")
        conversations.append(conversation)
        numbers.append(number)
    return conversations, numbers, tally


def _failed(formatter: Formatter, number: int, why: str) -> PluginError:
    """Names the formatter, which would else be taken for this plugin: it is called here."""
    kind = formatter if inspect.isroutine(formatter) else type(formatter)
    name = f"{kind.__module__}.{kind.__qualname__}"
    fix = "A formatter gives a list of turns, and raises ValueError for a row that it cannot read"
    return PluginError(f"the formatter {name} failed in row {number}", why=why, fix=fix)


def _render(conversations: list[Conversation], numbers: list[int], tokenizer: Any) -> list[str]:
    from jinja2 import TemplateError

    try:
        texts: list[str] = tokenizer.apply_chat_template(conversations, tokenize=False)
    except TemplateError as error:
        raise _refused(conversations, numbers, tokenizer, error) from None
    return texts


def _refused(conversations: list[Conversation], numbers: list[int], tokenizer: Any, error: Exception) -> DataError:
    """Names the first row that the template does not take."""
    from jinja2 import TemplateError

    for number, conversation in zip(numbers, conversations, strict=True):
        try:
            tokenizer.apply_chat_template(conversation, tokenize=False)
        except TemplateError as refusal:
            roles = " ".join(turn["role"] for turn in conversation)
            return DataError(
                f"the chat template does not take the conversation of row {number}",
                why=f"{refusal}; its turns are {roles}",
                fix="Change the data (a template may know no system turn), or set chat_template",
            )
    return DataError("the chat template does not take the conversations", why=str(error))


def _cut(lengths: Any, offsets: Any, labels: Any, max_length: int) -> tuple[Any, Any, Any]:
    """Which tokens stay, as an index; and how many tokens, and supervised ones, each row loses."""
    import numpy as np

    if lengths.max() <= max_length:
        return slice(None), np.zeros_like(lengths), np.zeros_like(lengths)
    position = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    kept = position < max_length
    gone = np.concatenate([[0], np.cumsum(~kept & (labels != IGNORED))])
    return kept, np.maximum(lengths - max_length, 0), np.diff(gone[offsets])


def _lists(flat: Any, offsets: Any) -> Any:
    import pyarrow as pa

    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(flat, pa.int32()))


def _table(input_ids: Any, labels: Any, *numbers: Any) -> Any:
    import pyarrow as pa

    tokens = {"input_ids": input_ids, "labels": labels}
    columns = {name: pa.array(values, pa.list_(pa.int32())) for name, values in tokens.items()}
    for name, values in zip(("row", "lost", "lost_supervised"), numbers, strict=True):
        columns[name] = pa.array(values, pa.int32())
    return pa.table(columns)


def _empty() -> Any:
    return _table([], [], [], [], [])
