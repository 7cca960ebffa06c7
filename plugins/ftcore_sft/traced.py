"""What this trainer computes, on a model without contents: for `ftcore estimate`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from ftcore.contracts import BatchShape, Device
from ftcore_sft import cpu_attention, lora
from ftcore_sft.head_loss import head_loss
from ftcore_sft.lora.product import rounds_once
from ftcore_sft.settings import SftSettings


def traced_loss(model: Any, device: Device, settings: SftSettings) -> Callable[[BatchShape], Any]:
    """Install what `SupervisedTrainer.attach` would, untried, and return its way to a batch's loss.

    What it does is what `SupervisedLoss` does, but for the choice of the supervised positions, which looks at labels.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    fast = device == "cpu" and settings.fast_cpu
    with _disable_current_modes():  # what the processor does to sums is tried on tensors with contents
        for dtype in (torch.bfloat16, torch.float16):
            rounds_once(torch.device("cpu"), dtype)
    lora.install(model, half=settings.round_once, full=fast)
    segments = fast and cpu_attention.install(causal)

    def loss(batch: BatchShape) -> Any:
        if _alters_logits(causal.config.get_text_config()):
            ids = torch.zeros(batch.rows, batch.length, dtype=torch.long)
            return causal(**_inputs(batch, segments=False), labels=ids, use_cache=False).loss
        hidden = causal.get_decoder()(**_inputs(batch, segments), use_cache=False).last_hidden_state
        number = torch.zeros(batch.supervised, dtype=torch.long)
        return head_loss(causal.get_output_embeddings(), hidden[:, :-1][number, number], number, device)

    return loss


def _inputs(batch: BatchShape, segments: bool) -> dict[str, Any]:
    if segments:
        ids = torch.zeros(1, batch.rows * batch.length, dtype=torch.long)
        return {"input_ids": ids} | cpu_attention.options(range(0, batch.rows * batch.length + 1, batch.length))
    inputs: dict[str, Any] = {"input_ids": torch.zeros(batch.rows, batch.length, dtype=torch.long)}
    if batch.padded:
        inputs["attention_mask"] = torch.ones(batch.rows, 1, batch.length, batch.length, dtype=torch.bool)
    return inputs


def _alters_logits(config: Any) -> bool:
    """Models that scale or cap their logits make them themselves, for all positions."""
    names = ("final_logit_softcapping", "logit_scale", "logits_scaling")
    return any(getattr(config, name, None) not in (None, 1, 1.0) for name in names)
