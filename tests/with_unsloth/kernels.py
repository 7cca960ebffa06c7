"""unsloth's LoRA functions for GPUs on tensors of a CPU, before and after ftcore replaced them.

Their modules import triton, which nothing of what is called here uses; where it is not installed, something that can be
imported stands in for it. Prints a JSON object: errors of the outputs relative to float64, and of the exact sum rounded once.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import json
import sys
import types
from typing import Any

TOKENS, INPUTS, OUTPUTS, RANK, SCALE = 64, 512, 768, 8, 2.0


class Anything(types.ModuleType):
    """Has every attribute; called as a decorator it returns the function."""

    def __init__(self, name: str = "anything") -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.__version__ = "3.5.0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args[0] if args and callable(args[0]) else Anything()

    def __getitem__(self, key: Any) -> Any:
        return self


def main() -> None:
    with contextlib.redirect_stdout(sys.stderr):
        import unsloth  # noqa: F401

        if importlib.util.find_spec("triton") is None:
            for name in ("triton", "triton.language", "triton.language.extra", "triton.runtime"):
                sys.modules[name] = Anything(name)
        import unsloth.kernels.fast_lora as fused
        import unsloth.kernels.utils as kernels

        from ftcore_sft.lora import unsloth_kernels

        found: dict[str, Any] = {"before": errors(kernels, fused), "obstacle": unsloth_kernels.patch()}
        found["after"] = errors(kernels, fused)
        unsloth_kernels.restore()
        found["restored"] = errors(kernels, fused)
        original = kernels.matmul_lora
        kernels.matmul_lora = lambda *args: original(*args)
        found["obstacle_of_another"] = unsloth_kernels.patch()
    json.dump(found, sys.stdout)


def errors(kernels: Any, fused: Any) -> dict[str, float]:
    import torch

    torch.manual_seed(0)
    inputs = torch.randn(2, TOKENS // 2, INPUTS).bfloat16().requires_grad_()
    weight = (torch.randn(OUTPUTS, INPUTS) * 0.05).bfloat16()
    down = (torch.randn(RANK, INPUTS) * 0.02).requires_grad_()
    up = (torch.randn(OUTPUTS, RANK) * 0.05).requires_grad_()
    bias = torch.randn(OUTPUTS) * 0.05
    exact = inputs.double() @ weight.double().T + SCALE * inputs.double() @ down.double().T @ up.double().T
    leaves = (inputs, down, up)

    def gradients(out: Any) -> list[Any]:
        generator = torch.Generator().manual_seed(1)
        given = torch.randn(out.shape, generator=generator).bfloat16().to(out.dtype)
        return list(torch.autograd.grad(out, leaves, given, retain_graph=True))

    fused_out = fused.LoRA_W.apply(inputs, weight, None, down, up, SCALE)
    biased = fused.LoRA_W.apply(inputs, weight, None, down, up, SCALE, 0.0, bias)
    found = {
        "ideal": _error(exact.bfloat16(), exact),
        "product": _error(kernels.matmul_lora(inputs.detach(), weight, None, down.detach(), up.detach(), SCALE), exact),
        "layer": _error(fused_out, exact),
        "layer_bias": _error(biased, exact + SCALE * bias.double()),
        "gradients": max(_error(a, b.double()) for a, b in zip(gradients(fused_out), gradients(exact), strict=True)),
    }
    for name, with_bias in (("token", False), ("token_bias", True)):
        layer = _layer(with_bias)
        single = torch.randn(3, 1, INPUTS).bfloat16()
        with torch.no_grad():
            wanted = copy.deepcopy(layer).double()(single.double())
            given = torch.empty(3, 1, OUTPUTS, dtype=torch.bfloat16)
            returned = kernels.fast_linear_forward(layer, single, out=given)
            found[name] = max(_error(kernels.fast_linear_forward(layer, single), wanted), _error(returned, wanted))
    return found


def _layer(bias: bool) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model

    base = torch.nn.Sequential(torch.nn.Linear(INPUTS, OUTPUTS, bias=bias)).bfloat16()
    model = get_peft_model(base, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=["0"]))
    layer = model.base_model.model[0]
    layer.lora_B["default"].weight.data.normal_(std=0.02)
    return layer


def _error(found: Any, exact: Any) -> float:
    return float((found.detach().double() - exact).pow(2).mean().sqrt() / exact.detach().pow(2).mean().sqrt())


if __name__ == "__main__":
    main()
