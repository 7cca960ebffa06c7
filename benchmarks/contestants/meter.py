"""Times the steps of a Trainer from outside, and counts the tokens in its batches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback


class Meter(TrainerCallback):
    """When each step ended, and how many tokens (padding not counted) each batch had.

    Batches are made in the order in which they are trained on, some of them ahead of their step.
    """

    def __init__(self) -> None:
        self.first_step_at = 0.0
        self.ends: list[float] = []
        self.tokens: list[int] = []
        self.supervised: list[int] = []
        self.losses: list[float] = []

    def attach(self, trainer: Any) -> None:
        """Listen to a trainer that is otherwise ready."""
        trainer.add_callback(self)
        trainer.data_collator = self._counting(trainer.data_collator)

    def report(self) -> dict[str, Any]:
        """What `ftcore_contestant` reports as well."""
        return {
            "first_step_at": self.first_step_at,
            "step_ends": self.ends,
            "step_tokens": self.tokens[: len(self.ends)],
            "supervised_tokens": sum(self.supervised[: len(self.ends)]),
            "losses": self.losses,
        }

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.first_step_at = self.first_step_at or time.time()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.ends.append(time.perf_counter())

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))

    def _counting(self, collate: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def counted(examples: Any) -> Any:
            batch = collate(examples)
            mask = batch.get("attention_mask")
            # Without a mask the examples lie end to end, and there is no padding.
            self.tokens.append(int(batch["input_ids"].numel() if mask is None else mask.sum()))
            self.supervised.append(int((batch["labels"] != -100).sum()))
            return batch

        return counted
