"""Names a run after its settings, or after the time at which it starts."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from ftcore import hookimpl

if TYPE_CHECKING:
    from ftcore.config import Config


@hookimpl(trylast=True)
def ftcore_name_run(config: Config, started_at: datetime) -> str:
    """`<prefix><name or YYYYmmdd-HHMMSS><suffix>`."""
    name = config.run.name or started_at.strftime("%Y%m%d-%H%M%S")
    return f"{config.run.name_prefix}{name}{config.run.name_suffix}"
