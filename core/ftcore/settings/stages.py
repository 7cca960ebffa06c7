"""Who serves each stage of a run."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from ftcore.settings.base import Section

PluginName = Annotated[str, Field(min_length=1)]


class StageSettings(Section):
    """The `[stages]` section: a plugin's name for each stage. Reporters are chosen by `report_to`."""

    # The plugins that were chosen are compared, whether they were named or found.
    may_change: ClassVar = frozenset({"loader", "formatter", "trainer", "savers", "launcher"})

    loader: PluginName = "auto"
    """Loads the tokenizer and the model. `auto`: unsloth where it is installed and drives this machine, else transformers."""

    formatter: PluginName = "auto"
    """Turns a row into a conversation. `auto` chooses by the columns of the training data."""

    trainer: PluginName = "sft"
    """Prepares the examples and trains."""

    savers: list[PluginName] | None = None
    """Save the trained model, one after the other. Null means `["local"]`, and `hub` behind it with `push_to_hub`."""

    launcher: PluginName = "local"
    """Runs the job: in this process, or elsewhere."""

    @field_validator("savers")
    @classmethod
    def _once(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and len(set(value)) < len(value):
            raise ValueError("a saver is named twice")
        return value
