"""The machine that a run is estimated for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from ftcore import cpu
from ftcore.settings.model import ModelSettings

CPU_LIBRARIES = 570 * 2**20
"""Resident memory of a run on a CPU before its model's weights are touched: Python, torch, transformers, TRL, PEFT and
datasets, measured at the start of training with the versions in constraints.txt (470 MiB after the imports, 540 to 590
with the tokenizer, the data and the trainer)."""

CUDA_CONTEXT = 600 * 2**20
"""What CUDA's context and the libraries' workspaces take of a GPU before the first tensor; 400 to 700 MiB are usual."""


@dataclass(frozen=True)
class Target:
    """Where the run will train.

    Attributes:
        device: the kind of device.
        memory: its memory in bytes; 0 where that is not known.
        name: for people.
    """

    device: Literal["cpu", "cuda"]
    memory: int
    name: str

    @property
    def overhead(self) -> int:
        """Bytes taken before the first tensor."""
        return CUDA_CONTEXT if self.device == "cuda" else CPU_LIBRARIES


def gpu(memory: int) -> Target:
    """A GPU of so much memory that computes in bfloat16."""
    return Target("cuda", memory, f"a GPU with {memory / 2**30:g} GiB")


def this_machine() -> Target:
    """The first GPU that torch sees, else the processor."""
    import torch

    if torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        return Target("cuda", found.total_memory, found.name)
    return processor()


def processor() -> Target:
    """This machine's processor and memory."""
    return Target("cpu", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine's processor")


def weights_dtype(settings: ModelSettings, target: Target) -> str:
    """The type of the weights that are not quantized, by the rule of `dtype`."""
    if settings.dtype is not None:
        return settings.dtype
    if settings.full_finetuning:
        return "float32"
    return "bfloat16" if target.device == "cuda" or cpu.computes_bfloat16() else "float32"
