"""What a chat template writes around turns whose contents are known."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from ftcore.contracts import Conversation, Message
from ftcore.errors import DataError

QUESTIONS = ("Aqz1 one?", "Aqz2 two?")
ANSWERS = ("Bqz1 first.", "Bqz2 second.")
SYSTEM = "Sqz be brief."


def probe(turns: int, *, system: str | None = None, answered: bool = True) -> Conversation:
    """A conversation of so many questions, each answered, or all but the last."""
    conversation: Conversation = [] if system is None else [Message(role="system", content=system)]
    for question, answer in zip(QUESTIONS[:turns], ANSWERS[:turns], strict=True):
        conversation.append(Message(role="user", content=question))
        conversation.append(Message(role="assistant", content=answer))
    return conversation if answered else conversation[:-1]


def render(tokenizer: Any, conversation: Conversation, *, cue: bool = False) -> str:
    """The conversation as the chat template writes it; with `cue` also what it writes to ask for an answer.

    Raises:
        jinja2.TemplateError: the template refuses the conversation.
    """
    return str(tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=cue))


def accepted(tokenizer: Any) -> list[tuple[Conversation, str]]:
    """The probe conversations that the template takes, and what it makes of them: one turn and two, and both with a
    system prompt and with an empty one, which some templates refuse.

    Raises:
        DataError: it does not even take a question and its answer.
    """
    from jinja2 import TemplateError

    taken: list[tuple[Conversation, str]] = []
    refusal = ""
    for system in (None, SYSTEM, ""):
        for turns in (1, 2):
            conversation = probe(turns, system=system)
            try:
                taken.append((conversation, render(tokenizer, conversation)))
            except (TemplateError, TypeError) as error:
                refusal = refusal or str(error)
    if not taken or len(taken[0][0]) != 2:
        raise DataError(
            "the chat template refuses a question with its answer",
            why=refusal,
            fix='Set chat_template to another one, e.g. "chatml", or a Jinja file',
        )
    return taken


def atoms(tokenizer: Any, text: str) -> list[str]:
    """The text's characters one by one, but its special tokens whole."""
    return [
        atom
        for part in _special(tuple(_added(tokenizer))).split(text)
        for atom in ([part] if part in _added(tokenizer) else part)
    ]


def special_in(tokenizer: Any, pieces: Iterable[str]) -> str | None:
    """The first of the pieces that is a special token."""
    known = _added(tokenizer)
    return next((piece for piece in pieces if piece in known), None)


def _added(tokenizer: Any) -> dict[str, int]:
    """The tokens beside the learned vocabulary; some vocabularies have runs of white space there too."""
    added = {what.content: token for token, what in tokenizer.added_tokens_decoder.items()}
    return {content: token for content, token in added.items() if content.strip(" \n\t▁")}


@cache
def _special(contents: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(contents, key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")" if contents else "(?!)")


def shared_start(one: Sequence[str], other: Sequence[str]) -> int:
    """How many pieces both begin with."""
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count
