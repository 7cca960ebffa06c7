"""The loader: unsloth's import first, then tokenizer, model and adapter."""

from __future__ import annotations

import os
import sys
import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcore.contracts import Run
from ftcore.errors import ModelError
from ftcore.settings.lora import LoraSettings
from ftcore.settings.model import ModelSettings
from ftcore.tokenizer import sane_tokenizer
from ftcore_unsloth.adapter import add_adapter
from ftcore_unsloth.voice import heard

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedTokenizerBase

_PATCHED = ("transformers", "trl", "peft")


class UnslothLoader:
    """Implements `ftcore.contracts.Loader` with unsloth's `FastLanguageModel`."""

    def __init__(self, run: Run, source: str, model: ModelSettings, lora: LoraSettings) -> None:
        self._run, self._model, self._lora = run, model, lora
        path = Path(source).expanduser()
        self._source = str(path) if path.exists() else source

    def tokenizer(self) -> PreTrainedTokenizerBase:
        import_first(self._run)
        from transformers import AutoTokenizer

        _refuse_adapter(self._source)
        if self._model.trust_remote_code:  # said first: the tokenizer's code would run now
            self._run.warn(f"trust_remote_code is on: Python code that comes with {self._source} may run")
        return sane_tokenizer(self._read(AutoTokenizer), self._model, self._run)

    def model(self) -> Module:
        import_first(self._run)
        quantization = self._quantization()
        try:
            with heard(self._run):
                model = self._load(quantization)
                self._require(model, quantization)
                if not self._model.full_finetuning:
                    model = add_adapter(model, self._lora, self._model, self._run)
        except (OSError, ValueError, KeyError, TypeError, NotImplementedError, ImportError, RuntimeError) as error:
            raise _explained(self._source, error) from error
        _keep_gradients(model)
        self._say(model, quantization)
        model.config.use_cache = False
        return model.train()

    def _load(self, quantization: str | None) -> Any:
        from unsloth import FastLanguageModel

        settings = self._model
        attention = {} if settings.use_flash_attention else {"attn_implementation": "eager"}
        model, _ = FastLanguageModel.from_pretrained(
            model_name=self._source,
            max_seq_length=settings.max_sequence_length,
            dtype=self._dtype(),
            load_in_4bit=quantization == "4bit",
            load_in_8bit=quantization == "8bit",
            load_in_16bit=False,
            full_finetuning=settings.full_finetuning,
            token=os.environ.get("HF_TOKEN"),
            trust_remote_code=settings.trust_remote_code,
            use_gradient_checkpointing=settings.use_gradient_checkpointing,
            random_state=self._run.seed,
            **attention,
        )
        return model

    def _dtype(self) -> Any:
        """None lets unsloth choose; it would train all weights in bfloat16, in which small steps are lost."""
        import torch

        name = self._model.dtype or ("float32" if self._model.full_finetuning else None)
        return getattr(torch, name) if name else None

    @cached_property
    def _stored(self) -> str | None:
        """How the checkpoint itself is quantized."""
        from transformers import AutoConfig

        config = getattr(self._read(AutoConfig), "quantization_config", None)
        if config is None:
            return None
        values = config if isinstance(config, dict) else config.to_dict()
        return "4bit" if values.get("load_in_4bit") else "8bit" if values.get("load_in_8bit") else "other"

    def _quantization(self) -> str | None:
        import torch

        wanted = self._model.quantization()
        if self._stored is not None:
            return self._as_stored(self._stored, wanted)
        chosen = bool({"load_in_4bit", "load_in_8bit"} & self._model.model_fields_set)
        if wanted and not chosen and not torch.cuda.is_available():
            self._run.say("           load_in_4bit is only the default, and off on a machine without a GPU")
            return None
        return wanted

    def _as_stored(self, stored: str, wanted: str | None) -> str:
        if self._model.full_finetuning:
            raise ModelError(
                "full_finetuning is true and the checkpoint is stored quantized",
                why="quantized weights cannot be trained",
                fix="Set base_model_id to the unquantized model",
            )
        if wanted != stored:
            self._run.warn(f"the checkpoint is stored in {stored}, so load_in_{wanted or '4bit = false'} has no effect")
        return stored

    def _read(self, kind: Any) -> Any:
        try:
            return kind.from_pretrained(
                self._source, token=os.environ.get("HF_TOKEN"), trust_remote_code=self._model.trust_remote_code
            )
        except (OSError, ValueError, KeyError) as error:
            raise _explained(self._source, error) from error

    def _require(self, model: Any, quantization: str | None) -> None:
        """unsloth loads something else rather than nothing."""
        if hasattr(model, "peft_config"):
            raise ModelError(
                f"{self._source} is an adapter, not a model",
                why="unsloth would go on training it, and rank, lora_alpha and target_modules would have no effect",
                fix="Set base_model_id to the model that the adapter belongs to",
            )
        got = "4bit" if getattr(model, "is_loaded_in_4bit", False) else None
        got = "8bit" if getattr(model, "is_loaded_in_8bit", False) else got
        if quantization in ("4bit", "8bit") and got != quantization:
            raise ModelError(
                f"unsloth did not load {self._source} in {quantization.removesuffix('bit')} bits",
                why="it falls back on 16-bit weights where this machine or the model's shape stands in the way",
                fix=f'Set load_in_{quantization} = false, or [stages] loader = "transformers"',
            )
        loaded = str(getattr(model.config, "_name_or_path", "") or self._source)
        if loaded != self._source and not Path(self._source).exists():
            self._run.warn(f"unsloth loads {loaded} in place of {self._source}")

    def _say(self, model: Any, quantization: str | None) -> None:
        import unsloth

        kind = quantization or str(next(model.parameters()).dtype).removeprefix("torch.")
        on_cpu = model.device.type == "cpu"
        attention = getattr(model.config, "_attn_implementation", "") if on_cpu else "chosen by unsloth"
        self._run.say(f"loader     unsloth {unsloth.__version__}: {kind} on {model.device}, attention {attention}")
        if not on_cpu and not self._model.use_flash_attention:
            self._run.warn("use_flash_attention = false has no effect: unsloth chooses the attention kernel itself")
        limit = getattr(model.config, "max_position_embeddings", None)
        if isinstance(limit, int) and self._model.max_sequence_length > limit:
            self._run.warn(
                f"max_sequence_length is {self._model.max_sequence_length} and {self._source} was made for {limit} tokens"
            )


