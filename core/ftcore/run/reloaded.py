"""A saved tokenizer, loaded again as anybody would load it: does it still write conversations as in training?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftcore.contracts import Conversation

_SPOKEN = (
    ("One  question?", " An answer,\nof two lines. "),
    ("Ünïcödé 💚 日本語?", "def f(x):\n\treturn x  # 1234567"),
)


def difference(tokenizer: Any, folder: Path) -> str | None:
    """What the tokenizer saved in a folder does differently from the one in memory; None if nothing.

    Compared are its special tokens, and the text and the tokens of a few conversations, with a system prompt and
    without, complete and up to where the model answers.
    """
    loaded = _load(tokenizer, folder)
    if isinstance(loaded, str):
        return loaded
    for name in ("bos_token", "eos_token"):
        if getattr(loaded, name) != getattr(tokenizer, name):
            return f"its {name} is {getattr(loaded, name)}, and was {getattr(tokenizer, name)}"
    for conversation in _conversations():
        before, after = _written(tokenizer, conversation), _written(loaded, conversation)
        if before != after:
            return _parting(before, after)
    return None


def _load(tokenizer: Any, folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder))
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = error
    try:  # a class of its own, which AutoTokenizer would look for in the base model's code
        return type(tokenizer).from_pretrained(str(folder))
    except (OSError, ValueError, KeyError, ImportError):
        return f"it cannot be loaded: {first}"


def _conversations() -> list[tuple[Conversation, bool]]:
    told: list[tuple[Conversation, bool]] = []
    for system in (None, "Be brief."):
        turns: Conversation = [] if system is None else [{"role": "system", "content": system}]
        for question, answer in _SPOKEN:
            turns = [*turns, {"role": "user", "content": question}]
            told.append((turns, True))
            turns = [*turns, {"role": "assistant", "content": answer}]
            told.append((turns, False))
    return told


def _written(tokenizer: Any, told: tuple[Conversation, bool]) -> tuple[str, list[int]]:
    """Text and tokens; where the template refuses the conversation, what it says."""
    from jinja2 import TemplateError

    conversation, cue = told
    try:
        text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=cue)
    except (TemplateError, TypeError, ValueError) as error:
        text = f"({error})"
    return text, tokenizer(text, add_special_tokens=False)["input_ids"]


def _parting(before: tuple[str, list[int]], after: tuple[str, list[int]]) -> str:
    (old, old_ids), (new, new_ids) = before, after
    if old != new:
        at = next((at for at, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), len(old))
        return f"where it wrote {old[max(at - 20, 0) : at + 20]!r} it writes {new[max(at - 20, 0) : at + 20]!r}"
    return f"{old[:60]!r} is now {len(new_ids)} tokens {new_ids[:12]}, and was {len(old_ids)} {old_ids[:12]}"
