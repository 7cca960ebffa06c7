"""The merge itself: in float32, a piece of a tensor at a time, rounded once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcore.errors import SaveError
from ftcore_merged.adapter import LoraLayer
from ftcore_merged.plan import Change, Plan
from ftcore_merged.rounding import Rounding
from ftcore_merged.tensor_files import write
from ftcore_merged.weights import ONE_FILE, Weights

if TYPE_CHECKING:
    from torch import Tensor

_PIECE = 2**20
"""How many numbers of a tensor are computed at a time."""


@dataclass
class Kept:
    """How much of the weights' change is left after rounding.

    The change that was wanted, D, and the one that was written, E, are compared by E·D / D·D: 1 where nothing is lost on
    average, 0 where the weights are back where they were.
    """

    wanted: float = field(default=0.0)
    written: float = field(default=0.0)

    def add(self, before: Tensor, exact: Tensor, rounded: Tensor) -> None:
        """Count a piece: float32 before, as it should be, and as it was written."""
        wanted = (exact - before).flatten()
        self.wanted += float(wanted.dot(wanted))
        self.written += float((rounded.float() - before).flatten().dot(wanted))

    @property
    def share(self) -> float | None:
        """E·D / D·D; None where nothing was to be changed."""
        return self.written / self.wanted if self.wanted else None


def write_merged(folder: Path, weights: Weights, merged: Plan, rounding: str, seed: int) -> Kept:
    """Write the merged weights: one tensor of the base model is in memory at a time.

    Args:
        folder: is there; gets the weight files and, where there are several, their index.
        rounding: "stochastic" or "nearest", for what training has changed. The rest goes to the nearest number.

    Raises:
        SaveError: a weight is too large for the type.
        OSError: the disk is full.
    """
    kept = Kept()

    def pieces(name: str) -> Iterator[Tensor]:
        change, dtype = merged.changes[name], merged.described[name].dtype
        kind = rounding if change.learned else "nearest"
        return _pieces(name, change, weights, Rounding(kind, dtype, seed, name), dtype, kept)

    names = sorted(set(merged.files.values()))
    sizes: dict[str, int] = {}
    for file in names:
        content = [(name, merged.described[name]) for name, where in merged.files.items() if where == file]
        sizes |= write(folder / file, content, pieces)
    if names != [ONE_FILE]:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": dict(sorted(merged.files.items()))}
        (folder / f"{ONE_FILE}.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return kept


def _pieces(
    name: str, change: Change, weights: Weights, rounding: Rounding, dtype: Any, kept: Kept
) -> Iterator[Tensor]:
    if change.whole is None and not change.learned and weights.described[change.source].dtype == dtype:
        yield weights.read(change.source)
        return
    base = weights.read(change.source)
    if not base.is_floating_point():
        yield base
        return
    rows = max(1, _PIECE // max(1, base[0].numel())) if base.ndim else 1
    if change.layer is not None and change.layer.magnitude is not None and change.transposed:
        rows = base.shape[0]  # an output's weights are a column, whose length has to be known
    for start in range(0, base.shape[0], rows) if base.ndim else [0]:
        part = slice(start, start + rows)
        before = (base[part] if base.ndim else base).float()
        exact = _changed(before, change, part)
        rounded = rounding(exact)
        if change.learned:
            kept.add(before, exact, rounded)
        _require_finite(name, exact, rounded)
        yield rounded


def _changed(before: Tensor, change: Change, part: slice) -> Tensor:
    """Some rows of a tensor as training left them, float32."""
    if change.whole is not None:
        before = (change.whole[part] if change.whole.ndim else change.whole).float()
    if change.bias is not None:
        return before + (change.bias[part] if change.bias.ndim else change.bias)
    if change.layer is None:
        return before
    return _with_layer(before, change.layer, change.transposed, part)


def _with_layer(before: Tensor, layer: LoraLayer, transposed: bool, part: slice) -> Tensor:
    if transposed:
        update = layer.down[:, part].T @ (layer.up.T * layer.scale)
    else:
        update = (layer.up[part] * layer.scale) @ layer.down
    new = before + update
    if layer.magnitude is None:
        return new
    # DoRA (Liu et al. 2024, arXiv:2402.09353): the direction is learned by the product, the length by itself.
    if transposed:
        return new * (layer.magnitude / new.norm(dim=0))
    return new * (layer.magnitude[part] / new.norm(dim=1))[:, None]


def _require_finite(name: str, exact: Tensor, rounded: Tensor) -> None:
    import torch

    lost = exact.isfinite() & ~rounded.isfinite()
    if bool(lost.any()):
        raise SaveError(
            f"the merged model cannot be stored in {str(rounded.dtype).removeprefix('torch.')}",
            why=f"{name} has values up to {float(exact[lost].abs().max()):.4g}, and the largest number of that type is "
            f"{torch.finfo(rounded.dtype).max:.4g}",
            fix="Choose bfloat16: dtype in [merged], or ftcore merge --dtype bf16",
        )
