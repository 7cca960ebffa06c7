"""Supervised fine-tuning with TRL's SFTTrainer, on examples that ftcore has tokenized and labelled itself."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ftcore import hookimpl
from ftcore.contracts import BatchShape, Device, Run, Trainer
from ftcore.errors import Problem
from ftcore.settings.audit import AuditSettings
from ftcore.settings.logging import LoggingSettings
from ftcore.settings.saving import SavingSettings
from ftcore.settings.training import TrainingSettings
from ftcore_sft.optimizers import OPTIMIZERS
from ftcore_sft.settings import SftSettings

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from ftcore.config import Config


@hookimpl
def ftcore_settings() -> type[SftSettings]:
    return SftSettings


@hookimpl
def ftcore_check(config: Config) -> Iterator[Problem]:
    """The optimizer's name, and the packages."""
    if config.stages.trainer != "sft":
        return
    name = config.fine_tuner.optimizer
    if name not in OPTIMIZERS:
        close = get_close_matches(name, OPTIMIZERS, n=1)
        fix = f"Did you mean {close[0]}?" if close else "Use for example adamw_torch or paged_adamw_8bit"
        yield Problem("fine_tuner.optimizer", f'there is no optimizer "{name}"', fix)
    missing = [package for package in ("trl", "datasets") if importlib.util.find_spec(package) is None]
    if missing:
        yield Problem("stages.trainer", f"training needs {', '.join(missing)}", "Run: pip install 'ftcore[train]'")
    yield from _sharding()


def _sharding() -> Iterator[Problem]:
    """What `accelerate launch` asks for by variables, and what would lose the model in the end."""
    for variable, name in (("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")):
        if os.environ.get(variable, "").lower() in ("true", "1"):
            yield Problem(
                "stages.trainer",
                f"{variable} asks for {name}, which the trainer sft cannot do: each process would hold a part of the "
                "weights, and one process saves",
                "Train without it: several processes use DDP, with the whole model in each of them",
            )


@hookimpl
def ftcore_trace_loss(model: Module, device: Device, settings: SftSettings) -> Callable[[BatchShape], Tensor]:
    """As the trainer does it on such a device."""
    from ftcore_sft.traced import traced_loss

    return traced_loss(model, device, settings)


@hookimpl
def ftcore_make_trainer(
    run: Run,
    training: TrainingSettings,
    logging: LoggingSettings,
    saving: SavingSettings,
    audit: AuditSettings,
    settings: SftSettings,
) -> Trainer:
    """The trainer for any causal language model and tokenizer."""
    from ftcore_sft.trainer import SupervisedTrainer

    return SupervisedTrainer(run, training, logging, saving, audit, settings)


@hookimpl
def ftcore_answering(model: Any, settings: SftSettings) -> None:
    """A 16-bit adapter answers as it was evaluated, rounded once."""
    if settings.round_once:
        from ftcore_sft.lora import install

        install(model)
