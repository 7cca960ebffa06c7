"""What this machine computes in: the type of the weights, and the attention kernel."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from ftcore.settings.model import ModelSettings

_FLASH_ATTENTION_2 = (8, 0)  # CUDA compute capability of Ampere, the first that flash-attn 2 runs on


def choose_dtype(settings: ModelSettings, torch: Any) -> Any:
    """The torch dtype of the weights.

    Full fine-tuning keeps float32 weights unless told otherwise: an optimizer step is often smaller than what
    bfloat16 can add to a weight.
    """
    if settings.dtype is not None:
        return getattr(torch, settings.dtype)
    if settings.full_finetuning:
        return torch.float32
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if cpu_computes_bfloat16() else torch.float32


def cpu_computes_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 matrices in hardware (x86 AVX512-BF16 or AMX, Arm BF16)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.lower().startswith(("flags", "features"))), "")
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags.split()))


def attention_implementation(fused: bool, config: Any, dtype: Any, torch: Any) -> str:
    """`flash_attention_2`, `sdpa` or `eager`, as transformers names them."""
    if not fused:
        return "eager"
    if (
        importlib.util.find_spec("flash_attn") is not None
        and torch.cuda.is_available()
        and torch.cuda.get_device_capability() >= _FLASH_ATTENTION_2
        and dtype in (torch.float16, torch.bfloat16)
    ):
        return "flash_attention_2"
    return "sdpa"
