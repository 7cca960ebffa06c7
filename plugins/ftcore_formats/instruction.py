"""The formatter `instruction`: an instruction, an optional input below it, and the output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ftcore import hookimpl
from ftcore.contracts import Bid, Conversation, DataView, Formatter, Message, Stage
from ftcore.errors import ConfigError, Problem
from ftcore.settings.base import Section
from ftcore.settings.data import DataSettings
from ftcore_formats import _columns

if TYPE_CHECKING:
    from ftcore.config import Config

NAME = "instruction"
INSTRUCTION, INPUT, OUTPUT = "instruction", "input", "output"

ColumnName = Annotated[str, Field(min_length=1)]


class InstructionSettings(Section):
    """The columns that the formatter `instruction` reads."""

    instruction_column: ColumnName | None = None
    """The column with the instruction. Null: `question_column` of `[fine_tuner]`, else `instruction`."""

    input_column: ColumnName | None = None
    """The column with the text that the instruction is about, put below it with an empty line between; a null or empty cell leaves the instruction alone. Null: `input`, where there is one."""

    output_column: ColumnName | None = None
    """The column with the answer. Null: `ground_truth_column` of `[fine_tuner]`, else `output`."""


@dataclass(frozen=True)
class InstructionFormatter:
    """Implements `ftcore.contracts.Formatter`.

    Attributes:
        instruction, output: the columns of the user's and the assistant's turn.
        input: the column of what stands below the instruction, if any.
        system: the column of the system turn, if any.
        override: the system prompt of all rows, if any; an empty one means no system turn.
    """

    instruction: str
    output: str
    input: str | None = None
    system: str | None = None
    override: str | None = None

    def __call__(self, row: Mapping[str, Any]) -> Conversation:
        return [
            *_columns.system_turn(_columns.system_prompt(row, self.system, self.override)),
            Message(role="user", content=self._question(row)),
            Message(role="assistant", content=_columns.text(row, self.output)),
        ]

    def _question(self, row: Mapping[str, Any]) -> str:
        instruction = _columns.text(row, self.instruction)
        below = None if self.input is None else _columns.optional_text(row, self.input)
        return f"{instruction}\n\n{below}" if below and not below.isspace() else instruction


@hookimpl
def ftcore_settings() -> type[InstructionSettings]:
    return InstructionSettings


@hookimpl
def ftcore_check(config: Config, settings: InstructionSettings | None) -> Iterable[Problem]:
    if config.stages.formatter == NAME:
        for key, message in _conflicts(config.fine_tuner, settings or InstructionSettings()):
            yield Problem(f"{NAME}.{key}", message, "Set one of them")


@hookimpl
def ftcore_bid(stage: Stage, config: Config, data: DataView | None) -> Bid | None:
    if stage != "formatter" or data is None:
        return None
    section = config.section(NAME)
    settings = section if isinstance(section, InstructionSettings) else InstructionSettings()
    instruction, output = _names(data.settings, settings)
    if instruction not in data.columns or output not in data.columns or list(_conflicts(data.settings, settings)):
        return None
    reason = f"the columns {instruction} and {output} are there"
    own = settings.instruction_column or INSTRUCTION
    if instruction == own and (settings.input_column or INPUT) in data.columns:
        # Named with the usual keys or not, this is the one formatter that would not drop the input.
        return Bid(26 if _is_named(data.settings) else 20, f"{reason}, and {settings.input_column or INPUT}")
    return Bid(20, reason)


@hookimpl
def ftcore_make_formatter(data: DataView, settings: InstructionSettings | None) -> Formatter:
    """A formatter of these columns.

    Raises:
        ConfigError: a column is named twice, differently.
        FormatMismatch: a column is missing.
    """
    settings = settings or InstructionSettings()
    for _, message in _conflicts(data.settings, settings):
        raise ConfigError(message, fix="Set one of them")
    instruction, output = _names(data.settings, settings)
    wanted = {
        instruction: "question_column" if data.settings.question_column else "[instruction] instruction_column",
        output: "ground_truth_column" if data.settings.ground_truth_column else "[instruction] output_column",
    }
    if settings.input_column is not None:
        wanted[settings.input_column] = "[instruction] input_column"
    _columns.require(data, NAME, wanted | _columns.wanted_system(data.settings))
    return InstructionFormatter(
        instruction,
        output,
        settings.input_column or (INPUT if INPUT in data.columns else None),
        _columns.system_column(data),
        data.settings.system_prompt_override_text,
    )


def _names(data: DataSettings, settings: InstructionSettings) -> tuple[str, str]:
    return (
        settings.instruction_column or data.question_column or INSTRUCTION,
        settings.output_column or data.ground_truth_column or OUTPUT,
    )


def _is_named(data: DataSettings) -> bool:
    return data.question_column is not None or data.ground_truth_column is not None


def _conflicts(data: DataSettings, settings: InstructionSettings) -> Iterable[tuple[str, str]]:
    pairs = (
        ("instruction_column", settings.instruction_column, "question_column", data.question_column),
        ("output_column", settings.output_column, "ground_truth_column", data.ground_truth_column),
    )
    for own, mine, usual, theirs in pairs:
        if mine is not None and theirs is not None and mine != theirs:
            yield own, f'[instruction] {own} = "{mine}" and {usual} = "{theirs}" mean the same column and differ'
