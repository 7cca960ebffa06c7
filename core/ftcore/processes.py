"""Several processes of one machine that train together. Public: launchers start them, plugins ask which one they are in.

The processes find each other by the variables that `torchrun` sets as well (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR,
MASTER_PORT). They begin and end as one: a signal reaches all of them, and where one fails the others are stopped.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from types import FrameType

from ftcore.contracts import Run
from ftcore.errors import EXIT_CODES, FtcoreError, Interrupted, TrainingError
from ftcore.run import last_words

_GRACE = 15.0
"""Seconds that the others have to end by themselves when one has failed; nothing can be saved without it."""

_PATIENCE = 120.0
"""Seconds that they have when one was interrupted: each of them ends, but reporting takes the main one longer."""

_NOT_GIVEN_OUT = range(15_000, 30_000)
"""Ports below those that Linux, macOS and Windows choose from."""

_PAUSE = 0.05
_INTERRUPTED = Interrupted.exit_code


def rank() -> int:
    """The number of this process among those that train together. The main one, 0, writes, reports and saves."""
    return int(os.environ.get("RANK") or 0)


def world_size() -> int:
    """How many processes train together; 1 where this one is alone."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def run_together(run: Run, command: Sequence[str], count: int) -> None:
    """Run a job's command in `count` processes of this machine; returns when all of them are over.

    Ctrl-C and SIGTERM are passed on, and the processes end with a checkpoint. They do so too where this process is
    killed. Where one of them fails, the others are stopped within seconds.

    Raises:
        Interrupted: it was asked to stop.
        FtcoreError: what one of the processes failed with.
        TrainingError: one of them was killed, or ended without a word.
    """
    group = _Group()
    try:
        with _passed_on(group):
            group.start(command, count)
            group.wait()
    finally:
        group.close()
    if (culprit := group.culprit(run)) is not None:
        raise _error(run, culprit, group.statuses[culprit], count, group.asked)


class _Group:
    """The processes, in the order of their ranks."""

    def __init__(self) -> None:
        self.asked = False
        """Whether this process was told to stop."""
        self._members: list[subprocess.Popen[bytes]] = []
        self._fallen: set[int] = set()
        """The ranks that ended for themselves before anybody was told to."""
        # As long as this process lives, nobody reads anything from it.
        self._reader, self._writer = os.pipe()

    @property
    def statuses(self) -> list[int]:
        """The exit statuses; negative where a signal ended the process, 0 while it goes on."""
        return [member.poll() or 0 for member in self._members]

    def start(self, command: Sequence[str], count: int) -> None:
        shared = _meeting_point(count) | {last_words.LIFELINE: str(self._reader)}
        for number in range(count):
            own = {"RANK": str(number), "LOCAL_RANK": str(number)}
            # In a session of their own: a terminal's Ctrl-C would reach them twice, and twice means at once.
            member = subprocess.Popen(  # noqa: S603 - the job's command
                list(command), env=os.environ | shared | own, pass_fds=(self._reader,), start_new_session=True
            )
            self._members.append(member)
            if self.asked:
                member.terminate()

    def ask(self) -> None:
        """Tell them to stop."""
        self.asked = True
        for member in self._members:
            member.terminate()

    def wait(self) -> None:
        """Until all have ended; where one has failed, the others are made to."""
        while not self._over():
            failed = {number for number, status in enumerate(self.statuses) if status}
            if failed:
                self._fallen = failed
                self._end(stopping=self.asked or {self.statuses[number] for number in failed} == {_INTERRUPTED})
                return
            time.sleep(_PAUSE)
        self._fallen = {number for number, status in enumerate(self.statuses) if status}

    def culprit(self, run: Run) -> int | None:
        """The rank that failed first, as far as can be known; None where none did."""

        def own_fault(number: int) -> bool:
            words = last_words.of(run.dir, number)
            return words is not None and words.what != last_words.LOST

        statuses = self.statuses
        killed = [number for number in self._fallen if statuses[number] < 0]
        told = [number for number, status in enumerate(statuses) if status > 0 and own_fault(number)]
        return next(iter([*killed, *told, *sorted(self._fallen)]), None)

    def close(self) -> None:
        """Leave nobody behind."""
        for member in self._members:
            if member.poll() is None:
                member.kill()
            member.wait()
        os.close(self._reader)
        os.close(self._writer)

    def _over(self) -> bool:
        return all(member.poll() is not None for member in self._members)

    def _end(self, stopping: bool) -> None:
        if not stopping:  # a second signal would keep them from ending in good order
            for member in self._members:
                member.terminate()
        until = time.monotonic() + (_PATIENCE if stopping else _GRACE)
        while not self._over() and time.monotonic() < until:
            time.sleep(_PAUSE)


def _meeting_point(count: int) -> dict[str, str]:
    port = _free_port()
    cores = (os.cpu_count() or 1) // count
    quiet = {"OMP_NUM_THREADS": str(max(1, cores)), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    fixed = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    return {name: value for name, value in quiet.items() if name not in os.environ} | fixed | {"MASTER_PORT": str(port)}


def _free_port() -> int:
    """A port that is still free when the main process has imported torch: the system gives it to nobody who asks for any."""
    for port in random.SystemRandom().sample(_NOT_GIVEN_OUT, 100):
        with closing(socket.socket()) as found:
            try:
                found.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise TrainingError(
        "the processes cannot meet",
        why=f"of the ports from {_NOT_GIVEN_OUT.start} on, none that was tried is free",
        fix="End what listens there, or set processes = 1 in [local]",
    )


@contextmanager
def _passed_on(group: _Group) -> Iterator[None]:
    """Whoever stops this process means the others."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        group.ask()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _error(run: Run, rank: int, status: int, count: int, asked: bool) -> FtcoreError:
    resume = f"Type ftcore run CONFIG --resume {run.name} to go on"
    found = last_words.of(run.dir, rank) if status > 0 else None
    if found is not None:
        if rank and not hasattr(found, "lines"):
            found.what = f"rank {rank} of {count}: {found.what}"
        return found
    if status == _INTERRUPTED or (asked and status == -signal.SIGTERM):
        return Interrupted("the run was interrupted", fix=resume)
    if status < 0:
        why = "the others were stopped, and the last checkpoint is kept"
        memory = "; the system kills so where memory runs out" if status == -signal.SIGKILL else ""
        name = signal.Signals(-status).name
        return TrainingError(f"rank {rank} of {count} was ended by {name}", why=why + memory, fix=resume)
    error = TrainingError(
        f"rank {rank} of {count} ended with exit status {status}",
        why=EXIT_CODES.get(status, ""),
        fix="What it printed stands above",
    )
    error.exit_code = status
    return error
