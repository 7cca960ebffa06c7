"""The longest batches, computed once before training, and nothing changed by it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ftcore.contracts import Rehearsed
from ftcore_sft.lengths import token_counts

if TYPE_CHECKING:
    from ftcore_sft.hf_trainer import FtcoreSFTTrainer


def rehearse(trainer: FtcoreSFTTrainer, part: Literal["training", "evaluation"]) -> Rehearsed | None:
    """As `ftcore.contracts.Rehearsing` says."""
    training = part == "training"
    dataset: Any = trainer.train_dataset if training else trainer.eval_dataset
    if dataset is None or not len(dataset):
        return None
    lengths = token_counts(dataset)
    if training:
        rows = longest_rows(lengths, trainer.args.per_device_train_batch_size)
    else:
        rows = longest_in_order(lengths, trainer.args.per_device_eval_batch_size)
    batch = trainer.data_collator([dataset[row] for row in rows])
    with _undisturbed(trainer.model):
        if training:
            trainer.rehearse_training(batch)
        else:
            trainer.rehearse_evaluation(batch)
    return Rehearsed(len(rows), batch["input_ids"].numel())


def longest_rows(lengths: Sequence[int], size: int) -> list[int]:
    """The rows that make the largest batch, if chance (or grouping by length) puts them together."""
    import numpy as np

    order: list[int] = np.argsort(-np.asarray(lengths), kind="stable")[:size].tolist()
    return order


def longest_in_order(lengths: Sequence[int], size: int) -> list[int]:
    """The rows of the largest of the batches that are cut in the order of the data."""
    import numpy as np

    starts: Any = np.arange(0, len(lengths), size)
    rows: Any = np.diff(np.append(starts, len(lengths)))
    start = int(starts[(np.maximum.reduceat(np.asarray(lengths), starts) * rows).argmax()])
    return list(range(start, min(start + size, len(lengths))))


@contextlib.contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    """Leave mode, gradients and random states as they were."""
    import numpy as np
    import torch

    training = model.training
    here, array = random.getstate(), np.random.get_state()
    gradients = [(parameter, parameter.grad) for parameter in model.parameters() if parameter.requires_grad]
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        random.setstate(here)
        np.random.set_state(array)
        model.train(training)
