"""The loader: tokenizer first, then the model with its adapter."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcore.contracts import Run
from ftcore.errors import ModelError
from ftcore.settings.lora import LoraSettings
from ftcore.settings.model import ModelSettings
from ftcore.tokenizer import sane_tokenizer
from ftcore_transformers.adapter import add_adapter
from ftcore_transformers.gguf import as_ordinary, keep_base
from ftcore_transformers.hardware import attention_implementation, choose_dtype
from ftcore_transformers.quantization import (
    already_quantized,
    keep_trainable,
    quantization_config,
    wanted_quantization,
)

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedTokenizerBase


class TransformersLoader:
    """Implements `ftcore.contracts.Loader` for a Hub id, a local folder or a GGUF file."""

    def __init__(self, run: Run, source: str, model: ModelSettings, lora: LoraSettings) -> None:
        self._run, self._model, self._lora = run, model, lora
        self._name, self._extra = _where(source)

    @cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        return self._load(AutoConfig)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        from transformers import AutoTokenizer

        _refuse_adapter(self._name)
        if self._model.trust_remote_code:  # said first: the tokenizer's code would run now
            self._run.warn(f"trust_remote_code is on: Python code that comes with {self._name} may run")
        return sane_tokenizer(self._load(AutoTokenizer), self._model, self._run)

    def model(self) -> Module:
        import torch
        from transformers import AutoModelForCausalLM, set_seed

        settings = self._model
        set_seed(self._run.seed)
        quantization = wanted_quantization(self._config, settings, self._run)
        dtype = choose_dtype(settings, torch)
        attention = attention_implementation(settings.use_flash_attention, self._config, dtype, torch)
        options: dict[str, Any] = {"dtype": dtype, "attn_implementation": attention}
        if quantization and not already_quantized(self._config):
            options["quantization_config"] = quantization_config(quantization, dtype)
        if torch.cuda.is_available():
            _take_own_gpu(torch)
            options["device_map"] = {"": torch.cuda.current_device()}
        model, loaded = self._load(AutoModelForCausalLM, output_loading_info=True, **options)
        if missing := sorted(loaded["missing_keys"]):
            raise ModelError(
                f"the weights of {self._name} are incomplete",
                why=f"{len(missing)} tensors are missing and would be random, e.g. {missing[0]}",
                fix="Download the model again, or check that it is a causal language model",
            )
        if quantization == "4bit":
            keep_trainable(model)
        if "gguf_file" in self._extra:
            as_ordinary(model)
            if not settings.full_finetuning:
                keep_base(model, self._run)
        self._say(model, quantization, attention)
        self._check_length(model)
        checkpointing = bool(settings.use_gradient_checkpointing)
        model.config.use_cache = False
        if settings.full_finetuning:
            model.requires_grad_(True)
        else:
            model = add_adapter(model, self._lora, quantization, self._run)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            model.enable_input_require_grads()
        return model.train()

    def _load(self, kind: Any, **options: Any) -> Any:
        from safetensors import SafetensorError

        try:
            return kind.from_pretrained(
                self._name, trust_remote_code=self._model.trust_remote_code, **self._extra, **options
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
            raise _explained(self._name, self._model, error) from error

    def _say(self, model: Any, quantization: str | None, attention: str) -> None:
        dtype = quantization or str(next(model.parameters()).dtype).removeprefix("torch.")
        self._run.say(f"loader     transformers: {dtype} on {model.device}, attention {attention}")
        if self._model.use_gradient_checkpointing == "unsloth":
            self._run.say("           use_gradient_checkpointing: this loader does torch's own, not unsloth's")

    def _check_length(self, model: Any) -> None:
        limit = getattr(model.config, "max_position_embeddings", None)
        if isinstance(limit, int) and self._model.max_sequence_length > limit:
            self._run.warn(
                f"max_sequence_length is {self._model.max_sequence_length} and {self._name} was made for {limit} tokens"
            )


def _take_own_gpu(torch: Any) -> None:
    """Of several processes on a machine, each has the GPU of its number.

    Raises:
        ModelError: there is none for it.
    """
    number, count = int(os.environ.get("LOCAL_RANK") or 0), torch.cuda.device_count()
    if number >= count and "CUDA_VISIBLE_DEVICES" not in os.environ:  # which may show each process its own
        raise ModelError(
            f"there is no GPU for the process with LOCAL_RANK {number}",
            why=f"torch sees {count} GPU{'s' * (count != 1)}, and each process needs one",
            fix="Start as many processes as there are GPUs",
        )
    if "LOCAL_RANK" in os.environ:
        torch.cuda.set_device(number % count)


def _where(source: str) -> tuple[str, dict[str, str]]:
    """What to hand to `from_pretrained`: a name, and `gguf_file` for a GGUF file."""
    path = Path(source).expanduser()
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise ModelError(f"there is no GGUF file {source}", fix="Check base_model_id")
        return str(path.parent), {"gguf_file": path.name}
    return (str(path), {}) if path.exists() else (source, {})


def _refuse_adapter(name: str) -> None:
    folder = Path(name)
    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        raise ModelError(
            f"{name} is an adapter, not a model",
            why="training starts from a whole model",
            fix="Set base_model_id to the model that the adapter belongs to (see its adapter_config.json)",
        )


def _explained(name: str, settings: ModelSettings, error: Exception) -> ModelError:
    text = " ".join(str(error).split())
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_local and not Path(name).expanduser().exists():
        return ModelError(f"there is no model folder {name}", fix="Check base_model_id")
    if "gated" in text.lower() or "401" in text or "403" in text:
        why, fix = "the Hub refuses access", "Accept the model's terms on its page and set HF_TOKEN to your token"
    elif "trust_remote_code" in text:
        why, fix = "it comes with Python code of its own", "Read that code, then set trust_remote_code = true"
    elif Path(name).exists():
        why, fix = text, "The folder needs config.json, the weights and the tokenizer's files"
    elif isinstance(error, OSError):
        why, fix = text, "Check the spelling and the network, or use a local folder"
    else:
        why, fix = text, "Check that the installed transformers knows this model"
    return ModelError(f'the model "{name}" cannot be loaded', why=why[:400], fix=fix)
