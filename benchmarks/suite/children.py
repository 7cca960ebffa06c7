"""Processes whose time and memory are measured."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
_MIB = 2**20


class ChildFailed(Exception):
    """A measured process ended with an error; the message has its last lines."""


@dataclass(frozen=True)
class Measured:
    """A process from outside.

    Attributes:
        started_at: seconds since the epoch.
        seconds: from its start to its end.
        peak_mib: the largest resident memory of it or of one of its children, in MiB.
    """

    started_at: float
    seconds: float
    peak_mib: float


def measure(
    command: Sequence[str], folder: Path, threads: int, environment: Mapping[str, str] | None = None
) -> Measured:
    """Run a command to its end, in a folder, where its output goes to `log.txt`.

    Args:
        threads: that torch may use.
        environment: variables beyond those of this process.

    Raises:
        ChildFailed: its exit code is not 0.
    """
    variables = os.environ | _OFFLINE | {"OMP_NUM_THREADS": str(threads)} | dict(environment or {})
    log = folder / "log.txt"
    with log.open("wb") as output:
        started_at, begun = time.time(), time.perf_counter()
        child = subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=subprocess.STDOUT)
        # wait4 and not wait: it says what this one child used.
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - begun
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:])
        raise ChildFailed(f"{' '.join(command[1:4])} ended with {child.returncode}:\n{last}")
    return Measured(started_at, seconds, usage.ru_maxrss * 1024 / _MIB)
