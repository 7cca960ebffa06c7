"""Safetensors files read and written a tensor at a time.

The library's writer wants all tensors of a file at once, and its reader maps the whole file. The format is simple
enough (eight bytes of length, a JSON header, the tensors' bytes) to do with one tensor in memory.
Source: the format's specification in the safetensors project's README.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_CODES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip
_CODE_OF = {name: code for code, name in _CODES.items()}


@dataclass(frozen=True)
class Described:
    """A tensor's shape and torch dtype."""

    shape: tuple[int, ...]
    dtype: Any

    @property
    def bytes(self) -> int:
        """How many bytes it takes."""
        return math.prod(self.shape) * int(self.dtype.itemsize)


class TensorFile:
    """A safetensors file.

    Raises:
        ValueError: it is none, or has a type that is not known here.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        import torch

        self._path = path
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if not 2 <= size <= path.stat().st_size - 8:
                raise ValueError(f"{path} is no safetensors file")
            header = json.loads(file.read(size))
        self._start = 8 + size
        header.pop("__metadata__", None)
        if unknown := {entry["dtype"] for entry in header.values()} - _CODES.keys():
            raise ValueError(f"{path} has tensors of the type {', '.join(sorted(unknown))}")
        self._offsets = {name: entry["data_offsets"][0] for name, entry in header.items()}
        self.described = {
            name: Described(tuple(entry["shape"]), getattr(torch, _CODES[entry["dtype"]]))
            for name, entry in header.items()
        }

    def read(self, name: str) -> Tensor:
        """A tensor, in memory of its own."""
        import torch

        described = self.described[name]
        buffer = bytearray(described.bytes)
        with self._path.open("rb") as file:
            file.seek(self._start + self._offsets[name])
            if file.readinto(buffer) != len(buffer):
                raise OSError(f"{self._path} ends in the middle of {name}")
        if not buffer:
            return torch.empty(described.shape, dtype=described.dtype)
        return torch.frombuffer(buffer, dtype=described.dtype).reshape(described.shape)


def write(
    path: Path, tensors: Sequence[tuple[str, Described]], pieces: Callable[[str], Iterable[Tensor]]
) -> dict[str, int]:
    """Write a file; returns the bytes of each tensor.

    Args:
        tensors: what will be in it. It is written in the order of falling item sizes, so that all are aligned.
        pieces: the parts of a tensor one after the other, in its described type; asked for once for each.

    Raises:
        OSError: the file cannot be written.
    """
    ordered = sorted(tensors, key=lambda item: (-item[1].dtype.itemsize, item[0]))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, described in ordered:
        code = _CODE_OF[str(described.dtype).removeprefix("torch.")]
        header[name] = {
            "dtype": code,
            "shape": list(described.shape),
            "data_offsets": [end, end := end + described.bytes],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, described in ordered:
            written = sum(file.write(_bytes(piece, described.dtype)) for piece in pieces(name))
            assert written == described.bytes, f"{name}: {written} bytes instead of {described.bytes}"
    return {name: described.bytes for name, described in ordered}


def _bytes(tensor: Tensor, dtype: Any) -> Any:
    import torch

    assert tensor.dtype == dtype, f"{tensor.dtype} instead of {dtype}"
    flat = tensor.detach().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else b""
