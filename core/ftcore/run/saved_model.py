"""The model in a run directory, loaded again as anybody would load it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from ftcore.config import load as read_config
from ftcore.contracts import Conversation
from ftcore.errors import FtcoreError, ModelError
from ftcore.plugins import Plugins
from ftcore.quiet import quiet_libraries
from ftcore.run.imports import quick_imports
from ftcore.turns import ends_of


def answer(run: Path, question: str, plugins: Plugins, *, system: str | None = None, max_new_tokens: int = 128) -> str:
    """The saved model's greedy answer to one question.

    Args:
        run: a run directory, or a folder with a saved model or adapter.
        question: the user's turn.
        plugins: who may change what the model computes with.
        system: the system turn, if any.
        max_new_tokens: the longest answer, in tokens.

    Raises:
        ModelError: there is no saved model, or it cannot be loaded.
    """
    model, tokenizer = load(run)
    import torch  # once it is known that there is a model, since this takes seconds

    _prepare(model, run, plugins)
    conversation: Conversation = [{"role": "system", "content": system}] if system is not None else []
    conversation.append({"role": "user", "content": question})
    text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt").to(model.device)
    with torch.no_grad():
        output = model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=_ends(model, tokenizer),
        )
    new = output[0, inputs["input_ids"].shape[1] :]
    return str(tokenizer.decode(new, skip_special_tokens=True)).strip()


def _prepare(model: Any, run: Path, plugins: Plugins) -> None:
    """Let plugins change what the model computes with."""
    hearing = plugins.implementing("ftcore_answering")
    sections = _sections(plugins, run) if hearing else {}
    for name in hearing:
        plugins.call("ftcore_answering", name, model=model, settings=sections.get(name))


def _sections(plugins: Plugins, run: Path) -> dict[str, Any]:
    path = run / "config.toml"
    try:
        config = read_config(path, plugins, chosen={}) if path.is_file() else None
    except FtcoreError:
        config = None  # of a run with other plugins, or with secrets that are not there: no reason not to answer
    if config is not None:
        return {name: config.section(name) for name in plugins.sections}
    made = {}
    for name, kind in plugins.sections.items():
        with suppress(ValueError):
            made[name] = kind()
    return made


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """Where an answer ends: for the model that was started from, for the tokenizer, or for the chat template."""
    known = model.generation_config.eos_token_id
    own = known if isinstance(known, list) else [known]
    return list(dict.fromkeys(token for token in (*own, *ends_of(tokenizer).ids) if token is not None))


def load(run: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a run directory, ready to generate.

    Raises:
        ModelError: there is no saved model, or it cannot be loaded.
    """
    folder = run / "model" if (run / "model").is_dir() else run
    adapter = (folder / "adapter_config.json").exists()
    if not adapter and not (folder / "config.json").exists():
        raise ModelError(f"there is no saved model in {run}", fix="Name a run directory, such as runs/<name>")
    try:
        quiet_libraries()
        with quick_imports():
            from transformers import AutoModelForCausalLM, AutoTokenizer

        quiet_libraries()
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
        if adapter:
            from peft import AutoPeftModelForCausalLM

            model = AutoPeftModelForCausalLM.from_pretrained(str(folder), dtype="auto")
        else:
            model = AutoModelForCausalLM.from_pretrained(str(folder), dtype="auto")
    except ImportError as error:
        raise ModelError(
            "the model cannot be loaded", why=str(error), fix="Run: pip install 'ftcore[train]'"
        ) from error
    except Exception as error:  # libraries have errors of their own for damaged files
        raise _unloadable(folder, error) from error
    return model.eval(), tokenizer


def _unloadable(folder: Path, error: Exception) -> ModelError:
    what = f"the model in {folder} cannot be loaded"
    base = _base_of(folder)
    if base.startswith(("/", ".", "~")) and not Path(base).expanduser().exists():
        return ModelError(what, why=f"its base model {base} is not there", fix="Put it back there")
    missing = [name for name in ("tokenizer.json", "tokenizer_config.json") if not (folder / name).exists()]
    why = f"it has no {missing[0]}" if missing else f"{type(error).__name__}: {error}"[:300]
    lost = "the files are damaged, or the base model is not there"
    return ModelError(what, why=why, fix=f"Copy the folder again: {lost}" if not missing else "Copy the folder again")


def _base_of(folder: Path) -> str:
    """What an adapter was trained on; "" of a whole model, or where that cannot be read."""
    try:
        base = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return base if isinstance(base, str) else ""
