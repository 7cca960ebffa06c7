"""A reporter that keeps everything in memory, and fails when a test wants it to.

The fixture `ftcore_reporter` registers it under the name `memory`:

    def test_what_is_logged(ftcore_project, ftcore_reporter):
        ftcore_project.run({"fine_tuner": {"report_to": "memory"}})
        assert [record.step for record in ftcore_reporter.records] == [1, 2]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ftcore import hookimpl
from ftcore.contracts import Logged, Reporter, RunRecord, RunStatus

Method = Literal["start", "log", "artifact", "finish"]


class MemoryReporter:
    """Implements `ftcore.contracts.Reporter`.

    Attributes:
        started: what it was told at each start.
        records: the metrics that it took, in order.
        artifacts: the paths of the artifacts that it took, by name.
        finished: how each run ended.
        refused: how many calls it failed on demand.
    """

    def __init__(self) -> None:
        self.started: list[RunRecord] = []
        self.records: list[Logged] = []
        self.artifacts: dict[str, Path] = {}
        self.finished: list[RunStatus] = []
        self.refused = 0
        self._faults: dict[str, list[BaseException]] = {}

    def fail(self, method: Method, error: BaseException | None = None, times: int = 1) -> None:
        """Let the next `times` calls of a method raise `error` (by default a ConnectionError) and take nothing."""
        wanted = error or ConnectionError("the tracker is down, as the test wants it")
        self._faults.setdefault(method, []).extend([wanted] * times)

    def metric(self, name: str) -> list[float]:
        """The values of one metric, in the order in which they were logged."""
        return [record.metrics[name] for record in self.records if name in record.metrics]

    def start(self, record: RunRecord) -> str:
        self._fail("start")
        self.started.append(record)
        return record.external_id or f"memory-{record.name}"

    def log(self, metrics: Mapping[str, float], step: int, time: float) -> None:
        self._fail("log")
        self.records.append(Logged(dict(metrics), step, time))

    def artifact(self, path: Path, name: str) -> None:
        self._fail("artifact")
        self.artifacts[name] = path

    def finish(self, status: RunStatus, time: float) -> None:
        self._fail("finish")
        self.finished.append(status)

    def _fail(self, method: Method) -> None:
        if faults := self._faults.get(method):
            self.refused += 1
            raise faults.pop(0)


class MemoryPlugin:
    """The plugin `memory`; its entry point is there for the length of a test."""

    def __init__(self) -> None:
        self.reporter = MemoryReporter()

    @hookimpl
    def ftcore_make_reporter(self) -> Reporter:
        return self.reporter


plugin = MemoryPlugin()
