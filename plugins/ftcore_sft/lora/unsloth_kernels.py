"""unsloth's fused LoRA layers, rounded once.

On a GPU unsloth computes attention's projections and the MLP as functions of its own, which never call the LoRA layers.
All of them take their products from three functions, which are replaced here: `matmul_lora`, `_matmul_lora_ext` (with dropout or
an adapter's bias) and `fast_linear_forward` (one token at a time). Weights in formats that only unsloth can read, and
everything without an adapter, go on to the functions that were there.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ftcore_sft.lora.product import add_product

_KERNELS, _FUSED = "unsloth.kernels.utils", "unsloth.kernels.fast_lora"

_EXPECTED: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "matmul_lora": (
        _KERNELS,
        ("X", "W", "W_quant", "A", "B", "s", "out", "use_global_buffer"),
        ("fast_dequantize(W, W_quant, use_global_buffer = use_global_buffer, dtype = dtype)", "addmm_(out, XA,"),
    ),
    "_matmul_lora_ext": (
        _FUSED,
        ("X", "X_lora", "W", "W_quant", "A", "B", "S", "bias"),
        ("matmul_lora(X, W, W_quant, None, None, None", "XA = torch.matmul(X_lora"),
    ),
    "fast_linear_forward": (
        _KERNELS,
        ("proj", "X", "temp_lora", "out"),
        ("get_lora_parameters_bias(proj)", "out.addmv_(B, temp_lora, alpha = lora_S)"),
    ),
}
"""Each function's module, arguments, and what its source must say, or it is not the one that is replaced here."""

_HALF = (torch.bfloat16, torch.float16)
_originals: dict[str, Any] = {}


def patch() -> str:
    """Replace the functions wherever unsloth has imported them; why that cannot be done, or an empty string."""
    if _originals:
        return ""
    found: dict[str, Any] = {}
    for name, (module, arguments, marks) in _EXPECTED.items():
        function = getattr(sys.modules.get(module), name, None)
        if function is None:
            return f"{module} has no {name}"
        if not _is_known(function, arguments, marks):
            return f"{module}.{name} is another than this version of ftcore knows"
        found[name] = function
    kernels = sys.modules[_KERNELS]
    product = matmul_lora_once(found["matmul_lora"], kernels.fast_dequantize)
    new = {
        "matmul_lora": product,
        "_matmul_lora_ext": matmul_lora_ext_once(found["_matmul_lora_ext"], product, kernels.fast_dequantize),
        "fast_linear_forward": fast_linear_forward_once(found["fast_linear_forward"], product, kernels),
    }
    _originals.update(found)
    for name, function in new.items():
        _replace(name, found[name], function)
    return ""


def restore() -> None:
    """Put unsloth's own functions back."""
    for name, original in _originals.items():
        current = getattr(sys.modules[_EXPECTED[name][0]], name)
        _replace(name, current, original)
    _originals.clear()


def matmul_lora_once(original: Callable[..., Any], expand: Callable[..., Any]) -> Callable[..., Any]:
    """unsloth's `matmul_lora` with the adapter first."""

    def matmul_lora(
        X: Any, W: Any, W_quant: Any, A: Any, B: Any, s: Any, out: Any = None, use_global_buffer: bool = True
    ) -> Any:
        if A is None or not _is_ordinary(X, W, W_quant):
            return original(X, W, W_quant, A, B, s, out=out, use_global_buffer=use_global_buffer)
        flat = X.reshape(-1, X.shape[-1])
        weight = expand(W, W_quant, use_global_buffer=use_global_buffer, dtype=X.dtype)
        small = torch.mm(flat @ A.to(X.dtype).t(), (B * s).to(X.dtype).t())
        found = add_product(small, flat, weight).view(*X.shape[:-1], -1)
        return found if out is None else out.copy_(found.view(out.shape))

    return matmul_lora


def matmul_lora_ext_once(
    original: Callable[..., Any], product: Callable[..., Any], expand: Callable[..., Any]
) -> Callable[..., Any]:
    """unsloth's `_matmul_lora_ext`: the adapter sees other inputs, or has a bias."""

    def _matmul_lora_ext(X: Any, X_lora: Any, W: Any, W_quant: Any, A: Any, B: Any, S: Any, bias: Any) -> Any:
        if A is None or not _is_ordinary(X, W, W_quant):
            return original(X, X_lora, W, W_quant, A, B, S, bias)
        if X_lora is X and bias is None:
            return product(X, W, W_quant, A, B, S, use_global_buffer=False)
        dtype = X.dtype
        inner = X_lora.reshape(-1, X_lora.shape[-1]) @ A.to(dtype).t()
        up = (B * S).to(dtype).t()
        small = inner @ up if bias is None else torch.addmm((bias * S).to(dtype), inner, up)
        weight = expand(W, W_quant, use_global_buffer=False, dtype=dtype)
        return add_product(small, X.reshape(-1, X.shape[-1]), weight).view(*X.shape[:-1], -1)

    return _matmul_lora_ext


def fast_linear_forward_once(original: Callable[..., Any], product: Callable[..., Any], kernels: Any) -> Any:
    """unsloth's `fast_linear_forward`, for a batch of single tokens in generation."""
    left_alone = tuple(
        getattr(kernels, name)
        for name in (
            "_has_non_lora_adapter",
            "_has_multiple_active_adapters",
            "_has_active_dora_adapter",
            "_has_active_lora_bias",
            "_has_packed_qweight",
        )
    )

    def fast_linear_forward(proj: Any, X: Any, temp_lora: Any = None, out: Any = None) -> Any:
        if X.shape[1] != 1 or any(check(proj) for check in left_alone):
            return original(proj, X, temp_lora=temp_lora, out=out)
        W, W_quant, A, B, s, bias = kernels.get_lora_parameters_bias(proj)
        if A is None or not _is_ordinary(X, W, W_quant):
            return original(proj, X, temp_lora=temp_lora, out=out)
        if bias is None:
            return product(X, W, W_quant, A, B, s, out=out)
        small = torch.mm(X[:, 0] @ A.to(X.dtype).t(), (B * s).to(X.dtype).t())
        weight = kernels.fast_dequantize(W, W_quant, use_global_buffer=True, dtype=X.dtype)
        found = add_product(small, X[:, 0], weight, bias)[:, None]
        return found if out is None else out.copy_(found.view(out.shape))

    return fast_linear_forward


def _is_ordinary(inputs: Any, weight: Any, state: Any) -> bool:
    """Whether these are 16-bit inputs, and a weight that is a matrix or that bitsandbytes packed."""
    if inputs.dtype not in _HALF or (torch.is_autocast_enabled(inputs.device.type) and _casts_elsewhere(inputs)):
        return False
    if state is None:
        return type(weight) in (torch.Tensor, torch.nn.Parameter) and weight.dtype == inputs.dtype
    return type(state).__name__ == "QuantState" or isinstance(state, list)


def _casts_elsewhere(inputs: Any) -> bool:
    return bool(torch.get_autocast_dtype(inputs.device.type) != inputs.dtype)


def _is_known(function: Any, arguments: tuple[str, ...], marks: tuple[str, ...]) -> bool:
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return False
    return tuple(inspect.signature(function).parameters) == arguments and all(mark in source for mark in marks)


def _replace(name: str, old: Any, new: Any) -> None:
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] == "unsloth" and getattr(module, "__dict__", {}).get(name) is old:
            setattr(module, name, new)
