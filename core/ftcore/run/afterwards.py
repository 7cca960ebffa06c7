"""What is left of a run whose training is over: `ftcore finish` and `ftcore push`."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime

from ftcore import checkpoints
from ftcore.check import ready
from ftcore.errors import ConfigError, SaveError
from ftcore.reporting.fan_out import Reporting, Silence
from ftcore.reporting.replay import not_taken, replay
from ftcore.run import finishing, pipeline, training
from ftcore.run.interrupt import stop_on_signal
from ftcore.run.kept import KeptModel, kept_model
from ftcore.run.merging import finish_or_copy
from ftcore.run.reopen import Reopened, require_secrets
from ftcore.run.steps import Steps, Work

HUB = "hub"
"""The saver behind `ftcore push`."""


def finish(run: Reopened, timeout: float) -> None:
    """Do the steps behind the training that are not done: save, merge, push, report. What is done is left alone.

    Args:
        timeout: how many seconds the trackers may take.

    Raises:
        ConfigError: the training is not over.
        InvalidConfig: a saver could not do its work as things are.
        SaveError: a saver has failed again, or the trained model is lost.
        ReportError: a tracker has not taken all records.
    """
    active, steps = run.active, Steps(run.active)
    if steps.result("fit") is None:
        raise ConfigError(
            f"the training of {active.name} is not over",
            fix=f"Go on with it: ftcore run CONFIG --resume {active.name}",
        )
    savers = run.stages.names("saver")
    left = [name for name in savers if steps.result(f"save:{name}") is None]
    reporters = run.stages.names("reporter")
    require_secrets(run.config, [*left, *reporters])
    if left or active.facts.get("status") != "finished":
        active.say(f"finishing  {active.dir}: {', '.join(left) or 'only the end is to be noted'}")
        for warning in ready(run.config, run.plugins, left, active.name):
            active.warn(warning.removeprefix("warning: "))
        trained = kept_model(active, run.config.fine_tuner.base_model_id)
        if trained is None and left:
            _bring_back(run)
        else:
            _finish(run, trained, timeout)
        return
    active.say(f"saved      by {', '.join(savers)} before")
    if reporters:
        replay(active.dir, run.stages.reporters(active), active.say, active.warn, timeout)


def push(run: Reopened) -> None:
    """Push the model in the run directory, whether the run was to do so or not; only what has changed is sent.

    Raises:
        PluginError: the plugin is not there.
        InvalidConfig: the Hub would not take it.
        SaveError: there is no model, or the Hub did not take it.
    """
    run.plugins.require("saver", HUB, "ftcore push")
    active = run.active
    trained = kept_model(active, run.config.fine_tuner.base_model_id)
    if trained is None:
        raise SaveError(f"there is no trained model in {active.dir}", fix=finish_or_copy(active))
    require_secrets(run.config, [HUB])
    have_saved = [step.removeprefix("save:") for step in active.facts.get("progress", {}) if step.startswith("save:")]
    savers = [*(name for name in have_saved if name != HUB), HUB]
    wanted = replace(
        run.config,
        fine_tuner=run.config.fine_tuner.model_copy(update={"push_to_hub": True}),
        stages=run.config.stages.model_copy(update={"savers": savers}),
        source=replace(run.config.source, commands={"fine_tuner.push_to_hub": "ftcore push"}),
    )
    for warning in ready(wanted, run.plugins, [HUB], active.name):
        active.warn(warning.removeprefix("warning: "))
    work = _work(run, Silence(), threading.Event())
    finishing.save(work, HUB, trained)
    active.record(saved=[vars(item) for item in finishing.everything_saved(work)])


def _finish(run: Reopened, trained: KeptModel | None, timeout: float) -> None:
    active = run.active
    reporting = Reporting(active.dir, active.say, active.warn)
    ended = False
    left: dict[str, int] = {}
    try:
        with stop_on_signal() as stop:
            work = _work(run, reporting, stop)
            reporting.start(run.stages.reporters(active), training.run_record(work))
            if trained is not None:
                finishing.finish(work, trained)
        active.record(status="finished", error=None, ended_at=datetime.now().astimezone().isoformat())
        ended = True
    finally:
        left = reporting.finish("finished" if ended else "failed", timeout)
    if left:
        raise not_taken(left, timeout, active.dir)


def _bring_back(run: Reopened) -> None:
    """Load the trained model from its last checkpoint, and go on from there as the run would have."""
    active = run.active
    found = checkpoints.newest(active.dir / "checkpoints")
    if found.folder is None:
        raise SaveError(
            f"the trained model of {active.name} is lost",
            why=f"{active.dir} has neither the model nor a complete checkpoint",
            fix="Train it again: ftcore run CONFIG",
        )
    pipeline.train(active, run.config, run.plugins, run.stages.selected)


def _work(run: Reopened, reporting: Reporting | Silence, stop: threading.Event) -> Work:
    return Work(run.active, run.config, run.stages, reporting, Steps(run.active), stop)
