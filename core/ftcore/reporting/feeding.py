"""One reporter's thread: it feeds its tracker from the run's records, however often that fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from ftcore.contracts import Reporter, RunRecord
from ftcore.errors import FtcoreError, PluginError, RecordRefused
from ftcore.reporting.records import Cursor, Records, alone, hand_over, logged
from ftcore.secrets import mask

_INTERVAL = 2.0  # seconds from one delivery to the next
_TOGETHER = 100  # records in one
_FIRST_PAUSE, _LONGEST_PAUSE, _CLOSING_PAUSE = 0.1, 30.0, 1.0
_LONGEST_REASON = 240  # characters
_QUIET_SECONDS = 3.0  # outages after the first are told of when they last so long: a flaky tracker is one warning


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
        self._news, self._closing = threading.Event(), threading.Event()
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
        self._closing.set()
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
                # Together, and not each by itself: every call of a tracker's client takes the interpreter from the training.
                self._closing.wait(_INTERVAL)

    def _deliver(self, reporter: Reporter) -> bool:
        """Hand over what there is; whether that was all."""
        with self._records.path.open("rb") as file:
            file.seek(self._cursor.offset)
            while lines := list(islice(file, _TOGETHER)):
                unfinished = not lines[-1].endswith(b"\n")  # it is being written just now
                if unfinished:
                    lines.pop()
                for group in _groups(lines, together=hasattr(reporter, "log_many")):
                    if self._out_of_time():
                        return False
                    self._hand_over(reporter, group)
                    self._move(offset=self._cursor.offset + sum(map(len, group)))
                if unfinished:
                    time.sleep(0.01)
                    return False
        return True

    def _hand_over(self, reporter: Any, lines: list[bytes]) -> None:
        """Give the reporter some lines: several are metrics, and go together where it takes that."""
        if len(lines) > 1:
            try:
                reporter.log_many([metrics for line in lines if (metrics := logged(line)) is not None])
                return
            except RecordRefused:
                pass  # which of them it was shows one by one
        for line in lines:
            try:
                hand_over(reporter, line)
            except RecordRefused as refusal:
                self._note_refusal(refusal)

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
        if not self._closing.is_set():
            self._closing.wait(seconds)
        elif self._deadline is not None:
            time.sleep(max(0.0, min(seconds, _CLOSING_PAUSE, self._deadline - time.monotonic())))

    def _out_of_time(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline


def _groups(lines: list[bytes], together: bool) -> Iterator[list[bytes]]:
    """The lines in order, metrics that follow each other in one group if they may go together."""
    group: list[bytes] = []
    for line in lines:
        if together and logged(line) is not None:
            group.append(line)
            continue
        if group:
            yield group
            group = []
        yield [line]
    if group:
        yield group


def count(records: int) -> str:
    """The number with its noun."""
    return "1 record" if records == 1 else f"{records:,} records"


def _reason(error: BaseException) -> str:
    """The error and its first cause: a tracker's client wraps "connection refused" in layers of its own."""
    first: BaseException = error
    while (cause := first.__cause__ or first.__context__) is not None:
        first = cause
    told, origin = _told(error), _told(first)
    texts = [told] if origin in told else [told, origin]
    return "; ".join(
        text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "…" for text in map(mask, texts)
    )


def _told(error: BaseException) -> str:
    """An error on one line; an expected one is a sentence already."""
    if isinstance(error, PluginError):
        text = f"{error.what}: {error.why}"  # to report it to its authors is not what brings the records there
    else:
        text = str(error) if isinstance(error, FtcoreError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
