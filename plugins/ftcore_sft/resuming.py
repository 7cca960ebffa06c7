"""Going on from a checkpoint."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from ftcore import checkpoints
from ftcore.contracts import FitResult
from ftcore_sft.whole_checkpoints import mean_loss

if TYPE_CHECKING:
    from ftcore_sft.hf_trainer import FtcoreSFTTrainer


def over(trainer: FtcoreSFTTrainer, checkpoint: Path) -> FitResult | None:
    """Where a checkpoint is of the last step, its weights are loaded and nothing is trained: what training came to."""
    from transformers import TrainerState

    step, last = checkpoints.step_of(checkpoint), last_step(trainer)
    if step < last:
        return None
    trainer._load_from_checkpoint(str(checkpoint))
    trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    return FitResult(step, float(trainer.state.epoch or 0.0), {"train_loss": mean_loss(checkpoint)})


def last_step(trainer: FtcoreSFTTrainer) -> int:
    """How many optimizer steps the training takes in all."""
    batches: int = len(trainer.get_train_dataloader())
    per_epoch = max(-(-batches // trainer.args.gradient_accumulation_steps), 1)
    steps: float = trainer.args.num_train_epochs * per_epoch
    return math.ceil(steps)
