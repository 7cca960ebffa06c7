"""A chosen chat template, put into a tokenizer, if the tokenizer has the tokens for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ftcore.contracts import Run
from ftcore.errors import ModelError
from ftcore.templates import BOS, EOS, FIX, TEMPLATES, Template, source

_QUESTION, _ANSWER = "Qz one?", "Az two."
_MARK = re.compile(r"<\|[^\s<>|]+\|>|<｜[^\s<>｜]+｜>|</?[a-z]+(?:_[a-z]+)*>|\[/?[A-Z_]+\]")
"""What looks like a special token of one of the known families."""


def adopt(tokenizer: Any, chosen: str, run: Run) -> None:
    """Give the tokenizer the template of this name, or of this file.

    The special token that ends a turn in a named template becomes the EOS token: it is where generating has to stop.

    Raises:
        ModelError: the file cannot be read or used, or the tokenizer lacks tokens that a named template needs.
    """
    if chosen in TEMPLATES:
        _adopt_named(tokenizer, chosen, TEMPLATES[chosen], run)
    else:
        _adopt_file(tokenizer, chosen, run)


def suitable(tokenizer: Any) -> list[str]:
    """The names of the templates that the tokenizer has all tokens for."""
    return [name for name, template in TEMPLATES.items() if not _missing(tokenizer, template)]


def _adopt_named(tokenizer: Any, name: str, template: Template, run: Run) -> None:
    if missing := _missing(tokenizer, template):
        others = ", ".join(suitable(tokenizer)) or "a Jinja file of your own"
        raise ModelError(
            f'chat_template = "{name}" needs what the tokenizer lacks: {", ".join(missing)}',
            why="it would be split into pieces, and nothing would stop the model at the end of its turn",
            fix=f"Choose one that it has all tokens for ({others}), or another base model",
        )
    # Where plain text begins with BOS, the model has never seen a beginning without.
    begins = "{{- bos_token }}\n" if BOS not in template.needs and _adds_bos(tokenizer) else ""
    tokenizer.chat_template = begins + source(name)
    if template.end != EOS and tokenizer.eos_token != template.end:
        run.say(f"template   {name}: {template.end} ends a turn and is the EOS token now, not {tokenizer.eos_token}")
        tokenizer.eos_token = template.end


def _missing(tokenizer: Any, template: Template) -> list[str]:
    own = {BOS: tokenizer.bos_token, EOS: tokenizer.eos_token}
    return [
        f"a {need.partition('_')[0].upper()} token" if need in own else need
        for need in (*template.needs, template.end)
        if not (own[need] if need in own else _is_token(tokenizer, need))
    ]


def _is_token(tokenizer: Any, text: str) -> bool:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return text in tokenizer.get_vocab() and ids == [tokenizer.convert_tokens_to_ids(text)]


def _adds_bos(tokenizer: Any) -> bool:
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def _adopt_file(tokenizer: Any, chosen: str, run: Run) -> None:
    try:
        tokenizer.chat_template = Path(chosen).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f'chat_template = "{chosen}" cannot be read', why=str(error), fix=FIX) from error
    text = _rendered(tokenizer, chosen)
    if _QUESTION not in text or _ANSWER not in text:
        raise ModelError(
            f'chat_template = "{chosen}" leaves out what is said',
            why=f"a question with its answer becomes {text[:200]!r}",
            fix="Write message['content'] of each of the messages, or choose a built-in template",
        )
    marks = dict.fromkeys(_MARK.findall(text))
    if split := [mark for mark in marks if not _is_token(tokenizer, mark)]:
        run.warn(
            f"the chat template writes {', '.join(split)}, and the tokenizer has no such token: each is split into "
            "pieces, as ordinary text is"
        )


def _rendered(tokenizer: Any, chosen: str) -> str:
    from jinja2 import TemplateError, TemplateSyntaxError

    turns = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False))
    except TemplateSyntaxError as error:
        why = f"line {error.lineno}: {error.message}"
        raise ModelError(f'chat_template = "{chosen}" is not a Jinja template', why=why, fix="Correct it") from error
    except (TemplateError, TypeError) as error:
        raise ModelError(
            f'chat_template = "{chosen}" cannot write a question with its answer', why=str(error), fix="Correct it"
        ) from error
