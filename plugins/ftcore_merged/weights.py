"""The weights in a model folder, read a tensor at a time: safetensors in one file or in shards, or PyTorch's own files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ftcore.errors import SaveError
from ftcore_merged.tensor_files import Described, TensorFile

if TYPE_CHECKING:
    from torch import Tensor

ONE_FILE = "model.safetensors"


class Weights(Protocol):
    """Named tensors.

    Attributes:
        folder: where they lie.
        described: shape and type of each, by name.
        files: the file name that each is to be written to.
        quantized: how they were stored, e.g. "4-bit"; empty for ordinary weights.
    """

    @property
    def folder(self) -> Path: ...
    @property
    def described(self) -> Mapping[str, Described]: ...
    @property
    def files(self) -> Mapping[str, str]: ...
    @property
    def quantized(self) -> str: ...
    def read(self, name: str) -> Tensor:
        """A tensor, in the type that it is described with."""


def main_dtype(weights: Weights) -> Any:
    """The torch dtype that most of the weights have."""
    bytes_of: Counter[Any] = Counter()
    for described in weights.described.values():
        if described.dtype.is_floating_point:
            bytes_of[described.dtype] += described.bytes
    return bytes_of.most_common(1)[0][0]


def open_weights(folder: Path) -> Weights:
    """The full weights in a folder, those of bitsandbytes expanded.

    Raises:
        SaveError: there are none, they cannot be read, or they are quantized in another way.
    """
    try:
        plain = _plain(folder)
        kind = _quantization(folder)
    except (OSError, ValueError, KeyError) as error:
        raise SaveError(
            f"the base model's weights in {folder} cannot be read", why=str(error), fix="Download or write them again"
        ) from error
    if not kind:
        return plain
    from ftcore_merged.expanded import Expanded

    return Expanded(plain, kind)


def has_weights(folder: Path) -> bool:
    """Whether a folder holds a model whose weights can be read here."""
    return (folder / "config.json").is_file() and bool(_files(folder))


def _quantization(folder: Path) -> str:
    """How a checkpoint is stored: "4-bit", "8-bit", or empty.

    Raises:
        SaveError: in a way that cannot be expanded here.
    """
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("quantization_config")
    if not stored:
        return ""
    if stored.get("load_in_4bit"):
        return "4-bit"
    if stored.get("load_in_8bit"):
        return "8-bit"
    raise SaveError(
        f"the base model in {folder} is quantized with {stored.get('quant_method', 'an unknown method')}",
        why="only bitsandbytes' 4-bit and 8-bit weights can be expanded",
        fix="Name the full-precision model with [merged] base, or ftcore merge --base",
    )


def _plain(folder: Path) -> Weights:
    names = _files(folder)
    if not names:
        raise SaveError(
            f"there are no weights in {folder}",
            why="there is no model.safetensors or pytorch_model.bin, nor an index of either",
            fix="Name a folder with the base model's weights with [merged] base, or ftcore merge --base",
        )
    return Safetensors(folder, names) if names[0].endswith(".safetensors") else Pickled(folder, names)


def _files(folder: Path) -> list[str]:
    for stem, ending in (("model", "safetensors"), ("pytorch_model", "bin")):
        index = folder / f"{stem}.{ending}.index.json"
        if index.is_file():
            return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if (folder / f"{stem}.{ending}").is_file():
            return [f"{stem}.{ending}"]
    return []


class Safetensors:
    """Weights in safetensors files."""

    quantized = ""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder = folder
        self._of = {
            tensor: (name, file)
            for name, file in ((name, TensorFile(folder / name)) for name in names)
            for tensor in file.described
        }

    @cached_property
    def described(self) -> dict[str, Described]:
        return {name: file.described[name] for name, (_, file) in self._of.items()}

    @cached_property
    def files(self) -> dict[str, str]:
        return {name: file for name, (file, _) in self._of.items()}

    def read(self, name: str) -> Tensor:
        return self._of[name][1].read(name)


class Pickled:
    """Weights in PyTorch's files, mapped into memory."""

    quantized = ""

    def __init__(self, folder: Path, names: list[str]) -> None:
        import torch

        self.folder = folder
        self._tensors: dict[str, Any] = {}
        self.files: dict[str, str] = {}
        for name in names:
            loaded = torch.load(folder / name, map_location="cpu", mmap=True, weights_only=True)
            self._tensors |= loaded
            new = name.replace("pytorch_model", "model").removesuffix(".bin") + ".safetensors"
            self.files |= dict.fromkeys(loaded, new)
        self.described = {name: Described(tuple(one.shape), one.dtype) for name, one in self._tensors.items()}

    def read(self, name: str) -> Tensor:
        return self._tensors[name]
