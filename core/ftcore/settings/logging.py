"""What is logged, how often, and to whom."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from ftcore.settings.base import Section

ReporterName = Annotated[str, Field(min_length=1)]


class LoggingSettings(Section):
    """The logging keys of `[fine_tuner]`."""

    may_change: ClassVar = frozenset({"log_steps", "log_first_step", "report_to"})

    log_steps: Annotated[int, Field(ge=1)] = 10
    """Log metrics every so many optimizer steps."""

    log_first_step: bool = True
    """Log the first step too."""

    report_to: ReporterName | Annotated[list[ReporterName], Field(min_length=1)] = "none"
    """The trackers that get the metrics: a reporter plugin's name (`mlflow`, `wandb`, `tensorboard`, …), a list of them, or `none`. The console and `metrics.jsonl` are always written."""

    @field_validator("report_to")
    @classmethod
    def _no_mixed_none(cls, value: str | list[str]) -> str | list[str]:
        if isinstance(value, list):
            if "none" in value and len(value) > 1:
                raise ValueError('"none" cannot stand beside other reporters')
            if len(set(value)) < len(value):
                raise ValueError("a reporter is named twice")
        return value

    def reporters(self) -> list[str]:
        """The reporters' names; empty for "none"."""
        named = [self.report_to] if isinstance(self.report_to, str) else self.report_to
        return [name for name in named if name != "none"]
