"""The LoRA adapter, through PEFT."""

from __future__ import annotations

import importlib.util
from typing import Any

from ftcore import files
from ftcore.contracts import Run
from ftcore.errors import ModelError
from ftcore.processes import rank
from ftcore.settings.lora import LoraSettings
from ftcore_transformers.loftq import initialize


def add_adapter(model: Any, lora: LoraSettings, quantization: str | None, run: Run) -> Any:
    """The model with a fresh LoRA adapter; everything else is frozen.

    Raises:
        ModelError: the target modules are not in this model, or LoftQ cannot be applied.
    """
    from peft import get_peft_model, prepare_model_for_kbit_training

    if quantization:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    _require_targets(model, lora)
    if lora.loftq_config is not None and quantization:
        raise ModelError(
            "loftq_config is set and the base model is quantized already",
            why="LoftQ compares the full-precision weights with quantized ones",
            fix="Set load_in_4bit and load_in_8bit to false, and base_model_id to the unquantized model",
        )
    try:
        adapted = get_peft_model(model, _lora_config(lora))
    except (ValueError, ImportError, TypeError, KeyError) as error:
        raise ModelError("the LoRA adapter cannot be made", why=str(error), fix="Check the LoRA keys") from error
    if lora.loftq_config is not None:
        initialize(adapted, **_loftq_options(lora.loftq_config))
        _keep_base(adapted, run)
    return adapted


def _keep_base(adapted: Any, run: Run) -> None:
    """Write the base model that LoftQ altered into the run directory, and let the adapter name it as its base."""
    folder = (run.dir / "loftq-base").absolute()
    state = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in adapted.get_base_model().state_dict().items()
        if ".lora_" not in name
    }
    try:
        if rank() == 0:  # one folder for all processes of the run
            with files.whole_folder(folder) as scratch:
                adapted.get_base_model().save_pretrained(str(scratch), state_dict=state)
    except OSError as error:
        raise ModelError(
            f"the base model that LoftQ altered cannot be written to {folder}",
            why=error.strerror or str(error),
            fix="Make room, or remove loftq_config",
        ) from error
    for config in adapted.peft_config.values():
        config.base_model_name_or_path = str(folder)
    run.say(f"loftq      the adapter belongs to an altered base model, which lies in {folder}")


def _lora_config(lora: LoraSettings) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=lora.target_modules,
        bias=lora.bias,
        use_rslora=lora.use_rslora,
    )


def _loftq_options(given: dict[str, Any]) -> dict[str, int]:
    """`bits` and `iterations` from PEFT's `LoftQConfig` keys."""
    bits, iterations = given.get("loftq_bits", 4), given.get("loftq_iter", 1)
    unknown = sorted(given.keys() - {"loftq_bits", "loftq_iter"})
    if unknown or bits not in (4, 8) or not isinstance(iterations, int) or iterations < 1:
        raise ModelError(
            f"loftq_config = {given} cannot be used",
            why="it has loftq_bits (4 or 8) and loftq_iter (1 or more)",
            fix="For example loftq_config = { loftq_bits = 4, loftq_iter = 1 }",
        )
    if importlib.util.find_spec("bitsandbytes") is None and bits == 4:
        raise ModelError(
            "loftq_config needs the package bitsandbytes",
            why="it quantizes to NF4 with it",
            fix="Run: pip install 'ftcore[quantization]'",
        )
    return {"bits": bits, "iterations": iterations}


def _require_targets(model: Any, lora: LoraSettings) -> None:
    if isinstance(lora.target_modules, str):
        return
    # Leaves with a two-dimensional weight are what an adapter can be added to.
    ends = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if getattr(getattr(module, "weight", None), "ndim", 0) == 2
    }
    names = [name for name, _ in model.named_modules()]
    for target in lora.target_modules:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise ModelError(
                f'target_modules names "{target}", which this model does not have',
                why=f"its layers are {', '.join(sorted(ends))}",
                fix='Name some of these, or set target_modules = "all-linear"',
            )
