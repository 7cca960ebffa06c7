"""Sending a run's records to trackers after the run: `ftcore report`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ftcore.contracts import Reporter, RunRecord
from ftcore.errors import ConfigError, ReportError
from ftcore.reporting.fan_out import deliver
from ftcore.reporting.feeding import ReporterThread, count
from ftcore.reporting.records import Records

_PROGRESS_SECONDS = 5.0


def replay(
    run_dir: Path,
    makers: Mapping[str, Callable[[], Reporter]],
    say: Callable[[str], None],
    warn: Callable[[str], None],
    timeout: float,
) -> None:
    """Send every record that a tracker has not taken yet, in order; do nothing where it has them all.

    Args:
        makers: what makes each reporter, by its name.
        timeout: how many seconds the trackers may take, all together.

    Raises:
        ReportError: a tracker has not taken them all.
    """
    record = run_record(run_dir)
    records = Records(run_dir / "reporting")
    records.close()
    threads = [ReporterThread(name, make, record, records, say, warn) for name, make in makers.items()]
    behind = {thread.reporter_name: thread.pending for thread in threads}
    told = time.monotonic()

    def progress() -> None:
        nonlocal told
        if time.monotonic() - told >= _PROGRESS_SECONDS:
            told = time.monotonic()
            for thread in threads:
                if pending := thread.pending:
                    done = behind[thread.reporter_name] - pending
                    say(f"{thread.reporter_name:<10} {done:,} of {count(behind[thread.reporter_name])}")

    working = [thread for thread in threads if thread.pending]
    for thread in working:
        thread.start()
    deliver(working, timeout, progress)
    for thread in threads:
        if not thread.pending:
            sent = behind[thread.reporter_name]
            say(f"{thread.reporter_name:<10} has all records" + (f", {sent:,} of them sent now" if sent else ""))
    left = {thread.reporter_name: pending for thread in threads if (pending := thread.pending)}
    if left:
        raise not_taken(left, timeout, run_dir)


def not_taken(left: Mapping[str, int], timeout: float, run_dir: Path) -> ReportError:
    """The error for reporters whose trackers have not taken so many records."""
    return ReportError(
        ", ".join(f"{name} has not taken {count(pending)}" for name, pending in left.items()),
        why=f"{timeout:g} seconds were not enough; the records are kept",
        fix=f"When it is there, repeat: ftcore report {run_dir}",
    )


def run_record(run_dir: Path) -> RunRecord:
    """What reporters are told about the run at their start.

    Raises:
        ConfigError: the run ended before it had anything to report.
    """
    try:
        told = json.loads((run_dir / "reporting" / "run.json").read_text(encoding="utf-8"))
        return RunRecord(told["name"], run_dir.absolute(), told["params"], told["tags"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"there is nothing to report of {run_dir}", why="the run ended before its first record"
        ) from error
