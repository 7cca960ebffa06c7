"""LoftQ (Li et al. 2023, arXiv:2310.08659, algorithm 1) on the device that the model is on.

PEFT's own initialization insists on CUDA. The base weight W becomes its quantized value Q, and the adapter starts as
the best approximation of rank r of what quantization loses, W - Q; the two are refined in turn.
"""

from __future__ import annotations

from typing import Any


def initialize(model: Any, bits: int, iterations: int) -> None:
    """Set base weights and adapters of all LoRA layers of a PEFT model, in place."""
    import torch
    from peft.tuners.lora import LoraLayer

    for module in model.modules():
        if not isinstance(module, LoraLayer):
            continue
        for name, lora_a in module.lora_A.items():
            lora_b, scaling = module.lora_B[name], module.scaling[name]
            weight = module.get_base_layer().weight
            with torch.no_grad():
                quantized, left, right = _decompose(weight.float(), bits, iterations, lora_a.weight.shape[0])
                weight.copy_(quantized)
                # The layer adds scaling * B A, which shall be L R.
                lora_a.weight.copy_(right)
                lora_b.weight.copy_(left / scaling)


def _decompose(weight: Any, bits: int, iterations: int, rank: int) -> tuple[Any, Any, Any]:
    """Q of the weight's shape [out, in], L [out, rank], R [rank, in], with W ≈ Q + L R."""
    import torch

    remainder = weight
    for _ in range(iterations):
        quantized = _quantize(remainder, bits)
        u, s, v = torch.linalg.svd(weight - quantized, full_matrices=False)
        root = s[:rank].sqrt()
        left, right = u[:, :rank] * root, root[:, None] * v[:rank]
        remainder = weight - left @ right
    return quantized, left, right


def _quantize(weight: Any, bits: int) -> Any:
    """The weight after a trip through NF4 (blocks of 64) or through 8-bit integers (by row)."""
    import bitsandbytes.functional as functional

    if bits == 4:
        packed, state = functional.quantize_4bit(weight.contiguous(), blocksize=64, quant_type="nf4")
        return functional.dequantize_4bit(packed, state).float()
    scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
    return (weight / scale).round().clamp(-127, 127) * scale
