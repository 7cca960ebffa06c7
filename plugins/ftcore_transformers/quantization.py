"""Frozen weights in 4 or 8 bits through bitsandbytes."""

from __future__ import annotations

import importlib.util
from typing import Any

from ftcore.contracts import Run
from ftcore.errors import ModelError
from ftcore.settings.model import ModelSettings


def already_quantized(config: Any) -> bool:
    """Whether the checkpoint itself is stored quantized."""
    return getattr(config, "quantization_config", None) is not None


def wanted_quantization(config: Any, settings: ModelSettings, run: Run) -> str | None:
    """ "4bit", "8bit" or None, after the checkpoint and the machine had their say.

    Raises:
        ModelError: it was asked for and cannot be had.
    """
    import torch

    wanted = settings.quantization()
    chosen = bool({"load_in_4bit", "load_in_8bit"} & settings.model_fields_set)
    if already_quantized(config):
        return _as_stored(config, settings, wanted, run)
    if wanted is None:
        return None
    if not chosen and not torch.cuda.is_available():
        run.say("           load_in_4bit is only the default, and off on a machine without a GPU")
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            f"load_in_{wanted} cannot be had",
            why="the package bitsandbytes is not installed",
            fix=f"Run: pip install 'ftcore[quantization]', or set load_in_{wanted} = false",
        )
    return wanted


def _as_stored(config: Any, settings: ModelSettings, wanted: str | None, run: Run) -> str:
    stored = config.quantization_config
    values = stored if isinstance(stored, dict) else stored.to_dict()
    kind = "4bit" if values.get("load_in_4bit") else "8bit" if values.get("load_in_8bit") else "other"
    if settings.full_finetuning:
        raise ModelError(
            "full_finetuning is true and the checkpoint is stored quantized",
            why="quantized weights cannot be trained",
            fix="Set base_model_id to the unquantized model",
        )
    if wanted != kind:
        run.warn(f"the checkpoint is stored in {kind}, so load_in_{wanted or '4bit = false'} has no effect")
    return kind


def quantization_config(quantization: str, compute_dtype: Any) -> Any:
    """The `BitsAndBytesConfig`: NF4 with nested quantization (QLoRA, Dettmers et al. 2023), or LLM.int8."""
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def keep_trainable(model: Any) -> None:
    """Keep 4-bit layers able to pass gradients on.

    On processors with AVX512-BF16, bitsandbytes repacks a layer's weights at its first forward in evaluation mode, for
    a kernel that has no backward: after one evaluation, most of the adapter would silently learn nothing any more.
    """
    import bitsandbytes as bnb

    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
