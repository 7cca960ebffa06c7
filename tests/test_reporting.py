"""Records reach every reporter in order, once, and a reporter that fails harms nobody."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ftcore.contracts import Logged, Reporter, RunRecord, RunStatus
from ftcore.errors import ConfigError, RecordRefused, ReportError
from ftcore.plugins import discover
from ftcore.reporting.fan_out import Reporting
from ftcore.reporting.feeding import ReporterThread
from ftcore.reporting.records import Records
from ftcore.reporting.replay import replay


class Tracker:
    """A reporter that keeps what it is given; `fail` may raise before anything is kept."""

    def __init__(self, fail: Callable[[str], None] = lambda what: None) -> None:
        self.taken: list[tuple[Any, ...]] = []
        self.started: list[RunRecord] = []
        self.ended_at = 0.0
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

    def finish(self, status: RunStatus, time: float) -> None:
        self._fail("finish")
        self.taken.append(("finish", status))
        self.ended_at = time


class Story:
    """A run directory, and what the run said."""

    def __init__(self, folder: Path) -> None:
        self.dir = folder
        self.said: list[str] = []
        self.warned: list[str] = []
        self.record = RunRecord("a-run", folder, {"fine_tuner.epochs": 1}, {"ftcore.version": "1"})

    def reporting(self) -> Reporting:
        return Reporting(self.dir, self.said.append, self.warned.append)

    def replay(self, tracker: Tracker, timeout: float = 10.0) -> None:
        """What `ftcore report` does."""
        replay(self.dir, {"tracker": lambda: tracker}, self.said.append, self.warned.append, timeout)


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
    # A tracker may be named later: ftcore report RUN --to NAME.
    kinds = [json.loads(line)["kind"] for line in (story.dir / "reporting" / "records.jsonl").read_text().splitlines()]
    assert kinds == ["log", "log", "log", "finish"]


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
    report(reporting, range(5), timeout=2.0)
    assert tracker.taken == [*logged(range(5)), ("finish", "finished")]
    outage, end = story.warned
    assert outage.startswith(f"broken does not take the run's records ({'SystemExit' if failure is exits else 'Conn'}")
    assert end == (
        f"broken has not taken 6 records; nothing of the run is lost. When it is there: ftcore report {story.dir}"
    )


def test_a_plugin_that_makes_no_reporter_is_told_of_with_its_reason_once(story: Story, install: Any) -> None:
    source = "from ftcore import hookimpl\n@hookimpl\ndef ftcore_make_reporter():\n    raise ValueError('no such\\nproject')\n"
    install("acme", {"acme_reporter": source}, {"acme": "acme_reporter"})
    make = partial(discover().expect, Reporter, "ftcore_make_reporter", "acme", run=None, settings=None)
    reporting = story.reporting()
    reporting.start({"acme": make}, story.record)
    report(reporting, range(1), timeout=0.5)
    assert story.warned[0] == (
        "acme does not take the run's records (plugin 'acme' (acme 1.2.3) failed in ftcore_make_reporter: ValueError: "
        "no such project). They are kept, and sent when it does"
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


def test_one_that_fails_at_random_is_one_warning_and_misses_nothing(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftcore.reporting.feeding._INTERVAL", 0.01)
    luck = random.Random(7)

    def at_random(what: str) -> None:
        if luck.random() < 0.4:
            raise ConnectionError("500")

    tracker = Tracker(at_random)
    reporting = story.reporting()
    reporting.start({"tracker": lambda: tracker}, story.record)
    for step in range(20):
        reporting.log(step, {"loss": 1 / (1 + step)})
        time.sleep(0.03)  # so that it catches up, and fails again, in between
    reporting.finish("finished", 30)
    assert tracker.taken == [*logged(range(20)), ("finish", "finished")]
    assert len(story.warned) == 1


class ManyTracker(Tracker):
    """One that takes metrics together."""

    def __init__(self, fail: Callable[[str], None] = lambda what: None) -> None:
        super().__init__(fail)
        self.calls: list[int] = []

    def log_many(self, records: Sequence[Logged]) -> None:
        self._fail("log_many")
        self.calls.append(len(records))
        self.taken += [("log", record.step, dict(record.metrics)) for record in records]


def test_metrics_go_together_where_the_tracker_takes_that(story: Story) -> None:
    tracker = ManyTracker()
    reporting = story.reporting()
    report(reporting, range(150))
    reporting = story.reporting()
    reporting.start({}, story.record)
    story.replay(tracker)
    assert tracker.taken == [*logged(range(150)), ("finish", "finished")]
    assert tracker.calls == [100, 50]


def test_of_metrics_that_are_refused_together_each_is_offered_alone(story: Story) -> None:
    def refuse(what: str) -> None:
        if what == "log_many" or (what == "log" and len(tracker.taken) == 2 and not story.warned):
            raise RecordRefused(f"no {what}")

    tracker = ManyTracker(refuse)
    report(story.reporting(), range(5))
    story.reporting().start({}, story.record)
    story.replay(tracker)
    assert [step for kind, step, *_ in tracker.taken if kind == "log"] == [0, 1, 3, 4]
    assert story.warned == ["tracker: no log"]


def test_steps_that_are_trained_again_are_not_told_again(story: Story) -> None:
    """A run that goes on from a checkpoint cuts its metrics behind it; its trackers have been told already."""
    first, second = Tracker(), Tracker()
    reporting = story.reporting()
    reporting.start({"tracker": lambda: first}, story.record)
    for step in range(6):
        reporting.log(step, {"loss": 1 / (1 + step), "eval_runtime": 0.1})
    reporting.finish("interrupted", 10)
    metrics = story.dir / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:3]))
    reporting = story.reporting()
    reporting.start({"tracker": lambda: second}, story.record)
    for step in range(3, 8):
        reporting.log(step, {"loss": 1 / (1 + step) if step != 5 else 9.0, "eval_runtime": 0.2})
    reporting.finish("finished", 10)
    steps = [taken[1] for taken in second.taken if taken[0] == "log"]
    assert steps == [5, 6, 7], "one that came to something else is told"
    assert [json.loads(line)["step"] for line in metrics.read_text().splitlines()] == list(range(8))


def test_one_that_hangs_costs_neither_time_nor_memory(story: Story) -> None:
    release = threading.Event()
    reporting = story.reporting()
    reporting.start({"tracker": lambda: Tracker(lambda what: release.wait(60) and None)}, story.record)
    for step in range(100):
        reporting.log(step, {"loss": 1.0})
    tracemalloc.start()
    try:
        started, before = time.thread_time(), tracemalloc.get_traced_memory()[0]
        for step in range(100, 3100):
            reporting.log(step, {"loss": 1.0, "learning_rate": 0.5})
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert time.thread_time() - started < 3  # 1 ms for each, tracing included
    assert grown < 50_000, "3,000 records of 100 bytes were kept in memory"
    reporting.finish("finished", 0.1)
    assert story.warned[0].startswith("tracker has not taken 3,101 records")
    release.set()


def test_the_end_waits_for_slow_trackers_together_and_no_longer_than_allowed(story: Story) -> None:
    release = threading.Event()

    def hang(what: str) -> None:
        release.wait(20)

    trackers = [Tracker(hang), Tracker(hang)]
    reporting = story.reporting()
    reporting.start({"one": lambda: trackers[0], "two": lambda: trackers[1]}, story.record)
    started = time.monotonic()
    report(reporting, range(3), timeout=0.5)
    assert 0.4 < time.monotonic() - started < 15  # they hang for 20 s
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
    assert reporting._metrics._file is not None
    os.dup2(os.open("/dev/full", os.O_WRONLY), reporting._metrics._file)
    report(reporting, range(3))
    assert story.warned == [f"metrics cannot be written to {story.dir} (No space left on device); training goes on"]
    assert tracker.taken == [*logged(range(3)), ("finish", "finished")]


def test_a_process_ends_though_a_tracker_hangs(tmp_path: Path) -> None:
    script = (
        "import sys, threading; from pathlib import Path\n"
        "from ftcore.reporting.fan_out import Reporting; from ftcore.contracts import RunRecord\n"
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


# --- later: ftcore report ---------------------------------------------------------------------------------------------


def test_what_a_tracker_missed_is_sent_later_in_order_and_once(story: Story) -> None:
    reporting = story.reporting()
    reporting.start({"tracker": lambda: Tracker(never)}, story.record)
    report(reporting, range(4), timeout=0.2)
    ended = time.time()

    tracker = Tracker()
    story.replay(tracker)
    assert tracker.started == [story.record]
    assert tracker.taken == [*logged(range(4)), ("finish", "finished")]
    assert ended - 60 < tracker.ended_at <= ended, "the time of the run's end, not of the report"
    assert story.said == ["tracker    has all records, 5 of them sent now"]

    again = Tracker()
    story.replay(again)
    assert (again.started, again.taken) == ([], []), "a tracker that has everything is left alone"
    assert story.said[1:] == ["tracker    has all records"]


def test_a_report_that_is_cut_short_goes_on_where_it_was(story: Story) -> None:
    report(story.reporting(), range(6))
    reporting = story.reporting()
    reporting.start({}, story.record)

    def at_the_fourth(what: str) -> None:
        if what == "log" and len(first.taken) == 3:
            raise ConnectionError("gone")

    first, second = Tracker(at_the_fourth), Tracker()
    with pytest.raises(ReportError, match=r"tracker has not taken 4 records: 0\.5 seconds were not enough") as caught:
        story.replay(first, timeout=0.5)
    assert caught.value.exit_code == 8
    assert "repeat: ftcore report" in str(caught.value)
    story.replay(second)
    assert first.taken + second.taken == [*logged(range(6)), ("finish", "finished")]


def test_there_may_be_nothing_to_report(story: Story) -> None:
    with pytest.raises(ConfigError, match="the run ended before its first record"):
        story.replay(Tracker())


def test_only_one_process_at_a_time_feeds_a_tracker(story: Story) -> None:
    reporting = story.reporting()
    reporting.start({}, story.record)
    report(reporting, range(3))
    script = (
        "import sys; from pathlib import Path; from ftcore.reporting.records import alone\n"
        "with alone(Path(sys.argv[1]), 'tracker'):\n"
        "    print('mine', flush=True); sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(story.dir / "reporting" / "tracker.lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdin
        assert other.stdout
        assert other.stdout.readline() == "mine\n"
        tracker = Tracker()
        with pytest.raises(ReportError, match="has not taken 4 records"):
            story.replay(tracker, timeout=0.5)
        assert tracker.started == []
        assert "another process is sending this run's records to tracker" in story.warned[0]
        other.stdin.write("\n")
    story.replay(tracker)
    assert tracker.taken == [*logged(range(3)), ("finish", "finished")]


@pytest.mark.parametrize("cursor", ["", "{", '{"offset": "x", "external_id": null}', "[]", '{"offset": 3}'])
def test_a_cursor_that_a_power_cut_left_unreadable_means_all_over_again(story: Story, cursor: str) -> None:
    reporting = story.reporting()
    reporting.start({}, story.record)
    report(reporting, range(3))
    (story.dir / "reporting" / "tracker.json").write_text(cursor)
    tracker = Tracker()
    story.replay(tracker)
    assert tracker.taken == [*logged(range(3)), ("finish", "finished")]


def test_a_cursor_ahead_of_the_records_skips_none_that_follow(story: Story) -> None:
    reporting = story.reporting()
    reporting.start({}, story.record)
    report(reporting, range(3))
    (story.dir / "reporting" / "tracker.json").write_text('{"offset": 1000000, "external_id": "run-1"}')
    tracker = Tracker()
    reporting = story.reporting()
    reporting.start({"tracker": lambda: tracker}, story.record)
    report(reporting, range(3, 5))
    assert tracker.taken == [*logged(range(3, 5)), ("finish", "finished")]


def test_a_line_that_is_being_written_is_waited_for(story: Story) -> None:
    """Another process sees the records file at any moment."""
    reporting = story.reporting()
    reporting.start({}, story.record)
    report(reporting, range(3))
    path = story.dir / "reporting" / "records.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    records = Records(story.dir / "reporting")
    path.write_bytes(whole[:-30])  # without the line end that opening it has added
    tracker = Tracker()
    thread = ReporterThread("tracker", lambda: tracker, story.record, records, story.said.append, story.warned.append)
    thread.start()
    until = time.monotonic() + 30
    while len(tracker.taken) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.3)  # in which it might take the half line for a whole one
    assert tracker.taken == logged(range(3))
    path.write_bytes(whole)
    records.close()
    thread.close(time.monotonic() + 10)
    thread.join(10)
    assert tracker.taken == [*logged(range(3)), ("finish", "finished")]
    assert story.warned == []


@pytest.mark.slow
def test_the_benchmark_of_logging_runs(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "reporting.py"
    command = [sys.executable, "-W", "ignore", str(script), "--quick", "--only", "none", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "out").read_text())["trackers"]["none"]
    assert facts["records"] > 10
    assert 0 < facts["log_seconds"] < 0.01
    assert facts["worked_low"] <= facts["worked"] <= facts["worked_high"]
