"""From conversations to tokens and labels: Acme learns the last answer of each, found by rendering twice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ftcore.contracts import Conversation, Examples
from ftcore.errors import DataError
from ftcore.settings.audit import AuditSettings

if TYPE_CHECKING:
    from datasets import Dataset

IGNORED = -100
"""The label of a token that is not learned."""


@dataclass
class Encoded:
    """Rows of tokens and labels, and what was found on the way."""

    input_ids: list[list[int]] = field(default_factory=list)
    labels: list[list[int]] = field(default_factory=list)
    truncated: int = 0
    longest: int = 0

    def dataset(self) -> Dataset:
        """As the contract wants it: two columns of lists."""
        from datasets import Dataset

        return Dataset.from_dict({"input_ids": self.input_ids, "labels": self.labels})


def conversations(rows: Iterable[Any], examples: Examples, audit: AuditSettings) -> list[Conversation]:
    """The rows that can be formatted.

    Raises:
        DataError: more of them cannot than `[audit]` tolerates.
    """
    good: list[Conversation] = []
    bad: list[str] = []
    for number, row in enumerate(rows):
        try:
            good.append(examples.formatter(row))
        except ValueError as error:
            bad.append(f"row {number}: {error}")
    if bad and (audit.bad_rows == "stop" or len(bad) > audit.max_bad_rows * (len(good) + len(bad))):
        raise DataError(f"{len(bad)} of {len(good) + len(bad)} rows cannot be formatted", why="; ".join(bad[:3]))
    return good


def encode(turns: Iterable[Conversation], tokenizer: Any, max_length: int, responses_only: bool) -> Encoded:
    """Tokens and labels of each conversation, cut at `max_length` tokens.

    Raises:
        DataError: the chat template writes an answer's beginning differently when the answer is there.
    """
    encoded = Encoded()
    for conversation in turns:
        whole = tokenizer.apply_chat_template(conversation, tokenize=False)
        question = tokenizer.apply_chat_template(conversation[:-1], tokenize=False, add_generation_prompt=True)
        if not whole.startswith(question):
            raise DataError(
                "the last answer cannot be told from the question",
                why="the chat template does not render the one as the beginning of the other",
                fix='Use [stages] trainer = "sft"',
            )
        prompt = tokenizer(question, add_special_tokens=False)["input_ids"]
        answer = tokenizer(whole[len(question) :], add_special_tokens=False)["input_ids"]
        ids = prompt + answer
        labels = [IGNORED] * len(prompt) + answer if responses_only else ids
        encoded.input_ids.append(ids[:max_length])
        encoded.labels.append(labels[:max_length])
        encoded.truncated += len(ids) > max_length
        encoded.longest = max(encoded.longest, len(ids))
    return encoded
