"""The statistics in words, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ftcore.preview.gather import Preview
from ftcore.statistics import Finding, Split, Twins


@dataclass(frozen=True)
class Fact:
    """One line of statistics.

    Attributes:
        name: what was counted.
        value: what came of it.
        odd: whether it wants a look.
    """

    name: str
    value: str
    odd: bool = False


def of_split(split: Split, limit: int, skipped: int = 0) -> Iterator[Fact]:
    """What a dataset holds.

    Args:
        limit: `max_sequence_length`.
        skipped: rows that could not be used.
    """
    aside = f"; {skipped:,} more cannot be used" if skipped else ""
    yield Fact("rows", f"{split.rows:,}{aside}", bool(skipped))
    yield Fact("tokens", f"{split.tokens:,}, {split.supervised:,} of them supervised ({split.supervised_share:.1%})")
    lengths = split.lengths
    yield Fact(
        "length",
        f"{lengths.shortest:,} to {lengths.longest:,} tokens, half of the rows up to {lengths.median:,}, "
        f"95 % up to {lengths.p95:,}; the limit is {limit:,}",
    )
    yield _finding("nothing to learn", split.unsupervised)
    lost = f", {split.lost_tokens:,} tokens lost, {split.lost_supervised:,} of them supervised"
    yield _finding("truncated", split.truncated, lost)
    if split.truncated:
        yield _finding("answers cut", split.cut_answers)
        yield _finding("prompts too long", split.cut_prompts)
    yield Fact("EOS supervised", f"in {_rows(split.ended)}", split.ended == 0 < split.supervised)
    yield _finding(
        "open end", split.unended, ": the last answer ends without a supervised EOS, though nothing was cut off"
    )
    yield _finding("BOS twice", split.double_bos)
    yield _twins("duplicates", split.duplicates, "the same as earlier ones")


def of_all(preview: Preview) -> Iterator[Fact]:
    """What concerns the run as a whole."""
    found = preview.statistics
    if found.validation is not None:
        yield _twins("overlap", found.overlap, "of the validation data in the training data too")
    if found.packed_rows is not None and found.packing_efficiency is not None:
        filled = f"{found.packing_efficiency:.1%} full"
        yield Fact("packing", f"{found.training.rows:,} examples in {found.packed_rows:,} sequences, {filled}")
    yield Fact("padding", f"{found.padding:.1%} of the tokens in training batches, where batches are padded")
    yield Fact("steps", f"{found.steps_per_epoch:,} per epoch, {found.steps:,} in {preview.epochs:g} epochs")


def of_audit(preview: Preview) -> Iterator[Fact]:
    """What `ftcore run` would say of the data before it loads the model."""
    for violation in preview.violations:
        yield Fact(violation.severity, str(violation), odd=True)
    if not any(violation.severity == "error" for violation in preview.violations):
        yield Fact("passed", "a run would go on to load the model")


def _finding(name: str, finding: Finding, more: str = "") -> Fact:
    if not finding:
        return Fact(name, "none")
    named = f" ({_named(finding.rows, finding.count)})" if finding.rows else ""
    return Fact(name, f"{_rows(finding.count)}{named}{more}", odd=True)


def _twins(name: str, twins: Twins, what: str) -> Fact:
    if not twins:
        return Fact(name, "none")
    shown = ", ".join(f"{row} = {other}" for row, other in twins.pairs)
    more = ", …" if twins.count > len(twins.pairs) else ""
    return Fact(name, f"{_rows(twins.count)} {what} ({shown}{more})", odd=True)


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _named(rows: Sequence[int], count: int) -> str:
    more = ", …" if count > len(rows) else ""
    return f"{'row' if count == 1 else 'rows'} {', '.join(map(str, rows))}{more}"
