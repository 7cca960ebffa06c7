"""Room on the disk: asked for before the first step, and missed later with one line instead of a traceback."""

from __future__ import annotations

import errno
import math
import shutil
from pathlib import Path
from typing import Any

from ftcore import checkpoints
from ftcore.contracts import Prepared
from ftcore.errors import DiskError
from ftcore.estimate.optimizers import state_bytes
from ftcore.run.steps import Work
from ftcore.settings.fine_tuner import FineTunerSettings

_SMALL_FILES = 8 << 20  # tokenizer, random states, the trainer's history
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def require_room(work: Work, model: Any, prepared: Prepared) -> None:
    """Look whether the run's checkpoints and its model will fit, and whether a checkpoint can be written at all.

    Raises:
        DiskError: they will not, or it cannot.
    """
    folder = work.active.dir / "checkpoints"
    settings = work.config.fine_tuner
    folder.mkdir(exist_ok=True)
    one, weights = checkpoint_bytes(model, settings)
    there = len(checkpoints.in_order(folder))
    coming = max(0, most_checkpoints(settings, len(prepared.train)) - there)
    needed = coming * one + weights
    free = shutil.disk_usage(folder).free
    work.active.record(disk={"checkpoint_bytes": one, "needed_bytes": needed, "free_bytes": free})
    if needed > free:
        raise DiskError(
            f"there is too little room in {work.active.dir}",
            why=f"{coming} checkpoints of {_size(one)} and the model of {_size(weights)} take {_size(needed)}, and "
            f"{_size(free)} are free",
            fix="Make room, lower save_total_limit, raise save_steps, or choose another output_dir in [run]",
        )
    checkpoints.rehearse(folder)


def checkpoint_bytes(model: Any, settings: FineTunerSettings) -> tuple[int, int]:
    """The size of a checkpoint, and of the weights in it: all of them, or the adapter's."""
    every = list(model.parameters())
    trained = [parameter for parameter in every if parameter.requires_grad]
    saved = every if settings.full_finetuning else trained
    weights = sum(parameter.numel() * parameter.element_size() for parameter in saved)
    shapes = [(tuple(parameter.shape), parameter.element_size()) for parameter in trained]
    return weights + state_bytes(settings.optimizer, shapes) + _SMALL_FILES, weights + _SMALL_FILES


def most_checkpoints(settings: FineTunerSettings, rows: int) -> int:
    """How many checkpoints there will be at once: the oldest goes when the newest is complete."""
    per_step = settings.device_train_batch_size * settings.grad_accumulation
    steps = math.ceil(settings.epochs * math.ceil(rows / per_step))
    return min(settings.save_total_limit + 1, math.ceil(steps / settings.save_steps))


def full(error: BaseException, folder: Path) -> DiskError | None:
    """The error for a user where the disk was full; None for any other failure."""
    if not isinstance(error, OSError) or error.errno not in _FULL:
        return None
    last = checkpoints.newest(folder / "checkpoints").folder
    return DiskError(
        f"{error.filename or folder} could not be written",
        why=f"{error.strerror}; " + (f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"),
        fix="Make room, then go on with ftcore run CONFIG --resume",
    )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
