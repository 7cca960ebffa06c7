"""Settings that suit a GPU of a given memory, and models by the memory that they want."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ftcore.errors import ConfigError

GIB = 2**30


@dataclass(frozen=True)
class Preset:
    """Settings for GPUs from a certain memory on.

    Attributes:
        gib: that memory in GiB; 0 is a machine without a GPU.
        base_model_id, max_sequence_length, device_train_batch_size, grad_accumulation, rank: the keys of `[fine_tuner]`.
    """

    gib: int
    base_model_id: str
    max_sequence_length: int
    device_train_batch_size: int
    grad_accumulation: int
    rank: int


PRESETS = (
    Preset(4, "unsloth/Qwen2.5-0.5B-Instruct-bnb-4bit", 1024, 1, 16, 8),
    Preset(8, "unsloth/Qwen2.5-1.5B-Instruct-bnb-4bit", 2048, 2, 8, 16),
    Preset(12, "unsloth/Llama-3.2-3B-Instruct-bnb-4bit", 4096, 4, 4, 32),
)
"""From the smallest GPU to the largest; all in 4 bits with unsloth's gradient checkpointing."""

WITHOUT_GPU = Preset(0, "HuggingFaceTB/SmolLM2-135M-Instruct", 512, 4, 4, 16)

SMALLER_MODELS = (
    "unsloth/Qwen2.5-7B-Instruct-bnb-4bit",
    "unsloth/Qwen2.5-3B-Instruct-bnb-4bit",
    "unsloth/Qwen2.5-1.5B-Instruct-bnb-4bit",
    "unsloth/Qwen2.5-0.5B-Instruct-bnb-4bit",
)
"""What to go down to where a model is too large, from the largest."""

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?:g|gb|gib)?", re.IGNORECASE)


def memory(text: str) -> int:
    """Bytes of `8gb`, `8 GiB` or `8`; 0 for `none`. A card of "8 GB" has 8 GiB, so both units mean that.

    Raises:
        ConfigError: it is no size.
    """
    if text.strip().lower() == "none":
        return 0
    match = _SIZE.fullmatch(text.strip())
    if match is None or not 0 < float(match["number"]) <= 100_000:
        raise ConfigError(f'--gpu "{text}" is no size of memory', fix="Write it like 8gb, or none for no GPU")
    return round(float(match["number"]) * GIB)


def fitting(memory_bytes: int) -> Preset | None:
    """The preset for a GPU of so much memory; None where it is smaller than all."""
    suited = [preset for preset in PRESETS if preset.gib * GIB <= memory_bytes]
    return suited[-1] if suited else None
