"""From a support ticket to a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ftcore.contracts import Conversation, DataView, Message
from ftcore.errors import FormatMismatch


@dataclass(frozen=True)
class TicketFormatter:
    """Implements `ftcore.contracts.Formatter`; frozen and without open files, so it travels to worker processes.

    Attributes:
        override: the system prompt of `[fine_tuner]`, if one is set.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("product", "subject", "body", "reply")
    override: str | None = None

    def __call__(self, row: Mapping[str, Any]) -> Conversation:
        product, subject, body, reply = (_text(row, column) for column in self.COLUMNS)
        system = self.override if self.override is not None else f"You are Acme's support for the {product}."
        return [
            Message(role="system", content=system),
            Message(role="user", content=f"Subject: {subject}\n\n{body}"),
            Message(role="assistant", content=reply),
        ]


def make_formatter(data: DataView) -> TicketFormatter:
    """The formatter, if the data are tickets.

    Raises:
        FormatMismatch: a column is missing.
    """
    missing = [column for column in TicketFormatter.COLUMNS if column not in data.columns]
    if missing:
        raise FormatMismatch(
            f"the data have no column {', '.join(missing)}",
            why=f"a ticket has {', '.join(TicketFormatter.COLUMNS)}; here are {', '.join(data.columns)}",
            fix='Use training_data_id = "acme:tickets", or another formatter',
        )
    return TicketFormatter(data.settings.system_prompt_override_text)


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row[column]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{column} is empty or no text")
    return value.strip()
