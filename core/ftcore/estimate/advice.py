"""What to change where a run does not fit, in the order in which it costs least, each with what it would give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ftcore.contracts import BatchShape, LossTracer
from ftcore.errors import ModelError
from ftcore.estimate.batch import longest_possible
from ftcore.estimate.memory import estimate, quantization_in_force
from ftcore.estimate.presets import SMALLER_MODELS
from ftcore.estimate.target import Target
from ftcore.settings.fine_tuner import FineTunerSettings
from ftcore.settings.model import ModelSettings

_SHORTEST = 256

Read = Callable[[str], Any]
"""From a model's id to its architecture."""


@dataclass(frozen=True)
class Advice:
    """A change, alone.

    Attributes:
        change: what to set.
        peak: bytes with it.
        fits: whether that is within the memory.
    """

    change: str
    peak: int
    fits: bool


def advise(
    architecture: Any,
    read: Read,
    settings: FineTunerSettings,
    batch: BatchShape,
    target: Target,
    loader: str,
    tracer: LossTracer | None = None,
) -> Iterator[Advice]:
    """The changes to try, one after the other.

    Args:
        architecture: of the configured model.
        read: reads the architecture of another.
        settings, batch, target, loader, tracer: as for `estimate`.
    """

    def tried(change: str, batch: BatchShape = batch, architecture: Any = architecture, **values: Any) -> Advice:
        changed = changed_settings(settings, **values)
        peak = estimate(architecture, changed, batch, target, loader, tracer).peak
        return Advice(change, peak, peak <= target.memory)

    yield from _fewer_rows(settings, batch, tried)
    yield from _shorter(settings, batch, tried)
    if not settings.use_gradient_checkpointing:
        yield tried('use_gradient_checkpointing = "unsloth"', use_gradient_checkpointing="unsloth")
    quantization = quantization_in_force(architecture, settings.view(ModelSettings), target)
    if quantization != "4bit" and not settings.full_finetuning:
        yield tried("load_in_4bit = true", load_in_4bit=True, load_in_8bit=False, dtype=None)
    elif settings.full_finetuning:
        change = "full_finetuning = false (an adapter over 4-bit weights)"
        yield tried(change, full_finetuning=False, load_in_4bit=True, load_in_8bit=False)
    smaller = _smaller(architecture, read)
    if smaller is not None:
        name, other = smaller
        yield tried(f'base_model_id = "{name}"', architecture=other, base_model_id=name, full_finetuning=False)


def changed_settings(settings: FineTunerSettings, **values: Any) -> FineTunerSettings:
    """The settings with other values, which count as chosen."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    return FineTunerSettings(**{**given, **values})


def _fewer_rows(settings: FineTunerSettings, batch: BatchShape, tried: Callable[..., Advice]) -> Iterator[Advice]:
    """Halve the batch until it fits; grad_accumulation keeps what one optimizer step learns from."""
    rows, accumulation = batch.rows, settings.grad_accumulation
    found = None
    while rows > 1 and not (found and found.fits):
        # Rounding up keeps at least as many rows in a step as there were.
        half = rows // 2
        accumulation = -(-settings.device_train_batch_size * settings.grad_accumulation // half)
        rows = half
        smaller = BatchShape(
            rows, batch.length, max(1, batch.supervised * rows // batch.rows), batch.padded and rows > 1
        )
        found = tried(
            f"device_train_batch_size = {rows} and grad_accumulation = {accumulation}",
            smaller,
            device_train_batch_size=rows,
            grad_accumulation=accumulation,
        )
    if found:
        yield found


def _shorter(settings: FineTunerSettings, batch: BatchShape, tried: Callable[..., Advice]) -> Iterator[Advice]:
    length, found = batch.length, None
    while length // 2 >= _SHORTEST and not (found and found.fits):
        length //= 2
        found = tried(
            f"max_sequence_length = {length}", longest_possible(batch.rows, length), max_sequence_length=length
        )
    if found:
        yield found


def _smaller(architecture: Any, read: Read) -> tuple[str, Any] | None:
    """The largest of the recommended models that has a smaller hidden size or fewer layers."""
    own = _size(architecture)
    for name in SMALLER_MODELS:
        try:
            other = read(name)
        except ModelError:
            continue
        if _size(other) < own:
            return name, other
    return None


def _size(architecture: Any) -> int:
    values = architecture.get_text_config()
    return int(values.num_hidden_layers * values.hidden_size * (4 * values.hidden_size + 3 * values.intermediate_size))
