"""Sending records to trackers without ever waiting for one.

The run writes each record to `reporting/records.jsonl` and goes on. Each reporter reads that file in a thread of its
own, from a cursor that moves when the tracker has taken a record and is kept in `reporting/<name>.json`. A tracker
that is down costs nothing but the records' place on disk; when it is back, they are sent in order, each once, in the
same run, when the run is resumed, or by `ftcore report`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftcore import files
from ftcore.contracts import Reporter, RunRecord, RunStatus
from ftcore.errors import RecordRefused
from ftcore.records import Cursor, Records, alone, end_last_line, hand_over
from ftcore.secrets import mask, masked

_FIRST_PAUSE, _LONGEST_PAUSE, _CLOSING_PAUSE = 0.1, 30.0, 1.0
_QUIET_SECONDS = 5.0  # outages after the first are told of when they last so long: a flaky tracker is one warning


class ReporterThread(threading.Thread):
    """Feeds one reporter from the records.

    Args:
        name: the reporter plugin's name.
        make: makes the reporter; called in this thread, again where it or `start` failed.
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
        self._cursor = Cursor.read(self._cursor_path, records.end)
        self._reporter: Reporter | None = None
        self._deadline: float | None = None
        self._news = threading.Event()
        self._failing_since: float | None = None
        self._told = False
        self._quiet = 0.0

    @property
    def pending(self) -> int:
        """How many records the tracker has not taken."""
        return self._records.count(self._cursor.offset)

    def wake(self) -> None:
        """There is a record."""
        self._news.set()

    def close(self, deadline: float) -> None:
        """Ask the thread to deliver what is left and to end, at `deadline` (of `time.monotonic`) in any case."""
        self._deadline = deadline
        self.wake()

    def run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._out_of_time():
            before = self._cursor.offset
            try:
                with alone(self._cursor_path.with_suffix(".lock"), self.reporter_name):
                    self._feed()
                return
            except BaseException as error:  # whatever a tracker's client raises, SystemExit too, training goes on
                if self._out_of_time():
                    return
                pause = _FIRST_PAUSE if self._cursor.offset > before else min(2 * pause, _LONGEST_PAUSE)
                self._failed(error)
                self._rest(pause)

    def _feed(self) -> None:
        """Hand over records as they come, until the end of the run."""
        if self._reporter is None:
            # Read again: while another process had the tracker, it moved the cursor.
            self._cursor = Cursor.read(self._cursor_path, self._records.end)
            reporter = self._make()
            external_id = reporter.start(replace(self._record, external_id=self._cursor.external_id))
            self._move(external_id=external_id or self._cursor.external_id)
            self._reporter = reporter
        while not self._out_of_time():
            self._news.clear()
            if self._deliver(self._reporter):
                self._recovered()
                if self._deadline is not None and self._cursor.offset >= self._records.end:
                    return
                self._news.wait(timeout=1.0)

    def _deliver(self, reporter: Reporter) -> bool:
        """Hand over what there is; whether that was all."""
        with self._records.path.open("rb") as file:
            file.seek(self._cursor.offset)
            for line in file:
                if self._out_of_time():
                    return False
                if not line.endswith(b"\n"):  # it is being written just now
                    time.sleep(0.01)
                    return False
                try:
                    hand_over(reporter, line)
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

    def tell_refusals(self) -> None:
        """Say at the end how many records were refused, where it was more than the one already told of."""
        if self.refused > 1:
            self._warn(f"{self.reporter_name} refused {count(self.refused)} in all")

    def _failed(self, error: BaseException) -> None:
        now = time.monotonic()
        self._failing_since = now if self._failing_since is None else self._failing_since
        if not self._told and now - self._failing_since >= self._quiet:
            self._told = True
            self._warn(
                f"{self.reporter_name} does not take the run's records ({_reason(error)}). "
                "They are kept, and sent when it does"
            )

    def _recovered(self) -> None:
        if self._told:
            self._quiet = max(_QUIET_SECONDS, 2 * self._quiet)
            self._say(f"{self.reporter_name} is back and has all records")
        self._failing_since, self._told = None, False

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


class Reporting:
    """All of a run's reporters, and its `metrics.jsonl`."""

    def __init__(self, run_dir: Path, say: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self._metrics = run_dir / "metrics.jsonl"
        self._metrics.touch()
        end_last_line(self._metrics)
        self._records = Records(run_dir / "reporting")
        self._threads: list[ReporterThread] = []
        self._run_dir, self._say, self._warn = run_dir, say, warn
        self._unwritable = False

    def start(self, makers: Mapping[str, Callable[[], Reporter]], record: RunRecord) -> None:
        """Start a thread for each reporter."""
        write_run(self._run_dir, record)
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
        deliver(self._threads, timeout)
        for thread in self._threads:
            if pending := thread.pending:
                self._warn(
                    f"{thread.reporter_name} has not taken {count(pending)}; nothing of the run is lost. "
                    f"When it is there: ftcore report {self._run_dir}"
                )

    def _append(self, kind: str, **values: Any) -> None:
        # Also where nobody listens: `ftcore report RUN --to NAME` may send the run to a tracker later.
        try:
            self._records.append(kind, **values)
        except OSError as error:
            self._not_written(error)
        for thread in self._threads:
            thread.wake()

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


def deliver(threads: list[ReporterThread], timeout: float, look: Callable[[], None] = lambda: None) -> None:
    """Let the threads deliver what is left and end, in `timeout` seconds at most for all of them.

    Args:
        look: called every second while they work.
    """
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.close(deadline)
    for thread in threads:
        while thread.is_alive() and time.monotonic() < deadline:
            thread.join(min(1.0, max(0.0, deadline - time.monotonic())))
            look()
    for thread in threads:
        thread.tell_refusals()


def write_run(run_dir: Path, record: RunRecord) -> None:
    """Keep what reporters are told at their start, so that it can be told again later."""
    told = {"name": record.name, "params": dict(record.params), "tags": dict(record.tags)}
    files.write_json(run_dir / "reporting" / "run.json", masked(told))


def count(records: int) -> str:
    """The number with its noun."""
    return "1 record" if records == 1 else f"{records:,} records"


def _reason(error: BaseException) -> str:
    """The error and its first cause: a tracker's client wraps "connection refused" in layers of its own."""
    first: BaseException = error
    while (cause := first.__cause__ or first.__context__) is not None:
        first = cause
    texts = [" ".join(f"{type(item).__name__}: {item}".split()) for item in (error, first)]
    shown = [mask(text) for text in dict.fromkeys(texts)]
    return "; ".join(text if len(text) <= 160 else text[:160] + "…" for text in shown)
