"""The formatter `messages`: whole conversations, in OpenAI's shape (role, content) or ShareGPT's (from, value)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ftcore import hookimpl
from ftcore.contracts import Bid, Conversation, DataView, Formatter, Message, Stage
from ftcore.errors import ConfigError, FormatMismatch, Problem
from ftcore.settings.base import Section
from ftcore.settings.data import DataSettings
from ftcore_formats import _columns

if TYPE_CHECKING:
    from ftcore.config import Config

NAME = "messages"
COLUMNS = ("messages", "conversations", "conversation")
"""The columns looked for where none is named, the likeliest first."""

Role = Literal["system", "user", "assistant", "tool"]

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "tool": "tool",
}
"""The role that each shape's name for it means."""

_FOLLOWERS: dict[str, tuple[Role, ...]] = {
    "": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}

_UNREAD = ("tool_calls", "function_call", "weight", "train")
"""What would change the training of a turn and is not read here: refused rather than ignored."""


class MessagesSettings(Section):
    """The column that the formatter `messages` reads."""

    column: Annotated[str, Field(min_length=1)] | None = None
    """The column with the list of turns. Null: `messages`, else `conversations`, else `conversation`."""


@dataclass(frozen=True)
class MessagesFormatter:
    """Implements `ftcore.contracts.Formatter`.

    Attributes:
        column: the column with the turns.
        system: the column with system prompts, if any.
        named: whether the configuration names that column; it then outranks a system turn of the conversation.
        override: the system prompt of all rows, if any; an empty one removes the system turn.
    """

    column: str
    system: str | None = None
    named: bool = False
    override: str | None = None

    def __call__(self, row: Mapping[str, Any]) -> Conversation:
        turns = self._turns(row)
        own = turns[0]["content"] if turns[0]["role"] == "system" else None
        spoken = turns if own is None else turns[1:]
        return [*_columns.system_turn(self._system_prompt(row, own)), *spoken]

    def _turns(self, row: Mapping[str, Any]) -> Conversation:
        if self.column not in row:
            raise ValueError(f'there is no column "{self.column}"')
        turns = row[self.column]
        if turns is None:
            raise ValueError(f'"{self.column}" is null')
        if _columns.kind(turns) != "a list":
            given = "text" if isinstance(turns, str) else _columns.kind(turns)
            raise ValueError(f'"{self.column}" is not a list of turns but {given}')
        if not turns:
            raise ValueError(f'"{self.column}" is empty')
        conversation: Conversation = []
        for number, turn in enumerate(turns, start=1):
            conversation.append(_turn(turn, f"turn {number}", conversation[-1]["role"] if conversation else ""))
        if not any(turn["role"] == "assistant" for turn in conversation):
            raise ValueError("no turn is the assistant's")
        if conversation[-1]["role"] != "assistant":
            raise ValueError(f"the last turn is the {conversation[-1]['role']}'s and has no answer")
        return conversation

    def _system_prompt(self, row: Mapping[str, Any], own: str | None) -> str | None:
        if self.override is not None:
            return self.override
        cell = None if self.system is None else _columns.optional_text(row, self.system)
        if not cell or cell.isspace():
            return own
        if own is not None and own != cell and not self.named:
            raise ValueError(
                f'the system turn and the column "{self.system}" differ; '
                f'system_prompt_column = "{self.system}" makes the column win'
            )
        return cell


def _turn(turn: Any, what: str, before: str) -> Message:
    if not isinstance(turn, Mapping):
        raise ValueError(f"{what} is not an object with role and content")
    role_key, content_key = ("role", "content") if turn.get("role") is not None else ("from", "value")
    name = turn.get(role_key)
    if name is None:
        raise ValueError(f'{what} has neither "role" nor "from"')
    role = ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise ValueError(f"{what} has the unknown role {str(name)[:40]!r}; known are {', '.join(ROLES)}")
    if role not in _FOLLOWERS[before]:
        after = f"follows the {before}'s" if before else "is the first"
        raise ValueError(f"{what} is the {role}'s and {after}: expected {' or '.join(_FOLLOWERS[before])}")
    for key in _UNREAD:
        if turn.get(key) is not None and turn[key] != []:
            raise ValueError(f'{what} has "{key}", which this formatter does not read')
    content = turn.get(content_key)
    if role == "system" and (content is None or content == ""):
        return Message(role=role, content="")
    return Message(role=role, content=_columns.checked(content, f'"{content_key}" of {what}'))


@hookimpl
def ftcore_settings() -> type[MessagesSettings]:
    return MessagesSettings


@hookimpl
def ftcore_check(config: Config, settings: MessagesSettings | None) -> Iterable[Problem]:
    if config.stages.formatter == NAME:
        for key in _foreign(config.fine_tuner):
            yield Problem(f"fine_tuner.{key}", _no_place(key), f"Remove {key}, or choose another [stages] formatter")


@hookimpl
def ftcore_bid(stage: Stage, config: Config, data: DataView | None) -> Bid | None:
    if stage != "formatter" or data is None or _foreign(data.settings):
        return None
    section = config.section(NAME)
    named = section.column if isinstance(section, MessagesSettings) else None
    column = named or _present(data)
    if column is None or column not in data.columns:
        return None
    if named is None and not _looks_like_turns(data, column):
        return Bid(10, f"a column is named {column}")  # so that its error can say what is wrong with the shape
    return Bid(30, f"the column {column} holds conversations")


@hookimpl
def ftcore_make_formatter(data: DataView, settings: MessagesSettings | None) -> Formatter:
    """A formatter of this column.

    Raises:
        ConfigError: a column of question or answer is named.
        FormatMismatch: the column is missing, or its first rows hold no turns.
    """
    settings = settings or MessagesSettings()
    for key in _foreign(data.settings):
        raise ConfigError(_no_place(key), fix=f"Remove {key}, or choose another [stages] formatter")
    column = settings.column or _present(data) or COLUMNS[0]
    _columns.require(data, NAME, {column: "[messages] column"} | _columns.wanted_system(data.settings))
    if not _looks_like_turns(data, column):
        raise FormatMismatch(
            f'the column "{column}" does not hold conversations',
            why='a conversation is a list of {"role", "content"} or {"from", "value"}',
            fix="Name another column with [messages] column, or choose another [stages] formatter",
        )
    return MessagesFormatter(
        column,
        _columns.system_column(data),
        data.settings.system_prompt_column is not None,
        data.settings.system_prompt_override_text,
    )


def _present(data: DataView) -> str | None:
    return next((column for column in COLUMNS if column in data.columns), None)


def _looks_like_turns(data: DataView, column: str) -> bool:
    """Whether any of the first rows has a list of turns there; rows that are all null tell nothing against it."""
    cells = [row[column] for row in data.sample if row.get(column) is not None]
    return not cells or any(_is_turns(cell) for cell in cells)


def _is_turns(cell: Any) -> bool:
    if not isinstance(cell, Sequence) or isinstance(cell, str) or not cell or not isinstance(cell[0], Mapping):
        return False
    return {"role", "content"} <= cell[0].keys() or {"from", "value"} <= cell[0].keys()


def _foreign(settings: DataSettings) -> list[str]:
    return [key for key in ("question_column", "ground_truth_column") if getattr(settings, key) is not None]


def _no_place(key: str) -> str:
    return f"{key} is set and the formatter 'messages' reads whole conversations"
