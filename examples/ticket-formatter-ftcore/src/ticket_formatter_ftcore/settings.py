"""What a configuration may say under `[tickets]`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from ftcore.settings import Section


def _is_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f'"{text}" is no regular expression: {error}') from None
    return text


Name = Annotated[str, Field(min_length=1)]
Pattern = Annotated[str, AfterValidator(_is_pattern)]


class TicketSettings(Section):
    """The `[tickets]` section: where a ticket's thread stands, who is who in it, and what is taken out."""

    thread_column: Name = "thread"
    """The column with the messages of a ticket, the oldest first."""

    subject_column: Name | None = "subject"
    """The column with the subject, which stands above the first message. Null, or a column that is not there: none."""

    author_key: Name = "author"
    """Who wrote a message."""

    text_key: Name = "text"
    """What the message says."""

    customers: tuple[Name, ...] = ("customer",)
    """The authors who are customers: the user's turns."""

    agents: tuple[Name, ...] = ("agent",)
    """The authors who are your support: the assistant's turns, which are learned."""

    skipped: tuple[Name, ...] = ()
    """Authors whose messages are left out, such as `system` or `note`. Any other author makes a bad row."""

    system_prompt: str | None = None
    """The system prompt of every ticket. `system_prompt_override_text` of `[fine_tuner]` wins over it."""

    remove_quotes: bool = True
    """Take out what a message quotes of earlier ones: lines that begin with `>`, the line that announces them, and all below `-----Original Message-----`."""

    remove_signatures: bool = True
    """Take out a signature: all from the first line on that one of `signature_lines` matches."""

    signature_lines: tuple[Pattern, ...] = (r"--\s*", r"Sent from my .+")
    """Regular expressions of the lines that begin a signature; each has to match a whole line."""
