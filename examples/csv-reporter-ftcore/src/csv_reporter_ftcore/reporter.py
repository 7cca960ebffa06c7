"""The reporter: a line for each record, in a file that is whole after a crash."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ftcore import files
from ftcore.contracts import Logged, RunRecord, RunStatus
from ftcore.errors import RecordRefused, ReportError

OWN = ("step", "time")
"""The first columns; every other one is a metric, in the order in which they appeared."""

Line = Mapping[str, str]
Key = tuple[str, frozenset[str]]


class CsvReporter:
    """Implements `ftcore.contracts.Reporter`, and `log_many`.

    A record may come twice: after an error, after a crash, or because a run went on from a checkpoint and took some
    steps again. So a line is known by its step and the names of its metrics. A record that is there is left alone; one
    with other values takes the place of the old one.

    Args:
        path: the file; None for `metrics.csv` in the run directory.
    """

    def __init__(self, path: Path | None) -> None:
        self._chosen = path
        self._path = Path()
        self._columns = list(OWN)
        self._times: dict[Key, str] = {}
        self._end = 0  # in bytes, behind the last whole line

    def start(self, record: RunRecord) -> str:
        """Begin the file, or go on with it where the run goes on.

        Raises:
            ReportError: there is a file of that name, and it is none of this reporter's.
            OSError: it cannot be read or written.
        """
        if self._chosen is None:
            self._path = record.dir / "metrics.csv"
        else:  # what was returned the first time comes back: relative paths would depend on the folder one is in
            self._path = Path(record.external_id or self._chosen.absolute())
        self._path.parent.mkdir(parents=True, exist_ok=True)
        before = self._read()
        # Without an id the run is new and will send all: what is there is left of an earlier run of its name.
        self._replace(before if record.external_id is not None else [])
        return str(self._path)

    def log(self, metrics: Mapping[str, float], step: int, time: float) -> None:
        self.log_many([Logged(metrics, step, time)])

    def log_many(self, records: Sequence[Logged]) -> None:
        """Write the records that are not there yet, all at once.

        Raises:
            RecordRefused: a metric is named like one of the record's own columns.
            OSError: the file cannot be written.
        """
        lines = [line for line in map(_line, records) if self._times.get(_key(line)) != line["time"]]
        new_columns = {name for line in lines for name in line} - set(self._columns)
        if new_columns or any(_key(line) in self._times for line in lines):
            self._replace([*self._read(), *lines])
        elif lines:
            self._append(lines)

    def artifact(self, path: Path, name: str) -> None:
        """Nothing to do: a table of numbers holds no files."""

    def finish(self, status: RunStatus, time: float) -> None:
        """Nothing to do: whatever was taken is in the file."""

    def _read(self) -> list[Line]:
        """The whole lines of the file, without one that a crash has cut off."""
        data = self._path.read_bytes() if self._path.exists() else b""
        table = csv.DictReader(io.StringIO(data[: data.rfind(b"\n") + 1].decode(errors="replace"), newline=""))
        if data and tuple(table.fieldnames or ())[: len(OWN)] != OWN:
            raise ReportError(f"{self._path} is there and was not written by csv", fix="Choose another path in [csv]")
        return [{name: cell for name, cell in line.items() if cell} for line in table]

    def _replace(self, lines: Iterable[Line]) -> None:
        """Write the file anew in one step; of lines with one key the last stays, in the place of the first."""
        kept = {_key(line): line for line in lines}
        columns = list(dict.fromkeys([*OWN, *(name for line in kept.values() for name in line)]))
        text = _text([dict(zip(columns, columns, strict=True)), *kept.values()], columns)
        files.write_text(self._path, text)
        self._columns, self._end = columns, len(text.encode())
        self._times = {key: line["time"] for key, line in kept.items()}

    def _append(self, lines: Sequence[Line]) -> None:
        data = _text(lines, self._columns).encode()
        with self._path.open("r+b") as file:
            file.seek(self._end)
            file.truncate()  # of what an earlier try may have left
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # ftcore takes the records for delivered when this returns
        self._end += len(data)
        self._times |= {_key(line): line["time"] for line in lines}


def _line(record: Logged) -> Line:
    if taken := set(OWN) & record.metrics.keys():
        raise RecordRefused(f"the metric {taken.pop()} was not written", why="the record's own column has that name")
    return {"step": str(record.step), "time": repr(record.time)} | {
        name: repr(float(value)) for name, value in record.metrics.items()
    }


def _key(line: Line) -> Key:
    return line["step"], frozenset(line.keys() - set(OWN))


def _text(lines: Iterable[Line], columns: Sequence[str]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, restval="", lineterminator="\n").writerows(lines)
    return text.getvalue()
