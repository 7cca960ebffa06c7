"""Sending records to trackers without ever waiting for one.

The run writes each record to `reporting/records.jsonl` and goes on. Each reporter reads that file in a thread of its
own, from a cursor that moves when the tracker has taken a record and is kept in `reporting/<name>.json`. A tracker
that is down costs nothing but the records' place on disk; when it is back, they are sent in order, each once, in the
same run or later from the run directory.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ftcore import files
from ftcore.contracts import Reporter, RunRecord, RunStatus
from ftcore.secrets import mask

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


@dataclass(frozen=True)
class Cursor:
    """How far a reporter has come.

    Attributes:
        offset: bytes of the records file that its tracker has taken.
        external_id: the tracker's id of the run, once it was opened.
    """

    offset: int = 0
    external_id: str | None = None

    @classmethod
    def read(cls, path: Path) -> Cursor:
        """The cursor in a file; a new one where there is none."""
        return cls(**json.loads(path.read_text())) if path.exists() else cls()

    def write(self, path: Path) -> None:
        files.write_json(path, asdict(self))


class Records:
    """The file that all reporters read from."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "records.jsonl"
        self.path.touch()
        self._lock = threading.Lock()
        self.changed = threading.Condition()

    def append(self, kind: str, **values: Any) -> None:
        """Add a record and wake the reporters."""
        line = json.dumps({"kind": kind, "time": time.time(), **values}, default=str) + "\n"
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(line)
        with self.changed:
            self.changed.notify_all()


class ReporterThread(threading.Thread):
    """Feeds one reporter from the records.

    Args:
        name: the reporter plugin's name.
        make: makes the reporter; called in this thread, again after a failure.
        record: what the reporter is told at its start.
        warn, say: how the user learns of an outage and of its end.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Reporter],
        record: RunRecord,
        records: Records,
        say: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        super().__init__(name=f"ftcore-{name}", daemon=True)
        self.reporter_name = name
        self._make, self._record, self._records = make, record, records
        self._say, self._warn = say, warn
        self._cursor_path = records.path.parent / f"{name}.json"
        self._cursor = Cursor.read(self._cursor_path)
        self._reporter: Reporter | None = None
        self._closing = False
        self._failing = False

    @property
    def pending(self) -> int:
        """How many records the tracker has not taken."""
        with self._records.path.open("rb") as file:
            file.seek(self._cursor.offset)
            return sum(1 for _ in file)

    def close(self, deadline: float) -> None:
        """Deliver what is left, until `deadline` (of `time.monotonic`)."""
        self._closing = True
        with self._records.changed:
            self._records.changed.notify_all()
        self.join(max(0.0, deadline - time.monotonic()))

    def run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                self._deliver()
            except Exception as error:  # whatever a tracker's client raises, training goes on
                self._failed(error)
                self._wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            if self._failing:
                self._failing = False
                self._say(f"{self.reporter_name} is back and has all records")
            with self._records.changed:
                if self._at_end() and self._closing:
                    return
                if self._at_end():
                    self._records.changed.wait(timeout=1.0)

    def _deliver(self) -> None:
        if self._reporter is None:
            reporter = self._make()
            external_id = reporter.start(replace(self._record, external_id=self._cursor.external_id))
            self._move(external_id=external_id or self._cursor.external_id)
            self._reporter = reporter
        with self._records.path.open("rb") as file:
            file.seek(self._cursor.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # being written just now
                _hand_over(self._reporter, json.loads(line))
                self._move(offset=self._cursor.offset + len(line))

    def _move(self, **changes: Any) -> None:
        self._cursor = replace(self._cursor, **changes)
        self._cursor.write(self._cursor_path)

    def _failed(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            reason = mask(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
            self._warn(
                f"{self.reporter_name} does not take the run's records ({reason}). They are kept, and sent later"
            )

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._closing and time.monotonic() < until:
            time.sleep(0.05)
        if self._closing:
            time.sleep(min(seconds, 1.0))

    def _at_end(self) -> bool:
        return self._records.path.stat().st_size <= self._cursor.offset


def _hand_over(reporter: Reporter, record: Mapping[str, Any]) -> None:
    match record["kind"]:
        case "log":
            reporter.log(record["metrics"], record["step"], record["time"])
        case "artifact":
            reporter.artifact(Path(record["path"]), record["name"])
        case "finish":
            reporter.finish(record["status"])


class Reporting:
    """All of a run's reporters, and its `metrics.jsonl`."""

    def __init__(self, run_dir: Path, say: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self._metrics = run_dir / "metrics.jsonl"
        self._metrics.touch()
        self._records = Records(run_dir / "reporting")
        self._threads: list[ReporterThread] = []
        self._run_dir, self._say, self._warn = run_dir, say, warn

    def start(self, makers: Mapping[str, Callable[[], Reporter]], record: RunRecord) -> None:
        """Start a thread for each reporter."""
        for name, make in makers.items():
            thread = ReporterThread(name, make, record, self._records, self._say, self._warn)
            thread.start()
            self._threads.append(thread)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of a step, to the file and to every reporter."""
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "time": time.time(), **metrics}) + "\n")
        if self._threads:
            self._records.append("log", step=step, metrics=dict(metrics))

    def artifact(self, path: Path, name: str) -> None:
        """A file or folder for every reporter."""
        if self._threads:
            self._records.append("artifact", path=str(path.absolute()), name=name)

    def finish(self, status: RunStatus, timeout: float) -> None:
        """Tell every reporter, and wait at most `timeout` seconds for all of them."""
        if not self._threads:
            return
        self._records.append("finish", status=status)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.close(deadline)
        for thread in self._threads:
            if thread.is_alive() and (pending := thread.pending):
                self._warn(
                    f"{thread.reporter_name} has not taken {pending} records; "
                    f"they lie in {self._run_dir / 'reporting'} and nothing of the run is lost"
                )
