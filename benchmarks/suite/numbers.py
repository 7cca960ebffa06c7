"""From samples to numbers: rounds, ratios within a round, and their spread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

Sample = dict[str, Any]
Result = dict[str, Any]


def pick(samples: Iterable[Sample], **case: Any) -> list[Sample]:
    """The samples of a case."""
    return [sample for sample in samples if all(sample.get(key) == value for key, value in case.items())]


def values(samples: Sequence[Sample], measure: str, **case: Any) -> dict[int, float]:
    """The measure in each round."""
    return {sample["round"]: sample[measure] for sample in pick(samples, **case)}


def ratios(samples: Sequence[Sample], measure: str, over: str, under: str, **case: Any) -> list[float]:
    """One contestant's measure over another's, round by round: what slows the machine down for a while hits both."""
    above = values(samples, measure, contestant=over, **case)
    below = values(samples, measure, contestant=under, **case)
    return [above[number] / below[number] for number in sorted(above.keys() & below.keys())]


def spread(numbers: Iterable[float], form: str = ".2f") -> str:
    """Median, and the range in brackets."""
    found = list(numbers)
    if not found:
        return "–"
    middle, low, high = (format(number, form) for number in (median(found), min(found), max(found)))
    return f"{middle} ({low}–{high})"


def contestants(samples: Iterable[Sample]) -> list[str]:
    """In the order in which they had their turns."""
    return list(dict.fromkeys(sample["contestant"] for sample in samples))


def cases(samples: Iterable[Sample], *keys: str) -> list[dict[str, Any]]:
    """What tells the cases of an item apart, in the order in which they were measured."""
    found = dict.fromkeys(tuple(sample[key] for key in keys) for sample in samples)
    return [dict(zip(keys, values, strict=True)) for values in found]
