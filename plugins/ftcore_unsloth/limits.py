"""What unsloth would quietly do otherwise than configured, so that it is not asked to."""

from __future__ import annotations

import os
from pathlib import Path

from ftcore.settings.fine_tuner import FineTunerSettings

_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/dri/renderD128")
"""Of NVIDIA's and AMD's drivers, of Windows' subsystem for Linux, and of any GPU with a rendering driver (Intel's)."""


def beyond(settings: FineTunerSettings) -> list[tuple[str, str]]:
    """Keys whose values unsloth does not honour here, each with the reason. Imports nothing heavy."""
    found = []
    if settings.loftq_config is not None:
        found.append(("loftq_config", "unsloth does not start an adapter with LoftQ"))
    if settings.base_model_id.lower().endswith(".gguf"):
        found.append(("base_model_id", "unsloth does not train from a GGUF file"))
    if not may_have_accelerator():
        if settings.load_in_8bit:
            found.append(("load_in_8bit", "without a GPU, unsloth would load 16-bit weights instead"))
        if settings.dtype == "float16":
            found.append(("dtype", "without a GPU, unsloth would use another type than float16"))
    return found


def may_have_accelerator() -> bool:
    """Whether a driver for a GPU is there; torch, which knows for sure, takes a second to import."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1") or _asked_for_cpu():
        return False
    return any(Path(device).exists() for device in _DEVICES)


def _asked_for_cpu() -> bool:
    return os.environ.get("UNSLOTH_FORCE_CPU", "").strip() == "1"
