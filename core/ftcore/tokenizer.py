"""A tokenizer that training and serving can rely on: a chat template, and a padding token that is not an end.

Public: every loader settles its tokenizer here, so that they all train on the same tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftcore.contracts import Run
from ftcore.errors import ModelError
from ftcore.settings.model import ModelSettings

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The ChatML template, as OpenAI described the format."""

_PAD_CANDIDATES = ("<|finetune_right_pad_id|>", "<|pad|>", "<pad>", "[PAD]", "<|endoftext|>", "<unk>")


def sane_tokenizer(tokenizer: Any, settings: ModelSettings, run: Run) -> Any:
    """The tokenizer with its template and padding token settled.

    Raises:
        ModelError: it has no chat template and none is configured, or the configured file cannot be read.
    """
    if settings.chat_template is not None:
        tokenizer.chat_template = _template(settings.chat_template)
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer of {settings.base_model_id} has no chat template",
            why="it belongs to a base model, and how turns are written is not for ftcore to guess",
            fix='Set chat_template = "chatml" or a Jinja file, or start from the instruct model',
        )
    if isinstance(tokenizer.chat_template, dict):
        tokenizer.chat_template = tokenizer.chat_template.get("default") or next(iter(tokenizer.chat_template.values()))
    _settle_padding(tokenizer, run)
    tokenizer.padding_side = "right"
    return tokenizer


def _template(chosen: str) -> str:
    if chosen == "chatml":
        return CHATML
    try:
        return Path(chosen).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f'chat_template = "{chosen}" cannot be read', why=str(error), fix='Name "chatml" or a Jinja file'
        ) from error


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
