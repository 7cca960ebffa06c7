"""Puts the rounded-once product into a model's LoRA layers, and takes it out again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MethodType
from typing import Any, NamedTuple

import torch

from ftcore_sft.lora import weights
from ftcore_sft.lora.product import AdaptedLinear, of_few, rounds_once

_HALF = (torch.bfloat16, torch.float16)
_MARK = "_ftcore_lora"
_FEW = 16
"""Tokens of a batch in generation."""


@dataclass(frozen=True)
class Report:
    """What `install` came to.

    Attributes:
        layers: how many LoRA layers compute with ftcore's function.
        aside: how many were left to PEFT, by the reason.
    """

    layers: int
    aside: Mapping[str, int]

    def lines(self) -> Iterator[str]:
        """One line for each reason."""
        for reason, count in self.aside.items():
            yield f"{count} LoRA {'layer is' if count == 1 else 'layers are'} left to PEFT: {reason}"


@dataclass
class _Shared:
    """What the layers of a model know together."""

    half: bool
    full: bool
    say: Callable[[str], None]
    said: set[str] = field(default_factory=set)

    def __deepcopy__(self, memo: Any) -> _Shared:
        return self


def install(model: Any, *, half: bool = True, full: bool = False, say: Callable[[str], None] | None = None) -> Report:
    """Let the model's LoRA layers compute base and adapters as one function, whose output is rounded once.

    Parameters, what is saved, merging and switching adapters stay as they are. Layers that it does not suit are left
    alone. Calling it again replaces the earlier call.

    Args:
        model: a PEFT model, or any with LoRA layers of PEFT's in it.
        half: in layers that compute in bfloat16 or float16.
        full: in layers that compute in float32, where there is nothing to round and only time to gain.
        say: told once of each reason for which a layer is left to PEFT later, while it computes.
    """
    remove(model)
    if half:
        # Sums that a GPU splits among its processors stay in float32 until the end, too.
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    shared = _Shared(half, full, say or (lambda _: None))
    aside: Counter[str] = Counter()
    layers = 0
    for layer in _layers(model):
        if reason := _obstacle(layer, shared):
            aside[reason] += 1
        elif _is_wanted(layer, shared):
            if type(layer.base_layer).__name__ == "Linear4bit":
                # On some processors the first evaluation would pack its weights so that nothing else can read them.
                layer.base_layer.support_avx512bf16_for_cpu = False
            layer.__dict__[_MARK] = shared
            layer.forward = MethodType(_forward, layer)
            layers += 1
    return Report(layers, dict(aside))


def remove(model: Any) -> None:
    """Give the LoRA layers PEFT's forward back."""
    for layer in model.modules():
        if layer.__dict__.pop(_MARK, None) is not None:
            del layer.forward


def _layers(model: Any) -> Iterator[Any]:
    """LoRA layers around a matrix. An embedding's output is exact before PEFT adds to it: it is rounded once already."""
    try:
        from peft.tuners.lora import Embedding, LoraLayer
    except ImportError:
        return
    for module in model.modules():
        if isinstance(module, LoraLayer) and not isinstance(module, Embedding):
            yield module


def _obstacle(layer: Any, shared: _Shared) -> str:
    if type(layer).__name__ not in ("Linear", "Linear4bit", "Linear8bitLt"):
        return f"they are of the kind {type(layer).__name__}"
    if layer.__dict__.get("forward") is not None:
        return "their forward is another library's"
    for name in _active(layer):
        if variant := layer.lora_variant.get(name):
            kind = type(variant).__name__.removesuffix("Variant").removesuffix("Linear")
            return f"their adapters are {'DoRA' if kind == 'Dora' else kind}"
    if reason := weights.obstacle(layer):
        return reason
    base, device = layer.base_layer, layer.base_layer.weight.device
    dtype = getattr(base, "compute_dtype", None) or base.weight.dtype
    if dtype in _HALF and shared.half and not rounds_once(device, dtype):
        return f"{device.type} does not sum {str(dtype).removeprefix('torch.')} in float32"
    return ""


def _is_wanted(layer: Any, shared: _Shared) -> bool:
    """Half precision is wanted in float32 layers too: autocast computes them in 16 bits."""
    return shared.half or (shared.full and layer.base_layer.weight.dtype == torch.float32)


