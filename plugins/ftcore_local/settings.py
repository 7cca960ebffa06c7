"""What a configuration may say in the section `[local]`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ftcore.settings import Section


class LocalSettings(Section):
    """The section `[local]`: training on this machine."""

    processes: Annotated[int, Field(ge=1)] = 1
    """How many processes train together on this machine, each on a GPU of its own where there are GPUs. Each takes
    `device_train_batch_size` rows at a time, so a step takes `processes` times as many. 1 trains in the process of
    `ftcore run`. A run goes on with as many as it began with, unless it is told to accept changes."""
