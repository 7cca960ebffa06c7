"""The launcher: trainings that share a machine pass a turnstile, one after the other."""

from __future__ import annotations

import fcntl

from acme_ftcore.settings import AcmeSettings
from ftcore.contracts import Job, Run


def launch(run: Run, job: Job, settings: AcmeSettings) -> None:
    """Run the job in this process as soon as no other holds the lock.

    The system gives the lock back when the process ends, however it ends.
    """
    path = settings.turnstile.expanduser()
    with path.open("a") as turnstile:
        try:
            fcntl.flock(turnstile, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            run.say(f"launcher   acme: another training runs, waiting for {path}")
            fcntl.flock(turnstile, fcntl.LOCK_EX)
        run.say(f"launcher   acme: passed {path}")
        job.run_here()
