"""A linear layer with quantized weights, as far as its memory goes."""

from __future__ import annotations

from typing import Any

import torch


def packed_bytes(count: int, rows: int, quantization: str) -> int:
    """What quantized weights take.

    NF4 with nested quantization (QLoRA, Dettmers et al. 2023, arXiv:2305.14314): half a byte per weight, one byte of
    scale per 64 weights, and one float32 per 256 of these scales, beside two small tables. LLM.int8: a byte per weight
    and a float32 scale per row.

    Args:
        count: how many weights.
        rows: output features.
    """
    if quantization == "8bit":
        return count + 4 * rows
    scales = -(-count // 64)
    return -(-count // 2) + scales + 4 * -(-scales // 256) + 4 * (16 + 256)


class QuantizedLinear(torch.nn.Linear):  # type: ignore[misc]
    """Stands for bitsandbytes' layer: expands its weights for the length of a multiplication, forward and backward.

    Its `weight` has the shape of the whole matrix, so that an adapter fits; `packed_bytes` is what is stored.
    """

    def __init__(self, whole: Any, quantization: str, compute_dtype: Any) -> None:
        torch.nn.Module.__init__(self)
        self.in_features, self.out_features = whole.in_features, whole.out_features
        self.weight, self.bias = whole.weight, whole.bias
        self.packed_bytes = packed_bytes(whole.weight.numel(), whole.out_features, quantization)
        self._compute_dtype = compute_dtype

    def forward(self, inputs: Any) -> Any:
        shape = (self.out_features, self.in_features)
        made = _Expanded.apply(inputs, shape, self._compute_dtype)
        return made if self.bias is None else made + self.bias.to(made.dtype)


class _Expanded(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, inputs: Any, shape: tuple[int, int], dtype: Any) -> Any:
        ctx.shape, ctx.dtype = shape, dtype
        weight = inputs.new_empty(shape, dtype=dtype)
        return torch.nn.functional.linear(inputs.to(dtype), weight).to(inputs.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        weight = gradient.new_empty(ctx.shape, dtype=ctx.dtype)
        return torch.matmul(gradient.to(ctx.dtype), weight).to(gradient.dtype), None, None
