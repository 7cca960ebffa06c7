"""What the tests of the plugins share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ftcore.contracts import RunRecord


@dataclass
class TrackedRun:
    """As much of `ftcore.contracts.Run` as a reporter sees; keeps what it was told."""

    dir: Path
    settings: Mapping[str, Any]
    started_at: datetime = datetime(2026, 11, 23, 12, tzinfo=UTC)
    seed: int = 42
    resumed: bool = False
    said: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.dir.name

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def record(self, external_id: str | None = None) -> RunRecord:
        """What core tells a reporter at its start."""
        return RunRecord(self.name, self.dir, self.settings, {"ftcore.version": "1"}, external_id)


@pytest.fixture
def tracked_run(tmp_path: Path) -> TrackedRun:
    """A run directory in an output folder of its own."""
    folder = tmp_path / "runs" / "exp-1"
    folder.mkdir(parents=True)
    settings = {
        "fine_tuner.epochs": 3,
        "fine_tuner.learning_rate": 0.0002,
        "fine_tuner.target_modules": ["q_proj", "v|proj"],
        "run.name": "null",
        "run.report_timeout": 20.0,
    }
    return TrackedRun(folder, settings)
