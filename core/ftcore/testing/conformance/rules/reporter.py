"""Rules for reporters: a whole run, one that fails, one that goes on, records that come late or again."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

from ftcore.contracts import Logged, Reporter, RunRecord, RunStatus
from ftcore.errors import RecordRefused
from ftcore.reporting.fan_out import Reporting
from ftcore.testing.conformance.rule import NotTried, raised, rule
from ftcore.testing.conformance.subject import Scene, Subject, Tables, where

_PARAMS = {"fine_tuner.epochs": 3, "fine_tuner.learning_rate": 0.0002, "run.name": "null", "lora.modules": ["q", "v"]}
PATIENCE = 30.0
"""Seconds in which a reporter must have taken a few records."""

TELLING = 15.0
"""Seconds in which a tracker that cannot be reached must have raised something."""

_METRICS = {"loss": 1.5, "learning_rate": 0.0002}


@rule(
    "reporter-methods",
    why="the run calls them by position, in a thread of their own: a missing one shows only there",
    fix="give it the methods of ftcore.contracts.Reporter",
)
def methods(subject: Subject) -> Iterator[str]:
    """It has start, log, artifact and finish, with the arguments of ftcore.contracts.Reporter."""
    reporter = _make(subject, subject.scene("reporter"))
    for name in ("start", "log", "artifact", "finish"):
        wanted = [item for item in inspect.signature(getattr(Reporter, name)).parameters if item != "self"]
        try:
            inspect.signature(getattr(reporter, name)).bind(*wanted)
        except TypeError as error:
            yield f"{name} does not take {', '.join(wanted)}: {error}"


@rule(
    "reporter-reports",
    why="the tracker would have nothing, or half of the run",
    fix="look at what was raised: is its tracker there, in a test? The fixture ftcore_conformance can start one, and its "
    "`config` says where; what a tracker will never take is a RecordRefused",
)
def reports(subject: Subject) -> Iterator[str]:
    """It takes a whole run: its start, metrics, a file and a folder, and each way to end."""
    for status in get_args(RunStatus):
        scene = subject.scene("reporter")
        reporter = _make(subject, scene)
        reporter.start(_record(scene))
        for step in range(1, 4):
            reporter.log(dict(_METRICS), step, _time(step))
        for path, name in _artifacts(scene):
            reporter.artifact(path, name)
        reporter.finish(status, _time(9))
    yield from ()


@rule(
    "reporter-numbers",
    why="a loss that is not a number is what one looks for in a tracker",
    fix="send them as the tracker writes them, or raise RecordRefused",
)
def numbers(subject: Subject) -> Iterator[str]:
    """Numbers that are none (NaN, infinity), whole ones, new names and no metrics at all do not confuse it."""
    reporter, _ = _started(subject)
    odd: list[dict[str, float]] = [
        {"loss": float("nan"), "grad_norm": float("inf")},
        {"tokens": 10**12},
        {"eval/some metric (new)": 0.5},
        {},
    ]
    for step, metrics in enumerate(odd, start=1):
        yield from _taken(lambda m=metrics, s=step: reporter.log(m, s, _time(s)), f"log of {metrics}")  # type: ignore[misc]
    reporter.finish("finished", _time(9))


@rule(
    "reporter-replay",
    why="a record is offered again where the answer was lost: to raise then means to be offered it for ever",
    fix="let the tracker replace it, skip what it has, or raise RecordRefused",
)
def replay(subject: Subject) -> Iterator[str]:
    """The same record again is no error, nor is the same end."""
    reporter, scene = _started(subject)
    path, name = _artifacts(scene)[0]
    calls: tuple[Callable[[], object], ...] = (
        lambda: reporter.log(dict(_METRICS), 1, _time(1)),
        lambda: reporter.artifact(path, name),
        lambda: reporter.finish("finished", _time(9)),
    )
    for call in calls:
        call()
        yield from _taken(call, "the same record again")


@rule(
    "reporter-late",
    why="a run that goes on from a checkpoint trains some steps again, and tells of them again",
    fix="let the tracker sort by step, or raise RecordRefused",
)
def late(subject: Subject) -> Iterator[str]:
    """Metrics of an earlier step than the last are no error."""
    reporter, _ = _started(subject)
    for step in (5, 6, 3, 4, 7):
        yield from _taken(lambda s=step: reporter.log(dict(_METRICS), s, _time(s)), f"step {step} behind later ones")  # type: ignore[misc]
    reporter.finish("finished", _time(9))


@rule(
    "reporter-resumes",
    why="a run that was interrupted and went on would be two runs in the tracker",
    fix="open the tracker's run of record.external_id where it is given, and return that id again",
)
def resumes(subject: Subject) -> Iterator[str]:
    """Started again with the id that it returned, it goes on with the same run of the tracker."""
    scene = subject.scene("reporter")
    first = _make(subject, scene)
    own = first.start(_record(scene))
    first.log(dict(_METRICS), 1, _time(1))
    first.finish("interrupted", _time(2))
    second = _make(subject, scene)
    again = second.start(_record(scene, own))
    if own is not None and again not in (None, own):
        yield f"the run was {own!r} and is {again!r} when it goes on"
    second.log(dict(_METRICS), 2, _time(3))
    second.finish("finished", _time(4))


@rule(
    "reporter-batches",
    why="log_many is called instead of log where a run is faster than its tracker",
    fix="take a sequence of ftcore.contracts.Logged, up to 100, and send all of it",
)
def batches(subject: Subject) -> Iterator[str]:
    """Its log_many takes many records at once."""
    reporter, _ = _started(subject)
    if not hasattr(reporter, "log_many"):
        raise NotTried("the reporter has no log_many")
    records = [Logged(dict(_METRICS), step, _time(step)) for step in range(1, 101)]
    yield from _taken(lambda: reporter.log_many(records), "log_many of 100 records")
    yield from _taken(lambda: reporter.log_many(records[:1]), "log_many of 1 record")
    reporter.finish("finished", _time(200))


@rule(
    "reporter-survives-failures",
    why="networks fail: what was under way when one did is offered again, and the run goes on meanwhile",
    fix="keep no state that a failed call leaves half done; every method may be called again with the same record",
)
def survives_failures(subject: Subject) -> Iterator[str]:
    """A run whose every call fails once before and once after it was made, arrives whole, and in time."""
    scene, warnings = subject.scene("reporter"), list[str]()
    failures: dict[str, int] = {}
    reporting = Reporting(scene.run.dir, warnings.append, warnings.append)
    reporting.start({subject.name: lambda: cast(Reporter, _Flaky(_make(subject, scene), failures))}, _record(scene))
    for step in range(1, 4):
        reporting.log(step, dict(_METRICS))
    path, name = _artifacts(scene)[0]
    reporting.artifact(path, name)
    left = reporting.finish("finished", PATIENCE)
    if left:
        yield f"{sum(left.values())} records were not taken: {'; '.join(warnings)}"
    for name in ("start", "finish"):
        if failures.get(name, 0) < 2:
            yield f"{name} was not called again after it had failed"


@rule(
    "reporter-outage",
    why="the tracker's failure must be the tracker's alone: the records wait until it is back",
    fix="set a timeout of seconds on every request, and let its error out; never end the process or wait for ever",
)
def outage(subject: Subject) -> Iterator[str]:
    """With a tracker that cannot be reached, the run ends in time, and keeps what the tracker has not got."""
    if subject.setup.down is None:
        raise NotTried(f"no configuration with an unreachable tracker was given, as `down`, in {where(subject.name)}")
    scene = subject.scene("reporter", subject.setup.down)
    warnings: list[str] = []
    reporting = Reporting(scene.run.dir, warnings.append, warnings.append)
    reporting.start({subject.name: lambda: _make(subject, scene)}, _record(scene))
    reporting.log(1, dict(_METRICS))
    until = time.monotonic() + TELLING
    while not warnings and time.monotonic() < until:
        time.sleep(0.05)
    if not warnings:
        yield f"in {TELLING:.0f} s, nothing was raised: a request waits longer than that, or none was made"
    began = time.monotonic()
    left = reporting.finish("finished", 2.0)
    if not left:
        yield "every record was taken, though the tracker is said to be down"
    if (took := time.monotonic() - began) > 10:
        yield f"the run waited {took:.0f} s for it in the end"


class _Flaky:
    """Lets each method of a reporter fail twice: the first call is not made, of the second the answer is lost."""

    def __init__(self, inner: Reporter, failures: dict[str, int]) -> None:
        self._inner, self._failures = inner, failures
        for name in ("start", "log", "log_many", "artifact", "finish"):
            if hasattr(inner, name):
                setattr(self, name, partial(self._call, name))

    def _call(self, name: str, *arguments: Any) -> Any:
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        if failures == 1:
            raise ConnectionError(f"{name} was not sent: the conformance suite wants it so")
        answer = getattr(self._inner, name)(*arguments)
        if failures == 2:
            raise ConnectionError(f"the answer to {name} was lost: the conformance suite wants it so")
        return answer


def _make(subject: Subject, scene: Scene) -> Any:
    return subject.expect(Reporter, "ftcore_make_reporter", run=scene.run, settings=scene.settings)


def _started(subject: Subject, more: Tables | None = None) -> tuple[Any, Scene]:
    scene = subject.scene("reporter", more)
    reporter = _make(subject, scene)
    reporter.start(_record(scene))
    return reporter, scene


def _record(scene: Scene, external_id: str | None = None) -> RunRecord:
    tags = {"ftcore.version": "1", "ftcore.trainer": "sft"}
    return RunRecord(scene.run.name, scene.run.dir, _PARAMS, tags, external_id)


def _artifacts(scene: Scene) -> list[tuple[Path, str]]:
    """A file and a folder of the run, with the names that they shall have."""
    folder = scene.run.dir / "model"
    folder.mkdir(exist_ok=True)
    (folder / "weights.bin").write_bytes(b"\0\1\2" * 100)
    return [(scene.run.dir / "config.toml", "config.toml"), (folder, "model")]


def _taken(call: Callable[[], object], what: str) -> Iterator[str]:
    """What is wrong with how a record was taken: refusing it is right, any other error is not."""
    try:
        call()
    except RecordRefused:
        pass
    except (Exception, SystemExit) as error:
        yield f"{what}: {raised(error)}"


def _time(step: int) -> float:
    return 1_795_000_000.0 + step
