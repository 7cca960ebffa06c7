"""The tokens of an example, each with its own piece of the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ftcore.contracts import IGNORED

State = Literal["supervised", "masked", "cut"]
"""What training makes of a token: it is learned, only read, or not there."""

_BYTES = 4  # of one character in UTF-8, at most
_BROKEN = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Token:
    """One token of an example.

    Attributes:
        id: its number in the vocabulary.
        text: its piece of the text; empty for the first tokens of a character that several make up.
        state: what training makes of it.
        special: it means something to the model rather than to a reader.
    """

    id: int
    text: str
    state: State
    special: bool

    @property
    def label(self) -> int:
        """The label that training sees; a cut token has none, and `IGNORED` stands for it."""
        return self.id if self.state == "supervised" else IGNORED

    @property
    def shown(self) -> str:
        """The text with everything made visible that a terminal or a browser would obey instead of showing it."""
        return visible(self.text) if self.text else "‥"


def tokens(
    tokenizer: Any, ids: Sequence[int], labels: Sequence[int], kept: int, special: frozenset[int]
) -> list[Token]:
    """The tokens of an example.

    Args:
        ids, labels: of the whole example.
        kept: how many of them are trained on; the others are cut off.
        special: the ids of special tokens.
    """
    pieces = texts(tokenizer, ids)
    states: list[State] = ["masked" if label == IGNORED else "supervised" for label in labels]
    states[kept:] = ["cut"] * len(states[kept:])
    return [Token(token, text, state, token in special) for token, text, state in zip(ids, pieces, states, strict=True)]


def texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Each token's piece of the decoded text; together they are the text.

    A token's text depends on the one before it (some vocabularies keep a word's leading space only inside a text), so
    each is decoded behind its predecessor. One whose character is not complete yet has none.
    """
    pieces: list[str] = []
    before = done = 0  # the predecessor begins, and ends, here
    for index in range(len(ids)):
        known, text = _decode(tokenizer, ids[before:done]), _decode(tokenizer, ids[before : index + 1])
        incomplete = text.endswith(_BROKEN) and index + 1 < len(ids) and index - done < _BYTES - 1
        if incomplete:
            pieces.append("")
            continue
        pieces.append(text[len(known) :] if text.startswith(known) else _decode(tokenizer, ids[done : index + 1]))
        before, done = done, index + 1
    return pieces


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def visible(text: str) -> str:
    """A text whose control characters, marks of writing direction and odd spaces are written out; a line break is
    marked and kept."""
    return "".join(char if char.isprintable() else _ESCAPES.get(char) or _escape(char) for char in text)


_ESCAPES = {"\n": "↵\n", "\t": "\\t", "\r": "\\r"}


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