def _active(layer: Any) -> list[str]:
    known = layer._modules["lora_A"]
    return [name for name in layer.active_adapters if name in known]


def _forward(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    """In place of the forward of PEFT's LoRA layers."""
    shared: _Shared = self.__dict__[_MARK]
    base = self._modules["base_layer"]
    names = () if args or kwargs or self.disable_adapters or self.merged else _active(self)
    dtype = weights.computing_type(base, inputs)
    if not names or not _suits(base, inputs, dtype, shared):
        return type(self).forward(self, inputs, *args, **kwargs)
    weight = weights.matrix(base)
    adapters = _adapters(self, names)
    if reason := _passing_obstacle(self, base, adapters, weight):
        if reason not in shared.said:
            shared.said.add(reason)
            shared.say(f"LoRA layers are left to PEFT: {reason}")
        return type(self).forward(self, inputs)
    return _computed(self, inputs, adapters, weight, weights.own(base, "bias"), dtype)


def _suits(base: Any, inputs: Any, dtype: Any, shared: _Shared) -> bool:
    if dtype in _HALF:
        # Inputs of another type than the weights' are an error, which is PEFT's to raise.
        mixed = inputs.dtype != dtype and base.weight.dtype == dtype and not _autocasts(inputs)
        return shared.half and not mixed
    return shared.full and dtype == torch.float32 == base.weight.dtype == inputs.dtype


def _autocasts(inputs: Any) -> bool:
    return bool(torch.is_autocast_enabled(inputs.device.type))


class _Adapter(NamedTuple):
    """An active adapter of a layer: two modules and their weights, [rank, inputs] and [outputs, rank]."""

    name: str
    down: Any
    up: Any
    down_weight: Any
    up_weight: Any


def _adapters(layer: Any, names: list[str]) -> list[_Adapter]:
    downs, ups = layer._modules["lora_A"], layer._modules["lora_B"]
    return [_adapter(name, downs[name], ups[name]) for name in names]


def _adapter(name: str, down: Any, up: Any) -> _Adapter:
    return _Adapter(name, down, up, weights.own(down), weights.own(up))


def _passing_obstacle(layer: Any, base: Any, adapters: list[_Adapter], weight: Any) -> str:
    """What can come up after `install`: other adapters, hooks, weights that were cut in pieces."""
    if weight is None:
        return "their weights were cut into shards or packed"
    if callable(weight) and torch.compiler.is_compiling():
        return "quantized weights are not compiled"
    if layer.lora_variant and any(adapter.name in layer.lora_variant for adapter in adapters):
        return "the active adapter is a variant of LoRA"
    if weights.own(base).requires_grad:
        return "their weights are trained too"
    if base._forward_hooks or base._forward_pre_hooks:
        return "their base layers have hooks"
    for _, down, up, down_weight, up_weight in adapters:
        for part, own in ((down, down_weight), (up, up_weight)):
            if type(part) is not torch.nn.Linear or type(own) not in weights.ORDINARY:
                return "their adapters are wrapped or cut into shards"
            if own.dim() != 2 or part._forward_hooks or part._forward_pre_hooks:
                return "their adapters have hooks or are cut into shards"
    return ""


def _computed(layer: Any, inputs: Any, adapters: list[_Adapter], weight: Any, bias: Any, dtype: Any) -> Any:
    tensors: list[Any] = []
    shift = None
    scaling, dropouts = layer.scaling, layer._modules["lora_dropout"] if layer.training else {}
    for name, _, up, down_weight, up_weight in adapters:
        dropout: Any = dropouts[name] if dropouts else None
        drops = dropout is not None and type(dropout) is not torch.nn.Identity and getattr(dropout, "p", 1) > 0
        tensors += [dropout(inputs) if drops else None, down_weight, up_weight]
        if (up_bias := weights.own(up, "bias")) is not None:
            own = up_bias.float() * scaling[name]
            shift = own if shift is None else shift + own
    scales = tuple(scaling[adapter.name] for adapter in adapters)
    few = not torch.is_grad_enabled() and inputs.numel() <= _FEW * inputs.shape[-1]
    compute = of_few if few else AdaptedLinear.apply
    out = compute(inputs, weight, bias, shift, dtype, scales, *tensors)
    # bitsandbytes' layers return the type that they are given.
    return out.to(inputs.dtype) if callable(weight) else out
