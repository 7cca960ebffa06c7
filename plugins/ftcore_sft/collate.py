"""From examples to a batch of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftcore_sft.labels import IGNORED

_MULTIPLE = 8  # matrix units want dimensions that they can tile


@dataclass(frozen=True)
class Collator:
    """Pads examples on the right to a common length.

    Attributes:
        pad_token_id: what fills `input_ids`; its labels are always masked.
        flatten: put a packed batch into one long row instead of padding it (for flash-attn and unsloth,
            which isolate examples by position only in a batch of one).
    """

    pad_token_id: int
    flatten: bool = False

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A batch: `input_ids`, `labels` and `attention_mask` (or, for packed rows, `position_ids`), all int64 of
        shape [batch, length]."""
        import torch

        lengths = [len(example["input_ids"]) for example in examples]
        packed = "position_ids" in examples[0]
        if packed and self.flatten:
            return {
                key: torch.tensor([[token for example in examples for token in example[key]]])
                for key in ("input_ids", "labels", "position_ids")
            }
        width = -(-max(lengths) // _MULTIPLE) * _MULTIPLE
        batch = {
            "input_ids": _padded(examples, "input_ids", width, self.pad_token_id),
            "labels": _padded(examples, "labels", width, IGNORED),
        }
        if packed:
            # Padding counts from 0 again, so that it is an "example" of its own, which nothing else attends to.
            batch["position_ids"] = [
                [*example["position_ids"], *range(width - length)]
                for example, length in zip(examples, lengths, strict=True)
            ]
        else:
            batch["attention_mask"] = [[1] * length + [0] * (width - length) for length in lengths]
        return {key: torch.tensor(value) for key, value in batch.items()}


def _padded(examples: Sequence[Mapping[str, Any]], key: str, width: int, filler: int) -> list[list[int]]:
    return [[*example[key], *([filler] * (width - len(example[key])))] for example in examples]
