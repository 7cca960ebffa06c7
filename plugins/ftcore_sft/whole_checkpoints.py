"""Checkpoints of transformers' Trainer, complete or not there, with what the trainer itself forgets."""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftcore import checkpoints
from ftcore.errors import TrainingError

_PROGRESS = "progress.json"
_PICKLED = "training_args.bin"  # transformers writes it for people; whoever loaded it would run what is in it


class WholeCheckpoints:
    """Mixin for a `transformers.Trainer`, which writes its checkpoints where they are found, file after file.

    The trainer writes into a scratch folder here (see `ftcore.checkpoints`). It keeps no account of the losses since
    the last logged step; `progress.json` does, so that a resumed run logs what an undisturbed one would have. There
    is no best checkpoint to be kept from rotation: ftcore configures none.
    """

    args: Any
    accelerator: Any
    state: Any
    tokens: int
    keep_checkpoints: int = 3
    evaluated_at: int = -1
    """The step of the last evaluation."""

    _scratch: Path | None = None
    _tr_loss: Any
    _total_loss_scalar: float
    _globalstep_last_logged: int

    def _get_output_dir(self, trial: Any) -> str:
        if self._scratch is not None:
            return str(self._scratch.parent)
        return super()._get_output_dir(trial)  # type: ignore[misc, no-any-return]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        if folder.exists() and not checkpoints.problem(folder):
            return  # of this very step: nothing was learned since
        losses = self._losses_since_logged()
        with checkpoints.writing(folder) if self.args.should_save else _explaining(folder):
            self.accelerator.wait_for_everyone()
            self._scratch = folder.parent / ".writing" / folder.name
            try:
                super()._save_checkpoint(model, trial)  # type: ignore[misc]
                if self.args.should_save:
                    (self._scratch / _PICKLED).unlink(missing_ok=True)
                    self._write_progress(self._scratch / _PROGRESS, losses)
            finally:
                self._scratch = None
            self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpoints.rotate(folder.parent, self.keep_checkpoints)
        self.accelerator.wait_for_everyone()  # nobody goes on, or ends, before the checkpoint has its name

    def _losses_since_logged(self) -> list[float]:
        """Each process's sum over the steps since the last logged one; none where an older transformers keeps it to
        itself."""
        loss = getattr(self, "_tr_loss", None)
        return [] if loss is None else self.accelerator.gather(loss.detach().clone().reshape(1)).tolist()

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        if self.accelerator.num_processes > 1:  # or the mean over all steps would have the last ones of one process
            self._tr_loss = self.accelerator.reduce(self._tr_loss, "mean")
        return super()._finalize_training(*args, **kwargs)  # type: ignore[misc]

    def _write_progress(self, path: Path, losses: list[float]) -> None:
        progress = {
            "loss_since_logged": sum(losses) / len(losses) if losses else None,
            "losses_since_logged": losses,
            "loss_before": self._total_loss_scalar,
            "logged_at": self._globalstep_last_logged,
            "evaluated_at": self.evaluated_at,
            "tokens": self.tokens,
        }
        path.write_text(json.dumps(progress) + "\n", encoding="utf-8")

    # transformers loads what is pickled in a checkpoint with `weights_only`: numbers, and no code.

    def _load_from_checkpoint(self, checkpoint: Any, model: Any = None) -> None:
        with _loading(checkpoint):
            super()._load_from_checkpoint(checkpoint, model)  # type: ignore[misc]

    def _load_optimizer_and_scheduler(self, checkpoint: Any) -> None:
        with _loading(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]

    def _load_rng_state(self, checkpoint: Any) -> None:
        with _loading(checkpoint):
            super()._load_rng_state(checkpoint)  # type: ignore[misc]

    def _load_scaler(self, checkpoint: Any) -> None:
        with _loading(checkpoint):
            super()._load_scaler(checkpoint)  # type: ignore[misc]

    def take_up_progress(self, checkpoint: Path) -> dict[str, Any]:
        """Go on counting where the checkpoint's run had come to; to be called when training begins."""
        progress: dict[str, Any] = json.loads((checkpoint / _PROGRESS).read_text(encoding="utf-8"))
        if progress["loss_since_logged"] is not None and hasattr(self, "_tr_loss"):
            losses = progress.get("losses_since_logged", ())
            same = len(losses) == self.accelerator.num_processes
            self._tr_loss.fill_(losses[self.accelerator.process_index] if same else progress["loss_since_logged"])
            self._globalstep_last_logged = progress["logged_at"]
        self._total_loss_scalar = progress["loss_before"]
        self.evaluated_at, self.tokens = progress["evaluated_at"], progress["tokens"]
        return progress


@contextlib.contextmanager
def _explaining(folder: Path) -> Iterator[None]:
    """For a process that adds to a checkpoint of the main one's.

    Raises:
        DiskError: its part could not be written.
    """
    try:
        yield
    except Exception as error:
        refusal = checkpoints.disk_error(error, folder)
        if refusal is not None:
            raise refusal from error
        raise


@contextlib.contextmanager
def _loading(checkpoint: Any) -> Iterator[None]:
    """Name the checkpoint that cannot be loaded.

    Raises:
        TrainingError: its files do not fit the model or the optimizer, or hold more than numbers.
    """
    try:
        yield
    except (pickle.UnpicklingError, ValueError, RuntimeError, KeyError, EOFError) as error:
        raise TrainingError(
            f"the checkpoint {checkpoint} cannot be loaded",
            why=f"{type(error).__name__}: {str(error).splitlines()[0][:300]}" if str(error) else type(error).__name__,
            fix="Remove that folder: the checkpoint before it is taken then",
        ) from error


def mean_loss(checkpoint: Path) -> float:
    """The mean training loss over all steps up to a checkpoint."""
    progress = json.loads((checkpoint / _PROGRESS).read_text(encoding="utf-8"))
    return float(
        (progress["loss_before"] + (progress["loss_since_logged"] or 0.0)) / max(checkpoints.step_of(checkpoint), 1)
    )
