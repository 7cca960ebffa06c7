"""Records reach every reporter in order, once, and a reporter that fails harms nobody."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ftcore.contracts import RunRecord, RunStatus
from ftcore.errors import RecordRefused
from ftcore.reporting import Reporting


class Tracker:
    """A reporter that keeps what it is given; `fail` may raise before anything is kept."""

    def __init__(self, fail: Callable[[str], None] = lambda what: None) -> None:
        self.taken: list[tuple[Any, ...]] = []
        self.started: list[RunRecord] = []
        self._fail = fail

    def start(self, record: RunRecord) -> str:
        self._fail("start")
        self.started.append(record)
        return "run-1"

    def log(self, metrics: Mapping[str, float], step: int, time: float) -> None:
        self._fail("log")
        self.taken.append(("log", step, dict(metrics)))

    def artifact(self, path: Path, name: str) -> None:
        self._fail("artifact")
        self.taken.append(("artifact", path, name))

    def finish(self, status: RunStatus) -> None:
        self._fail("finish")
        self.taken.append(("finish", status))


class Story:
    """A run directory, and what the run said."""

    def __init__(self, folder: Path) -> None:
        self.dir = folder
        self.said: list[str] = []
        self.warned: list[str] = []
        self.record = RunRecord("a-run", folder, {"fine_tuner.epochs": 1}, {"ftcore.version": "1"})

    def reporting(self) -> Reporting:
        return Reporting(self.dir, self.said.append, self.warned.append)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def never(what: str) -> None:
    raise ConnectionError(f"{what}: nobody is there")


def exits(what: str) -> None:
    raise SystemExit(3)


def report(reporting: Reporting, steps: range, timeout: float = 10.0, status: RunStatus = "finished") -> None:
    for step in steps:
        reporting.log(step, {"loss": 1 / (1 + step)})
    reporting.finish(status, timeout)


def logged(steps: range) -> list[tuple[Any, ...]]:
    return [("log", step, {"loss": 1 / (1 + step)}) for step in steps]


def test_metrics_are_written_without_any_reporter(story: Story) -> None:
    report(story.reporting(), range(3))
    lines = [json.loads(line) for line in (story.dir / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert (story.dir / "reporting" / "records.jsonl").read_text() == ""


def test_numbers_of_numpy_arrive_as_numbers(story: Story) -> None:
    numpy = pytest.importorskip("numpy")
    tracker = Tracker()
    reporting = story.reporting()
    reporting.start({"tracker": lambda: tracker}, story.record)
    reporting.log(1, {"loss": numpy.float32(0.5), "eval_loss": float("nan")})
    reporting.finish("finished", 10)
    assert tracker.taken[0][2]["loss"] == 0.5
    assert tracker.taken[0][2]["eval_loss"] != tracker.taken[0][2]["eval_loss"]


def test_every_reporter_gets_everything_in_order(story: Story) -> None:
    trackers = [Tracker(), Tracker(), Tracker()]
    file = story.dir / "manifest.json"
    file.write_text("{}")
    reporting = story.reporting()
    reporting.start({f"tracker{number}": lambda t=tracker: t for number, tracker in enumerate(trackers)}, story.record)
    reporting.artifact(file, "manifest.json")
    report(reporting, range(50))
    for tracker in trackers:
        assert tracker.started == [story.record]
        assert tracker.taken == [("artifact", file, "manifest.json"), *logged(range(50)), ("finish", "finished")]
    assert story.warned == []


@pytest.mark.parametrize("failure", [never, exits])
def test_one_that_always_fails_is_one_warning_and_harms_no_other(story: Story, failure: Callable[[str], None]) -> None:
    tracker = Tracker()
    reporting = story.reporting()
    reporting.start({"broken": lambda: Tracker(failure), "sound": lambda: tracker}, story.record)
    report(reporting, range(5), timeout=1.0)
    assert tracker.taken == [*logged(range(5)), ("finish", "finished")]
    outage, end = story.warned
    assert outage.startswith(f"broken does not take the run's records ({'SystemExit' if failure is exits else 'Conn'}")
    assert end == (
        f"broken has not taken 6 records; they lie in {story.dir / 'reporting'} and nothing of the run is lost"
    )


@pytest.mark.parametrize("method", ["start", "log", "artifact", "finish"])
def test_an_outage_delays_and_loses_nothing(story: Story, method: str) -> None:
    down = [True, True]

    def twice(what: str) -> None:
        if what == method and down:
            down.pop()
            raise ConnectionError("not yet")

    tracker = Tracker(twice)
    reporting = story.reporting()
    reporting.start({"tracker": lambda: tracker}, story.record)
    reporting.artifact(story.dir, "everything")
    report(reporting, range(20))
    assert tracker.taken == [("artifact", story.dir, "everything"), *logged(range(20)), ("finish", "finished")]
    assert len(story.warned) == 1
    assert story.said == ["tracker is back and has all records"]


def test_the_end_waits_for_slow_trackers_together_and_no_longer_than_allowed(story: Story) -> None:
    release = threading.Event()

    def hang(what: str) -> None:
        release.wait(20)

    trackers = [Tracker(hang), Tracker(hang)]
    reporting = story.reporting()
    reporting.start({"one": lambda: trackers[0], "two": lambda: trackers[1]}, story.record)
    started = time.monotonic()
    report(reporting, range(3), timeout=0.5)
    assert 0.4 < time.monotonic() - started < 3
    assert [warning.split(";")[0] for warning in story.warned] == [
        "one has not taken 4 records",
        "two has not taken 4 records",
    ]
    release.set()
    for thread in threading.enumerate():
        if thread.name in ("ftcore-one", "ftcore-two"):
            thread.join(5)
            assert not thread.is_alive(), "a thread went on after the deadline"
    assert trackers[0].taken == []


def test_a_resumed_run_goes_on_where_the_tracker_stood(story: Story) -> None:
    first, second = Tracker(), Tracker()
    reporting = story.reporting()
    reporting.start({"tracker": lambda: first}, story.record)
    report(reporting, range(3), status="interrupted")
    reporting = story.reporting()
    reporting.start({"tracker": lambda: second}, story.record)
    report(reporting, range(3, 5))
    assert second.started[0].external_id == "run-1"
    assert second.taken == [*logged(range(3, 5)), ("finish", "finished")]


def test_a_resumed_run_sends_what_the_first_process_could_not(story: Story) -> None:
    reporting = story.reporting()
    reporting.start({"tracker": lambda: Tracker(never)}, story.record)
    report(reporting, range(3), timeout=0.1, status="interrupted")
    tracker = Tracker()
    reporting = story.reporting()
    reporting.start({"tracker": lambda: tracker}, story.record)
    report(reporting, range(3, 5))
    assert tracker.taken == [
        *logged(range(3)),
        ("finish", "interrupted"),
        *logged(range(3, 5)),
        ("finish", "finished"),
    ]


def test_half_a_line_left_by_a_crash_costs_that_record_only(story: Story) -> None:
    folder = story.dir / "reporting"
    folder.mkdir()
    (folder / "records.jsonl").write_text('{"kind": "log", "time": 1, "st')
    (story.dir / "metrics.jsonl").write_text('{"step": 1, "lo')
    tracker = Tracker()
    reporting = story.reporting()
    reporting.start({"tracker": lambda: tracker}, story.record)
    report(reporting, range(2))
    assert tracker.taken == [*logged(range(2)), ("finish", "finished")]
    assert story.warned == [
        "tracker: a record was lost: the process that wrote it was stopped in the middle of its line"
    ]
    assert len((story.dir / "metrics.jsonl").read_text().splitlines()) == 3


def test_refused_records_are_skipped_and_counted(story: Story) -> None:
    def refuse(what: str) -> None:
        if what == "log":
            raise RecordRefused("no such metric", why="the tracker says so", fix="Rename it")

    tracker = Tracker(refuse)
    reporting = story.reporting()
    reporting.start({"tracker": lambda: tracker}, story.record)
    report(reporting, range(4))
    assert tracker.taken == [("finish", "finished")]
    assert story.warned == [
        "tracker: no such metric: the tracker says so. Rename it",
        "tracker refused 4 records in all",
    ]


def test_an_artifact_that_is_gone_stops_nothing(story: Story) -> None:
    tracker = Tracker()
    reporting = story.reporting()
    reporting.start({"tracker": lambda: tracker}, story.record)
    reporting.artifact(story.dir / "gone", "gone")
    report(reporting, range(1))
    assert tracker.taken == [*logged(range(1)), ("finish", "finished")]
    assert story.warned == [f"tracker: {story.dir / 'gone'} was not sent: it no longer exists"]


def test_the_first_cause_is_named_and_secrets_are_not(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKER_TOKEN", "verysecretvalue")

    def wrapped(what: str) -> None:
        try:
            raise ConnectionRefusedError(111, "Connection refused")
        except OSError:
            raise RuntimeError("http://user:verysecretvalue@host failed " + 300 * "x")  # noqa: B904

    reporting = story.reporting()
    reporting.start({"tracker": lambda: Tracker(wrapped)}, story.record)
    reporting.finish("failed", 0.3)
    assert "Connection refused" in story.warned[0]
    assert "verysecretvalue" not in story.warned[0]
    assert len(story.warned[0]) < 400


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_warning_and_training_goes_on(story: Story) -> None:
    tracker = Tracker()
    reporting = story.reporting()
    reporting.start({"tracker": lambda: tracker}, story.record)
    (story.dir / "metrics.jsonl").unlink()
    (story.dir / "metrics.jsonl").symlink_to("/dev/full")
    report(reporting, range(3))
    assert story.warned == [f"metrics cannot be written to {story.dir} (No space left on device); training goes on"]
    assert tracker.taken == [*logged(range(3)), ("finish", "finished")]


def test_a_process_ends_though_a_tracker_hangs(tmp_path: Path) -> None:
    script = (
        "import sys, threading; from pathlib import Path\n"
        "from ftcore.reporting import Reporting; from ftcore.contracts import RunRecord\n"
        "class Hangs:\n"
        "    def start(self, record): threading.Event().wait()\n"
        "folder = Path(sys.argv[1]); reporting = Reporting(folder, print, print)\n"
        "reporting.start({'hangs': Hangs}, RunRecord('a', folder, {}, {}))\n"
        "reporting.log(1, {'loss': 1.0}); reporting.finish('finished', 0.2)\n"
        "print(sorted({'torch', 'numpy', 'mlflow', 'wandb', 'tensorboard'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert "hangs has not taken 2 records" in done.stdout
    assert done.stdout.endswith("[]\n")
    assert done.stderr == ""
