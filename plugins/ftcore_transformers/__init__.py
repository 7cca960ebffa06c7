"""Loads tokenizer and model with transformers, and adds the LoRA adapter with PEFT."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ftcore import hookimpl
from ftcore.contracts import Bid, DataView, Loader, Run, Stage
from ftcore.errors import Problem
from ftcore.settings.lora import LoraSettings
from ftcore.settings.model import ModelSettings

if TYPE_CHECKING:
    from ftcore.config import Config

_NEEDED = ("torch", "transformers", "peft", "accelerate")


@hookimpl
def ftcore_bid(stage: Stage, data: DataView | None) -> Bid | None:
    """Serves every machine, so it stands behind more special loaders."""
    return Bid(10, "transformers runs everywhere") if stage == "loader" else None


@hookimpl
def ftcore_check(config: Config) -> Iterator[Problem]:
    """Are the packages there?"""
    if config.stages.loader not in ("auto", "transformers"):
        return
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        yield Problem("stages.loader", f"training needs {', '.join(missing)}", "Run: pip install 'ftcore[train]'")
    wants_bits = config.fine_tuner.load_in_8bit or (
        config.fine_tuner.load_in_4bit and config.was_given("fine_tuner", "load_in_4bit")
    )
    if wants_bits and importlib.util.find_spec("bitsandbytes") is None:
        key = "load_in_8bit" if config.fine_tuner.load_in_8bit else "load_in_4bit"
        yield Problem(
            f"fine_tuner.{key}",
            f"{key} needs the package bitsandbytes, which is not installed",
            f"Run: pip install 'ftcore[quantization]', or set {key} = false",
        )


@hookimpl
def ftcore_make_loader(run: Run, source: str, model: ModelSettings, lora: LoraSettings) -> Loader:
    """The loader for any causal language model that transformers knows."""
    from ftcore_transformers.loader import TransformersLoader

    return TransformersLoader(run, source, model, lora)
