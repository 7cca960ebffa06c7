"""One adapter, trained once, and its losses in every form that it can be used in."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from rounding.models import Example, Subject, padded

FORMS = ("base", "fp32", "peft", "once", "nearest", "stochastic")
"""Of an adapter, in the order of the tables; "base" is the model without it."""

BATCH = 4
_EVALUATED_AT_ONCE = 8


def trained(subject: Subject, rank: int, lr: float, seed: int, steps: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """Train an adapter, stopping at each of `steps`; the model with it, in bfloat16 with ftcore's forward.

    LoRA on all matrices of the layers, alpha twice the rank, no dropout; AdamW without weight decay, a constant rate,
    gradients of norm 1 at most. The seed decides adapter and rows.
    """
    from peft import LoraConfig, get_peft_model

    from ftcore_sft.lora import install

    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(copy.deepcopy(subject.half), config)
    report = install(model)
    assert report.layers, "no LoRA layer"
    assert not report.aside, report
    examples = subject.examples(subject.training_rows())
    random.Random(seed).shuffle(examples)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=lr, weight_decay=0.0)
    for step in range(1, max(steps) + 1):
        start = (step - 1) * BATCH % (len(examples) - BATCH + 1)
        model.train()
        optimizer.zero_grad()
        total, count = _summed(model, examples[start : start + BATCH])
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        if step in steps:
            yield step, model.eval()


def losses(subject: Subject, model: Any, held_out: Sequence[Example], forms: Sequence[str]) -> dict[str, float]:
    """The mean loss per supervised token on held-out rows, by the form that the adapter is used in."""
    ways: dict[str, Callable[[], Any]] = {
        "base": lambda: _without(model),
        "fp32": lambda: _in_float32(subject, model),
        "peft": lambda: _as_peft(model),
        "once": lambda: _as_it_is(model),
        "nearest": lambda: _merged(model, "nearest"),
        "stochastic": lambda: _merged(model, "stochastic"),
    }
    found = {}
    for form in forms:
        with ways[form]() as used:
            found[form] = evaluated(used, held_out)
    return found


def evaluated(model: Any, examples: Sequence[Example]) -> float:
    """The mean loss per supervised token."""
    ordered = sorted(examples, key=lambda one: len(one.ids))
    total = count = 0.0
    with torch.no_grad():
        for start in range(0, len(ordered), _EVALUATED_AT_ONCE):
            summed, tokens = _summed(model, ordered[start : start + _EVALUATED_AT_ONCE])
            total, count = total + float(summed), count + tokens
    return total / count


def _summed(model: Any, batch: Sequence[Example]) -> tuple[Any, int]:
    """The loss summed over the supervised tokens, and how many they are."""
    inputs, mask, labels = padded(batch)
    causal = model.get_base_model()
    hidden = getattr(causal, causal.base_model_prefix)(input_ids=inputs, attention_mask=mask, use_cache=False)[0]
    targets = labels[:, 1:]
    learned = targets != -100
    logits = causal.get_output_embeddings()(hidden[:, :-1][learned])
    loss = torch.nn.functional.cross_entropy(logits.float(), targets[learned], reduction="sum")
    return loss, int(learned.sum())


@contextmanager
def _as_it_is(model: Any) -> Iterator[Any]:
    yield model


@contextmanager
def _without(model: Any) -> Iterator[Any]:
    with model.disable_adapter():
        yield model


@contextmanager
def _as_peft(model: Any) -> Iterator[Any]:
    """PEFT's own forward: the adapter in float32 beside layers in bfloat16."""
    from ftcore_sft.lora import install, remove

    remove(model)
    try:
        yield model
    finally:
        install(model)


@contextmanager
def _in_float32(subject: Subject, model: Any) -> Iterator[Any]:
    from ftcore_sft.lora import install, remove

    remove(model)  # a copy would still have the original's functions
    try:
        yield copy.deepcopy(model).float()
    finally:
        install(model)


@contextmanager
def _merged(model: Any, rounding: str) -> Iterator[Any]:
    """The adapter in the weights, as `ftcore merge` computes it."""
    from peft.tuners.lora import LoraLayer

    from ftcore_merged.rounding import Rounding

    before = {}
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer):
            weight = layer.get_base_layer().weight.data
            down, up = layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data
            before[layer] = weight.clone()
            exact = weight.float() + (up * layer.scaling["default"]) @ down
            weight.copy_(Rounding(rounding, weight.dtype, 0, name)(exact))
    try:
        with model.disable_adapter():
            yield model
    finally:
        for layer, weight in before.items():
            layer.get_base_layer().weight.data.copy_(weight)
