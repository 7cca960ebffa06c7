"""The saver `merged` alone, on a run that is over."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ftcore.contracts import Saved
from ftcore.errors import ModelError
from ftcore.plugins import Plugins
from ftcore.quiet import quiet_libraries
from ftcore.run.kept import KeptModel
from ftcore.run.reopen import reopen
from ftcore.run.runs import ActiveRun
from ftcore.run.steps import Steps

SAVER = "merged"
"""The saver behind `ftcore merge`."""


def finish_or_copy(active: ActiveRun) -> str:
    """What to do where a run has no trained model: `ftcore finish` saves what was not saved, and nothing twice."""
    if Steps(active).result("save:local") is None:
        return f"Type ftcore finish {active.dir}"
    return "It was saved before: copy it back to where it was, or train again"


def merge(folder: Path, plugins: Plugins, overrides: Sequence[str]) -> list[Saved]:
    """Merge the adapter that a run has saved; what was written.

    Args:
        folder: the run directory.
        plugins: whose saver it is.
        overrides: `section.key=value` texts that replace settings of the run.

    Raises:
        ConfigError: it is no run directory, or it is in use.
        ModelError: it holds no adapter.
        SaveError: the adapter cannot be merged, or too much would be lost.
    """
    plugins.require("saver", SAVER, "ftcore merge: its saver")
    run = reopen(folder, plugins, overrides, exclusively=True)
    try:
        if any(override.startswith("fine_tuner.validation_data_id=") for override in overrides):
            run.stages.validation_rows(
                run.active
            )  # what was asked for by name must be there, before anything is written
        adapter = folder / "model"
        if not (adapter / "adapter_config.json").is_file():
            whole = (adapter / "config.json").is_file()
            raise ModelError(
                f"there is no adapter in {adapter}",
                why="the run has trained the whole model" if whole else "the run has not saved one, or it was removed",
                fix="" if whole else finish_or_copy(run.active),
            )
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers' own bars too, once it is imported
        quiet_libraries()
        # The run's metrics may be of other rows or other weights: what is compared is measured again.
        trained = KeptModel(adapter, run.config.fine_tuner.base_model_id, metrics={})
        saved = run.stages.save(SAVER, run.active, trained)
        Steps(run.active).done(f"save:{SAVER}", saved=[vars(item) for item in saved])
        for item in saved:
            run.active.say(f"saved      {item.what}: {item.where}")
        return saved
    finally:
        run.active.console.end()
        run.active.close()
