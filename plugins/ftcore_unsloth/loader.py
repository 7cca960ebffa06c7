"""The loader: unsloth's import first, then tokenizer, model and adapter."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcore.contracts import Run
from ftcore.errors import ModelError
from ftcore.settings.lora import LoraSettings
from ftcore.settings.model import ModelSettings
from ftcore.tokenizer import sane_tokenizer

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedTokenizerBase

_PATCHED = ("transformers", "trl", "peft")


class UnslothLoader:
    """Implements `ftcore.contracts.Loader` with unsloth's `FastLanguageModel`."""

    def __init__(self, run: Run, source: str, model: ModelSettings, lora: LoraSettings) -> None:
        self._run, self._model, self._lora = run, model, lora
        self._source = str(Path(source).expanduser()) if Path(source).expanduser().exists() else source

    def tokenizer(self) -> PreTrainedTokenizerBase:
        import_first(self._run)
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(
                self._source, token=os.environ.get("HF_TOKEN"), trust_remote_code=self._model.trust_remote_code
            )
        except (OSError, ValueError, KeyError) as error:
            raise _explained(self._source, error) from error
        return sane_tokenizer(tokenizer, self._model, self._run)

    def model(self) -> Module:
        import_first(self._run)
        import torch
        from unsloth import FastLanguageModel

        settings = self._model
        quantization = self._quantization(torch)
        dtype = getattr(torch, settings.dtype) if settings.dtype else None
        try:
            with _quiet():
                model, _ = FastLanguageModel.from_pretrained(
                    model_name=self._source,
                    max_seq_length=settings.max_sequence_length,
                    dtype=dtype,
                    load_in_4bit=quantization == "4bit",
                    load_in_8bit=quantization == "8bit",
                    full_finetuning=settings.full_finetuning,
                    token=os.environ.get("HF_TOKEN"),
                    trust_remote_code=settings.trust_remote_code,
                    use_gradient_checkpointing=settings.use_gradient_checkpointing,
                    random_state=self._run.seed,
                    attn_implementation=None if settings.use_flash_attention else "eager",
                )
                if not settings.full_finetuning:
                    model = self._with_adapter(FastLanguageModel, model)
        except (OSError, ValueError, KeyError, NotImplementedError, ImportError, RuntimeError) as error:
            raise _explained(self._source, error) from error
        _keep_gradients(model)
        self._say(model, quantization)
        model.config.use_cache = False
        return model.train()

    def _with_adapter(self, fast: Any, model: Any) -> Any:
        lora = self._lora
        return fast.get_peft_model(
            model,
            r=lora.rank,
            lora_alpha=lora.lora_alpha,
            lora_dropout=lora.lora_dropout,
            target_modules=lora.target_modules,
            bias=lora.bias,
            use_rslora=lora.use_rslora,
            loftq_config=lora.loftq_config or {},
            use_gradient_checkpointing=self._model.use_gradient_checkpointing,
            random_state=self._run.seed,
            max_seq_length=self._model.max_sequence_length,
        )

    def _quantization(self, torch: Any) -> str | None:
        chosen = bool({"load_in_4bit", "load_in_8bit"} & self._model.model_fields_set)
        if not chosen and self._model.quantization() and not torch.cuda.is_available():
            self._run.say("           load_in_4bit is only the default, and off on a machine without a GPU")
            return None
        return self._model.quantization()

    def _say(self, model: Any, quantization: str | None) -> None:
        import unsloth

        kind = quantization or str(next(model.parameters()).dtype).removeprefix("torch.")
        attention = getattr(model.config, "_attn_implementation", "unsloth's own")
        self._run.say(f"loader     unsloth {unsloth.__version__}: {kind} on {model.device}, attention {attention}")
        if self._model.trust_remote_code:
            self._run.warn(f"trust_remote_code is on: Python code that comes with {self._source} may run")


def import_first(run: Run) -> None:
    """Import unsloth before the libraries that it patches; say so where somebody was faster."""
    if "unsloth" in sys.modules:
        return
    early = [name for name in _PATCHED if name in sys.modules]
    if early:
        culprit = run.imported_by(early[0]) or "something outside ftcore"
        run.warn(
            f"{', '.join(early)} {'was' if len(early) == 1 else 'were'} imported before unsloth by {culprit}: "
            "some of unsloth's optimizations may not apply"
        )
    with _quiet():
        import unsloth  # noqa: F401


@contextlib.contextmanager
def _quiet() -> Any:
    """unsloth's banners; what a user must know, the loader says in a line."""
    import logging

    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        yield
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def _keep_gradients(model: Any) -> None:
    """On some CPUs bitsandbytes repacks 4-bit weights in the first evaluation, and gradients stop flowing."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _explained(source: str, error: Exception) -> ModelError:
    text = " ".join(str(error).split())[:400]
    if "gated" in text.lower() or "401" in text or "403" in text:
        return ModelError(
            f'the model "{source}" cannot be loaded',
            why="the Hub refuses access",
            fix="Accept the model's terms on its page and set HF_TOKEN to your token",
        )
    return ModelError(
        f'unsloth cannot load the model "{source}"',
        why=text,
        fix='Check base_model_id, or set [stages] loader = "transformers"',
    )
