"""Rounding to a shorter type, so that what is smaller than a step is kept on average.

Rounding to the nearest number returns a weight to where it was whenever its change is less than half a step. Here it
goes up or down, with the probability that makes its expectation the exact value (stochastic rounding).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

RANDOM_BITS = 31
"""How many random bits of a non-negative int32 are used at most."""

_HALF_SMALLEST_NORMAL = 2.0**-14
_HALF_STEP = 2.0**-24  # between float16's subnormal numbers


def stochastic(values: Tensor, dtype: Any, random: Tensor) -> Tensor:
    """Values rounded up or down, with the probability that keeps their expectation.

    Numbers that the type has are returned exactly. What lies beyond its largest number becomes infinite; infinities
    and NaN stay what they are.

    Args:
        values: float32, of any shape.
        dtype: `torch.bfloat16` or `torch.float16`.
        random: int32 of the same shape, uniform over 0 … 2^31 - 1.
    """
    import torch

    rounded = _to_bfloat16(values, random) if dtype == torch.bfloat16 else _to_float16(values, random)
    within = values.abs() <= torch.finfo(dtype).max  # False for NaN
    return rounded if bool(within.all()) else torch.where(within, rounded, _away(values, dtype))


def _away(values: Tensor, dtype: Any) -> Tensor:
    """What lies beyond a type's range: infinite, or NaN."""
    import torch

    infinite = torch.copysign(torch.full_like(values, torch.inf), values)
    return torch.where(values.isnan(), values, infinite).to(dtype)


def _to_bfloat16(values: Tensor, random: Tensor) -> Tensor:
    """bfloat16 is the upper half of float32: a random lower half is added, and what carries over is kept."""
    import torch

    bits = values.view(torch.int32) + (random & 0xFFFF)
    return (bits & -0x10000).view(torch.float32).to(torch.bfloat16)


def _to_float16(values: Tensor, random: Tensor) -> Tensor:
    """The same with the 13 bits that float16 lacks; subnormal numbers have one step for all."""
    import torch

    bits = values.view(torch.int32) + (random & 0x1FFF)
    rounded = (bits & -0x2000).view(torch.float32).to(torch.float16)
    small = values.abs() < _HALF_SMALLEST_NORMAL
    if small.any():
        steps = values[small].double() / _HALF_STEP
        up = random[small].double() / 2.0**RANDOM_BITS
        rounded[small] = ((steps + up).floor() * _HALF_STEP).to(torch.float16)
    return rounded


class Rounding:
    """Rounds the pieces of one tensor, one after the other.

    Args:
        kind: "stochastic" or "nearest".
        dtype: the torch dtype to round to.
        seed, name: decide the random numbers, so that they depend on no other tensor and on no order.
    """

    def __init__(self, kind: str, dtype: Any, seed: int, name: str) -> None:
        import torch

        self._dtype = dtype
        self._generator = None
        if kind == "stochastic" and dtype in (torch.bfloat16, torch.float16):
            digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
            self._generator = torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))

    def __call__(self, values: Tensor) -> Tensor:
        """The next piece, float32, in the type."""
        import torch

        if self._generator is None:
            return values.to(self._dtype)
        random = torch.empty(values.shape, dtype=torch.int32).random_(generator=self._generator)
        return stochastic(values, self._dtype, random)
