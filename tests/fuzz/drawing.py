"""Structured inputs out of bytes, so that a fuzzer that changes bytes changes the structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")

_TEXTS = (
    "", " ", "user", "assistant", "system", "gpt", "human", "content", "value", "role", "from", "question", "answer", "null",
    "true", "${HOME}", "${NO_SUCH}", "${", "$${x}", "\u2028", "\ud800", "\x00", "a\nb", "'''", '"', "\\", "é", "x" * 300, "../..",
    "https://u:p@h", "hf_" + "a" * 30, "1e999", "-1", "0x10", "nan", "[[", "{}", "=",
)  # fmt: skip


class Draw:
    """Reads choices from bytes; behind their end, everything is the first choice."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        """Bytes that are not read yet."""
        return len(self._data) - self._at

    def number(self, below: int) -> int:
        """0 to below - 1."""
        if self.left <= 0:
            return 0
        self._at += 1
        return self._data[self._at - 1] % below

    def choice(self, options: Sequence[T]) -> T:
        """One of them."""
        return options[self.number(len(options))]

    def raw(self, most: int) -> bytes:
        """The next bytes, as many as the one before them says."""
        size = min(self.number(most + 1), self.left)
        self._at += size
        return self._data[self._at - size : self._at]

    def rest(self) -> bytes:
        """All bytes that are not read yet."""
        found, self._at = self._data[self._at :], len(self._data)
        return found

    def text(self, most: int = 40) -> str:
        """A telling text, or any."""
        if self.number(3):
            return self.choice(_TEXTS)
        return self.raw(most).decode("utf-8", "replace")

    def value(self, depth: int = 3) -> Any:
        """What may stand in a cell: null, a number, a text, a list, an object."""
        kind = self.number(8 if depth else 5)
        if kind == 0:
            return None
        if kind == 1:
            return self.choice((True, False))
        if kind == 2:
            return self.choice((0, -1, 3, 1.5, float("nan"), float("inf"), 2**70))
        if kind in (3, 4):
            return self.text()
        if kind == 5:
            return [self.value(depth - 1) for _ in range(self.number(5))]
        if kind == 6:
            return {self.text(): self.value(depth - 1) for _ in range(self.number(4))}
        return self.turns(depth - 1)

    def turns(self, depth: int = 2) -> list[Any]:
        """Something like a conversation."""
        turns = []
        for _ in range(self.number(5)):
            names = self.choice((("role", "content"), ("from", "value"), ("role", "value")))
            who = self.choice(("user", "assistant", "system", "human", "gpt", "tool", "", None, 3))
            turns.append({names[0]: who, names[1]: self.value(depth) if self.number(4) == 0 else self.text()})
        return turns
