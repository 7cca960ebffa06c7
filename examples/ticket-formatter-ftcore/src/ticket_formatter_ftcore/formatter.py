"""From the thread of a ticket to a conversation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ftcore.contracts import Conversation, DataView, Message
from ftcore.errors import ConfigError, FormatMismatch
from ticket_formatter_ftcore.cleaning import Cleaner
from ticket_formatter_ftcore.settings import TicketSettings

Role = Literal["user", "assistant"]


@dataclass(frozen=True)
class TicketFormatter:
    """Implements `ftcore.contracts.Formatter`: frozen, nothing open, so it travels to worker processes as it is.

    Attributes:
        settings: the section `[tickets]`.
        cleaner: takes out quotes and signatures.
        roles: of each author; None for one whose messages are left out.
        subject: the column with the subject, if any.
        system: the system prompt, if any.
    """

    settings: TicketSettings
    cleaner: Cleaner
    roles: Mapping[str, Role | None]
    subject: str | None
    system: str | None

    def __call__(self, row: Mapping[str, Any]) -> Conversation:
        """The conversation of a ticket.

        Messages in a row by the same side are one turn. What the customer writes after the last answer is left out:
        there is no answer to it that could be learned.

        Raises:
            ValueError: the thread is no list of messages, begins with an answer or has none, or a message has an unknown
                author or says nothing.
        """
        turns: list[tuple[Role, list[str]]] = []
        for role, text in self._messages(row):
            if turns and turns[-1][0] == role:
                turns[-1][1].append(text)
            else:
                turns.append((role, [text]))
        if turns and turns[-1][0] == "user":
            turns.pop()
        if not turns:
            raise ValueError("no message is an answer to a customer")
        if turns[0][0] != "user":
            raise ValueError("the first message is no customer's")
        if heading := self._heading(row):
            turns[0][1].insert(0, heading)
        conversation = [Message(role=role, content="\n\n".join(texts)) for role, texts in turns]
        return [Message(role="system", content=self.system), *conversation] if self.system else conversation

    def _messages(self, row: Mapping[str, Any]) -> list[tuple[Role, str]]:
        column = self.settings.thread_column
        thread = row.get(column)
        if not isinstance(thread, list) or not thread:
            raise ValueError(f'"{column}" is no list of messages, or an empty one')
        found = (self._message(message, number) for number, message in enumerate(thread, start=1))
        return [message for message in found if message is not None]

    def _message(self, message: Any, number: int) -> tuple[Role, str] | None:
        if not isinstance(message, Mapping):
            raise ValueError(f"message {number} is no object")
        author, text = message.get(self.settings.author_key), message.get(self.settings.text_key)
        if not isinstance(author, str) or author not in self.roles:
            raise ValueError(f"message {number} has the author {str(author)[:40]!r}, who is in no list of [tickets]")
        role = self.roles[author]
        if role is None:
            return None
        if not isinstance(text, str):
            raise ValueError(f'"{self.settings.text_key}" of message {number} is no text')
        said = self.cleaner(text)
        if not said:
            besides = " besides a quote or a signature" if text.strip() else ""
            raise ValueError(f"message {number} says nothing{besides}")
        return role, said

    def _heading(self, row: Mapping[str, Any]) -> str:
        cell = None if self.subject is None else row.get(self.subject)
        if cell is not None and not isinstance(cell, str):
            raise ValueError(f'"{self.subject}" is no text')
        return f"Subject: {cell.strip()}" if cell and cell.strip() else ""


def make_formatter(data: DataView, settings: TicketSettings) -> TicketFormatter:
    """The formatter, if the data have threads.

    Raises:
        ConfigError: an author is in two lists, or a key of `[fine_tuner]` has no place here.
        FormatMismatch: there is no such column.
    """
    for key in foreign(data):
        raise ConfigError(f"{key} has no place in a ticket", fix=f"Remove {key}, or choose another formatter")
    if settings.thread_column not in data.columns:
        raise FormatMismatch(
            f'the data have no column "{settings.thread_column}"',
            why=f"the columns are {', '.join(data.columns) or 'none'}",
            fix="Name the column with the messages in [tickets] thread_column",
        )
    override = data.settings.system_prompt_override_text
    return TicketFormatter(
        settings,
        _cleaner(settings),
        _roles(settings),
        settings.subject_column if settings.subject_column in data.columns else None,
        settings.system_prompt if override is None else override,
    )


def foreign(data: DataView) -> list[str]:
    """The keys of `[fine_tuner]` that name columns which a ticket does not have."""
    keys = ("question_column", "ground_truth_column", "system_prompt_column")
    return [key for key in keys if getattr(data.settings, key) is not None]


def _cleaner(settings: TicketSettings) -> Cleaner:
    lines = settings.signature_lines if settings.remove_signatures else ()
    return Cleaner(settings.remove_quotes, tuple(re.compile(line) for line in lines))


def _roles(settings: TicketSettings) -> dict[str, Role | None]:
    lists: list[tuple[tuple[str, ...], Role | None]] = [
        (settings.customers, "user"),
        (settings.agents, "assistant"),
        (settings.skipped, None),
    ]
    roles: dict[str, Role | None] = {}
    for authors, role in lists:
        for author in authors:
            if author in roles:
                raise ConfigError(f'the author "{author}" is in two lists of [tickets]', fix="Leave one of them")
            roles[author] = role
    return roles
