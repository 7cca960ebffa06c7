"""A base layer's frozen weight as a matrix [outputs, inputs], whatever the layer keeps it as.

Nothing is kept: a quantized weight is expanded when it is used, once forward and once backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

ORDINARY = (torch.nn.Parameter, torch.Tensor, FakeTensor)
"""Not a shard of a tensor, nor one that a quantization library made; one without contents stands for an ordinary one."""


def obstacle(layer: Any) -> str:
    """Why the base weight of a LoRA layer cannot be used outside its own forward; empty where it can."""
    base = layer.base_layer
    weight = getattr(base, "weight", None)
    kind = type(base).__name__
    if not isinstance(weight, torch.Tensor):
        return f"their weights are {kind}"
    if weight.requires_grad:
        return "their weights are trained too"
    if hasattr(base, "_hf_hook"):
        return "their weights are moved in and out of memory"
    if kind == "Linear8bitLt":
        return "their 8-bit weights are kept in float16" if base.state.has_fp16_weights else ""
    if kind == "Linear4bit":
        return ""
    if type(weight) not in ORDINARY or weight.dim() != 2:
        return "their weights are in shards or of a type of their own"
    if not weight.is_floating_point() or weight.element_size() == 1:
        return f"their weights are {kind} in {str(weight.dtype).removeprefix('torch.')}"
    if type(base) is torch.nn.Linear and not layer.fan_in_fan_out:
        return ""
    if kind == "Conv1D" and layer.fan_in_fan_out:
        return ""
    return f"they are {kind}"


def own(module: Any, name: str = "weight") -> Any:
    """A module's parameter, [outputs, inputs] if it is the weight; None where it has none of that name.

    From the module's own table: as an attribute it is looked for in three, and a token that is generated passes hundreds
    of layers. What is no entry of the table (a library that shards weights puts views in their place) is an attribute.
    """
    table = module._parameters
    return table[name] if name in table else getattr(module, name, None)


def computing_type(base: Any, inputs: Any) -> Any:
    """The type that the base layer computes these inputs in."""
    kind = type(base).__name__
    if kind == "Linear4bit":
        return base.compute_dtype if base.compute_dtype is not None else inputs.dtype
    device = inputs.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return inputs.dtype if kind == "Linear8bitLt" else own(base).dtype


def matrix(base: Any) -> Any:
    """The weight, [outputs, inputs]: a tensor, or a function from a type to a tensor; None where it cannot be had now."""
    kind, weight = type(base).__name__, own(base)
    if kind == "Linear4bit":
        state = getattr(weight, "quant_state", None)
        # Packed for a kernel of its own, it cannot be expanded any more.
        return None if state is None or getattr(state, "packing_format_for_cpu", False) else _FourBits(weight)
    if kind == "Linear8bitLt":
        return _EightBits(base)
    if type(weight) not in ORDINARY or weight.dim() != 2:
        return None
    return weight.T if kind == "Conv1D" else weight


class _FourBits:
    def __init__(self, weight: Any) -> None:
        self._weight = weight

    def __call__(self, dtype: Any) -> Any:
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(self._weight.data, self._weight.quant_state).to(dtype)

    def times(self, inputs: Any) -> Any:
        """`inputs @ weight.T` without expanding the weight, [tokens, outputs], of the inputs' type."""
        from bitsandbytes import matmul_4bit

        return matmul_4bit(inputs, self._weight.t(), quant_state=self._weight.quant_state)


class _EightBits:
    def __init__(self, base: Any) -> None:
        self._base = base

    def __call__(self, dtype: Any) -> Any:
        base = self._base
        # Before its first forward, the layer has both at its weight.
        whole = base.state.CB if base.state.CB is not None else base.weight.data
        rows = base.state.SCB if base.state.SCB is not None else base.weight.SCB
        found = torch.empty(whole.shape, dtype=dtype, device=whole.device)
        return torch.mul(whole, (rows.float() / 127)[:, None], out=found)
