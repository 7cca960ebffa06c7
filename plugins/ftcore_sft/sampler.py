"""The order of the examples: random, or random with neighbours of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

_BATCHES_IN_WINDOW = 16
_WINDOWS_AT_A_TIME, _BATCHES_AT_A_TIME = 256, 1024


class LengthGroupedSampler(Sampler[int]):  # type: ignore[misc]
    """Every example once per epoch, in batches of similar length, the batches in random order.

    The examples are shuffled, sorted within windows of some batches, and the batches shuffled again: a batch's
    company changes with every epoch, and no epoch begins with the long ones. The order depends on the seed and the
    epoch alone, so that a resumed run goes on in it.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths = torch.as_tensor(lengths)
        self._batch_size, self._seed = batch_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, counted from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        order = torch.randperm(len(self._lengths), generator=generator)
        window = self._batch_size * _BATCHES_IN_WINDOW
        in_windows = len(order) // window * window
        # Arrays, not lists: a million rows would be a hundred MiB of Python's numbers.
        for part in order[:in_windows].split(window * _WINDOWS_AT_A_TIME):
            self._sort(part.view(len(part) // window, window))
        self._sort(order[in_windows:].view(1, -1))
        # A short batch in the middle would shift all that follow; the loader cuts batches by counting.
        whole = len(order) // self._batch_size
        batches = order[: whole * self._batch_size].view(whole, self._batch_size)
        for some in torch.randperm(whole, generator=generator).split(_BATCHES_AT_A_TIME):
            yield from batches[some].flatten().tolist()
        yield from order[whole * self._batch_size :].tolist()

    def _sort(self, windows: torch.Tensor) -> None:
        """Sort row numbers by the rows' lengths within each window, in place; shape [windows, rows]."""
        by_length = self._lengths[windows].argsort(dim=1, stable=True)
        windows.copy_(windows.gather(1, by_length))
