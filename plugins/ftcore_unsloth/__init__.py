"""Loads the model with unsloth, on a GPU or with its CPU backend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ftcore import hookimpl
from ftcore.contracts import Bid, DataView, Declined, Loader, Run, Stage
from ftcore.errors import Problem
from ftcore.settings.lora import LoraSettings
from ftcore.settings.model import ModelSettings
from ftcore_unsloth.limits import beyond
from ftcore_unsloth.versions import obstacle

if TYPE_CHECKING:
    from ftcore.config import Config

_FIX = """Run: pip install 'ftcore[unsloth]', or set [stages] loader = "transformers\""""


@hookimpl
def ftcore_bid(stage: Stage, config: Config, data: DataView | None) -> Bid | Declined | None:
    """Serves a machine where unsloth is installed in a version that this plugin was tested with, for what it can do."""
    if stage != "loader":
        return None
    if reason := obstacle():
        return Declined(reason)
    if unfit := beyond(config.fine_tuner):
        return Declined("; ".join(reason for _, reason in unfit))
    return Bid(20, "unsloth is installed and drives this machine")


@hookimpl
def ftcore_check(config: Config) -> Iterator[Problem]:
    """Is unsloth there, in a version that is known to work, and can it do what is asked?"""
    if config.stages.loader != "unsloth":
        return
    if reason := obstacle():
        yield Problem("stages.loader", f"unsloth cannot be used: {reason}", _FIX)
    for key, reason in beyond(config.fine_tuner):
        yield Problem(f"fine_tuner.{key}", reason, f'Change {key}, or set [stages] loader = "transformers"')


@hookimpl
def ftcore_make_loader(run: Run, source: str, model: ModelSettings, lora: LoraSettings) -> Loader:
    """The loader around `FastLanguageModel`."""
    from ftcore_unsloth.loader import UnslothLoader

    return UnslothLoader(run, source, model, lora)
