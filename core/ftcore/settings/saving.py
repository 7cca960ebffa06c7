"""What is kept: checkpoints on the way, and the model in the end."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from ftcore.settings.base import Section


class SavingSettings(Section):
    """The saving keys of `[fine_tuner]`."""

    may_change: ClassVar = frozenset({"save_steps", "save_total_limit", "push_to_hub"})

    save_steps: Annotated[int, Field(ge=1)] = 20
    """Save a checkpoint every so many optimizer steps."""

    save_total_limit: Annotated[int, Field(ge=1)] = 3
    """Keep at most so many checkpoints; older ones are deleted."""

    push_to_hub: bool = False
    """Push the trained model to the Hugging Face Hub in the end (needs `HF_TOKEN`; see the section `[hub]`)."""
