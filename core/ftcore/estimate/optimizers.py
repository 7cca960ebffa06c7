"""What an optimizer keeps for each trained parameter.

Sources: torch.optim (the states have the parameter's type), bitsandbytes (8-bit states are one byte and a float32 scale
per block of 256; tensors below 4096 elements keep float32), and transformers' Adafactor without momentum (Shazeer and
Stern 2018, arXiv:1804.04235: one row and one column of second moments for each matrix).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

Shapes = Iterable[tuple[Sequence[int], int]]
"""Of the trained tensors: shape, and bytes per element."""

_MOMENTS = {"adamw": 2, "ademamix": 3, "lion": 1, "rmsprop": 1, "adagrad": 1, "sgd": 0}
_BLOCK, _SMALL = 256, 4096


def state_bytes(optimizer: str, tensors: Shapes) -> int:
    """Bytes of the states, from the first optimizer step on; an unknown optimizer counts as AdamW."""
    moments = next((count for name, count in _MOMENTS.items() if name in optimizer), 2)
    return sum(_of_one(optimizer, moments, shape, width) for shape, width in tensors)


def _of_one(optimizer: str, moments: int, shape: Sequence[int], width: int) -> int:
    count = prod(shape)
    if optimizer == "adafactor":
        if len(shape) < 2:
            return 4 * count
        return 4 * prod(shape[:-2]) * (shape[-2] + shape[-1])
    if "8bit" in optimizer and count >= _SMALL:
        return moments * (count + 4 * -(-count // _BLOCK))
    if "8bit" in optimizer or "32bit" in optimizer or "bnb" in optimizer or optimizer == "ademamix":
        return moments * 4 * count
    return moments * width * count


def step_bytes(optimizer: str, tensors: Shapes, on_gpu: bool) -> int:
    """The scratch memory of an optimizer step: torch's fused loop over all tensors on a GPU keeps one copy of them,
    elsewhere a step goes tensor by tensor."""
    sizes = [prod(shape) * max(width, 4 if optimizer == "adafactor" else 0) for shape, width in tensors]
    if not sizes:
        return 0
    whole = on_gpu and "bit" not in optimizer and optimizer not in ("adafactor", "sgd")
    return sum(sizes) if whole else 2 * max(sizes)
