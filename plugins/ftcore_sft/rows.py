"""Which rows of the user's data a step was made of, worked out afterwards from the order of the batches."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from ftcore.contracts import Prepared
from ftcore_sft.lengths import token_counts
from ftcore_sft.packing import bins

if TYPE_CHECKING:
    from ftcore_sft.hf_trainer import FtcoreSFTTrainer


def rows_of_step(trainer: FtcoreSFTTrainer, prepared: Prepared, step: int, capacity: int) -> list[int]:
    """The numbers of the rows, from 0, that an optimizer step (counted from 1) was made of, in all processes.

    Args:
        capacity: tokens in a packed sequence.
    """
    from ftcore_sft.shares import Share

    loader: Any = trainer.get_train_dataloader()
    accumulated = trainer.args.gradient_accumulation_steps
    per_epoch = max(-(-len(loader) // accumulated), 1)
    epoch, within = divmod(step - 1, per_epoch)
    if hasattr(loader, "set_epoch"):
        loader.set_epoch(epoch)
    own: Any = loader.batch_sampler
    taken = (chain.from_iterable(batches) for batches in own.rounds()) if isinstance(own, Share) else own
    batches = islice(taken, within * accumulated, (within + 1) * accumulated)
    members = [index for batch in batches for index in batch]
    examples: Any = prepared.train
    if prepared.examples is not None:
        packed = bins(token_counts(prepared.examples), capacity)
        members, examples = [example for index in members for example in packed[index]], prepared.examples
    if "row" not in examples.column_names:
        return sorted(members)
    return sorted(examples.select(members)["row"])
