"""From the adapter of a run to the folder of a merged model."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ftcore import files
from ftcore.contracts import HeldOut, Run, Saved, Trained
from ftcore.errors import FtcoreError, SaveError
from ftcore_merged.adapter import read_adapter
from ftcore_merged.base import Base, find_base, is_tied
from ftcore_merged.card import render
from ftcore_merged.companions import write_companions
from ftcore_merged.judgement import Losses, require
from ftcore_merged.merging import Kept, write_merged
from ftcore_merged.plan import Plan, plan
from ftcore_merged.settings import MergedSettings
from ftcore_merged.weights import main_dtype

FOLDER = "merged"
"""The folder of the run directory that the merged model is written to."""


def save_merged(run: Run, trained: Trained, held_out: HeldOut, settings: MergedSettings) -> Saved:
    """Merge, weigh, and keep the merged model if it has kept what was learned.

    Raises:
        SaveError: it cannot be merged, or the merge loses too much; nothing is left behind then.
    """
    adapter_folder = _adapter_folder(run, trained)
    adapter = read_adapter(adapter_folder)
    base = find_base(settings.base, adapter.base, run.dir, trained.base_model_id, held_out.source)
    dtype = _dtype(settings, base)
    changes = plan(base.weights, adapter, dtype, is_tied(base.weights))
    name = str(dtype).removeprefix("torch.")
    rounding = "not rounded" if name == "float32" else f"rounded {settings.rounding}"
    run.say(f"merging    {changes.learned} of {len(changes.changes)} tensors into {base.which}, {name}, {rounding}")
    folder = run.dir / FOLDER
    try:
        with files.whole_folder(folder) as scratch:
            kept = write_merged(scratch, base.weights, changes, settings.rounding, settings.seed)
            write_companions(scratch, base.weights.folder, adapter_folder, name, changes.untied)
            losses, unchecked = _weigh(run, trained, held_out, settings, base, adapter_folder, scratch, name)
            _tell(run, losses, unchecked, kept)
            if losses is not None:
                require(losses, settings.least_gain, settings.rounding, name)
            _describe(scratch, adapter_folder, base, changes, settings, name, kept, losses, unchecked)
    except OSError as error:
        raise SaveError(
            f"the merged model cannot be written to {folder}",
            why=error.strerror or str(error),
            fix=f"Make room, then type ftcore merge {run.dir}",
        ) from error
    return Saved(f"merged model ({name})", str(folder))


def _adapter_folder(run: Run, trained: Trained) -> Path:
    folder = run.dir / "model"
    if trained.kind != "adapter":
        raise SaveError("there is no adapter to merge", why="the run has trained the whole model")
    # A resumed run may find the adapter of its first part there.
    if run.resumed or not folder.exists():
        trained.export(folder)
    return folder


def _dtype(settings: MergedSettings, base: Base) -> Any:
    import torch

    if settings.dtype is not None:
        return getattr(torch, settings.dtype)
    return torch.bfloat16 if base.weights.quantized else main_dtype(base.weights)


def _weigh(
    run: Run,
    trained: Trained,
    held_out: HeldOut,
    settings: MergedSettings,
    base: Base,
    adapter: Path,
    merged: Path,
    dtype: str,
) -> tuple[Losses | None, str]:
    """The three losses; or None, and why."""
    if not held_out.rows:
        return None, "the run has no validation data (name some with ftcore merge --data)"
    known = trained.metrics
    reusable = settings.base is None and _same_weights(run, base) and {"eval_loss_before", "eval_loss"} <= known.keys()
    try:
        before = known["eval_loss_before"] if reusable else held_out.loss(base.weights.folder)
        after = known["eval_loss"] if reusable else held_out.loss(base.weights.folder, adapter=adapter)
        return Losses(before, after, held_out.loss(merged, dtype=dtype)), ""
    except FtcoreError as error:
        return None, f"the evaluation failed: {error}"


def _same_weights(run: Run, base: Base) -> bool:
    """Whether the run's own losses belong to the weights that are merged into."""
    quantized = any(run.settings.get(f"fine_tuner.load_in_{bits}bit") for bits in (4, 8))
    return not quantized and not base.weights.quantized


def _tell(run: Run, losses: Losses | None, unchecked: str, kept: Kept) -> None:
    if losses is None:
        run.warn(f"nothing could be checked about the merge: {unchecked}")
    else:
        run.say(f"held out   {losses.told()}")
    if kept.share is not None:
        run.say(f"           of the weights' change, {100 * kept.share:.1f} % is left after rounding")


def _describe(
    folder: Path,
    adapter: Path,
    base: Base,
    changes: Plan,
    settings: MergedSettings,
    dtype: str,
    kept: Kept,
    losses: Losses | None,
    unchecked: str,
) -> None:
    """Write `merge.json` and the card."""
    facts: dict[str, Any] = {
        "base": base.which,
        "dtype": dtype,
        "rounding": settings.rounding,
        "seed": settings.seed,
        "tensors": len(changes.changes),
        "changed_tensors": changes.learned,
        "untied_embeddings": changes.untied,
        "update_kept": kept.share,
        "least_gain": settings.least_gain,
        "held_out_loss": None if losses is None else asdict(losses),
        "gain_kept": None if losses is None else losses.kept,
        "unchecked": unchecked or None,
    }
    (folder / "merge.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    card = adapter / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    (folder / "README.md").write_text(render(text, facts, losses, unchecked), encoding="utf-8")
