"""What a run's LoRA layers compute with, as `[sft]` says, and what the user is told of it."""

from __future__ import annotations

import sys
from typing import Any

from ftcore.contracts import Run
from ftcore_sft.lora.layers import install


def compute_adapters(model: Any, round_once: bool, fast_cpu: bool, run: Run) -> None:
    """Put ftcore's function for base and adapters in where it is wanted, or take it out.

    Args:
        model: with or without an adapter.
        round_once: in layers that compute in 16 bits (`[sft] round_once`).
        fast_cpu: in layers that compute in float32 on a CPU (`[sft] fast_cpu`).
        run: told what was done, and for which layers it could not be.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    on_cpu = causal.device.type == "cpu"
    # Without a GPU there is no autocast: float32 weights are computed in float32.
    half = round_once and not (on_cpu and not _has_small_weights(model))
    report = install(model, half=half, full=fast_cpu and on_cpu, say=run.warn)
    lines = list(report.lines()) if half else []
    if report.layers:
        lines.insert(0, f"{report.layers} layers {'rounded once' if half else 'of base and adapter in one function'}")
    for number, line in enumerate(lines):
        run.say(f"{'' if number else 'lora':<11}{line}")
    _into_unsloth(half, run)


def _has_small_weights(model: Any) -> bool:
    """Whether any weight that is computed with has 16 bits or fewer."""
    return any(parameter.element_size() < 4 for parameter in model.parameters())


def _into_unsloth(half: bool, run: Run) -> None:
    """Its kernels for GPUs compute many LoRA layers without calling them."""
    if "unsloth.kernels.fast_lora" not in sys.modules:
        return
    from ftcore_sft.lora.unsloth_kernels import patch, restore

    if not half:
        restore()
    elif obstacle := patch():
        run.warn(f"unsloth's fused LoRA layers round twice: {obstacle}")
