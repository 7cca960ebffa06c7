"""Saves the trained adapter merged into its base model, so that nothing that was learned is rounded away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ftcore import hookimpl
from ftcore.contracts import HeldOut, Run, Saved, Trained
from ftcore.errors import Problem
from ftcore_merged.settings import MergedSettings

if TYPE_CHECKING:
    from ftcore.config import Config


@hookimpl
def ftcore_settings() -> type[MergedSettings]:
    """The section `[merged]`."""
    return MergedSettings


@hookimpl
def ftcore_check(config: Config, settings: MergedSettings) -> Iterator[Problem]:
    """Is there an adapter to merge, and the base model that is named?"""
    if "merged" not in (config.stages.savers or ()):
        return
    if config.fine_tuner.full_finetuning:
        yield Problem(
            "stages.savers",
            "[stages] savers names merged and full_finetuning is true: there is no adapter to merge",
            "Remove merged",
        )
    base = settings.base
    if base is not None and base.startswith((".", "/", "~")) and not Path(base).expanduser().is_dir():
        yield Problem("merged.base", f"there is no folder {base}", "Name the folder of the base model's weights")


@hookimpl
def ftcore_save(run: Run, trained: Trained, held_out: HeldOut, settings: MergedSettings) -> Saved:
    """Write the merged model, its tokenizer and its card to `<run>/merged`.

    Raises:
        SaveError: it cannot be merged, or loses more of what was learned than `[merged] least_gain` allows.
    """
    from ftcore_merged.saver import save_merged

    return save_merged(run, trained, held_out, settings)


__all__ = ["MergedSettings", "ftcore_check", "ftcore_save", "ftcore_settings"]
