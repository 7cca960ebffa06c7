"""A process that a launcher has started, maybe one of several: it ends with its launcher, and tells what others do not."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ftcore.errors import ConfigError, FtcoreError
from ftcore.processes import rank, world_size
from ftcore.run import last_words

_WAIT = 3.0
"""Seconds in which processes that run into the same error do so."""


def require_alone() -> None:
    """Refuse to begin a run in each of several processes, which would be as many runs.

    Raises:
        ConfigError: `torchrun`, or the like, has started this process beside others.
    """
    if world_size() > 1:
        raise ConfigError(
            f"this is one of {world_size()} processes (WORLD_SIZE), and each would begin a run of its own",
            why="ftcore makes the run directory first, and then starts the processes",
            fix="Start ftcore run alone, with [local] processes, or with a launcher that starts torchrun",
        )


@contextmanager
def launched(folder: Path) -> Iterator[None]:
    """The work of a process that a launcher started in a run directory.

    An error that several processes run into is told by one: the launcher, where it watches them (see
    `ftcore.processes`), or else the main process. Another one tells what the main process does not know.
    """
    watched = _follow_launcher()
    try:
        yield
    except KeyboardInterrupt:
        if watched or rank():
            raise SystemExit(130) from None
        raise
    except FtcoreError as error:
        if world_size() == 1 and not watched:
            raise
        last_words.leave(folder, rank(), error)
        if watched or _told_by_another(folder, error):
            raise SystemExit(error.exit_code) from None
        if rank():
            error.what = f"rank {rank()}: {error.what}"
        raise


def _told_by_another(folder: Path, error: FtcoreError) -> bool:
    nothing_new = error.what == last_words.LOST
    if rank() == 0 and not nothing_new:
        return False
    until = time.monotonic() + _WAIT
    while time.monotonic() < until:
        others = [last_words.of(folder, number) for number in range(world_size()) if number != rank()]
        if nothing_new and any(others):
            return True
        if others and str(others[0]) == str(error):
            return True
        time.sleep(0.05)
    return False


def _follow_launcher() -> bool:
    """Take the launcher's end for a wish to stop; whether there is a launcher that watches."""
    number = os.environ.pop(last_words.LIFELINE, "")
    if not number:
        return False

    def wait() -> None:
        try:
            os.read(int(number), 1)  # nothing is ever written: it ends when nobody holds the other end any more
        except (OSError, ValueError):
            return
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="ftcore-launcher", daemon=True).start()
    return True
