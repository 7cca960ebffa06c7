"""The run, from top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ftcore import __version__, processes
from ftcore.check import check, preflight
from ftcore.config import Config, policy
from ftcore.contracts import RunStatus
from ftcore.errors import FtcoreError, Interrupted
from ftcore.plugins import Plugins
from ftcore.plugins.selection import Choice
from ftcore.reporting.fan_out import Reporting, Silence
from ftcore.run import disk, last_words, out_of_memory, runs, training
from ftcore.run.changes import Change, changes, require_same_settings
from ftcore.run.finishing import finish
from ftcore.run.interrupt import stop_on_signal
from ftcore.run.locks import Lock, held
from ftcore.run.resuming import find, starting_point, take_up
from ftcore.run.runs import ActiveRun
from ftcore.run.stages import Stages
from ftcore.run.steps import Steps, Work
from ftcore.trace import own_work


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
    warnings += preflight(config, plugins, selected, name)
    active = runs.create(config, plugins, selected, name, started_at)
    active.keep(plugins.trace)
    for warning in warnings:
        active.warn(warning.removeprefix("warning: "))
    _introduce(active, config)
    _launch(active, config, plugins, selected, command)
    return active


def resume(
    config: Config, plugins: Plugins, name: str, command: Sequence[str] = (), *, accept_changes: bool = False
) -> ActiveRun:
    """Go on with a run that ended before its time, from its newest complete checkpoint; begin one where there is none.

    Args:
        name: the run's name or directory; "" for the newest run of this configuration.
        command: as for `run`.
        accept_changes: go on although something that decides what is learned is different now.

    Raises:
        FtcoreError: there is no such run, it is in use, it is not the same any more, or it failed again.
    """
    folder = find(config, name)
    if folder is None:
        print(f"no run of {config.path} has begun yet: this is the first", flush=True)
        return run(config, plugins, command)
    selected, _ = check(config, plugins)
    lock = Lock(folder)
    try:
        active = runs.enter(config, folder, lock)
    except FtcoreError:
        lock.release()
        raise
    active.keep(plugins.trace)
    try:
        _introduce(active, config)
        if active.facts.get("status") == "finished":
            active.say("finished   nothing is left to do")
            _tell_of_changes(active, changes(folder, active.facts, config, plugins, selected))
            return active
        for warning in preflight(config, plugins, selected, active.name):
            active.warn(warning.removeprefix("warning: "))
        take_up(active, config, plugins, selected, accept_changes=accept_changes)
        _launch(active, config, plugins, selected, command)
    finally:
        active.close()
    return active


def _tell_of_changes(active: ActiveRun, found: Sequence[Change]) -> None:
    """Whoever changes a setting of a run that is over expects something of it; another version of a library is no wish."""
    if late := [str(change) for change in found if change.matters and "." in change.what]:
        active.warn(f"the run is over, so this has no effect: {'; '.join(late)}. Train again, with another [run] name")


def _introduce(active: ActiveRun, config: Config) -> None:
    """The first lines of a run."""
    active.say(f"ftcore {__version__} · run {active.name} · {active.dir}")
    if config.ruled:
        active.say(f"policy     {policy.headline(config.ruled)}")


def _launch(
    active: ActiveRun, config: Config, plugins: Plugins, selected: Sequence[Choice], command: Sequence[str]
) -> None:
    """Let the launcher run the job in the run's directory."""
    job = LocalJob(active, config, plugins, selected, [*command, "--in", str(active.dir)])
    last_words.forget(active.dir)
    try:
        Stages(config, plugins, selected).launch(active, job)
    except FtcoreError as error:
        if job.error is not None:
            raise job.error from None  # the job's own error says more than its launcher's
        _ended_elsewhere(active, config, error)
        raise
    finally:
        last_words.forget(active.dir)
        active.close()


def _ended_elsewhere(active: ActiveRun, config: Config, error: FtcoreError) -> None:
    """Record an error that the main process did not come to record, or did not know the cause of."""
    facts = runs.facts(active.dir)
    interrupted = isinstance(error, Interrupted)
    untold = str(facts.get("error") or "").startswith(last_words.LOST)
    if facts.get("status") == "running" or untold or (facts.get("status") == "interrupted" and not interrupted):
        later = runs.enter(config, active.dir)
        try:
            status: RunStatus = "interrupted" if interrupted else "failed"
            later.record(status=status, error=str(error), ended_at=_now())
        finally:
            later.close()


def go_on(config: Config, plugins: Plugins, folder: Path) -> ActiveRun:
    """Train in a run directory that a launcher's process has made.

    Raises:
        FtcoreError: as `run`.
    """
    selected, _ = check(config, plugins)
    require_same_settings(folder, config, plugins, selected)
    active = runs.enter(config, folder)
    active.keep(plugins.trace)
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
            with own_work(self.plugins.trace, "ftcore_launch", "Job.run_here"):
                train(self.active, self.config, self.plugins, self.selected)
        except BaseException as error:
            self.error = error
            raise


def train(active: ActiveRun, config: Config, plugins: Plugins, selected: Sequence[Choice]) -> None:
    """Everything from the tokenizer to the saved model, with the run's end recorded however it ends.

    Raises:
        ConfigError: another process is training in the directory.
        FtcoreError: a step failed.
    """
    stages = Stages(config, plugins, selected)
    steps = Steps(active)
    with held(active.dir, "job") if active.is_main else nullcontext():
        start = starting_point(active, steps)
        reporting = Reporting(active.dir, active.say, active.warn) if active.is_main else Silence()
        stages.everyone("ftcore_run_started", run=active)
        try:
            with stop_on_signal() as stop, out_of_memory.explained(active, config, plugins):
                work = Work(active, config, stages, reporting, steps, stop)
                finish(work, training.train(work, start.folder))
        except BaseException as error:
            raised = disk.full(error, active.dir) or _lost(error) or error
            _failed(active, config, stages, reporting, raised)
            if raised is not error:
                raise raised from error
            raise
        finally:
            active.console.end()
        active.record(status="finished", ended_at=_now())
        reporting.finish("finished", config.run.report_timeout)
        stages.everyone("ftcore_run_finished", run=active, status="finished")


def _failed(
    active: ActiveRun, config: Config, stages: Stages, reporting: Reporting | Silence, error: BaseException
) -> None:
    """Record that the run ended before its time."""
    status: RunStatus = "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
    try:
        active.record(status=status, error=str(error), ended_at=_now())
    except OSError as unwritten:
        active.warn(f"the manifest cannot be written ({unwritten.strerror})")
    active.note("the run ended with an error", exc_info=error)
    active.say(f"stopped    the log is {active.dir / 'run.log'}")
    reporting.finish(status, min(10.0, config.run.report_timeout))
    if status == "interrupted":
        stages.everyone("ftcore_run_finished", run=active, status=status)
    else:
        stages.everyone("ftcore_run_failed", run=active, error=error)


def _lost(error: BaseException) -> FtcoreError | None:
    return last_words.lost(error) if processes.world_size() > 1 else None


def _now() -> str:
    return datetime.now().astimezone().isoformat()
