"""`ftcore estimate CONFIG`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ftcore.cli.options import config_argument, set_option
from ftcore.cli.tracing import discover, trace_option

if TYPE_CHECKING:
    from ftcore.estimate.plan import Plan

_GIB = 2**30


@click.command()
@config_argument
@set_option
@click.option("--gpu", metavar="SIZE", help="Estimate for a GPU with so much memory, like 8gb, or none for a CPU.")
@click.option("--data", "measure_data", is_flag=True, help="Read the data and look how long the rows are.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
@trace_option
def estimate(config: Path, overrides: tuple[str, ...], gpu: str | None, measure_data: bool, as_json: bool) -> None:
    """Say how much memory training as CONFIG says will take, without loading the model.

    Where it does not fit, say what to change, and what each change would give.
    """
    from ftcore.check import read
    from ftcore.estimate import plan as plans
    from ftcore.estimate import presets, target

    size = None if gpu is None else presets.memory(gpu)
    plugins = discover()
    settings = read(config, plugins, overrides)
    machine = target.this_machine() if size is None else target.gpu(size) if size else target.processor()
    plan = plans.plan(settings, plugins, machine, measure_data)
    if as_json:
        click.echo(json.dumps(_facts(plan), indent=2, ensure_ascii=False))
    else:
        for line in _lines(plan):
            click.echo(line)


def _facts(plan: Plan) -> dict[str, Any]:
    found, preset = plan.estimate, _preset(plan)
    return {
        "peak_bytes": found.peak,
        "parts_bytes": dict(found.parts),
        "trainable_parameters": found.trainable,
        "parameters": found.total,
        "quantization": found.quantization,
        "dtype": found.dtype,
        "optimizer": found.optimizer,
        "batch": vars(found.batch),
        "loader": plan.loader,
        "target": vars(plan.target),
        "fits": plan.fits,
        "preset": None if preset is None else vars(preset),
        "advice": [vars(item) for item in plan.advice],
        "notes": plan.notes,
    }


def _lines(plan: Plan) -> Iterator[str]:
    found = plan.estimate
    share = 100 * found.trainable / found.total
    yield f"model        {found.total:,} parameters, {found.trainable:,} of them trained ({share:.2f} %)"
    kind = f"{found.quantization}, the rest {found.dtype}" if found.quantization else found.dtype
    yield f"weights in   {kind}, loaded by {plan.loader}"
    batch = found.batch
    yield f"batch        {batch.rows} × {batch.length} tokens, {batch.supervised:,} of them supervised"
    yield ""
    for name, count in found.parts.items():
        if count:
            yield f"{_WHAT[name].format(found.optimizer):<40}{_gib(count):>10}"
    yield f"{'peak':<40}{_gib(found.peak):>10}"
    yield ""
    verdict = "fits" if plan.fits else "does not fit"
    yield f"It {verdict} {plan.target.name} ({_gib(plan.target.memory).strip()})."
    preset = _preset(plan)
    if preset is not None:
        yield (
            f"The preset for this size: {preset.base_model_id}, max_sequence_length {preset.max_sequence_length}, "
            f"device_train_batch_size {preset.device_train_batch_size}, grad_accumulation {preset.grad_accumulation}, "
            f"rank {preset.rank} (`ftcore init --gpu {preset.gib}gb`)."
        )
    if plan.advice:
        yield "To make it fit, change, each alone:"
        width = max(len(item.change) for item in plan.advice)
        for number, item in enumerate(plan.advice, start=1):
            mark = "fits" if item.fits else "too much still"
            yield f"  {number}. {item.change.ljust(width)}  {_gib(item.peak)}  {mark}"
    for note in plan.notes:
        yield f"Note: {note}."


def _preset(plan: Plan) -> Any:
    from ftcore.estimate.presets import fitting

    return fitting(plan.target.memory) if plan.target.device == "cuda" else None


_WHAT = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer ({})",
    "activations": "activations",
    "logits": "logits and their gradients",
    "allocator": "holes that the allocator leaves",
    "libraries": "libraries",
}


def _gib(count: int) -> str:
    return f"{count / _GIB:6.2f} GiB"
