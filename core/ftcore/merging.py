"""The saver `merged` alone, on a run that is over."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ftcore import files, locks, runs
from ftcore.contracts import Saved
from ftcore.errors import ModelError
from ftcore.plugins import discover
from ftcore.quiet import quiet_libraries
from ftcore.reopen import reopen
from ftcore.stages import Stages
from ftcore.steps import Steps

SAVER = "merged"


def merge_run(folder: Path, overrides: Sequence[str]) -> list[Saved]:
    """Merge the adapter that a run has saved; what was written.

    Args:
        folder: the run directory.
        overrides: `section.key=value` texts that replace settings of the run.

    Raises:
        ConfigError: it is no run directory, or it is in use.
        ModelError: it holds no adapter.
        SaveError: the adapter cannot be merged, or too much would be lost.
    """
    plugins = discover()
    plugins.require("saver", SAVER, "ftcore merge: the saver")
    again = reopen(folder, plugins, overrides)
    adapter = folder / "model"
    if not (adapter / "adapter_config.json").is_file():
        again.active.close()
        raise ModelError(f"there is no adapter in {adapter}", why="the run has not saved one", fix="Name another run")
    # Paths of data files are relative to the configuration that the run was started with.
    started_in = Path(runs.facts(folder).get("config_dir", folder))
    config = replace(again.config, path=started_in / again.config.path.name)
    stages = Stages(config, plugins, again.stages.selected)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers' own bars too, when it is imported
    quiet_libraries()
    try:
        with locks.held(folder):
            saved = stages.save(SAVER, again.active, SavedAdapter(adapter, config.fine_tuner.base_model_id))
            Steps(again.active).done(f"save:{SAVER}", saved=[vars(item) for item in saved])
        for item in saved:
            again.active.say(f"saved      {item.what}: {item.where}")
        return saved
    finally:
        again.active.console.end()
        again.active.close()


@dataclass(frozen=True)
class SavedAdapter:
    """Implements `ftcore.contracts.Trained` for an adapter that lies in a folder."""

    folder: Path
    base_model_id: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    kind: Literal["adapter", "full"] = "adapter"

    @property
    def model(self) -> Any:
        from ftcore.saved_model import load

        return load(self.folder)[0]

    @property
    def tokenizer(self) -> Any:
        from ftcore.saved_model import load

        return load(self.folder)[1]

    def export(self, folder: Path) -> Path:
        if folder.resolve() != self.folder.resolve():
            with files.whole_folder(folder) as scratch:
                shutil.copytree(self.folder, scratch, dirs_exist_ok=True)
        return folder
