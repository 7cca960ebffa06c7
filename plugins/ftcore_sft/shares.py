"""What each of several processes takes of the data: every example once, and as many batches as the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import BatchSampler, Dataset, Sampler

from ftcore_sft.labels import IGNORED


class ShuffledSampler(Sampler[int]):  # type: ignore[misc]
    """Every example once per epoch, in an order that depends on the seed and the epoch alone."""

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed, self._epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, counted from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        yield from torch.randperm(self._count, generator=generator).tolist()


class Share(Sampler[list[int]]):  # type: ignore[misc]
    """One process's batches.

    The batches of all processes are those that one process would take, dealt out in turn. Where they do not come out
    even, the last batch of a process that has one less is a filler: an example (`~index`, see `WithFillers`) of which
    nothing is learned. Giving it another batch instead would train on some rows twice.

    Args:
        sampler: gives the indices of an epoch, the same in each process.
        fill: whether each process has to have as many batches as the others.
    """

    def __init__(self, sampler: Any, batch_size: int, process: int, processes: int, fill: bool) -> None:
        self.sampler, self.batch_size = sampler, batch_size
        self._process, self._processes, self._fill = process, processes, fill

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, counted from 0."""
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def rounds(self) -> Iterator[Sequence[list[int]]]:
        """The batches that the processes take at the same time, in the order of their ranks."""
        return _in_rounds(BatchSampler(self.sampler, self.batch_size, drop_last=False), self._processes)

    def __len__(self) -> int:
        batches = -(-len(self.sampler) // self.batch_size)
        missing = self._processes - 1 if self._fill else self._processes - 1 - self._process
        return (batches + missing) // self._processes

    def __iter__(self) -> Iterator[list[int]]:
        for batches in self.rounds():
            if self._process < len(batches):
                yield batches[self._process]
            elif self._fill:
                yield [~batches[0][0]]


class WithFillers(Dataset[Mapping[str, Any]]):  # type: ignore[misc]
    """A dataset in which `~index` is the example `index` with nothing supervised."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        if index >= 0:
            return self._dataset[index]  # type: ignore[no-any-return]
        example = self._dataset[~index]
        return {**example, "labels": [IGNORED] * len(example["labels"])}

    def __getitems__(self, indices: list[int]) -> list[Mapping[str, Any]]:
        return [self[index] for index in indices]


def _in_rounds(batches: Any, count: int) -> Iterator[Sequence[list[int]]]:
    """`count` batches at a time; the last time what is left."""
    together: list[list[int]] = []
    for batch in batches:
        together.append(batch)
        if len(together) == count:
            yield together
            together = []
    if together:
        yield together
