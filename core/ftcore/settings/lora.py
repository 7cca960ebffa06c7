"""The LoRA adapter (Hu et al. 2021, arXiv:2106.09685), as PEFT's `LoraConfig` names its options."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ftcore.settings.base import Section


class LoraSettings(Section):
    """The LoRA keys of `[fine_tuner]`; unused with `full_finetuning`."""

    rank: Annotated[int, Field(ge=1, le=4096)] = 16
    """The adapter's rank r. More means more trainable parameters."""

    lora_alpha: Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0)] = 16
    """The update is scaled by `lora_alpha / rank` (with `use_rslora`, by `lora_alpha / sqrt(rank)`)."""

    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The share of the adapter's inputs that is dropped in training."""

    target_modules: (
        Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | Literal["all-linear"]
    ) = [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    ]
    """The layers that get an adapter, by the end of their names, or `"all-linear"`."""

    bias: Literal["none", "all", "lora_only"] = "none"
    """Which biases are trained with the adapter."""

    use_rslora: bool = False
    """Rank-stabilized scaling (Kalajdzievski 2023, arXiv:2312.03732)."""

    loftq_config: dict[str, Any] | None = None
    """Start the adapter from the error of a quantization (LoftQ, Li et al. 2023, arXiv:2310.08659), e.g. `{ loftq_bits = 4, loftq_iter = 1 }`. The base model must not be quantized already."""
