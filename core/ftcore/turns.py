"""Which tokens a chat template ends an answer with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_QUESTION, _ANSWER = "Qz one?", "Az two."


@dataclass(frozen=True)
class Ends:
    """The tokens that end an assistant's turn.

    Attributes:
        eos: the tokenizer's EOS token, at which generating stops; None if it has none.
        end_of_turn: the special token that the chat template writes behind an answer; None where it writes none. It is
            the EOS token in most instruct models; in some (Gemma, Phi) it is another, that generating stops at too.
    """

    eos: int | None
    end_of_turn: int | None

    @property
    def ids(self) -> tuple[int, ...]:
        """Both, each once."""
        return tuple(dict.fromkeys(token for token in (self.eos, self.end_of_turn) if token is not None))


def ends_of(tokenizer: Any) -> Ends:
    """The tokens that end an answer: the EOS token, and what the chat template writes behind a probe's answer."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}], tokenize=False
    )
    behind = text.partition(_ANSWER)[2]
    special = special_ids(tokenizer)
    ids = tokenizer(behind, add_special_tokens=False)["input_ids"] if behind else []
    return Ends(tokenizer.eos_token_id, next((token for token in ids if token in special), None))


def special_ids(tokenizer: Any) -> frozenset[int]:
    """The tokens that mean something to the model rather than to a reader."""
    added = {token for token, what in tokenizer.added_tokens_decoder.items() if what.special}
    return frozenset(added | set(tokenizer.all_special_ids))
