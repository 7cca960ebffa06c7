"""The `[sft]` section."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from ftcore.settings import Section


class SftSettings(Section):
    """Options of the supervised trainer beyond `[fine_tuner]`."""

    may_change: ClassVar = frozenset({"eval_steps", "optimizer_fallback", "stop_on_nonfinite"})

    eval_steps: Annotated[int, Field(ge=1)] | None = None
    """Evaluate every so many optimizer steps. Null evaluates after each epoch."""

    group_by_length: bool = True
    """Batch rows of similar length together, in random order otherwise: less padding, the same examples per epoch."""

    optimizer_fallback: bool = True
    """Where `optimizer` cannot run on this machine, use the nearest one that can and say so. False stops instead."""

    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Gradients are scaled down to this norm; 0 leaves them alone."""

    round_once: bool = True
    """Where LoRA layers compute in bfloat16 or float16, the sum of base and adapter is rounded once, in training,
    evaluation and generation. False leaves it to PEFT or unsloth, which add the adapter to a base output that is rounded
    already, and lose what is smaller than half a step of it."""

    fast_cpu: bool = True
    """On a CPU, compute attention example by example without padding, and float32 LoRA layers as one function. Results
    differ by rounding. False leaves both to torch and PEFT."""

    stop_on_nonfinite: bool = True
    """Stop when a loss or a gradient is infinite or no number at all, and name the step and its rows. False trains on."""
