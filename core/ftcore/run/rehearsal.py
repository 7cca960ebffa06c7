"""The largest batches before the first step, so that what does not fit is known then and not hours later."""

from __future__ import annotations

import time
from typing import Any, Literal

from ftcore.config import Config
from ftcore.contracts import Prepared, Rehearsed
from ftcore.errors import OutOfMemory
from ftcore.run import memory
from ftcore.run.runs import ActiveRun

Part = Literal["training", "evaluation"]


def rehearse(active: ActiveRun, config: Config, trainer: Any, model: Any, prepared: Prepared) -> None:
    """Let the trainer compute its largest batches, and tell how much memory they took.

    The optimizer's states come with the first step and stay. Memory of their size is held meanwhile, so that what
    fits now also fits then.

    Raises:
        OutOfMemory: a batch does not fit.
    """
    if not config.run.dry_step:
        return
    if not hasattr(trainer, "rehearse"):
        active.say(
            f"dry step   the trainer {config.stages.trainer} has none: the longest batch is not tried beforehand"
        )
        return
    began = time.perf_counter()
    held = _like_optimizer_states(model, config)
    parts: tuple[Part, ...] = ("training", "evaluation") if prepared.validation is not None else ("training",)
    found = {part: facts for part in parts if (facts := _one(active, trainer, part)) is not None}
    del held
    if not found:
        return
    active.record(dry_step=found)
    what = ", ".join(f"{part} {facts['rows']} rows of {facts['tokens']:,} tokens" for part, facts in found.items())
    highest = max(facts["peak_bytes"] for facts in found.values())
    of = f" of {memory.gib(memory.total())}" if memory.total() else ""
    active.say(f"dry step   {what}: peak {memory.gib(highest)}{of} ({time.perf_counter() - began:.1f} s)")


def _one(active: ActiveRun, trainer: Any, part: Part) -> dict[str, Any] | None:
    # A system that kills for want of memory leaves no other word than this line of the log.
    active.note(f"dry step: the longest {part} batch")
    began = time.perf_counter()
    try:
        with memory.measured() as peak:
            done: Rehearsed | None = trainer.rehearse(part)
    except Exception as error:
        if memory.ran_out(error):
            raise OutOfMemory(f"the longest {part} batch does not fit in memory (dry step)") from error
        raise
    if done is None:
        return None
    facts: dict[str, Any] = {"rows": done.rows, "tokens": done.tokens, "device": peak.device}
    facts |= {"peak_bytes": peak.highest, "growth_bytes": peak.growth}
    if peak.device == "cuda":
        facts["tensor_bytes"] = peak.tensors
    return facts | {"seconds": round(time.perf_counter() - began, 3)}


def _like_optimizer_states(model: Any, config: Config) -> Any:
    import torch

    from ftcore.estimate.optimizers import state_bytes

    optimizer = config.fine_tuner.optimizer
    if optimizer.startswith("paged_") and memory.cuda() is not None:
        return None  # its states leave the GPU where they do not fit
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        return None
    size = state_bytes(optimizer, [(tuple(parameter.shape), parameter.element_size()) for parameter in trained])
    try:
        # Filled, because untouched memory of a CPU is none.
        return torch.full((size,), 1, dtype=torch.uint8, device=trained[0].device)
    except (RuntimeError, MemoryError) as error:
        if memory.ran_out(error):
            raise OutOfMemory(f"the states of the optimizer {optimizer} do not fit in memory (dry step)") from error
        raise
