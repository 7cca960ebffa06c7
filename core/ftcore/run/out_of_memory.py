"""Running out of memory ends a run with one line, and with what to change, in numbers for this configuration."""

from __future__ import annotations

import contextlib
import gc
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ftcore import checkpoints
from ftcore.config import Config
from ftcore.errors import FtcoreError, OutOfMemory, SaveError
from ftcore.plugins import Plugins, selection
from ftcore.run import memory
from ftcore.run.runs import ActiveRun
from ftcore.run.stages import Stages
from ftcore.settings.model import ModelSettings

if TYPE_CHECKING:
    from ftcore.estimate.advice import Advice

LARGEST_BATCH = "largest_batch"
"""The manifest's key of the largest training batch, as `ftcore.contracts.BatchShape` describes it."""

_SECONDS = 60.0
"""How long estimating may take; the changes that it did not come to by then are left out."""

_FIXED = (
    "Lower device_train_batch_size (and raise grad_accumulation), then max_sequence_length; then set "
    'use_gradient_checkpointing = "unsloth", load_in_4bit = true or a smaller model'
)
"""The advice where nothing can be estimated."""


@contextlib.contextmanager
def explained(active: ActiveRun, config: Config, plugins: Plugins) -> Iterator[None]:
    """Turn a want of memory inside into `OutOfMemory`, with advice on the console, in the log and in the manifest.

    Raises:
        OutOfMemory: instead of whatever said that there is too little memory.
    """
    try:
        yield
    except Exception as error:
        sign = memory.scarcity(error)
        if sign is None or isinstance(error, SaveError):
            raise
        what, why = _told(error), _first_sentences(sign)
        active.note("memory ran out", exc_info=error)
        reach = memory.within_reach()
        _let_go(error)
    else:
        return
    batch = active.facts.get(LARGEST_BATCH)
    if "fit" in active.facts.get("progress", {}):
        fix = f"The training itself is over and kept: type ftcore finish {active.dir} where there is more"
    elif batch:
        fix = _advise(active, config, plugins, batch, reach)
    else:
        fix = "It takes a machine with more, or fewer rows"
    raise OutOfMemory(what, why=f"{why}; {_kept(active)}", fix=fix) from None


def _told(error: Exception) -> str:
    if isinstance(error, FtcoreError) and not isinstance(error, OutOfMemory):
        return f"memory ran out: {error.what}"
    return error.what if isinstance(error, OutOfMemory) else "memory ran out"


def _first_sentences(sign: BaseException) -> str:
    """What torch says, without its advice on the allocator and its C++ stack."""
    text = " ".join(str(sign).split()) or type(sign).__name__
    return text.partition(" If reserved")[0].partition(" Exception raised from")[0][:300].rstrip(".")


def _let_go(error: BaseException | None) -> None:
    """Drop what the frames of an error hold: the model and its tensors, which are in the way of estimating."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()
    if (gpu := memory.cuda()) is not None:
        gpu.empty_cache()


def _kept(active: ActiveRun) -> str:
    found = checkpoints.newest(active.dir / "checkpoints")
    if found.folder is None:
        return "no checkpoint was written yet"
    return (
        f"what was trained up to step {found.step} is in {found.folder}, and goes on with "
        f"ftcore run CONFIG --resume {active.name} --accept-changes"
    )


def _advise(active: ActiveRun, config: Config, plugins: Plugins, batch: dict[str, Any], reach: int) -> str:
    """Say what each change would give; returns the first one that fits, as a fix."""
    active.say("memory     estimating what would fit …")
    try:
        predicted, tried = _estimated(config, plugins, batch, reach)
    except Exception as error:  # whatever cannot be estimated: the run must end with its own error
        active.note("nothing could be estimated", exc_info=error)
        return _FIXED
    active.record(
        out_of_memory={"estimated": predicted, "within_reach": reach, "advice": [asdict(item) for item in tried]}
    )
    active.say(
        f"           this configuration takes about {memory.gib(predicted)}; {memory.gib(reach)} are within reach"
    )
    active.say("           to make it fit, change, each alone:")
    width = max((len(item.change) for item in tried), default=0)
    for number, item in enumerate(tried, start=1):
        mark = "fits" if item.fits else "too much still"
        active.say(f"           {number}. {item.change.ljust(width)}  {memory.gib(item.peak):>9}  {mark}")
    first = next((item for item in tried if item.fits), None)
    if first is None:
        return "Make several of the changes above together" if tried else _FIXED
    return f"Set {first.change}: that takes about {memory.gib(first.peak)} instead of {memory.gib(predicted)}"


def _estimated(config: Config, plugins: Plugins, batch: dict[str, Any], reach: int) -> tuple[int, list[Advice]]:
    """The peak of this configuration in bytes, and of each change.

    What ran out of memory fits nowhere, whatever the estimate says of it: a change has to take a tenth less.
    """
    from ftcore.contracts import BatchShape, Device
    from ftcore.estimate.advice import advise
    from ftcore.estimate.architecture import read_config
    from ftcore.estimate.memory import estimate
    from ftcore.estimate.target import Target

    settings = config.fine_tuner
    model = settings.view(ModelSettings)
    loader = selection.loader_for(config, plugins).plugin
    stages = Stages(config, plugins, selection.choices(config, plugins))
    architecture = read_config(stages.model_source(), model)
    largest = BatchShape(**batch)
    device: Device = "cpu" if memory.cuda() is None else "cuda"
    target = Target(device, reach, device)
    began, tracer = time.monotonic(), stages.loss_tracer()
    predicted = estimate(architecture, settings, largest, target, loader, tracer).peak
    # An estimate counts CUDA's context, which nobody could have for tensors.
    room = reach + (target.overhead if device == "cuda" else 0)
    target = Target(device, min(room if reach else predicted, predicted * 9 // 10), device)
    tried = []
    for item in advise(architecture, lambda name: read_config(name, model), settings, largest, target, loader, tracer):
        tried.append(item)
        if time.monotonic() - began > _SECONDS:
            break
    return predicted, tried
