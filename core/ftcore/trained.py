"""The trained model as savers get it, and how it becomes a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ftcore import files
from ftcore.errors import SaveError


@dataclass(frozen=True)
class TrainedModel:
    """Implements `ftcore.contracts.Trained`."""

    model: Any
    tokenizer: Any
    base_model_id: str
    metrics: Mapping[str, float]
    card: Callable[[], str]

    @property
    def kind(self) -> Literal["adapter", "full"]:
        return "adapter" if hasattr(self.model, "peft_config") else "full"

    def export(self, folder: Path) -> Path:
        """Write model, tokenizer and card; the folder appears complete or not at all.

        Raises:
            SaveError: the disk is full or the folder cannot be written.
        """
        try:
            with files.whole_folder(folder) as scratch:
                self.model.save_pretrained(str(scratch))
                self.tokenizer.save_pretrained(str(scratch))
                (scratch / "README.md").write_text(self.card(), encoding="utf-8")
        except OSError as error:
            raise SaveError(
                f"the model cannot be written to {folder}",
                why=error.strerror or str(error),
                fix="Make room; the last checkpoint in the run directory holds the trained weights",
            ) from error
        return folder
