"""The trained model as it lies in the run directory, for savers that come after the run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ftcore import files
from ftcore.errors import SaveError
from ftcore.run import saved_model
from ftcore.run.runs import ActiveRun


@dataclass(frozen=True)
class KeptModel:
    """Implements `ftcore.contracts.Trained` over a folder that a saver has written; loads nothing unless it is asked to.

    Attributes:
        folder: with the model or adapter, its tokenizer and its card.
    """

    folder: Path
    base_model_id: str
    metrics: Mapping[str, float]

    @property
    def kind(self) -> Literal["adapter", "full"]:
        return "adapter" if (self.folder / "adapter_config.json").exists() else "full"

    @property
    def model(self) -> Any:
        """The model, loaded from the folder.

        Raises:
            ModelError: it cannot be loaded.
        """
        return self._loaded[0]

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, loaded from the folder with the model."""
        return self._loaded[1]

    def export(self, folder: Path) -> Path:
        """Copy the folder; where it is itself, there is nothing to do.

        Raises:
            SaveError: the disk is full or the folder cannot be written.
        """
        if folder.absolute() == self.folder.absolute():
            return folder
        try:
            with files.whole_folder(folder) as scratch:
                shutil.copytree(self.folder, scratch, dirs_exist_ok=True)
        except OSError as error:
            why = error.strerror or str(error)
            raise SaveError(f"the model cannot be written to {folder}", why=why, fix="Make room") from error
        return folder

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        return saved_model.load(self.folder)


def kept_model(active: ActiveRun, base_model_id: str) -> KeptModel | None:
    """The model that the run has trained, as it lies in `<run>/model`; None where it is not there yet."""
    folder = active.dir / "model"
    fit = active.facts.get("progress", {}).get("fit")
    if fit is None or not folder.is_dir():
        return None
    # One that is older than the end of training belongs to an earlier part of the run.
    if folder.stat().st_mtime < datetime.fromisoformat(fit["at"]).timestamp() - 1:
        return None
    return KeptModel(folder, base_model_id, active.facts.get("metrics", {}))
