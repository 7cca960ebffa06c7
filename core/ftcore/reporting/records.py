"""What a run tells its trackers, on disk, and how far each tracker has come.

`reporting/records.jsonl` is the queue of every reporter: it holds what has happened, in order, and a reporter's place in
it is a cursor in `reporting/<name>.json`. Nothing waits in memory, so no outage can fill it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ftcore.contracts import Logged, Reporter
from ftcore.errors import FtcoreError, RecordRefused
from ftcore.plugins import older
from ftcore.secrets import masked

_CURSOR_SIZE = 512


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
    def read(cls, path: Path, end: int) -> Cursor:
        """The cursor in a file; a new one where there is none, or where a power cut left it unreadable.

        Args:
            end: the size of the records file; a cursor that survived a power cut cannot be ahead of the records.
        """
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            cursor = cls(facts["offset"], facts["external_id"])
            if cursor.offset > end:
                cursor = cls(end, cursor.external_id)
                cursor.write(path)
            return cursor
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def write(self, path: Path) -> None:
        """Replace the file's contents, in one system call: a process that is killed leaves the old or the new ones.

        They are not forced to the disk, which would cost more than the record they are about.
        """
        text = json.dumps(masked(asdict(self)))
        size = _CURSOR_SIZE * (1 + len(text) // _CURSOR_SIZE)  # padded, so that what is overwritten never sticks out
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)  # one writer at a time: see `alone`
        try:
            os.pwrite(file, text.ljust(size).encode(), 0)
        finally:
            os.close(file)


class Lines:
    """A file of JSON lines that stays open: a line is one system call, in which other threads get little chance."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        end_last_line(path)
        self._file: int | None = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._torn = False

    def add(self, value: Mapping[str, Any]) -> None:
        """Add a line.

        Raises:
            OSError: it could not be written.
        """
        if self._file is None:
            return
        line = (b"\n" if self._torn else b"") + json.dumps(value, default=str).encode() + b"\n"
        self._torn = os.write(self._file, line) < len(line)
        if self._torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def close(self) -> None:
        """No more lines."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class Records:
    """The file that all reporters read from."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "records.jsonl"
        self._lines = Lines(self.path)

    def append(self, kind: str, **values: Any) -> None:
        """Add a record.

        Raises:
            OSError: it could not be written.
        """
        self._lines.add({"kind": kind, "time": time.time(), **values})

    def close(self) -> None:
        """No more records; the file can still be read."""
        self._lines.close()

    def count(self, offset: int = 0) -> int:
        """How many records lie behind an offset."""
        with self.path.open("rb") as file:
            file.seek(offset)
            return sum(1 for _ in file)

    def logged_behind(self, step: int) -> dict[tuple[Any, ...], dict[str, float]]:
        """The metrics that were logged of later steps, by the step and their names."""
        found = {}
        with self.path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    record = json.loads(line)
                    if record["kind"] == "log" and record["step"] > step:
                        found[(record["step"], *sorted(record["metrics"]))] = record["metrics"]
                except (ValueError, KeyError, TypeError):
                    continue  # half a line, which a crash left
        return found

    @property
    def end(self) -> int:
        """The size of the file, in bytes."""
        return self.path.stat().st_size


@contextmanager
def alone(lock: Path, name: str) -> Iterator[None]:
    """Keep every other process from sending this run's records to the same tracker.

    Raises:
        Busy: another one does.
    """
    with lock.open("a") as file:
        try:
            # This kind of lock dies with its process and is not passed on to children, who may outlive it.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Busy(f"another process is sending this run's records to {name}") from error
        yield


class Busy(FtcoreError):
    """Another process sends the records."""


def logged(line: bytes) -> Logged | None:
    """A line as metrics of a step; None where it is something else."""
    try:
        record = json.loads(line)
        return Logged(record["metrics"], record["step"], float(record["time"])) if record["kind"] == "log" else None
    except (ValueError, KeyError, TypeError):
        return None


def hand_over(reporter: Reporter, line: bytes) -> None:
    """Give a reporter one line of the file.

    Raises:
        RecordRefused: the line is damaged, or tells of a file that is gone, or the tracker refuses it.
    """
    if (metrics := logged(line)) is not None:
        reporter.log(metrics.metrics, metrics.step, metrics.time)
        return
    try:
        record = json.loads(line)
        kind, when = record["kind"], float(record["time"])
    except (ValueError, KeyError, TypeError) as error:
        raise RecordRefused(
            "a record was lost", why="the process that wrote it was stopped in the middle of its line"
        ) from error
    match kind:
        case "artifact":
            path = Path(record["path"])
            if not path.exists():
                raise RecordRefused(f"{path} was not sent", why="it no longer exists")
            reporter.artifact(path, record["name"])
        case "finish":
            older.call(reporter.finish, record["status"], when)  # `time` came later than the method
        case _:
            raise RecordRefused(f"a record of the kind {kind!r} was not sent", why="this version of ftcore knows none")


def end_last_line(path: Path) -> None:
    """Close a line that a crash left open, so that the next one is not glued to it."""
    with path.open("rb+") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")
