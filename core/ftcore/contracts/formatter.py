"""From a row to a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypedDict, runtime_checkable


class Message(TypedDict):
    """One turn of a conversation, in the shape that chat templates read. A `Conversation` is a list of them, in order.

    Attributes:
        role: who speaks. What is learned are the turns of the assistant; not every chat template knows the others.
        content: the text.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str


Conversation = list[Message]
"""The turns of one training example, in order."""


@runtime_checkable
class Formatter(Protocol):
    """Turns one row into a conversation. Pure, deterministic and picklable: it runs in worker processes.

    Raises:
        ValueError: this row cannot be formatted (an empty or null cell, a wrong type); the message says why. The
            row is counted and skipped or fatal as `[audit]` says.
    """

    def __call__(self, row: Mapping[str, Any]) -> Conversation: ...
