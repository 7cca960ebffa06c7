"""Rules for launchers: the job runs once, is over in the end, and its failure is the launcher's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ftcore.errors import DataError, FtcoreError, Interrupted
from ftcore.testing.conformance.rule import raised, rule
from ftcore.testing.conformance.subject import Subject

_COMMAND = """
import pathlib, sys, time
time.sleep(float(sys.argv[2]))
with pathlib.Path(sys.argv[1]).open("a") as file:
    file.write("ran\\n")
sys.exit(int(sys.argv[3]))
"""


class TriedJob:
    """Implements `ftcore.contracts.Job`: it notes that it ran, here or as a command, and ends as it is told to.

    Args:
        folder: where it notes that.
        error: what it ends with, if anything; its exit code is the command's.
        seconds: how long the command takes.
    """

    def __init__(self, folder: Path, error: FtcoreError | None = None, seconds: float = 0.0) -> None:
        self._notes = folder / "ran.txt"
        self.error, self._seconds = error, seconds
        self.ran_here = False

    @property
    def command(self) -> Sequence[str]:
        code = self.error.exit_code if self.error else 0
        return [sys.executable, "-c", _COMMAND, str(self._notes), str(self._seconds), str(code)]

    @property
    def times(self) -> int:
        """How often it ran."""
        return self._notes.read_text().count("ran") if self._notes.exists() else 0

    def run_here(self) -> None:
        self.ran_here = True
        with self._notes.open("a") as file:
            file.write("ran\n")
        if self.error is not None:
            raise self.error


@rule(
    "launcher-runs-once",
    why="a job that never ran looks like a run that ended well; one that ran twice has written over itself",
    fix="call job.run_here() once, or start job.command once (for each process of a distributed job: once with RANK=0)",
)
def runs_once(subject: Subject) -> Iterator[str]:
    """It runs the job, and runs it once."""
    job = _launched(subject, lambda folder: TriedJob(folder))
    if job.times != 1:
        yield f"the job ran {job.times} times"


@rule(
    "launcher-waits",
    why="ftcore reads the results when the hook returns",
    fix="wait for the process, or ask the scheduler until the job is over",
)
def waits(subject: Subject) -> Iterator[str]:
    """It returns when the job is over, not before."""
    job = _launched(subject, lambda folder: TriedJob(folder, seconds=0.5))
    if job.times == 0:
        yield "it returned while the job was still running"


@rule(
    "launcher-passes-errors",
    why="a failed job would end with exit code 0, and scripts would go on with a model that is not there",
    fix="let what run_here raises pass; for a command that ends with another status than 0, raise a TrainingError",
)
def passes_errors(subject: Subject) -> Iterator[str]:
    """What the job fails with, it fails with too: the same error from here, an FtcoreError for an exit status."""
    yield from _passed(subject, DataError("the data are gone"))


@rule(
    "launcher-passes-interrupts",
    why="an interrupted run is resumed, a failed one is looked into",
    fix="do not catch Interrupted or KeyboardInterrupt; for a command's status 130, raise Interrupted",
)
def passes_interrupts(subject: Subject) -> Iterator[str]:
    """A job that was interrupted is not a job that ended well."""
    yield from _passed(subject, Interrupted("the run was interrupted"))


def _passed(subject: Subject, error: FtcoreError) -> Iterator[str]:
    name = type(error).__name__
    jobs: list[TriedJob] = []

    def make(folder: Path) -> TriedJob:
        jobs.append(TriedJob(folder, error))
        return jobs[-1]

    try:
        _launched(subject, make)
    except FtcoreError as caught:
        if jobs[0].ran_here and caught is not error:
            yield f"the job raised {name}, and it raised {type(caught).__name__}: {caught}"
    except KeyboardInterrupt:
        if not isinstance(error, Interrupted):
            yield f"the job raised {name}, and it raised KeyboardInterrupt"
    except Exception as caught:
        yield f"the job failed, and {raised(caught)}, which is no FtcoreError"
    else:
        how = f"raised {name}" if jobs[0].ran_here else f"ended with {error.exit_code}"
        yield f"the job {how}, and it returned as if all were well"


def _launched(subject: Subject, make: Callable[[Path], TriedJob]) -> TriedJob:
    scene = subject.scene("launcher")
    job = make(subject.folder)
    subject.call("ftcore_launch", run=scene.run, job=job, settings=scene.settings)
    return job
