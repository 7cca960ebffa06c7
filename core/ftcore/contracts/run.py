"""The running job, as plugins see it, and how it ends."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

RunStatus = Literal["finished", "failed", "interrupted"]
"""How a run ended."""


class Run(Protocol):
    """The running job, as plugins see it."""

    @property
    def name(self) -> str: ...
    @property
    def dir(self) -> Path:
        """The run directory, `<output_dir>/<name>`."""

    @property
    def started_at(self) -> datetime: ...
    @property
    def seed(self) -> int: ...
    @property
    def resumed(self) -> bool: ...
    @property
    def settings(self) -> Mapping[str, Any]:
        """The effective configuration, flat (`section.key`), secrets masked: for parameters in trackers."""

    def say(self, text: str) -> None:
        """Tell the user something worth a line, on the console and in the run's log."""

    def warn(self, text: str) -> None:
        """Warn the user, on the console and in the run's log."""

    def imported_by(self, module: str) -> str | None:
        """The plugin during whose import or hook a module was first imported; None if it was elsewhere."""
