"""The trained model as savers get it, and how it becomes a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ftcore import files
from ftcore.errors import SaveError
from ftcore.run import reloaded


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
            SaveError: the disk is full, the folder cannot be written, or the tokenizer in it writes conversations in
                another way than in training; the folder is there then.
        """
        try:
            with files.whole_folder(folder) as scratch:
                self.model.save_pretrained(str(scratch))
                with _no_end_as_padding(self.tokenizer):
                    self.tokenizer.save_pretrained(str(scratch))
                (scratch / "README.md").write_text(self.card(), encoding="utf-8")
        except OSError as error:
            raise SaveError(
                f"the model cannot be written to {folder}",
                why=error.strerror or str(error),
                fix="Make room; the last checkpoint in the run directory holds the trained weights",
            ) from error
        if found := reloaded.difference(self.tokenizer, folder):
            raise SaveError(
                f"the tokenizer saved in {folder} does not write conversations as in training",
                why=found,
                fix=f"The trained weights are there; serve them with the tokenizer of {self.base_model_id}",
            )
        return folder


@contextmanager
def _no_end_as_padding(tokenizer: Any) -> Iterator[None]:
    """Saved as padding, the EOS token would be masked out of the labels by whoever trains this model next."""
    ends = tokenizer.pad_token is not None and tokenizer.pad_token == tokenizer.eos_token
    if ends:
        tokenizer.pad_token = None
    try:
        yield
    finally:
        if ends:
            tokenizer.pad_token = tokenizer.eos_token
