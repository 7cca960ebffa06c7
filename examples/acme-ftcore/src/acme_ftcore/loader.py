"""Acme's loader: float32, and a LoRA adapter on the query and value projections, unless the configuration says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftcore.contracts import Run
from ftcore.errors import ModelError
from ftcore.settings.lora import LoraSettings
from ftcore.settings.model import ModelSettings

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedTokenizerBase

TARGETS = ["q_proj", "v_proj"]
"""The layers that get an adapter where `target_modules` is not set."""


class AcmeLoader:
    """Implements `ftcore.contracts.Loader`."""

    def __init__(self, run: Run, source: str, model: ModelSettings, lora: LoraSettings) -> None:
        self._run, self._source, self._model, self._lora = run, source, model, lora

    def tokenizer(self) -> PreTrainedTokenizerBase:
        from transformers import AutoTokenizer

        tokenizer: Any = self._read(AutoTokenizer)
        if not tokenizer.chat_template:
            raise ModelError(f"the tokenizer of {self._source} has no chat template", fix="Use an instruct model")
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def model(self) -> Module:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, set_seed

        dtype = self._model.dtype or "float32"
        targets = self._lora.target_modules if "target_modules" in self._lora.model_fields_set else TARGETS
        set_seed(self._run.seed)
        base = self._read(AutoModelForCausalLM, dtype=getattr(torch, dtype))
        base = base.to("cuda" if torch.cuda.is_available() else "cpu")
        base.config.use_cache = False
        adapter = LoraConfig(
            task_type="CAUSAL_LM",
            r=self._lora.rank,
            lora_alpha=self._lora.lora_alpha,
            lora_dropout=self._lora.lora_dropout,
            target_modules=targets,
        )
        where = targets if isinstance(targets, str) else " and ".join(targets)
        self._run.say(f"loader     acme: {dtype} on {base.device}, adapter on {where}")
        return get_peft_model(base, adapter).train()

    def _read(self, kind: Any, **options: Any) -> Any:
        try:
            return kind.from_pretrained(self._source, **options)
        except (OSError, ValueError) as error:
            raise ModelError(f'the model "{self._source}" cannot be loaded', why=str(error)) from error
