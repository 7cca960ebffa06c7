"""Sending records to trackers without ever waiting for one.

The run writes each record to `reporting/records.jsonl` and goes on. Each reporter reads that file in a thread of its
own, from a cursor that moves when the tracker has taken a record and is kept in `reporting/<name>.json`. A tracker
that is down costs nothing but the records' place on disk; when it is back, they are sent in order, each once, in the
same run or when the run is resumed.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ftcore import files
from ftcore.contracts import Reporter, RunRecord, RunStatus
from ftcore.errors import RecordRefused
from ftcore.secrets import mask

_FIRST_PAUSE, _LONGEST_PAUSE, _CLOSING_PAUSE = 0.5, 30.0, 1.0


@dataclass(frozen=True)
class Cursor:
    """How far a reporter has come.

    Attributes:
        offset: bytes of the records file that its tracker has taken or refused.
        external_id: the tracker's id of the run, once it was opened.
    """

    offset: int = 0
    external_id: str | None = None

    @classmethod
    def read(cls, path: Path) -> Cursor:
        """The cursor in a file; a new one where there is none."""
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else cls()

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
        _end_last_line(self.path)

    def append(self, kind: str, **values: Any) -> None:
        """Add a record and wake the reporters."""
        line = json.dumps({"kind": kind, "time": time.time(), **values}, default=str) + "\n"
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(line)
        self.wake()

    def wake(self) -> None:
        """Let every reporter look again."""
        with self.changed:
            self.changed.notify_all()


class ReporterThread(threading.Thread):
    """Feeds one reporter from the records.

    Args:
        name: the reporter plugin's name.
        make: makes the reporter; called in this thread, again after a failure.
        record: what the reporter is told at its start.
        say, warn: how the user learns of an outage and of its end.
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
        # A daemon, because a tracker's client that hangs must not keep the process from ending.
        super().__init__(name=f"ftcore-{name}", daemon=True)
        self.reporter_name = name
        self.refused = 0
        self._make, self._record, self._records = make, record, records
        self._say, self._warn = say, warn
        self._cursor_path = records.path.parent / f"{name}.json"
        self._cursor = Cursor.read(self._cursor_path)
        self._reporter: Reporter | None = None
        self._deadline: float | None = None
        self._failing = False

    @property
    def pending(self) -> int:
        """How many records the tracker has not taken."""
        with self._records.path.open("rb") as file:
            file.seek(self._cursor.offset)
            return sum(1 for _ in file)

    def close(self, deadline: float) -> None:
        """Ask the thread to deliver what is left and to end, at `deadline` (of `time.monotonic`) in any case."""
        self._deadline = deadline
        self._records.wake()

    def run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._out_of_time():
            try:
                all_taken = self._deliver()
            except BaseException as error:  # whatever a tracker's client raises, SystemExit too, training goes on
                if self._out_of_time():
                    return
                self._failed(error)
                self._rest(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            if self._failing and all_taken:
                self._failing = False
                self._say(f"{self.reporter_name} is back and has all records")
            with self._records.changed:
                if self._deadline is not None and self._at_end():
                    return
                if self._at_end():
                    self._records.changed.wait(timeout=1.0)

    def _deliver(self) -> bool:
        """Hand over what there is; whether that was all."""
        if self._reporter is None:
            reporter = self._make()
            external_id = reporter.start(replace(self._record, external_id=self._cursor.external_id))
            self._move(external_id=external_id or self._cursor.external_id)
            self._reporter = reporter
        with self._records.path.open("rb") as file:
            file.seek(self._cursor.offset)
            for line in file:
                if self._out_of_time() or not line.endswith(b"\n"):  # the latter is being written just now
                    return False
                try:
                    _hand_over(self._reporter, line)
                except RecordRefused as refusal:
                    self._note_refusal(refusal)
                self._move(offset=self._cursor.offset + len(line))
        return True

    def _move(self, **changes: Any) -> None:
        self._cursor = replace(self._cursor, **changes)
        self._cursor.write(self._cursor_path)

    def _note_refusal(self, refusal: RecordRefused) -> None:
        self.refused += 1
        if self.refused == 1:  # the others are counted, and told of at the end
            self._warn(f"{self.reporter_name}: {mask(str(refusal))}")

    def _failed(self, error: BaseException) -> None:
        if not self._failing:
            self._failing = True
            self._warn(
                f"{self.reporter_name} does not take the run's records ({_reason(error)}). "
                "They are kept, and sent when it does"
            )

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._out_of_time():
            if self._deadline is not None:
                until = min(until, time.monotonic() + _CLOSING_PAUSE)
                time.sleep(max(0.0, min(until, self._deadline) - time.monotonic()))
            else:
                time.sleep(0.05)

    def _out_of_time(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline

    def _at_end(self) -> bool:
        return self._records.path.stat().st_size <= self._cursor.offset


class Reporting:
    """All of a run's reporters, and its `metrics.jsonl`."""

    def __init__(self, run_dir: Path, say: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self._metrics = run_dir / "metrics.jsonl"
        self._metrics.touch()
        _end_last_line(self._metrics)
        self._records = Records(run_dir / "reporting")
        self._threads: list[ReporterThread] = []
        self._run_dir, self._say, self._warn = run_dir, say, warn
        self._unwritable = False

    def start(self, makers: Mapping[str, Callable[[], Reporter]], record: RunRecord) -> None:
        """Start a thread for each reporter."""
        for name, make in makers.items():
            thread = ReporterThread(name, make, record, self._records, self._say, self._warn)
            thread.start()
            self._threads.append(thread)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of a step, to the file and to every reporter."""
        values = {name: float(value) for name, value in metrics.items()}  # a numpy number is none to json
        try:
            with self._metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "time": time.time(), **values}) + "\n")
        except OSError as error:
            self._not_written(error)
        self._append("log", step=step, metrics=values)

    def artifact(self, path: Path, name: str) -> None:
        """A file or folder for every reporter."""
        self._append("artifact", path=str(path.absolute()), name=name)

    def finish(self, status: RunStatus, timeout: float) -> None:
        """Tell every reporter, and wait at most `timeout` seconds for all of them."""
        self._append("finish", status=status)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.close(deadline)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for thread in self._threads:
            if pending := thread.pending:
                self._warn(
                    f"{thread.reporter_name} has not taken {_count(pending)}; "
                    f"they lie in {self._run_dir / 'reporting'} and nothing of the run is lost"
                )
            if thread.refused > 1:
                self._warn(f"{thread.reporter_name} refused {_count(thread.refused)} in all")

    def _append(self, kind: str, **values: Any) -> None:
        if self._threads:
            try:
                self._records.append(kind, **values)
            except OSError as error:
                self._not_written(error)

    def _not_written(self, error: OSError) -> None:
        # A full disk must not throw away a model in training: the saver will need room, the log can do without.
        if not self._unwritable:
            self._unwritable = True
            self._warn(f"metrics cannot be written to {self._run_dir} ({error.strerror or error}); training goes on")


class Silence:
    """Stands for `Reporting` in the processes of a distributed job that are not the main one."""

    def start(self, makers: Mapping[str, Callable[[], Reporter]], record: RunRecord) -> None:
        """No reporters."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """The main process logs."""

    def artifact(self, path: Path, name: str) -> None:
        """The main process has the artifacts."""

    def finish(self, status: RunStatus, timeout: float) -> None:
        """Nothing to wait for."""


def _hand_over(reporter: Reporter, line: bytes) -> None:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise RecordRefused(
            "a record was lost", why="the process that wrote it was stopped in the middle of its line"
        ) from error
    match record["kind"]:
        case "log":
            reporter.log(record["metrics"], record["step"], record["time"])
        case "artifact":
            path = Path(record["path"])
            if not path.exists():
                raise RecordRefused(f"{path} was not sent", why="it no longer exists")
            reporter.artifact(path, record["name"])
        case "finish":
            reporter.finish(record["status"])


def _end_last_line(path: Path) -> None:
    """Close a line that a crash left open, so that the next one is not glued to it."""
    with path.open("rb+") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def _reason(error: BaseException) -> str:
    """The error and its first cause: a tracker's client wraps "connection refused" in layers of its own."""
    first: BaseException = error
    while (cause := first.__cause__ or first.__context__) is not None:
        first = cause
    texts = [" ".join(f"{type(item).__name__}: {item}".split()) for item in (error, first)]
    shown = [mask(text) for text in dict.fromkeys(texts)]
    return "; ".join(text if len(text) <= 160 else text[:160] + "…" for text in shown)


def _count(records: int) -> str:
    return "1 record" if records == 1 else f"{records} records"
