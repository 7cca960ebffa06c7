"""The LoRA adapter, through unsloth, and whether it is the one that was asked for."""

from __future__ import annotations

from typing import Any

from ftcore.contracts import Run
from ftcore.errors import ModelError
from ftcore.settings.lora import LoraSettings
from ftcore.settings.model import ModelSettings

_FUSED = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj"} | {
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
}
"""Where an architecture has several projections in one matrix (Phi-3), unsloth adapts that one."""

_WHOLE = ("embed_tokens", "lm_head")
"""Layers that unsloth trains whole where they are named as targets."""


def add_adapter(model: Any, lora: LoraSettings, settings: ModelSettings, run: Run) -> Any:
    """The model with a fresh LoRA adapter; everything else is frozen.

    Raises:
        ModelError: the target modules are not in this model.
    """
    from unsloth import FastLanguageModel

    adapted = FastLanguageModel.get_peft_model(
        model,
        r=lora.rank,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=lora.target_modules,
        bias=lora.bias,
        use_rslora=lora.use_rslora,
        use_gradient_checkpointing=settings.use_gradient_checkpointing,
        random_state=run.seed,
        max_seq_length=settings.max_sequence_length,
    )
    _require_targets(adapted, lora, run)
    return adapted


def _require_targets(adapted: Any, lora: LoraSettings, run: Run) -> None:
    """PEFT is content when one of the targets is found."""
    if isinstance(lora.target_modules, str):
        return
    names = {name.rpartition(".lora_A")[0] for name, _ in adapted.named_modules() if name.endswith(".lora_A")}
    ends = {name.rpartition(".")[2] for name in names}
    for target in lora.target_modules:
        if target in _WHOLE and target not in ends:
            run.warn(f'target_modules names "{target}": unsloth trains it whole, without an adapter')
        elif (
            not any(name == target or name.endswith(f".{target}") for name in names) and _FUSED.get(target) not in ends
        ):
            raise ModelError(
                f'target_modules names "{target}", which this model does not have',
                why=f"adapters were added to {', '.join(sorted(ends))}",
                fix='Name layers of the model, or set target_modules = "all-linear"',
            )
