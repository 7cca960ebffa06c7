"""The order of the examples: random, or random with neighbours of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

_BATCHES_IN_WINDOW = 16


class LengthGroupedSampler(Sampler[int]):  # type: ignore[misc]
    """Every example once per epoch, in batches of similar length, the batches in random order.

    The examples are shuffled, sorted within windows of some batches, and the batches shuffled again: a batch's
    company changes with every epoch, and no epoch begins with the long ones. The order depends on the seed and the
    epoch alone, so that a resumed run goes on in it.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, counted from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        order = torch.randperm(len(self._lengths), generator=generator).tolist()
        window = self._batch_size * _BATCHES_IN_WINDOW
        batches: list[list[int]] = []
        for start in range(0, len(order), window):
            members = sorted(order[start : start + window], key=lambda index: self._lengths[index])
            batches += [members[at : at + self._batch_size] for at in range(0, len(members), self._batch_size)]
        # A short batch in the middle would shift all that follow; the loader cuts batches by counting.
        whole = [batch for batch in batches if len(batch) == self._batch_size]
        rest = [index for batch in batches if len(batch) < self._batch_size for index in batch]
        for index in torch.randperm(len(whole), generator=generator).tolist():
            yield from whole[index]
        yield from rest
