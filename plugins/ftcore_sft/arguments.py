"""ftcore's settings as TRL's `SFTConfig`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ftcore.settings.logging import LoggingSettings
from ftcore.settings.saving import SavingSettings
from ftcore.settings.training import TrainingSettings
from ftcore_sft.settings import SftSettings


def sft_config(
    output_dir: Path,
    training: TrainingSettings,
    logging: LoggingSettings,
    saving: SavingSettings,
    settings: SftSettings,
    optimizer: str,
    precision: dict[str, bool],
    has_validation: bool,
) -> Any:
    """The arguments of the trainer; everything that ftcore does itself is switched off in them."""
    from transformers.training_args import OptimizerNames
    from trl import SFTConfig

    if precision.get("use_cpu"):
        # accelerate would call it "cpu:0" where there are several processes, and torch loads no checkpoint to that.
        os.environ.setdefault("ACCELERATE_TORCH_DEVICE", "cpu")
    config = SFTConfig(
        output_dir=str(output_dir),
        num_train_epochs=training.epochs,
        learning_rate=training.learning_rate,
        per_device_train_batch_size=training.device_train_batch_size,
        per_device_eval_batch_size=training.device_validation_batch_size,
        gradient_accumulation_steps=training.grad_accumulation,
        warmup_steps=training.warmup_steps,
        lr_scheduler_type=_scheduler(training),
        optim=optimizer if optimizer in _TORCHS_ADAMW else _TORCHS_ADAMW[0],
        weight_decay=training.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        seed=training.seed,
        data_seed=training.seed,
        logging_strategy="steps",
        logging_steps=logging.log_steps,
        logging_first_step=logging.log_first_step,
        logging_nan_inf_filter=False,  # a NaN loss is news, not noise
        save_strategy="steps",
        save_steps=saving.save_steps,
        save_total_limit=None,  # see WholeCheckpoints
        eval_strategy=_evaluation(settings, has_validation),
        eval_steps=settings.eval_steps,
        report_to="none",
        disable_tqdm=True,
        log_level_replica="error",  # of several processes; by default they say more than the main one
        push_to_hub=False,
        remove_unused_columns=False,
        gradient_checkpointing=False,  # the loader has switched it on where it was asked for
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        packing=False,
        loss_type="nll",
        **precision,
    )
    # Set afterwards: without a GPU, unsloth's SFTConfig replaces bitsandbytes' optimizers, which do run on a CPU.
    if optimizer not in _TORCHS_ADAMW:
        config.optim = OptimizerNames(optimizer)
    # A process that sees several GPUs uses one, and no copies of the model in threads: that is what processes are for.
    config._n_gpu = min(config.n_gpu, 1)
    return config


_TORCHS_ADAMW = ("adamw_torch", "adamw_torch_fused")
"""The same computation; unsloth always takes the fused one."""


def _scheduler(training: TrainingSettings) -> str:
    # transformers' "constant" would ignore warmup_steps in silence.
    if training.lr_scheduler_type == "constant" and training.warmup_steps:
        return "constant_with_warmup"
    return training.lr_scheduler_type


def _evaluation(settings: SftSettings, has_validation: bool) -> str:
    if not has_validation:
        return "no"
    return "steps" if settings.eval_steps else "epoch"


def mixed_precision(model: Any, training: TrainingSettings) -> dict[str, bool]:
    """Which autocast to train under: bfloat16 over float32 weights on a GPU that has it, a scaled float16 over
    trainable float16's float32 copies, none where the frozen weights have their type already."""
    import torch

    dtypes = {parameter.dtype for parameter in model.parameters()}
    if not torch.cuda.is_available():
        return {"bf16": False, "fp16": False, "use_cpu": True}
    if torch.float16 in dtypes:
        return {"bf16": False, "fp16": True}
    return {"bf16": torch.cuda.is_bf16_supported(including_emulation=False), "fp16": False}
