"""A model that came out of a GGUF file is an ordinary one: its weights are expanded, only its marks say otherwise."""

from __future__ import annotations

from typing import Any

from ftcore import files
from ftcore.contracts import Run
from ftcore.errors import ModelError
from ftcore.processes import rank


def as_ordinary(model: Any) -> None:
    """Take the marks of a quantized model off, in place: with them it can be neither trained nor saved."""
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    for mark in ("hf_quantizer", "is_quantized", "quantization_method"):
        model.__dict__.pop(mark, None)


def keep_base(model: Any, run: Run) -> None:
    """Write the expanded model into the run directory: an adapter names its base, and a GGUF file cannot be named.

    Raises:
        ModelError: the folder cannot be written.
    """
    folder = (run.dir / "gguf-base").absolute()
    try:
        if rank() == 0:  # one folder for all processes of the run
            with files.whole_folder(folder) as scratch:
                model.save_pretrained(str(scratch))
    except OSError as error:
        raise ModelError(
            f"the model from the GGUF file cannot be written to {folder}",
            why=error.strerror or str(error),
            fix="Make room, or start from the model's safetensors",
        ) from error
    model.name_or_path = model.config._name_or_path = str(folder)
    run.say(f"gguf       the adapter's base model, expanded, lies in {folder}")
