"""The run itself: its name, its place, what it shows."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ftcore.settings.base import Section


class RunSettings(Section):
    """The `[run]` section."""

    output_dir: Annotated[str, Field(min_length=1, max_length=4096)] = "runs"
    """The folder that holds the run directories; relative to where the command is started."""

    name: Annotated[str, Field(min_length=1)] | None = None
    """The run's name. Null makes one of the time at the start, like `20250629-143022`."""

    name_prefix: str = ""
    """Stands before the name, also before one that you gave."""

    name_suffix: str = ""
    """Stands behind the name, also behind one that you gave."""

    evaluate_before: bool = True
    """Evaluate before training too, so that there is something to compare with."""

    dry_step: bool = True
    """Compute the longest training and evaluation batch before the first step, and tell how much memory they took: what
    does not fit is known then, not hours later. It costs about as long as one of the longer steps and changes nothing."""

    sample_answers: Annotated[int, Field(ge=0, le=1000)] = 0
    """Let the model answer the first so many validation questions before and after training, and show them."""

    sample_tokens: Annotated[int, Field(ge=1, le=100_000)] = 64
    """The longest of these answers, in tokens."""

    report_timeout: Annotated[float, Field(ge=0)] = 30.0
    """How many seconds a finished run waits for trackers that lag behind."""

    @classmethod
    def changeable(cls) -> frozenset[str]:
        return frozenset(cls.model_fields)  # what is learned depends on none of them
