"""The run, from top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ftcore import __version__, out_of_memory, runs, training
from ftcore.check import check
from ftcore.config import Config
from ftcore.contracts import RunStatus
from ftcore.errors import FtcoreError, Interrupted
from ftcore.finishing import finish
from ftcore.interrupt import stop_on_signal
from ftcore.plugins import Plugins
from ftcore.reporting import Reporting, Silence
from ftcore.runs import ActiveRun
from ftcore.selection import Choice
from ftcore.stages import Stages
from ftcore.steps import Steps, Work


def run(config: Config, plugins: Plugins, command: Sequence[str] = ()) -> ActiveRun:
    """Check everything, make the run directory, and launch the training.

    Args:
        command: the command line that started this; launchers start it again elsewhere, to go on in the directory.

    Raises:
        FtcoreError: the run could not begin, or failed; the run directory says how far it came.
    """
    selected, warnings = check(config, plugins)
    started_at = datetime.now().astimezone()
    name = Stages(config, plugins, selected).run_name(started_at)
    active = runs.create(config, plugins, selected, name, started_at)
    for warning in warnings:
        active.warn(warning.removeprefix("warning: "))
    active.say(f"ftcore {__version__} · run {active.name} · {active.dir}")
    job = LocalJob(active, config, plugins, selected, [*command, "--in", str(active.dir)])
    try:
        Stages(config, plugins, selected).launch(active, job)
    except FtcoreError:
        if job.error is not None:
            raise job.error from None  # the job's own error says more than its launcher's
        raise
    finally:
        active.close()
    return active


def go_on(config: Config, plugins: Plugins, folder: Path) -> ActiveRun:
    """Train in a run directory that a launcher's process has made.

    Raises:
        FtcoreError: as `run`.
    """
    selected, _ = check(config, plugins)
    active = runs.enter(config, folder)
    try:
        train(active, config, plugins, selected)
    finally:
        active.close()
    return active


@dataclass
class LocalJob:
    """Implements `ftcore.contracts.Job`."""

    active: ActiveRun
    config: Config
    plugins: Plugins
    selected: Sequence[Choice]
    command: Sequence[str]
    error: BaseException | None = None

    def run_here(self) -> None:
        try:
            train(self.active, self.config, self.plugins, self.selected)
        except BaseException as error:
            self.error = error
            raise


def train(active: ActiveRun, config: Config, plugins: Plugins, selected: Sequence[Choice]) -> None:
    """Everything from the tokenizer to the saved model, with the run's end recorded however it ends."""
    stages = Stages(config, plugins, selected)
    reporting = Reporting(active.dir, active.say, active.warn) if active.is_main else Silence()
    stages.everyone("ftcore_run_started", run=active)
    try:
        with stop_on_signal() as stop, out_of_memory.explained(active, config, plugins):
            work = Work(active, config, stages, reporting, Steps(active), stop)
            finish(work, training.train(work, None))
    except BaseException as error:
        status: RunStatus = "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
        active.record(status=status, error=str(error), ended_at=_now())
        active.note("the run ended with an error", exc_info=error)
        active.say(f"stopped    the log is {active.dir / 'run.log'}")
        reporting.finish(status, min(10.0, config.run.report_timeout))
        if status == "interrupted":
            stages.everyone("ftcore_run_finished", run=active, status=status)
        else:
            stages.everyone("ftcore_run_failed", run=active, error=error)
        raise
    finally:
        active.console.end()
    active.record(status="finished", ended_at=_now())
    reporting.finish("finished", config.run.report_timeout)
    stages.everyone("ftcore_run_finished", run=active, status="finished")


def _now() -> str:
    return datetime.now().astimezone().isoformat()