def import_first(run: Run) -> None:
    """Import unsloth before the libraries that it patches; say so where somebody was faster."""
    if "unsloth" not in sys.modules:
        early = [name for name in _PATCHED if name in sys.modules]
        if early:
            culprit = run.imported_by(early[0]) or "something outside ftcore"
            run.warn(
                f"{', '.join(early)} {'was' if len(early) == 1 else 'were'} imported before unsloth by {culprit}: "
                "some of unsloth's optimizations may not apply"
            )
        # It would write the code that it generates into the working directory, and fetch a file from the Hub
        # only to be counted.
        os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(_cache() / "unsloth-compiled"))
        os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
        with heard(run), warnings.catch_warnings():
            # What was said above, without the name of who did it.
            warnings.filterwarnings("ignore", message=r"(?s).*Unsloth should be imported before")
            import unsloth  # noqa: F401


def _cache() -> Path:
    named = os.environ.get("FTCORE_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "ftcore"
    return (Path(named) if named else base).expanduser()


def _refuse_adapter(name: str) -> None:
    folder = Path(name)
    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        raise ModelError(
            f"{name} is an adapter, not a model",
            why="training starts from a whole model",
            fix="Set base_model_id to the model that the adapter belongs to (see its adapter_config.json)",
        )


def _keep_gradients(model: Any) -> None:
    """On some CPUs bitsandbytes repacks 4-bit weights in the first evaluation, and gradients stop flowing."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _explained(source: str, error: Exception) -> ModelError:
    text = " ".join(str(error).split())[:400]
    looks_local = source.startswith((".", "/", "~")) or source.count("/") > 1
    if looks_local and not Path(source).exists():
        return ModelError(f"there is no model folder {source}", fix="Check base_model_id")
    if "gated" in text.lower() or "401" in text or "403" in text:
        return ModelError(
            f'the model "{source}" cannot be loaded',
            why="the Hub refuses access",
            fix="Accept the model's terms on its page and set HF_TOKEN to your token",
        )
    if "valid model identifier" in text or "404" in text:
        return ModelError(
            f'the model "{source}" cannot be loaded',
            why="the Hub does not show it: it is not there, or private or gated",
            fix="Check the spelling, and set HF_TOKEN to a token that may read it",
        )
    return ModelError(
        f'unsloth cannot load the model "{source}"',
        why=text,
        fix='Check base_model_id, or set [stages] loader = "transformers"',
    )
