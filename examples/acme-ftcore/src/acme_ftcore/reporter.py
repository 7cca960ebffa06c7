"""The reporter: everything that trackers hear, as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftcore.contracts import RunRecord, RunStatus


class JsonLinesReporter:
    """Implements `ftcore.contracts.Reporter`.

    A method may be called again with a record that it failed to write. So a line counts only when all of it is
    written, and the next one begins where the last whole one ended.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._end = path, 0

    def start(self, record: RunRecord) -> str | None:
        self._path.touch()
        if record.external_id is None:
            self._end = 0
            self._write("start", run=record.name, params=dict(record.params), tags=dict(record.tags))
        else:  # the run goes on after a break
            self._end = self._path.read_bytes().rfind(b"\n") + 1
        return str(self._path)

    def log(self, metrics: Mapping[str, float], step: int, time: float) -> None:
        self._write("metrics", step=step, time=time, **metrics)

    def artifact(self, path: Path, name: str) -> None:
        self._write("artifact", name=name, path=str(path))

    def finish(self, status: RunStatus, time: float) -> None:
        self._write("finish", status=status, time=time)

    def _write(self, kind: str, **values: Any) -> None:
        line = json.dumps({"kind": kind, **values}, default=str).encode() + b"\n"
        with self._path.open("r+b") as file:
            file.seek(self._end)
            file.truncate()
            file.write(line)
        self._end += len(line)
