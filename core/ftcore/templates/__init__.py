"""Chat templates that can be chosen by name, for tokenizers of base models, which have none.

Each file next to this one is a template. They are the shapes in which the well-known families write turns; a system
prompt that is empty is left out where it would be part of the first question.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from ftcore.errors import Problem
from ftcore.text import shown

EOS, BOS = "eos_token", "bos_token"
"""Names of special tokens whose text the tokenizer decides."""


@dataclass(frozen=True)
class Template:
    """A template that can be chosen by name.

    Attributes:
        end: the special token that ends a turn; `EOS` for the tokenizer's own.
        needs: the other special tokens that it writes; `BOS` for the tokenizer's own.
    """

    end: str
    needs: tuple[str, ...] = ()


TEMPLATES = {
    "alpaca": Template(EOS),
    "chatml": Template("<|im_end|>", ("<|im_start|>",)),
    "gemma": Template("<end_of_turn>", (BOS, "<start_of_turn>")),
    "llama2": Template(EOS, (BOS,)),
    "llama3": Template("<|eot_id|>", (BOS, "<|start_header_id|>", "<|end_header_id|>")),
    "mistral": Template(EOS, (BOS,)),
    "phi3": Template("<|end|>", ("<|system|>", "<|user|>", "<|assistant|>")),
    "zephyr": Template(EOS),
}
"""By name. alpaca and zephyr write nothing but text and the EOS token, so that any tokenizer can do with them."""

NAMES = ", ".join(TEMPLATES)
FIX = f"Name one of {NAMES}, or a Jinja file"


def source(name: str) -> str:
    """The Jinja source of a template that can be chosen by name."""
    return (Path(__file__).parent / f"{name}.jinja").read_text(encoding="utf-8")


def located(chosen: str, base_dir: Path) -> str:
    """What was chosen, a relative path made absolute: as it is from the working directory, else from the folder of the
    configuration file."""
    if chosen in TEMPLATES:
        return chosen
    path = Path(chosen).expanduser()
    return str(path.absolute() if path.exists() else base_dir.absolute() / path)


def problems(chosen: str | None, base_dir: Path) -> Iterator[Problem]:
    """What is wrong with the choice, as far as that can be known without the tokenizer."""
    if chosen is None or chosen in TEMPLATES:
        return
    path = Path(located(chosen, base_dir))
    if path.is_file():
        return
    what = "is a folder" if path.is_dir() else "is neither a built-in template nor a file"
    close = get_close_matches(chosen.lower().replace("-", ""), TEMPLATES, n=1)
    fix = f"Did you mean {close[0]}?" if close else FIX
    yield Problem("fine_tuner.chat_template", f"chat_template = {shown(chosen)} {what}", fix)
