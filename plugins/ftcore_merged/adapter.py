"""What an adapter adds to its base model, read from the files that PEFT and unsloth write."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcore.errors import SaveError
from ftcore_merged.tensor_files import TensorFile

if TYPE_CHECKING:
    from torch import Tensor

_PART = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(?P<rest>(?:\.[^.]+)*)"
)
_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|base_layer|modules_to_save\.default|modules_to_save)\."
)

_OTHER_KINDS = {
    "trainable_token_indices": "single rows of the embeddings are trained",
    "target_parameters": "parameters that belong to no layer are adapted",
    "layer_replication": "layers are repeated",
    "use_qalora": "it is a QA-LoRA",
    "alora_invocation_tokens": "it is an activated LoRA, which acts on some tokens only",
    "arrow_config": "it routes between adapters",
    "use_bdlora": "its matrices are block-diagonal",
    "velora_config": "it is a VeLoRA",
    "monteclora_config": "it is a MonteCLoRA",
    "kasa_config": "it is a KaSA",
    "megatron_config": "it is split over devices",
}
"""Keys of an adapter's configuration that change what its tensors mean."""

_ALTERS_BASE = ("pissa", "olora", "corda", "loftq", "mica")


@dataclass(frozen=True)
class LoraLayer:
    """One layer's update, `scale * up @ down`.

    Attributes:
        down: [rank, inputs].
        up: [outputs, rank].
        scale: what the product is multiplied by.
        embedding: whether it belongs to an embedding, whose weight is [inputs, outputs].
        magnitude: of a DoRA, the length of each output's weights; else None.
        up_bias: what the layer's bias is increased by, before scaling; usually None.
    """

    down: Tensor
    up: Tensor
    scale: float
    embedding: bool = False
    magnitude: Tensor | None = None
    up_bias: Tensor | None = None


@dataclass(frozen=True)
class Adapter:
    """An adapter.

    Attributes:
        layers: updates by the module's name in the model.
        whole: tensors that replace the base model's, by their name there (trained biases, `modules_to_save`).
        fan_in_fan_out: whether its configuration says that weights are stored as [inputs, outputs].
        base: what its configuration names as its base model.
    """

    layers: Mapping[str, LoraLayer]
    whole: Mapping[str, Tensor] = field(default_factory=dict)
    fan_in_fan_out: bool = False
    base: str = ""


def read_adapter(folder: Path) -> Adapter:
    """The adapter in a folder.

    Raises:
        SaveError: there is none, or it is of a kind that cannot be merged here.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        tensors = _tensors(folder)
    except (OSError, ValueError, KeyError) as error:
        raise SaveError(f"there is no adapter in {folder} that can be read", why=str(error)) from error
    _require_lora(config, folder)
    parts: dict[str, dict[str, Tensor]] = {}
    whole: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = _unwrapped(key)
        match = _PART.fullmatch(name)
        if match:
            kind = ".bias" if match["rest"].endswith(".bias") else ""
            parts.setdefault(match["module"], {})[match["part"] + kind] = tensor
        elif ".lora_" in name:
            raise _cannot(folder, f"its tensor {key} is of a kind that is not known")
        else:
            whole[name] = tensor
    layers = {module: _layer(module, found, config, folder) for module, found in parts.items()}
    return Adapter(layers, whole, bool(config.get("fan_in_fan_out")), str(config.get("base_model_name_or_path") or ""))


def _tensors(folder: Path) -> dict[str, Tensor]:
    if (folder / "adapter_model.safetensors").is_file():
        file = TensorFile(folder / "adapter_model.safetensors")
        return {name: file.read(name) for name in file.described}
    import torch

    loaded: dict[str, Tensor] = torch.load(folder / "adapter_model.bin", map_location="cpu", weights_only=True)
    return loaded


def _unwrapped(key: str) -> str:
    """A tensor's name in the model: without what PEFT and other wrappers put around its modules."""
    name = key
    while (shorter := name.removeprefix("module.").removeprefix("base_model.model.")) != name:
        name = shorter
    return _WRAPPERS.sub("", name)


def _require_lora(config: Mapping[str, Any], folder: Path) -> None:
    if config.get("peft_type") != "LORA":
        raise _cannot(folder, f"it is of the type {config.get('peft_type')}, not LoRA")
    for key, why in _OTHER_KINDS.items():
        if config.get(key):
            raise _cannot(folder, f"{why} ({key})")
    init = str(config.get("init_lora_weights", "")).lower()
    if init.startswith(_ALTERS_BASE):
        raise _cannot(folder, f'it began with "{init}", which altered the base model\'s weights too')


def _layer(module: str, parts: Mapping[str, Tensor], config: Mapping[str, Any], folder: Path) -> LoraLayer:
    embedding = "lora_embedding_A" in parts
    prefix = "lora_embedding_" if embedding else "lora_"
    down, up = parts.get(f"{prefix}A"), parts.get(f"{prefix}B")
    if down is None or up is None:
        raise _cannot(folder, f"of the layer {module} one of its two matrices is missing")
    if down.ndim != 2 or up.ndim != 2:
        raise _cannot(folder, f"the layer {module} is a convolution or holds several matrices")
    if "lora_A.bias" in parts:
        raise _cannot(folder, f"the inner matrix of the layer {module} has a bias")
    rank = down.shape[0]
    alpha = _pattern(config.get("alpha_pattern") or {}, module, config["lora_alpha"])
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    magnitude = parts.get("lora_magnitude_vector")
    if magnitude is None and config.get("use_dora"):
        raise _cannot(folder, f"it is a DoRA, and the magnitudes of the layer {module} are missing")
    bias = parts.get("lora_B.bias")
    return LoraLayer(
        down.float(),
        up.float(),
        float(scale),
        embedding,
        None if magnitude is None else magnitude.float().reshape(-1),
        None if bias is None else bias.float(),
    )


def _pattern(pattern: Mapping[str, Any], module: str, default: Any) -> Any:
    """The value of the first key that matches a module's name, or its end behind a dot, as a regular expression."""
    return next((value for key, value in pattern.items() if re.fullmatch(rf"(.*\.)?({key})", module)), default)


def _cannot(folder: Path, why: str) -> SaveError:
    return SaveError(
        f"the adapter in {folder} cannot be merged",
        why=why,
        fix="Use it as an adapter; remove merged from [stages] savers",
    )
