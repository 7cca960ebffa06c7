"""Weights that bitsandbytes has quantized, as the numbers that they stand for."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ftcore.errors import SaveError
from ftcore_merged.tensor_files import Described

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ftcore_merged.weights import Weights

_STATE_4BIT = ".quant_state.bitsandbytes__"
_PARTS_4BIT = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")
_SCALE_8BIT, _FORMAT_8BIT = ".SCB", ".weight_format"


class Expanded:
    """Other weights, their 4-bit or 8-bit tensors expanded when they are read.

    Args:
        stored: the checkpoint's tensors as they lie in its files.
        quantized: "4-bit" or "8-bit".
    """

    def __init__(self, stored: Weights, quantized: str) -> None:
        self._stored, self.quantized = stored, quantized
        self._states = _four_bit(stored) if quantized == "4-bit" else _eight_bit(stored)

    @property
    def folder(self) -> Path:
        return self._stored.folder

    @cached_property
    def described(self) -> dict[str, Described]:
        import torch

        parts = {part for name in self._states for part in self._parts(name)}
        plain = {name: one for name, one in self._stored.described.items() if name not in parts}
        for name, state in self._states.items():
            shape = self._state(state)["shape"] if self.quantized == "4-bit" else plain[name].shape
            plain[name] = Described(tuple(shape), torch.float32)
        return plain

    @cached_property
    def files(self) -> dict[str, str]:
        return {name: self._stored.files[name] for name in self.described}

    def read(self, name: str) -> Tensor:
        if name not in self._states:
            return self._stored.read(name)
        expand = self._from_4bit if self.quantized == "4-bit" else self._from_8bit
        return expand(name)

    def _from_4bit(self, name: str) -> Tensor:
        try:
            import bitsandbytes.functional as functional
        except ImportError as error:
            raise SaveError(
                "4-bit weights cannot be expanded",
                why=f"the package bitsandbytes cannot be imported: {error}",
                fix="Run: pip install 'ftcore[quantization]', or name the full-precision model with [merged] base",
            ) from error
        key = self._states[name]
        parts = {part: self._stored.read(part) for part in self._parts(name) if part in self._stored.described}
        state = functional.QuantState.from_dict(
            {part.removeprefix(f"{name}."): one for part, one in parts.items()}, device="cpu"
        )
        assert key in parts
        return functional.dequantize_4bit(self._stored.read(name), state).float()

    def _from_8bit(self, name: str) -> Tensor:
        scale = self._stored.read(self._states[name]).float()
        return self._stored.read(name).float().mul_(scale[:, None] / 127)

    def _parts(self, name: str) -> list[str]:
        """The tensors that say how one is quantized."""
        if self.quantized == "4-bit":
            found = [f"{name}.{part}" for part in _PARTS_4BIT if f"{name}.{part}" in self._stored.described]
            return [*found, self._states[name]]
        return [self._states[name], name.removesuffix("weight").rstrip(".") + _FORMAT_8BIT]

    def _state(self, key: str) -> dict[str, Any]:
        packed: dict[str, Any] = json.loads(bytes(self._stored.read(key).tolist()))
        return packed


def _four_bit(stored: Weights) -> dict[str, str]:
    """Each quantized weight, and the tensor with its state."""
    return {name.partition(_STATE_4BIT)[0]: name for name in stored.described if _STATE_4BIT in name}


def _eight_bit(stored: Weights) -> dict[str, str]:
    """Each quantized weight, and the tensor with its rows' scales."""
    scales = (name for name in stored.described if name.endswith(_SCALE_8BIT))
    return {f"{name.removesuffix(_SCALE_8BIT)}.weight": name for name in scales}
