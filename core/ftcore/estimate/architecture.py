"""The model as it will be trained, on torch's meta device: every shape and type, no weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftcore.errors import ModelError
from ftcore.estimate.known import architecture
from ftcore.settings.lora import LoraSettings
from ftcore.settings.model import ModelSettings


@dataclass(frozen=True)
class Blueprint:
    """A model without weights.

    Attributes:
        model: on the meta device, its adapter added, in training mode.
        quantization: "4bit", "8bit" or None, as it will be in force.
        dtype: of the weights that are not quantized, as torch names it.
        trainable, total: parameters; a quantized weight counts as the weights it holds.
    """

    model: Any
    quantization: str | None
    dtype: str
    trainable: int
    total: int


def read_config(source: str, settings: ModelSettings) -> Any:
    """The model's transformers configuration: of a folder, a GGUF file, a model that ftcore knows, or the Hub's.

    Raises:
        ModelError: there is none.
    """
    from transformers import AutoConfig

    path = Path(source).expanduser()
    where, options = source, {}
    if source.startswith((".", "/", "~")) and not path.exists():
        raise ModelError(f"there is no model folder {source}", fix="Check base_model_id")
    if path.suffix.lower() == ".gguf":
        where, options = str(path.parent), {"gguf_file": path.name}
    elif path.exists():
        where = str(path)
    elif known := architecture(source):
        known = dict(known)
        config = AutoConfig.for_model(known.pop("model_type"), **known)
        config.quantization_config = known.get("quantization_config")
        return config
    try:
        return AutoConfig.from_pretrained(where, trust_remote_code=settings.trust_remote_code, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            f'the configuration of the model "{source}" cannot be read',
            why=" ".join(str(error).split())[:300],
            fix="Check base_model_id and the network (and HF_TOKEN for a gated model), or use a local folder",
        ) from error


def stored_quantization(config: Any) -> str | None:
    """How the checkpoint itself is quantized: "4bit", "8bit", "other" or None."""
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return None
    values = stored if isinstance(stored, dict) else stored.to_dict()
    return "4bit" if values.get("load_in_4bit") else "8bit" if values.get("load_in_8bit") else "other"


def build(
    config: Any, settings: ModelSettings, lora: LoraSettings, quantization: str | None, dtype: str, keeps_half: bool
) -> Blueprint:
    """The model as the loader will make it.

    Args:
        config: from `read_config`; it is changed.
        quantization: "4bit", "8bit" or None.
        keeps_half: the loader leaves the layers that a quantized model does not quantize in 16 bits (unsloth); PEFT
            makes them float32.

    Raises:
        ModelError: transformers or PEFT cannot make such a model.
    """
    import logging

    import torch
    from transformers import AutoModelForCausalLM

    # Said at import, when no GPU is found; the kernels it misses are optional.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    config.__dict__.pop("quantization_config", None)
    attention = "sdpa" if settings.use_flash_attention else "eager"
    try:
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(
                config,
                dtype=getattr(torch, dtype),
                attn_implementation=attention,
                trust_remote_code=settings.trust_remote_code,
            )
            total = sum(parameter.numel() for parameter in model.parameters())
            if settings.full_finetuning:
                model.requires_grad_(True)
            else:
                if quantization:
                    _quantize(model, quantization, getattr(torch, dtype), keeps_half)
                model, added = _adapted(model, lora)
                total += added
    except (ValueError, ImportError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        raise ModelError(
            "the model cannot be laid out", why=" ".join(str(error).split())[:300], fix="Check the model and LoRA keys"
        ) from error
    if settings.use_gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Blueprint(model.train(), quantization, dtype, trainable, total)


def _adapted(model: Any, lora: LoraSettings) -> tuple[Any, int]:
    from peft import LoraConfig, get_peft_model

    before = sum(parameter.numel() for parameter in model.parameters())
    adapted = get_peft_model(
        model,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=lora.rank,
            lora_alpha=lora.lora_alpha,
            lora_dropout=lora.lora_dropout,
            target_modules=lora.target_modules,
            bias=lora.bias,
            use_rslora=lora.use_rslora,
        ),
    )
    return adapted, sum(parameter.numel() for parameter in adapted.parameters()) - before


def _quantize(model: Any, quantization: str, compute_dtype: Any, keeps_half: bool) -> None:
    """Replace the linear layers that bitsandbytes quantizes: all but the head."""
    import torch

    from ftcore.estimate.quantized import QuantizedLinear

    head = model.get_output_embeddings()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is torch.nn.Linear and child is not head:
                setattr(module, name, QuantizedLinear(child, quantization, compute_dtype))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if not keeps_half:
        quantized = {id(module.weight) for module in model.modules() if isinstance(module, QuantizedLinear)}
        for parameter in model.parameters():
            if id(parameter) not in quantized:
                parameter.data = parameter.data.to(torch.float32)
