"""A loss or a gradient that is not finite ends the training, before a checkpoint is made of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

_SKIPS = 32
"""So many steps in a row that float16's loss scaling gave up: it has halved its scale to nothing by then."""


@dataclass(frozen=True)
class NotFinite:
    """What was found.

    Attributes:
        step: the optimizer step, counted from 1.
        what: "loss" or "gradient".
        value: as Python writes it: "nan", "inf" or "-inf".
    """

    step: int
    what: str
    value: str


class Watch:
    """Looks at every step's loss and gradient norm, and never makes the device wait for it.

    On a CPU the numbers are there, and a step is judged before the optimizer moves a weight. On a GPU they are copied
    while it works on, and are read one step later, or at once where a checkpoint is about to be written.

    Args:
        scaled: the loss is scaled for float16, where a gradient that overflows is no fault: that step is left out.
    """

    def __init__(self, scaled: bool) -> None:
        self._scaled = scaled
        self._loss: Any = None
        self._norm: Any = None
        self._waiting: tuple[int, Any, Any] | None = None
        self._skips = 0

    def add_loss(self, loss: Any) -> None:
        """The loss of one batch of the step, a scalar tensor."""
        self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()

    def set_norm(self, norm: Any) -> None:
        """The norm of the step's gradients: a scalar tensor, a number, or None where nobody knows it."""
        self._norm = norm

    def judge(self, step: int) -> NotFinite | None:
        """All of a step's gradients are there; what is wrong, as far as it is known already."""
        import torch

        found = self.settle()
        if self._loss is None:
            return found
        zero = torch.zeros((), device=self._loss.device)
        norm = zero if self._norm is None or self._scaled else torch.as_tensor(self._norm, device=zero.device)
        values = torch.stack([self._loss.float(), norm.detach().float().reshape(())])
        self._loss = self._norm = None
        if values.device.type != "cuda":
            return found or _wrong(step, values.tolist())
        host = torch.empty(2, pin_memory=True)
        host.copy_(values, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._waiting = (step, host, event)
        return found

    def settle(self) -> NotFinite | None:
        """What is wrong with the last step, waited for."""
        if self._waiting is None:
            return None
        step, host, event = self._waiting
        self._waiting = None
        event.synchronize()
        return _wrong(step, host.tolist())

    def stepped(self, step: int, skipped: bool) -> NotFinite | None:
        """Whether the optimizer left the step out, as it does with float16 where a gradient overflowed."""
        self._skips = self._skips + 1 if skipped else 0
        return NotFinite(step, "gradient", "inf") if self._skips >= _SKIPS else None


def _wrong(step: int, values: list[float]) -> NotFinite | None:
    for what, value in zip(("loss", "gradient"), values, strict=True):
        if not math.isfinite(value):
            return NotFinite(step, what, str(value))
    return None
