"""The formatter `qa`: a question, an answer, and a system prompt where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcore import hookimpl
from ftcore.contracts import Bid, Conversation, DataView, Formatter, Message, Stage
from ftcore.settings.data import DataSettings
from ftcore_formats import _columns

if TYPE_CHECKING:
    from ftcore.config import Config

QUESTION, ANSWER = "question", "answer"


@dataclass(frozen=True)
class QaFormatter:
    """Implements `ftcore.contracts.Formatter`.

    Attributes:
        question, answer: the columns of the user's and the assistant's turn.
        system: the column of the system turn, if any.
        override: the system prompt of all rows, if any; an empty one means no system turn.
    """

    question: str
    answer: str
    system: str | None = None
    override: str | None = None

    def __call__(self, row: Mapping[str, Any]) -> Conversation:
        return [
            *_columns.system_turn(_columns.system_prompt(row, self.system, self.override)),
            Message(role="user", content=_columns.text(row, self.question)),
            Message(role="assistant", content=_columns.text(row, self.answer)),
        ]


@hookimpl
def ftcore_bid(stage: Stage, config: Config, data: DataView | None) -> Bid | None:
    if stage != "formatter" or data is None:
        return None
    question, answer = _names(data.settings)
    if question not in data.columns or answer not in data.columns:
        return None
    named = data.settings.question_column is not None or data.settings.ground_truth_column is not None
    if named:
        return Bid(25, f"question_column and ground_truth_column give {question} and {answer}")
    return Bid(20, f"the columns {question} and {answer} are there")


@hookimpl
def ftcore_make_formatter(data: DataView, settings: Any) -> Formatter:
    """A formatter of these columns. Raises FormatMismatch where one is missing."""
    question, answer = _names(data.settings)
    wanted = {question: "question_column", answer: "ground_truth_column"}
    _columns.require(data, "qa", wanted | _columns.wanted_system(data.settings))
    return QaFormatter(question, answer, _columns.system_column(data), data.settings.system_prompt_override_text)


def _names(settings: DataSettings) -> tuple[str, str]:
    return settings.question_column or QUESTION, settings.ground_truth_column or ANSWER
