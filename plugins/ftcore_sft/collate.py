"""From examples to a batch of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftcore_sft.labels import IGNORED

_MULTIPLE = 8  # matrix units want dimensions that they can tile


@dataclass(frozen=True)
class Collator:
    """Pads examples on the right to a common length, or lays them end to end.

    Attributes:
        pad_token_id: what fills `input_ids`; its labels are always masked.
        flatten: put a packed batch into one long row instead of padding it (for flash-attn and unsloth,
            which isolate examples by position only in a batch of one).
        segments: put every batch into one long row, with the borders of its examples (for a model whose attention
            works by segments, see `cpu_attention`).
    """

    pad_token_id: int
    flatten: bool = False
    segments: bool = False

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A batch: `input_ids`, `labels` and `attention_mask` (or, for packed or flattened rows, `position_ids`), all
        int64 of shape [batch, length]; with segments also `borders`, int64 of shape [segments + 1]."""
        import torch

        packed = "position_ids" in examples[0]
        if self.segments or (packed and self.flatten):
            batch = _flat(examples, packed)
            if self.segments:
                starts = torch.nonzero(batch["position_ids"][0] == 0)[:, 0]
                batch["borders"] = torch.cat([starts, torch.tensor([batch["position_ids"].shape[1]])])
            return batch
        lengths = [len(example["input_ids"]) for example in examples]
        width = -(-max(lengths) // _MULTIPLE) * _MULTIPLE
        padded = {
            "input_ids": _padded(examples, "input_ids", width, self.pad_token_id),
            "labels": _padded(examples, "labels", width, IGNORED),
        }
        if packed:
            # Padding counts from 0 again, so that it is an "example" of its own, which nothing else attends to.
            padded["position_ids"] = [
                [*example["position_ids"], *range(width - length)]
                for example, length in zip(examples, lengths, strict=True)
            ]
        else:
            padded["attention_mask"] = [[1] * length + [0] * (width - length) for length in lengths]
        return {key: torch.tensor(value) for key, value in padded.items()}


def _flat(examples: Sequence[Mapping[str, Any]], packed: bool) -> dict[str, Any]:
    """The examples end to end in a batch of one row."""
    import torch

    rows = examples if packed else [_counted(example) for example in examples]
    return {
        key: torch.tensor([[token for example in rows for token in example[key]]])
        for key in ("input_ids", "labels", "position_ids")
    }


def _counted(example: Mapping[str, Any]) -> dict[str, Any]:
    # The first token's predecessor in the row belongs to another example, so it is not supervised.
    labels = [IGNORED, *example["labels"][1:]] if len(example["labels"]) else []
    return {**example, "labels": labels, "position_ids": range(len(example["input_ids"]))}


def _padded(examples: Sequence[Mapping[str, Any]], key: str, width: int, filler: int) -> list[list[int]]:
    return [[*example[key], *([filler] * (width - len(example[key])))] for example in examples]
