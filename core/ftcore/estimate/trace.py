"""One training step without data: every tensor that it allocates, and when each is freed.

The step runs under torch's FakeTensorMode, in which tensors have shapes and types and no contents, and a dispatch mode
that sees every operation. So whatever the architecture saves for its backward pass, recomputes under gradient
checkpointing, or casts for an adapter, is counted as it happens, and needs no formula that a new model would break.
For a Llama-like layer it comes to what one would derive: with checkpointing the layer's input alone, tokens × hidden ×
2 bytes in bfloat16; without, also the inputs of its norms (in float32), of each adapter (a float32 copy and a dropout
mask), the queries, keys and values, and three tensors of tokens × intermediate size; with `eager` attention, besides,
heads × length² of probabilities.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from ftcore.contracts import BatchShape, Device, LossTracer
from ftcore.errors import ModelError
from ftcore.estimate.architecture import Blueprint
from ftcore.estimate.heap import Heap
from ftcore.estimate.quantized import QuantizedLinear


@dataclass(frozen=True)
class Traced:
    """What a step takes, in bytes.

    Attributes:
        peak: by category (`weights`, `gradients`, `activations`, `logits`) at the moment when the sum is largest.
        resident: how much the C library's heap holds at most for the same allocations, holes included (CPU).
        weights: all weights, the adapter's among them.
        gradients: at the end of the step.
    """

    peak: Mapping[str, int]
    resident: int
    weights: int
    gradients: int


def trace(
    blueprint: Blueprint,
    batch: BatchShape,
    accumulates: bool,
    autocast: str | None,
    device: Device,
    tracer: LossTracer | None,
) -> Traced:
    """Trace a training step.

    Args:
        blueprint: the model; its parameters are replaced by traced ones.
        accumulates: the gradients of an earlier batch are kept.
        autocast: "bfloat16" or "float16" where the trainer computes under it.
        device: that the run is for.
        tracer: makes the model compute as the trainer would.

    Raises:
        ModelError: the architecture does what cannot be traced (it looks at the contents of its tensors).
    """
    model = blueprint.model
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    casting: Any = torch.autocast("cpu", getattr(torch, autocast)) if autocast else nullcontext()
    tracker = Tracker(causal.config.get_text_config().vocab_size)
    try:
        with FakeTensorMode(), tracker:
            _materialize(model)
            weights = sum(tracker.live.values())
            for parameter in model.parameters():
                if parameter.requires_grad:
                    if accumulates:
                        parameter.grad = torch.empty_like(parameter)
                        tracker.move(parameter.grad, "gradients")
                    parameter.register_post_accumulate_grad_hook(lambda traced: tracker.move(traced.grad, "gradients"))
            compute = None if tracer is None else tracer(model, device)
            with casting:
                loss = _own_loss(causal, batch) if compute is None else compute(batch)
            loss.backward()
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        raise ModelError(
            "the memory of this architecture cannot be estimated",
            why=f"its step cannot be traced: {' '.join(str(error).split())[:300]}",
            fix="Run it with a small batch and look",
        ) from error
    return Traced({**tracker.peak, "weights": weights}, tracker.heap.highest, weights, tracker.live["gradients"])


class Tracker(TorchDispatchMode):  # type: ignore[misc]
    """Counts the bytes of live tensor storages, by category.

    Args:
        vocabulary: a tensor whose last dimension is this is logits.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.live: Counter[str] = Counter()
        self.peak: dict[str, int] = {}
        self.heap = Heap()
        self.category = ""
        self._total = self._highest = 0
        self._vocabulary = vocabulary
        self._seen: weakref.WeakKeyDictionary[Any, _Block] = weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_iter(out):
            if isinstance(value, torch.Tensor):
                self._note(value)
        return out

    def move(self, tensor: Any, category: str) -> None:
        """Count a tensor under another category from now on."""
        block = self._seen.get(tensor.untyped_storage())
        if block is not None:
            self.live[block.category] -= block.size
            self.live[category] += block.size
            block.category = category

    def _note(self, tensor: Any) -> None:
        storage = tensor.untyped_storage()
        if storage in self._seen:
            return
        size = int(storage.nbytes())
        logits = tensor.ndim > 0 and tensor.shape[-1] == self._vocabulary
        block = _Block(size, self.category or ("logits" if logits else "activations"))
        block.place = self.heap.allocate(size)
        self._seen[storage] = block
        weakref.finalize(storage, self._free, block).atexit = False
        self.live[block.category] += size
        self._total += size
        if self._total > self._highest:
            self._highest, self.peak = self._total, dict(self.live)

    def _free(self, block: _Block) -> None:
        self.live[block.category] -= block.size
        self._total -= block.size
        self.heap.free(block.place)


@dataclass
class _Block:
    size: int
    category: str
    place: Any = field(default=None)


def _materialize(model: Any) -> None:
    """Replace the meta tensors, which operations would only pass on, by traced ones."""
    made: dict[int, Any] = {}
    mode: Any = torch.utils._python_dispatch._get_current_dispatch_mode()
    mode.category = "weights"
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            if isinstance(module, QuantizedLinear) and name == "weight":
                traced: Any = torch.empty(module.packed_bytes, dtype=torch.uint8, device="cpu")
                module._parameters[name] = torch.nn.Parameter(traced, requires_grad=False)
                continue
            if id(parameter) not in made:
                traced = torch.empty(parameter.shape, dtype=parameter.dtype, device="cpu")
                made[id(parameter)] = torch.nn.Parameter(traced, requires_grad=parameter.requires_grad)
            module._parameters[name] = made[id(parameter)]
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu")
    mode.category = ""


def _own_loss(causal: Any, batch: BatchShape) -> Any:
    rows, length = batch.rows, batch.length
    inputs: dict[str, Any] = {"input_ids": torch.zeros(rows, length, dtype=torch.long)}
    if batch.padded:
        inputs["attention_mask"] = torch.ones(rows, 1, length, length, dtype=torch.bool)
    return causal(**inputs, labels=inputs["input_ids"], use_cache=False).loss
