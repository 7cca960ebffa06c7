"""What a run tells its trackers, on disk, and how far each tracker has come.

`reporting/records.jsonl` is the queue of every reporter: it holds what has happened, in order, and a reporter's place in
it is a cursor in `reporting/<name>.json`. Nothing waits in memory, so no outage can fill it.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ftcore.contracts import Reporter
from ftcore.errors import FtcoreError, RecordRefused
from ftcore.secrets import masked


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
        """Replace the file. It is not forced to the disk: that would cost more than the record it is about."""
        scratch = path.with_name(f".{path.name}.new")  # one writer at a time: see `alone`
        scratch.write_text(json.dumps(masked(asdict(self))), encoding="utf-8")
        scratch.replace(path)


class Records:
    """The file that all reporters read from."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "records.jsonl"
        self.path.touch()
        self._lock = threading.Lock()
        end_last_line(self.path)

    def append(self, kind: str, **values: Any) -> None:
        """Add a record."""
        line = json.dumps({"kind": kind, "time": time.time(), **values}, default=str) + "\n"
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(line)

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


def hand_over(reporter: Reporter, line: bytes) -> None:
    """Give a reporter one line of the file.

    Raises:
        RecordRefused: the line is damaged, or tells of a file that is gone, or the tracker refuses it.
    """
    try:
        record = json.loads(line)
        kind, when = record["kind"], float(record["time"])
    except (ValueError, KeyError, TypeError) as error:
        raise RecordRefused(
            "a record was lost", why="the process that wrote it was stopped in the middle of its line"
        ) from error
    match kind:
        case "log":
            reporter.log(record["metrics"], record["step"], when)
        case "artifact":
            path = Path(record["path"])
            if not path.exists():
                raise RecordRefused(f"{path} was not sent", why="it no longer exists")
            reporter.artifact(path, record["name"])
        case "finish":
            reporter.finish(record["status"], when)
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
