"""What a mail carries besides what its author wrote: quoted replies and signatures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_ORIGINAL = re.compile(r"\s*-{2,}\s*(Original Message|Forwarded message)\s*-{2,}\s*", re.IGNORECASE)
_QUOTED = re.compile(r"\s{0,3}>")
_ANNOUNCES = re.compile(r"\s*On\b.{4,200}\bwrote:\s*", re.DOTALL)


@dataclass(frozen=True)
class Cleaner:
    """Takes out what is asked for, and the blank lines around what is left.

    Attributes:
        quotes: whether quoted replies go.
        signatures: lines from which on everything goes.
    """

    quotes: bool
    signatures: tuple[re.Pattern[str], ...]

    def __call__(self, text: str) -> str:
        lines = text.replace("\r\n", "\n").split("\n")
        if self.quotes:
            lines = _without_quotes(lines)
        return "\n".join(self._without_signature(lines)).strip()

    def _without_signature(self, lines: Sequence[str]) -> Sequence[str]:
        for number, line in enumerate(lines):
            if any(pattern.fullmatch(line) for pattern in self.signatures):
                return lines[:number]
        return lines


def _without_quotes(lines: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for line in lines:
        if _ORIGINAL.fullmatch(line):
            break
        if _QUOTED.match(line):
            _drop_announcement(kept)
        else:
            kept.append(line)
    return kept


def _drop_announcement(kept: list[str]) -> None:
    """Remove "On Monday, Ada wrote:" above a quote; mail programs break it into two lines where it is long."""
    end = len(kept)
    while end and not kept[end - 1].strip():
        end -= 1
    for length in (1, 2):
        if length <= end and _ANNOUNCES.fullmatch("\n".join(kept[end - length : end])):
            del kept[end - length :]
            return
