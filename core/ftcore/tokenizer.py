"""A tokenizer that training and serving can rely on: a chat template, and a padding token that is not an end.

Public: every loader settles its tokenizer here, so that they all train on the same tokens.
"""

from __future__ import annotations

from typing import Any

from ftcore.contracts import Run
from ftcore.errors import ModelError
from ftcore.settings.model import ModelSettings
from ftcore.templates.adoption import adopt, suitable

_PAD_CANDIDATES = (
    "<|finetune_right_pad_id|>",
    "<|pad|>",
    "<pad>",
    "[PAD]",
    "<｜▁pad▁｜>",
    "<|endoftext|>",
    "<unk>",
    "<|reserved_special_token_0|>",
)


def sane_tokenizer(tokenizer: Any, settings: ModelSettings, run: Run) -> Any:
    """The tokenizer with its template and padding token settled.

    Raises:
        ModelError: it has no chat template and none is configured, or the configured one cannot be used.
    """
    if settings.chat_template is not None:
        adopt(tokenizer, settings.chat_template, run)
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer of {settings.base_model_id} has no chat template",
            why="it belongs to a base model, and how turns are written is not for ftcore to guess",
            fix=f"Set chat_template to a template that it has all tokens for ({', '.join(suitable(tokenizer))}) or to a "
            "Jinja file, or start from the instruct model",
        )
    if isinstance(tokenizer.chat_template, dict):
        tokenizer.chat_template = _one_of(tokenizer.chat_template, run)
    _settle_padding(tokenizer, run)
    tokenizer.padding_side = "right"
    return tokenizer


def _one_of(templates: dict[str, str], run: Run) -> str:
    """Of several templates, the one that transformers takes too, where no tools are given."""
    if "default" in templates:
        return templates["default"]
    name = next(iter(templates))
    run.warn(f"the tokenizer has the chat templates {', '.join(templates)} and no default: {name} is used")
    return templates[name]


def _settle_padding(tokenizer: Any, run: Run) -> None:
    """A padding token equal to the EOS makes other tools mask the EOS out: use another where there is one."""
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return
    known = tokenizer.get_vocab()
    for token in (*_PAD_CANDIDATES, tokenizer.unk_token):
        if token in known and token != tokenizer.eos_token:
            tokenizer.pad_token = token
            return
    tokenizer.pad_token = tokenizer.eos_token
    run.warn(
        "the tokenizer has no padding token of its own; its EOS token is used, and labels mask padding by position"
    )
