"""Which weights an adapter is merged into: the full-precision ones of its base model, where they can be had."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ftcore.errors import SaveError
from ftcore_merged.weights import Weights, has_weights, open_weights

_KEPT_IN_RUN = ("loftq-base", "gguf-base")
"""Folders of a run directory in which a loader has written the base model that the adapter belongs to."""

_QUANTIZED_ENDINGS = ("-unsloth-bnb-4bit", "-bnb-4bit", "-bnb-8bit")
"""How Hub repositories of quantized copies are called behind the original's name."""

_WANTED = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.py", "*.jinja", "*.model", "*.txt"]


@dataclass(frozen=True)
class Base:
    """The weights to merge into.

    Attributes:
        weights: opened, not read.
        which: which ones these are, for people.
    """

    weights: Weights
    which: str


def find_base(
    given: str | None, named_by_adapter: str, run_dir: Path, model_id: str, source: Callable[[], str]
) -> Base:
    """The base model's weights.

    Args:
        given: a folder or Hub id that the user names; else None.
        named_by_adapter: what the adapter's configuration names as its base.
        run_dir: the run directory, in which a loader may have kept the base.
        model_id: the base model that is configured.
        source: resolves it to a folder or Hub id.

    Raises:
        SaveError: there are none here, and none can be fetched.
    """
    if given is not None:
        return _opened(_local(given), f"the weights of {given}")
    if Path(named_by_adapter).name in _KEPT_IN_RUN:
        # The adapter fits these weights only; the directory may have been moved since.
        here, then = run_dir / Path(named_by_adapter).name, Path(named_by_adapter)
        return _opened(here if has_weights(here) else then, f"the base model in {here.name}, which the run has kept")
    name = source()
    folder = _local(name)
    weights = open_weights(folder)
    if not weights.quantized:
        return Base(weights, f"the full-precision weights of {model_id}")
    return _unquantized(name) or Base(
        weights, f"the {weights.quantized} weights of {model_id}, expanded: full-precision ones could not be had"
    )


def _unquantized(name: str) -> Base | None:
    """The model that a quantized copy was made of, if it can be told and had."""
    for ending in _QUANTIZED_ENDINGS:
        if name.rstrip("/").lower().endswith(ending):
            original = name.rstrip("/")[: -len(ending)]
            try:
                return _opened(_local(original), f"the full-precision weights of {original}, of which {name} is a copy")
            except SaveError:
                return None
    return None


def _opened(folder: Path, which: str) -> Base:
    if not folder.is_dir():
        raise SaveError(
            f"there is no folder {folder} with the base model's weights",
            fix="Name one with [merged] base, or ftcore merge --base",
        )
    weights = open_weights(folder)
    return Base(weights, f"{which}, expanded from {weights.quantized}" if weights.quantized else which)


def _local(name: str) -> Path:
    """A model's folder on this machine; a Hub id is downloaded, or found among the downloads.

    Raises:
        SaveError: it is neither.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or path.suffix == ".gguf":
        raise SaveError(
            f"there are no weights to merge into at {name}",
            why="it is no folder",
            fix="Name the base model's folder with [merged] base, or ftcore merge --base",
        )
    try:
        from huggingface_hub import snapshot_download

        token = os.environ.get("HF_TOKEN")
        folder = Path(snapshot_download(name, allow_patterns=_WANTED, ignore_patterns=["*/*"], token=token))
        if not has_weights(folder):
            folder = Path(
                snapshot_download(name, allow_patterns=["*.bin", "*.json"], ignore_patterns=["*/*"], token=token)
            )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise SaveError(
            f"the weights of {name} cannot be had",
            why=" ".join(str(error).split())[:300].rstrip("."),
            fix="Name the base model's folder with [merged] base, or ftcore merge --base",
        ) from error
    return folder


def is_tied(weights: Weights) -> bool:
    """Whether a model's output head is its embeddings, by its configuration or by what is not stored."""
    config = json.loads((weights.folder / "config.json").read_text(encoding="utf-8"))
    for values in (config, config.get("text_config") or {}):
        if "tie_word_embeddings" in values:
            return bool(values["tie_word_embeddings"])
    return not any(name.endswith(("lm_head.weight", "embed_out.weight")) for name in weights.described)
