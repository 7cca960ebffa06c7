"""LoRA layers as one function, for CPUs.

PEFT keeps adapters in float32 beside bfloat16 weights and computes them so, which costs conversions of every layer's
input and output, a stored float32 copy of the input, and products at a quarter of the speed. Here an adapter is
computed in its layer's type and added in place; the adapter itself and its gradients stay float32.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch


class LoraLinear(torch.autograd.Function):  # type: ignore[misc]
    """`inputs @ weight.T + bias + scale * dropped @ down.T @ up.T`, of shape [..., outputs].

    `dropped` are the inputs behind the adapter's dropout, or None where there is none. Gradients go to the inputs, to
    `dropped`, and to the adapter's `down` [rank, inputs] and `up` [outputs, rank].
    """

    @staticmethod
    def forward(ctx: Any, inputs: Any, dropped: Any, weight: Any, bias: Any, down: Any, up: Any, scale: float) -> Any:
        flat = inputs.reshape(-1, inputs.shape[-1])
        seen = flat if dropped is None else dropped.reshape(flat.shape)
        small_down, small_up = down.to(flat.dtype), (up * scale).to(flat.dtype)
        out = flat @ weight.T if bias is None else torch.addmm(bias, flat, weight.T)
        inner = seen @ small_down.T
        out.addmm_(inner, small_up.T)
        ctx.save_for_backward(seen, weight, small_down, small_up, inner)
        ctx.scale, ctx.apart, ctx.types, ctx.shape = scale, dropped is not None, (down.dtype, up.dtype), inputs.shape
        return out.view(*inputs.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        seen, weight, down, up, inner = ctx.saved_tensors
        flat = gradients[0].reshape(-1, gradients[0].shape[-1])
        of_inner = flat @ up
        of_inputs = of_dropped = None
        if ctx.needs_input_grad[0]:
            of_inputs = flat @ weight
            if ctx.apart:
                of_dropped = (of_inner @ down).view(ctx.shape)
            else:
                of_inputs.addmm_(of_inner, down)
            of_inputs = of_inputs.view(ctx.shape)
        of_down = (of_inner.T @ seen).to(ctx.types[0])
        of_up = (flat.T @ inner).to(ctx.types[1]).mul_(ctx.scale)
        return of_inputs, of_dropped, None, None, of_down, of_up, None


def install(model: Any) -> int:
    """Give the model's plain LoRA layers on a CPU this function; how many there are.

    Left alone: layers with quantized or trained weights, DoRA and other variants, adapters with a bias.
    """
    try:
        from peft.tuners.lora.layer import Linear
    except ImportError:
        return 0
    layers = [module for module in model.modules() if type(module) is Linear and _is_plain(module)]
    for layer in layers:
        layer.forward = MethodType(_forward, layer)
    return len(layers)


def _is_plain(layer: Any) -> bool:
    base, adapters = layer.base_layer, layer.active_adapters
    if type(base) is not torch.nn.Linear or len(adapters) != 1 or adapters[0] not in layer.lora_A:
        return False
    trained = base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad)
    varied = adapters[0] in layer.lora_variant or layer.lora_B[adapters[0]].bias is not None
    return base.weight.device.type == "cpu" and base.weight.is_floating_point() and not trained and not varied


def _forward(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    if args or kwargs or self.disable_adapters or self.merged or inputs.dtype != self.base_layer.weight.dtype:
        return type(self).forward(self, inputs, *args, **kwargs)
    (adapter,) = self.active_adapters
    dropout, base = self.lora_dropout[adapter], self.base_layer
    dropped = dropout(inputs) if self.training and getattr(dropout, "p", 0) else None
    down, up = self.lora_A[adapter].weight, self.lora_B[adapter].weight
    return LoraLinear.apply(inputs, dropped, base.weight, base.bias, down, up, self.scaling[adapter])
