"""A stop that several processes agree on: a signal reaches them at different steps, and none can go on alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class AgreedStop:
    """Whether any of the processes was asked to stop; to be asked by all of them, after the same steps.

    They exchange a number over a connection between CPUs, so that no GPU is waited for.

    Args:
        wanted: whether this process was asked.
        processes: how many train together.
    """

    def __init__(self, wanted: Callable[[], bool], processes: int) -> None:
        self._wanted, self._processes = wanted, processes
        self._group: Any = None

    def __call__(self) -> bool:
        if self._processes == 1:
            return self._wanted()
        import torch

        if self._group is None:
            self._group = torch.distributed.new_group(backend="gloo")
        votes = torch.tensor([int(self._wanted())])
        torch.distributed.all_reduce(votes, group=self._group)
        return bool(votes.item())
