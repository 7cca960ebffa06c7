"""What a tracker is told of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from ftcore.contracts.run import RunStatus


@dataclass(frozen=True)
class RunRecord:
    """What a reporter learns about a run when it starts.

    Attributes:
        name: the run's name.
        dir: the run directory.
        params: the effective configuration, flat, secrets masked.
        tags: short facts: ftcore's version, the base model, the stages' plugins, the device.
        external_id: what this reporter's `start` returned when the run was first started; None at first.
    """

    name: str
    dir: Path
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    external_id: str | None = None


@dataclass(frozen=True)
class Logged:
    """Metrics of one step.

    Attributes:
        metrics: by name.
        step: the optimizer step.
        time: when they were logged, in seconds since the epoch.
    """

    metrics: Mapping[str, float]
    step: int
    time: float


class Batching(Protocol):
    """What a reporter may have besides the methods of `Reporter`."""

    def log_many(self, records: Sequence[Logged]) -> None:
        """As `log` for each of the records, at most 100, at once; called instead of it where there is more than one.

        Where it raises RecordRefused, they are offered again one by one.
        """


@runtime_checkable
class Reporter(Protocol):
    """Sends a run's records to a tracker. All methods are called from one thread of its own, in order.

    Whatever a method raises is caught and training goes on. `ftcore.errors.RecordRefused` means that this record will
    never be taken: the user is warned and the next one follows. After anything else the record is kept and offered
    again, so a method must be safe to call again with the same record.
    """

    def start(self, record: RunRecord) -> str | None:
        """Open the tracker's run; returns the tracker's own id of it, or None. The id is kept on disk, secrets masked."""

    def log(self, metrics: Mapping[str, float], step: int, time: float) -> None:
        """Metrics of a step; `time` in seconds since the epoch."""

    def artifact(self, path: Path, name: str) -> None:
        """A file or folder of the run directory worth keeping, under `name`."""

    def finish(self, status: RunStatus, time: float) -> None:
        """The run was over at `time`, in seconds since the epoch; send what is buffered."""
