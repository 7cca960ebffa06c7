"""Which tensor of the base model each part of an adapter belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ftcore.errors import SaveError
from ftcore_merged.adapter import Adapter, LoraLayer
from ftcore_merged.tensor_files import Described
from ftcore_merged.weights import Weights, main_dtype

if TYPE_CHECKING:
    from torch import Tensor

_EMBEDDINGS = (
    "embed_tokens.weight",
    "wte.weight",
    "embed_in.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
)
_HEADS = ("lm_head.weight", "embed_out.weight", "output.weight")


@dataclass(frozen=True)
class Change:
    """What becomes of one tensor.

    Attributes:
        source: the base model's tensor that it starts from.
        layer: the update that is added to it; None for none.
        transposed: whether the tensor is stored as [inputs, outputs].
        bias: what is added to it, where it is a bias that an adapter has a part of its own in.
        whole: what replaces it; None to keep it.
    """

    source: str
    layer: LoraLayer | None = None
    transposed: bool = False
    bias: Tensor | None = None
    whole: Tensor | None = None

    @property
    def learned(self) -> bool:
        """Whether training had a part in it."""
        return self.layer is not None or self.bias is not None or self.whole is not None


@dataclass(frozen=True)
class Plan:
    """The merged model's tensors.

    Attributes:
        changes: by their names in the merged model.
        described: their shapes, and the types that they are written in.
        files: the names of the files that they are written to.
        untied: whether output head and embeddings, one tensor in the base model, have become two.
    """

    changes: Mapping[str, Change]
    described: Mapping[str, Described]
    files: Mapping[str, str]
    untied: bool = False

    @property
    def learned(self) -> int:
        """How many tensors training had a part in."""
        return sum(change.learned for change in self.changes.values())


def plan(weights: Weights, adapter: Adapter, dtype: Any, tied: bool) -> Plan:
    """Match an adapter with the weights of its base model.

    Args:
        dtype: the torch dtype of the merged weights.
        tied: whether the base model's output head is its embeddings.

    Raises:
        SaveError: the adapter changes something that these weights do not have, or have in another shape.
    """
    changes = {name: Change(name) for name in weights.described}
    twins = _twins(weights) if tied else None
    transposing = _stores_inputs_first(weights, adapter, twins)
    for module, layer in adapter.layers.items():
        name = _name(f"{module}.weight", changes, weights, twins)
        shape = weights.described[changes[name].source].shape
        transposed = layer.embedding or _transposed(layer, shape, transposing, module)
        changes[name] = replace(changes[name], layer=layer, transposed=transposed)
        if layer.up_bias is not None:
            bias = _name(f"{module}.bias", changes, weights, twins)
            changes[bias] = replace(changes[bias], bias=layer.up_bias * layer.scale)
    for key, tensor in adapter.whole.items():
        name = _name(key, changes, weights, twins)
        expected = weights.described[changes[name].source].shape
        if tuple(tensor.shape) != expected:
            raise _mismatch(key, tuple(tensor.shape), expected)
        changes[name] = replace(changes[name], whole=tensor)
    untied = twins is not None and _part_ways(twins, changes)
    return _described(changes, weights, dtype, untied)


def _name(wanted: str, changes: dict[str, Change], weights: Weights, twins: tuple[str, str] | None) -> str:
    """The tensor that is meant; where it is the output head of a tied model, it is added."""
    found = find(wanted, changes)
    if found is not None:
        return found
    if twins is not None and find(wanted, [twins[1]]) is not None:
        changes[twins[1]] = Change(twins[0])
        return twins[1]
    raise SaveError(
        f"the adapter changes {wanted}, which the base model in {weights.folder} does not have",
        why=f"its tensors are named like {next(iter(weights.described))}",
        fix="Name the model that the adapter was trained on with [merged] base, or ftcore merge --base",
    )


def find(wanted: str, names: Iterable[str]) -> str | None:
    """The name itself, or the only one that differs from it by a prefix of whole parts."""
    names = list(names)
    if wanted in names:
        return wanted
    near = [name for name in names if wanted.endswith(f".{name}") or name.endswith(f".{wanted}")]
    return near[0] if len(near) == 1 else None


def _twins(weights: Weights) -> tuple[str, str] | None:
    """The tensor of the embeddings, and the name of the output head that it also is."""
    embeddings = next((name for name in weights.described if name.endswith(_EMBEDDINGS)), None)
    stored = next((name for name in weights.described if name.endswith(_HEADS)), None)
    if embeddings is None:
        return None if stored is None else (stored, stored)
    return embeddings, stored or _HEADS[0]


def _part_ways(twins: tuple[str, str], changes: dict[str, Change]) -> bool:
    """Give head and embeddings a tensor each where training has made them different."""
    embeddings, head = twins
    if embeddings == head:
        return False
    first, second = changes[embeddings], changes.get(head, Change(embeddings))
    if not first.learned and not second.learned:
        return False
    layers = first.layer is not None or second.layer is not None
    if not layers and first.whole is not None and second.whole is not None and first.whole.equal(second.whole):
        changes.pop(head, None)
        return False
    changes[head] = second
    return True


def _stores_inputs_first(weights: Weights, adapter: Adapter, twins: tuple[str, str] | None) -> bool:
    """Whether square weights are [inputs, outputs]: as the adapter says, or as the others' shapes show."""
    if adapter.fan_in_fan_out:
        return True
    for module, layer in adapter.layers.items():
        name = find(f"{module}.weight", weights.described)
        if name is None or layer.embedding:
            continue
        shape = weights.described[name].shape
        if shape == (layer.down.shape[1], layer.up.shape[0]) and shape[0] != shape[1]:
            return True
    return False


def _transposed(layer: LoraLayer, shape: tuple[int, ...], transposing: bool, module: str) -> bool:
    inputs, outputs = layer.down.shape[1], layer.up.shape[0]
    if shape == (outputs, inputs) and shape == (inputs, outputs):
        return transposing
    if shape not in ((outputs, inputs), (inputs, outputs)):
        raise _mismatch(module, (outputs, inputs), shape)
    return shape == (inputs, outputs)


def _described(changes: dict[str, Change], weights: Weights, dtype: Any, untied: bool) -> Plan:
    usual = main_dtype(weights)
    last = max(weights.files.values())
    described = {}
    for name, change in changes.items():
        base = weights.described[change.source]
        # What a checkpoint keeps in another type than the rest (a router, a table of integers) has its reason.
        kept = base.dtype != usual and not (change.learned and base.dtype.is_floating_point)
        described[name] = base if kept else Described(base.shape, dtype)
    files = {name: weights.files.get(name, last) for name in changes}
    return Plan(changes, described, files, untied)


def _mismatch(name: str, has: tuple[int, ...], expected: tuple[int, ...]) -> SaveError:
    return SaveError(
        f"the adapter does not fit the base model: {name} has the shape {list(has)} there and {list(expected)} here",
        why="it was trained on another model, or the vocabulary was resized",
        fix="Name the model that it was trained on with [merged] base, or ftcore merge --base",
    )
