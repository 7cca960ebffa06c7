"""Looking at tokens and labels before anything expensive happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ftcore.errors import DataError
from ftcore.settings.audit import AuditSettings

IGNORED = -100
"""The label of a token that is not trained on (PyTorch's cross entropy ignores it by default)."""


@dataclass(frozen=True)
class Supervision:
    """What a dataset of tokens and labels teaches.

    Attributes:
        rows: how many examples.
        tokens: how many tokens in all.
        supervised: how many of them are trained on.
        unsupervised_rows: how many rows have none that is.
        longest: the longest row, in tokens.
    """

    rows: int
    tokens: int
    supervised: int
    unsupervised_rows: int
    longest: int

    @property
    def share(self) -> float:
        """The supervised share of the tokens, 0 to 1."""
        return self.supervised / self.tokens if self.tokens else 0.0


def supervision(dataset: Any) -> Supervision:
    """Count what a prepared dataset teaches, chunk by chunk, without copying it.

    Args:
        dataset: a `datasets.Dataset` with a list column `labels`.
    """
    import numpy as np

    rows = tokens = supervised = unsupervised = longest = 0
    for chunk in dataset.with_format("arrow").iter(batch_size=10_000):
        labels = chunk["labels"].combine_chunks()
        if not len(labels):
            continue
        offsets = labels.offsets.to_numpy()
        trained = labels.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]] != IGNORED
        # A running count makes the per-row sums right for empty rows too, which reduceat would not.
        counts = np.concatenate([[0], np.cumsum(trained)])
        per_row = np.diff(counts[offsets - offsets[0]])
        lengths = np.diff(offsets)
        rows += len(lengths)
        tokens += int(lengths.sum())
        supervised += int(per_row.sum())
        unsupervised += int((per_row == 0).sum())
        longest = max(longest, int(lengths.max()))
    return Supervision(rows, tokens, supervised, unsupervised, longest)


def require_supervision(
    seen: Supervision, facts: dict[str, Any], limits: AuditSettings, max_sequence_length: int, sample: str = ""
) -> None:
    """Stop where training could not do what was meant.

    Args:
        seen: of the training data.
        facts: the trainer's counts; `truncated_rows` is looked at.
        limits: the `[audit]` section.
        max_sequence_length: in tokens, for the message.
        sample: the first example as text, for the message.

    Raises:
        DataError: there are no rows, no token is trained on, or too many examples are cut.
    """
    if not seen.rows:
        raise DataError("the training data have no usable rows", fix="Check the file, its columns and [audit] bad_rows")
    if not seen.supervised:
        shown = f"; the first example is {sample}" if sample else ""
        sought = f", where {facts['answer_part']!r} was looked for" if "answer_part" in facts else ""
        raise DataError(
            "no token of the training data would be trained on",
            why=f"all {seen.tokens} labels are masked{shown}{sought}",
            fix="Check question_part and answer_part against the chat template, and max_sequence_length",
        )
    cut = int(facts.get("truncated_rows", 0))
    if cut / seen.rows > limits.max_truncated:
        raise DataError(
            f"{cut} of {seen.rows} training examples are longer than {max_sequence_length} tokens and would be cut",
            why=f"that is more than the share of {limits.max_truncated:g} that [audit] max_truncated allows",
            fix=f"Raise max_sequence_length (the longest needs {facts.get('longest_untruncated', seen.longest)}) "
            "or max_truncated",
        )
