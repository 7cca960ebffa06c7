"""The order of the rows, and rows of different lengths as one tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from acme_ftcore.labels import IGNORED


def order(rows: int, seed: int) -> list[int]:
    """The row numbers in random order."""
    import torch

    return torch.randperm(rows, generator=torch.Generator().manual_seed(seed)).tolist()  # type: ignore[no-any-return]


def collate(rows: Mapping[str, Any], pad_token_id: int, device: Any) -> dict[str, Any]:
    """`input_ids`, `attention_mask` and `labels`, int64 of shape [rows, longest row], padded on the right."""
    import torch

    longest = max(len(ids) for ids in rows["input_ids"])

    def tensor(lists: list[list[int]], filler: int) -> Any:
        return torch.tensor([values + [filler] * (longest - len(values)) for values in lists], device=device)

    return {
        "input_ids": tensor(rows["input_ids"], pad_token_id),
        "attention_mask": tensor([[1] * len(ids) for ids in rows["input_ids"]], 0),
        "labels": tensor(rows["labels"], IGNORED),
    }
