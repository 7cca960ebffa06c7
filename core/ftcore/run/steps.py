"""The steps of a run that are behind it, kept in its manifest: whoever takes the run up goes on with the others.

before        the model was evaluated, and asked the sampled questions, before training
fit           training came to its end
after         the trained model was evaluated and asked
save:<name>   the saver of that name has saved
artifacts     the reporters were given the run's files
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ftcore.config import Config
from ftcore.reporting.fan_out import Reporting, Silence
from ftcore.run.runs import ActiveRun
from ftcore.run.stages import Stages


class Steps:
    """Reads and writes the entry `progress` of a run's manifest."""

    def __init__(self, active: ActiveRun) -> None:
        self._active = active

    def result(self, name: str) -> Mapping[str, Any] | None:
        """What a step came to; None where it is not done."""
        found: Mapping[str, Any] | None = self._all().get(name)
        return found

    def done(self, name: str, **result: Any) -> None:
        """A step is done and came to this (numbers, texts, and lists and tables of them)."""
        at = datetime.now().astimezone().isoformat()
        self._active.record(progress={**self._all(), name: {"at": at, **result}})

    def forget(self, *names: str) -> None:
        """Steps that are to be done again."""
        self._active.record(progress={name: result for name, result in self._all().items() if name not in names})

    def forget_all_but(self, *names: str) -> None:
        """Every other step is to be done again."""
        self._active.record(progress={name: result for name, result in self._all().items() if name in names})

    def _all(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._active.facts.get("progress", {})
        return found


@dataclass(frozen=True)
class Work:
    """What all steps of a run work with.

    Attributes:
        stop: set when the user, or the machine, has asked the run to stop.
    """

    active: ActiveRun
    config: Config
    stages: Stages
    reporting: Reporting | Silence
    steps: Steps
    stop: threading.Event
