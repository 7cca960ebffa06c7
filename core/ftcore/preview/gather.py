"""The rows to show, and the statistics of all with what the audit says of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ftcore.audit import gate as audit
from ftcore.audit.judging import Violation
from ftcore.config import Config
from ftcore.errors import DataError
from ftcore.plugins import Plugins
from ftcore.preview.tokens import Token, tokens
from ftcore.run.ahead import Ahead, prepare_ahead
from ftcore.statistics import Statistics
from ftcore.turns import special_ids

_UNCUT = 10_000_000


@dataclass(frozen=True)
class Example:
    """A row, as the model would read it.

    Attributes:
        number: of the row in the user's data, from 0.
        tokens: in order; empty where the row cannot be used.
        reason: why it cannot be used.
    """

    number: int
    tokens: Sequence[Token]
    reason: str = ""

    def count(self, state: str) -> int:
        """How many of its tokens are supervised, masked or cut."""
        return sum(token.state == state for token in self.tokens)


@dataclass(frozen=True)
class Preview:
    """What `ftcore preview` shows.

    Attributes:
        config: the configuration's file.
        model: its base model.
        purpose: which data the examples are of.
        examples: the rows to show.
        statistics: of all data.
        violations: what the audit of a run would find.
        limit: `max_sequence_length`.
        epochs: how often the data are passed over.
        said: what the trainer said of the data.
        warnings: what was warned about.
    """

    config: str
    model: str
    purpose: Literal["training", "validation"]
    examples: Sequence[Example]
    statistics: Statistics
    violations: Sequence[Violation]
    limit: int
    epochs: int | float
    said: Sequence[str]
    warnings: Sequence[str]


def gather(config: Config, plugins: Plugins, first: int, numbers: Sequence[int], validation: bool = False) -> Preview:
    """Prepare the data of a configuration, and pick rows.

    Args:
        first: how many rows from the beginning of the data.
        numbers: further rows by their numbers.
        validation: rows of the validation data instead of the training data.

    Raises:
        DataError: there is no such row, or there are no validation data.
        FtcoreError: as `prepare_ahead`.
    """
    if validation and config.fine_tuner.validation_data_id is None:
        raise DataError("there are no validation data to show", fix="Set validation_data_id, or leave --validation out")
    ahead = prepare_ahead(config, plugins)
    rows = ahead.validation if validation else ahead.train
    purpose: Literal["training", "validation"] = "validation" if validation else "training"
    for number in numbers:
        if number >= len(rows):
            last = f"the {purpose} data have {len(rows):,} rows, and the first is row 0"
            raise DataError(f"there is no row {number}", why=last)
    wanted = list(dict.fromkeys([*range(min(first, len(rows))), *numbers]))
    found = audit.examine(ahead.prepared, ahead.tokenizer, config)
    return Preview(
        config=str(config.path),
        model=config.fine_tuner.base_model_id,
        purpose=purpose,
        examples=list(_examples(ahead, rows, wanted, validation)),
        statistics=found.statistics,
        violations=found.violations,
        limit=config.fine_tuner.max_sequence_length,
        epochs=config.fine_tuner.epochs,
        said=ahead.run.said,
        warnings=ahead.run.warnings,
    )


def _examples(ahead: Ahead, rows: Any, wanted: Sequence[int], validation: bool) -> Iterator[Example]:
    reasons = {number: reason for number in wanted if (reason := _reason(ahead, rows[number]))}
    good = [number for number in wanted if number not in reasons]
    whole = dict(zip(good, _whole(ahead, rows, good), strict=True))
    trained = _trained_on(ahead, good, validation)
    special = special_ids(ahead.tokenizer)
    limit = ahead.config.fine_tuner.max_sequence_length
    for number in wanted:
        if number in reasons:
            yield Example(number, (), reasons[number])
            continue
        ids, labels = whole[number]
        kept_ids, kept_labels = trained.get(number, (ids[:limit], labels[:limit]))
        kept = len(kept_ids)
        # What is trained on comes from the prepared data themselves; only what was cut off is prepared again.
        tail = slice(kept, None) if ids[:kept] == kept_ids else slice(0, 0)
        shown_ids, shown_labels = [*kept_ids, *ids[tail]], [*kept_labels, *labels[tail]]
        yield Example(number, tokens(ahead.tokenizer, shown_ids, shown_labels, kept, special))


def _reason(ahead: Ahead, row: Any) -> str:
    try:
        ahead.formatter(row)
    except ValueError as error:
        return str(error) or "the formatter does not say why"
    return ""


def _whole(ahead: Ahead, rows: Any, numbers: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """The tokens and labels of some rows, nothing cut off."""
    if not numbers:
        return
    prepared = ahead.again(rows.select(numbers), _UNCUT)
    for row in prepared.train if prepared.examples is None else prepared.examples:
        yield row["input_ids"], row["labels"]


def _trained_on(ahead: Ahead, numbers: Sequence[int], validation: bool) -> dict[int, tuple[list[int], list[int]]]:
    """The tokens and labels of some rows as they are trained on, as far as the trainer says which row is which."""
    prepared = ahead.prepared
    data = prepared.validation if validation else prepared.train if prepared.examples is None else prepared.examples
    if data is None or "row" not in data.column_names:
        return {}
    import numpy as np

    all_numbers = data.with_format("numpy")["row"][:]
    places = np.flatnonzero(np.isin(all_numbers, list(numbers)))
    found = (data[place] for place in places.tolist())
    return {row["row"]: (row["input_ids"], row["labels"]) for row in found}
