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

    fast_cpu: bool = True
    """On a CPU, compute LoRA layers in the type of the weights, and attention example by example without padding.
    Results differ by rounding. False leaves both to PEFT and torch."""

    stop_on_nonfinite: bool = True
    """Stop when a loss or a gradient is infinite or no number at all, and name the step and its rows. False trains on."""
