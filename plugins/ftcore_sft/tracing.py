"""Where the assistant's turns are in a rendered conversation, whatever its texts contain.

A question may quote the template's own markers. To tell such a quotation from a turn, the conversation is rendered once
more with placeholders for its texts: what stands between the placeholders is the template's, and what stands there in
the real text must be the turns' own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from ftcore.contracts import Conversation, Message
from ftcore_sft.markers import Markers


class Untraceable(ValueError):
    """The turns of a row cannot be told apart."""


def answer_spans(
    conversation: Conversation, text: str, markers: Markers, render: Callable[[Conversation], str]
) -> list[tuple[int, int]]:
    """The characters [start, end) of each of the assistant's turns, from behind its marker to behind its end token.

    Args:
        conversation: what was rendered.
        text: how.
        markers: of the template.
        render: renders a conversation in the same way.

    Raises:
        Untraceable: the template changes the texts in a way that hides where they are.
    """
    pieces, turns = _skeleton(conversation, text, markers, render)
    spans: list[tuple[int, int]] = []
    at = len(pieces[0])
    if not text.startswith(pieces[0]):
        raise Untraceable(_REASON)
    for before, behind, turn in zip(pieces, pieces[1:], turns, strict=False):
        length = _length(turn["content"], text, at, behind, markers)
        if turn["role"] == "assistant":
            marked = before.rfind(markers.answer)
            opened = at - len(before) + marked + len(markers.answer) if marked >= 0 else at
            closed = behind.find(markers.end) if markers.end else -1
            spans.append((opened, at + length + (closed + len(markers.end) if closed >= 0 else 0)))
        at += length + len(behind)
    if at != len(text):
        raise Untraceable(_REASON)
    return spans


_REASON = "its texts hold the chat template's own markers, and its turns cannot be told apart"


def _skeleton(
    conversation: Conversation, text: str, markers: Markers, render: Callable[[Conversation], str]
) -> tuple[list[str], Conversation]:
    """What the template writes before, between and behind the texts, and the turns that these are of, in its order.

    A blank text stays: templates leave out an empty system prompt.
    """
    names, hidden = _placeholders(text), {}
    shown: Conversation = []
    for turn in conversation:
        if turn["content"].strip() or turn["role"] == "assistant":
            name = next(names)
            thought, hidden[name] = _without_thought(turn, markers)
            turn = Message(role=turn["role"], content=thought + name)
        shown.append(turn)
    written = render(shown)
    if not hidden:
        return [written], []
    parts = re.split(f"({'|'.join(hidden)})", written)
    return parts[0::2], [hidden[name] for name in parts[1::2]]


def _without_thought(turn: Message, markers: Markers) -> tuple[str, Message]:
    """An assistant's thought, which templates move or drop, and the turn without it."""
    if turn["role"] != "assistant":
        return "", turn
    thought, closing, said = turn["content"].rpartition("</think>")
    if markers.quoted_in(thought):
        raise Untraceable(_REASON)
    return thought + closing, Message(role="assistant", content=said)


def _placeholders(text: str) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        name = f"Qzx{number}xzQ"
        if name not in text:
            yield name


def _length(content: str, text: str, at: int, behind: str, markers: Markers) -> int:
    """How many characters the content takes in the text; templates strip it, or drop thoughts."""
    for form in dict.fromkeys((content, content.strip(), content.lstrip(), content.rstrip(), content.strip("\n"))):
        if text.startswith(form, at) and text.startswith(behind, at + len(form)):
            return len(form)
    next_piece = text.find(behind, at)
    if next_piece < 0 or not behind.strip() or markers.quoted_in(content):
        raise Untraceable(_REASON)
    return next_piece - at
