"""Sending records to trackers without ever waiting for one.

The run writes each record to `reporting/records.jsonl` and goes on. Each reporter reads that file in a thread of its
own, from a cursor that moves when the tracker has taken a record and is kept in `reporting/<name>.json`. A tracker
that is down costs nothing but the records' place on disk; when it is back, they are sent in order, each once, in the
same run, when the run is resumed, or by `ftcore report`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ftcore import files
from ftcore.contracts import Reporter, RunRecord, RunStatus
from ftcore.reporting.feeding import ReporterThread, count
from ftcore.reporting.records import Lines, Records
from ftcore.secrets import masked

_CLOCK = re.compile(r"runtime|per_second|seconds|elapsed")


class Reporting:
    """All of a run's reporters, and its `metrics.jsonl`."""

    def __init__(self, run_dir: Path, say: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self._metrics = Lines(run_dir / "metrics.jsonl")
        self._records = Records(run_dir / "reporting")
        # Of a run that goes on: steps behind its checkpoint are trained again, and were told of before.
        self._told = self._records.logged_behind(_last_step(self._metrics.path))
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
            self._metrics.add({"step": step, "time": time.time(), **values})
        except OSError as error:
            self._not_written(error)
        if not _same(self._told.pop((step, *sorted(values)), None), values):
            self._append("log", step=step, metrics=values)

    def artifact(self, path: Path, name: str) -> None:
        """A file or folder for every reporter."""
        self._append("artifact", path=str(path.absolute()), name=name)

    def finish(self, status: RunStatus, timeout: float) -> dict[str, int]:
        """Tell every reporter, and wait at most `timeout` seconds for all of them.

        Returns:
            By reporter, how many records it has not taken; empty where each has all.
        """
        self._append("finish", status=status)
        self._metrics.close()
        self._records.close()
        deliver(self._threads, timeout)
        left = {thread.reporter_name: pending for thread in self._threads if (pending := thread.pending)}
        for thread in self._threads:
            if pending := left.get(thread.reporter_name, 0):
                self._warn(
                    f"{thread.reporter_name} has not taken {count(pending)}; nothing of the run is lost. "
                    f"When it is there: ftcore report {self._run_dir}"
                )
        return left

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

    def finish(self, status: RunStatus, timeout: float) -> dict[str, int]:
        """Nothing to wait for."""
        return {}


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


def _last_step(metrics: Path) -> int:
    """The step of the last line of a `metrics.jsonl`, -1 without one."""
    last = -1
    with metrics.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                last = int(json.loads(line)["step"])
            except (ValueError, KeyError, TypeError):
                continue  # half a line, which a crash left
    return last


def _same(before: Mapping[str, float] | None, now: Mapping[str, float]) -> bool:
    """Whether a step that was trained again came to the same; how long it took does not matter."""
    if before is None:
        return False
    return all(before[name] == now[name] or before[name] != before[name] for name in now if not _CLOCK.search(name))
