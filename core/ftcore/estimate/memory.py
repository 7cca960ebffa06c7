"""The predicted peak of a configuration, and what it is made of."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftcore.contracts import BatchShape, LossTracer
from ftcore.errors import ModelError
from ftcore.estimate.architecture import build, stored_quantization
from ftcore.estimate.optimizers import state_bytes, step_bytes
from ftcore.estimate.target import Target, weights_dtype
from ftcore.settings.fine_tuner import FineTunerSettings
from ftcore.settings.lora import LoraSettings
from ftcore.settings.model import ModelSettings

PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "allocator", "libraries")
"""What a peak is made of, in the order of a table."""


_HOLES_LEFT = 0.6
"""Of the simulated heap's holes, under gradient checkpointing. Fitted on four such runs of SmolLM2-135M; what a run
holds varies by up to 8 % from one time to the next."""


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        parts: bytes by part (see `PARTS`) at the moment of the peak.
        trainable, total: parameters.
        quantization: "4bit", "8bit" or None, as it will be in force.
        dtype: of the weights that are not quantized.
        optimizer: the one counted.
        batch: the one traced.
    """

    parts: Mapping[str, int]
    trainable: int
    total: int
    quantization: str | None
    dtype: str
    optimizer: str
    batch: BatchShape

    @property
    def peak(self) -> int:
        """Bytes."""
        return sum(self.parts.values())


def quantization_in_force(config: Any, settings: ModelSettings, target: Target) -> str | None:
    """What the loaders make of `load_in_4bit` and `load_in_8bit` on such a machine.

    Raises:
        ModelError: the checkpoint is stored quantized, and all weights shall be trained, or its kind is not known.
    """
    stored = stored_quantization(config)
    if stored == "other":
        raise ModelError(
            "the memory of this checkpoint cannot be estimated",
            why="it is stored in a quantization other than bitsandbytes'",
            fix="Estimate the unquantized model with load_in_4bit or load_in_8bit",
        )
    if stored and settings.full_finetuning:
        raise ModelError(
            "full_finetuning is true and the checkpoint is stored quantized",
            why="quantized weights cannot be trained",
            fix="Set base_model_id to the unquantized model",
        )
    chosen = bool({"load_in_4bit", "load_in_8bit"} & settings.model_fields_set)
    if stored or (target.device == "cpu" and not chosen):
        return stored
    return settings.quantization()


def estimate(
    architecture: Any,
    settings: FineTunerSettings,
    batch: BatchShape,
    target: Target,
    loader: str = "transformers",
    tracer: LossTracer | None = None,
) -> Estimate:
    """Predict the peak of training.

    Args:
        architecture: the model's transformers configuration.
        settings: `[fine_tuner]`.
        batch: the largest one.
        target: the machine.
        loader: the plugin that loads the model; unsloth keeps 16-bit norms and moves checkpoints off the GPU.
        tracer: makes the model compute as the trainer would; None takes the model's own forward and loss.

    Raises:
        ModelError: the model cannot be laid out or traced.
    """
    from ftcore.estimate.trace import trace

    model = settings.view(ModelSettings)
    quantization = quantization_in_force(architecture, model, target)
    dtype = weights_dtype(model, target)
    blueprint = build(
        copy.deepcopy(architecture), model, settings.view(LoraSettings), quantization, dtype, loader == "unsloth"
    )
    trained = [
        (tuple(parameter.shape), parameter.element_size())
        for parameter in blueprint.model.parameters()
        if parameter.requires_grad
    ]
    optimizer = settings.optimizer if target.device == "cuda" else _without_pages(settings.optimizer)
    states = state_bytes(optimizer, trained)
    traced = trace(blueprint, batch, settings.grad_accumulation > 1, _autocast(dtype, target), target.device, tracer)
    parts = dict.fromkeys(PARTS, 0) | dict(traced.peak)
    if target.device == "cpu":
        parts["allocator"] = max(0, traced.resident - sum(parts.values()))
        if settings.use_gradient_checkpointing:
            parts["allocator"] = int(parts["allocator"] * _HOLES_LEFT)
    elif loader == "unsloth" and settings.use_gradient_checkpointing == "unsloth":
        parts["activations"] -= _offloaded(architecture, batch, parts["activations"])
    stepping = traced.weights + traced.gradients + step_bytes(optimizer, trained, target.device == "cuda")
    if stepping > sum(parts.values()):
        rest = stepping - traced.weights - traced.gradients
        parts = dict.fromkeys(PARTS, 0) | {"weights": traced.weights, "gradients": traced.gradients}
        parts["activations"] = rest
    parts |= {"optimizer": states, "libraries": target.overhead}
    return Estimate(parts, blueprint.trainable, blueprint.total, quantization, dtype, optimizer, batch)


def _autocast(dtype: str, target: Target) -> str | None:
    """What the trainer computes under on a GPU; a processor computes in the types of the weights."""
    if target.device == "cpu":
        return None
    return "float16" if dtype == "float16" else "bfloat16"


def _without_pages(optimizer: str) -> str:
    return optimizer.removeprefix("paged_")


def _offloaded(architecture: Any, batch: BatchShape, activations: int) -> int:
    """unsloth keeps the inputs of the checkpointed layers in the machine's memory instead of the GPU's."""
    values = architecture.get_text_config()
    inputs = batch.rows * batch.length * values.hidden_size * 2 * (values.num_hidden_layers - 1)
    return int(min(inputs, activations))
