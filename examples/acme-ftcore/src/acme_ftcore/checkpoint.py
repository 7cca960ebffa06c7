"""Checkpoints on the way: the trained tensors and the optimizer's state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftcore import checkpoints
from ftcore.errors import TrainingError
from ftcore.settings.saving import SavingSettings


class Checkpoints:
    """The folders `checkpoint-<step>`; the newest `save_total_limit` of them are kept."""

    def __init__(self, folder: Path, saving: SavingSettings) -> None:
        self._folder, self._saving = folder, saving

    def due(self, step: int, total: int) -> bool:
        """Whether one is to be saved after this step."""
        return step % self._saving.save_steps == 0 or step == total

    def save(self, step: int, model: Any, optimizer: Any) -> Path:
        """Write one; the folder appears complete or not at all.

        Raises:
            DiskError: it could not be written; those before it are untouched.
        """
        import torch

        target = self._folder / f"checkpoint-{step}"
        trained = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
        with checkpoints.writing(target) as scratch:
            torch.save({"step": step, "trained": trained, "optimizer": optimizer.state_dict()}, scratch / "state.pt")
        checkpoints.rotate(self._folder, self._saving.save_total_limit)
        return target

    def load(self, folder: Path, model: Any, optimizer: Any) -> int:
        """Restore one; the step that it was saved after.

        Raises:
            TrainingError: it is not one of this trainer's, or belongs to another model.
        """
        import torch

        try:
            state = torch.load(folder / "state.pt", map_location=model.device, weights_only=True)
            parameters = dict(model.named_parameters())
            with torch.no_grad():
                for name, value in state["trained"].items():
                    parameters[name].copy_(value)
            optimizer.load_state_dict(state["optimizer"])
            return int(state["step"])
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise TrainingError(f"training cannot go on from {folder}", why=str(error)) from error
