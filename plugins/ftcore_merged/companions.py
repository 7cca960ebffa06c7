"""What a model folder has besides its weights: configuration, tokenizer, chat template, generation defaults."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ftcore import files

_FROM_BASE = ("generation_config.json", "*.py")
_NOT_TOKENIZER = ("adapter_config.json", "adapter_model.*", "README.md", "training_args.bin", "*.safetensors", "*.bin")


def write_companions(folder: Path, base: Path, adapter: Path, dtype: str, untied: bool) -> None:
    """Copy and write what makes the merged weights a model that loads by itself.

    Args:
        folder: of the merged model.
        base: the base model's folder; its configuration, generation defaults and code are taken.
        adapter: the adapter's folder; its tokenizer and chat template are taken.
        dtype: the weights' type, by torch's name.
        untied: whether output head and embeddings are no longer one tensor.

    Raises:
        OSError: a file cannot be read or written.
    """
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    config.pop("quantization_config", None)
    files.write_json(folder / "config.json", _adjusted(config, dtype, untied))
    for pattern in _FROM_BASE:
        for path in base.glob(pattern):
            shutil.copyfile(path, folder / path.name)
    for path in sorted(adapter.iterdir()):
        if path.is_file() and not any(path.match(pattern) for pattern in _NOT_TOKENIZER):
            shutil.copyfile(path, folder / path.name)


def _adjusted(config: dict[str, Any], dtype: str, untied: bool) -> dict[str, Any]:
    changed: dict[str, Any] = {key: dtype for key in ("dtype", "torch_dtype") if key in config}
    if not changed:
        changed = {"dtype": dtype}
    if untied:
        changed["tie_word_embeddings"] = False
    inner = config.get("text_config")
    if isinstance(inner, dict):
        own = {key: value for key, value in changed.items() if key in inner}
        changed["text_config"] = inner | own
    return config | changed
