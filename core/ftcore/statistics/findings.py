"""What statistics are made of. Row numbers are those of the user's data, from 0, rows that could not be used included."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SHOWN_ROWS = 5
"""How many rows a finding names."""


@dataclass(frozen=True)
class Finding:
    """Rows that have something in common.

    Attributes:
        count: how many.
        rows: the first of them (at most `SHOWN_ROWS`), numbered from 0 in the user's data.
    """

    count: int = 0
    rows: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return self.count > 0


@dataclass(frozen=True)
class Twins:
    """Rows whose tokens are those of another row.

    Attributes:
        count: how many; the first of several equal rows is not counted.
        pairs: the first of them (at most `SHOWN_ROWS`), each as (row, the row that it equals).
    """

    count: int = 0
    pairs: tuple[tuple[int, int], ...] = ()

    def __bool__(self) -> bool:
        return self.count > 0


@dataclass(frozen=True)
class Bar:
    """How many examples are `first` to `last` tokens long, both included."""

    first: int
    last: int
    rows: int


@dataclass(frozen=True)
class Lengths:
    """How long the examples are, in tokens, cut ones as they are trained on.

    Attributes:
        shortest, median, p95, longest: of all examples; 95 % are at most `p95` long.
        histogram: at most 16 bars of equal width that cover all lengths.
    """

    shortest: int = 0
    median: int = 0
    p95: int = 0
    longest: int = 0
    histogram: tuple[Bar, ...] = ()


@dataclass(frozen=True)
class Split:
    """One dataset, training or validation, example by example (before packing).

    Attributes:
        rows: examples.
        tokens: their tokens, without what was cut off.
        supervised: how many of them are trained on.
        lengths: how long the examples are.
        unsupervised: examples without a token to learn.
        truncated: examples cut at `max_sequence_length`. Their row numbers are known where the trainer tells.
        lost_tokens: what was cut off of them.
        lost_supervised: how many of those would have been learned.
        cut_answers: truncated examples of which something to learn was cut off, and something is left.
        cut_prompts: truncated examples of which nothing to learn is left: the prompt alone fills the limit.
        ended: in how many examples an end-of-turn or EOS token is learned.
        unended: examples with something to learn whose last answer ends without such a token, though nothing was cut off.
        double_bos: examples that begin with two or more BOS tokens.
        duplicates: examples whose tokens equal an earlier one's.
    """

    rows: int = 0
    tokens: int = 0
    supervised: int = 0
    lengths: Lengths = Lengths()
    unsupervised: Finding = Finding()
    truncated: Finding = Finding()
    lost_tokens: int = 0
    lost_supervised: int = 0
    cut_answers: Finding = Finding()
    cut_prompts: Finding = Finding()
    ended: int = 0
    unended: Finding = Finding()
    double_bos: Finding = Finding()
    duplicates: Twins = Twins()

    @property
    def supervised_share(self) -> float:
        """The supervised share of the tokens, 0 to 1."""
        return self.supervised / self.tokens if self.tokens else 0.0


@dataclass(frozen=True)
class Statistics:
    """What a run would be trained and evaluated on.

    Attributes:
        training: the training data.
        validation: the validation data, if any.
        overlap: validation examples whose tokens equal a training example's; pairs are (validation row, training row).
        skipped: training rows that could not be used.
        packed_rows: sequences after packing; None without packing.
        packing_efficiency: the share of the packed sequences that holds tokens, 0 to 1; None without packing.
        padding: the share of the first epoch's batches that would be padding, 0 to 1, where batches are padded. (The
            built-in trainer lays examples end to end instead where the model allows that, for example on a CPU.)
        steps_per_epoch: optimizer steps of one device.
        steps: of all epochs.
    """

    training: Split
    validation: Split | None
    overlap: Twins
    skipped: int
    packed_rows: int | None
    packing_efficiency: float | None
    padding: float
    steps_per_epoch: int
    steps: int

    def as_dict(self) -> dict[str, Any]:
        """All of it in dicts and lists, for JSON."""
        return asdict(self)
