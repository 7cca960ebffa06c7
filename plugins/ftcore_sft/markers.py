"""Where turns begin in a chat template: given, or read off the template itself."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from ftcore.errors import DataError

_QUESTIONS = ("Aqz1 one?", "Aqz2 two?")
_ANSWERS = ("Bqz1 first.", "Bqz2 second.")
_TOOL = "Cqz third!"


@dataclass(frozen=True)
class Markers:
    """The texts that open a user's and an assistant's turn.

    Attributes:
        question, answer: the texts.
        question_ids, answer_ids: their tokens, as they appear inside a rendered conversation; empty where tokens
            merge across the marker's edge, so that it can only be found in the text.
        tool: the text that opens a tool's turn, which ends an answer too; empty where the question's does, or where
            the template knows no such turn.
        eos_id: the token that ends an answer, and is part of it.
    """

    question: str
    answer: str
    question_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    tool: str = ""
    eos_id: int | None = None


def given_markers(tokenizer: Any, question: str, answer: str) -> Markers:
    """The configured markers.

    Raises:
        DataError: the template does not write them.
    """
    text = _render(tokenizer, 2)
    for key, marker in (("question_part", question), ("answer_part", answer)):
        if marker not in text:
            derived = _derive(tokenizer)
            writes = f"; it writes {derived[0]!r} and {derived[1]!r}" if derived else ""
            raise DataError(
                f"{key} = {marker!r} is not in what the chat template writes",
                why=f"a conversation becomes {text[:200]!r}{writes}",
                fix="Correct it, or remove question_part and answer_part to read them off the template",
            )
    return _with_ids(tokenizer, question, answer)


def derived_markers(tokenizer: Any) -> Markers:
    """The markers that the chat template itself writes around two probe turns.

    Raises:
        DataError: they cannot be told apart from the rest.
    """
    found = _derive(tokenizer)
    if found is None:
        raise DataError(
            "question_part and answer_part cannot be read off the chat template",
            why=f"two turns become {_render(tokenizer, 2)[:300]!r}",
            fix="Set both, or set train_on_responses_only = false",
        )
    return _with_ids(tokenizer, *found)


def _derive(tokenizer: Any) -> tuple[str, str] | None:
    one, two = _render(tokenizer, 1), _render(tokenizer, 2)
    asked = _render(tokenizer, 1, answered=False)
    prompt = _render(tokenizer, 1, answered=False, generation_prompt=True)
    cue = prompt[len(asked) :] if prompt.startswith(asked) else ""
    before_answer = two.partition(_QUESTIONS[1])[2].partition(_ANSWERS[1])[0]
    answer = cue if cue and cue in before_answer else before_answer
    between = two.partition(_ANSWERS[0])[2].partition(_QUESTIONS[1])[0]
    after_answer = one.partition(_ANSWERS[0])[2]
    question = between[_common(between, after_answer) :]
    return (question, answer) if question.strip() and answer.strip() else None


def _common(between: str, after: str) -> int:
    """How much of what stands between two turns closes the first: that which also stands behind the last turn."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(between, after, strict=False)))


def _with_ids(tokenizer: Any, question: str, answer: str) -> Markers:
    ids = tokenizer(_render(tokenizer, 2), add_special_tokens=False)["input_ids"]
    return Markers(
        question,
        answer,
        _ids_in_context(tokenizer, question, ids),
        _ids_in_context(tokenizer, answer, ids),
        _tool_opener(tokenizer, question),
        tokenizer.eos_token_id,
    )


def _tool_opener(tokenizer: Any, question: str) -> str:
    from jinja2 import TemplateError

    turns = [
        {"role": "user", "content": _QUESTIONS[0]},
        {"role": "assistant", "content": _ANSWERS[0]},
        {"role": "tool", "content": _TOOL},
        {"role": "assistant", "content": _ANSWERS[1]},
    ]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except (TemplateError, TypeError):
        return ""
    between = text.partition(_ANSWERS[0])[2].partition(_TOOL)[0]
    opener = between[_common(between, _render(tokenizer, 1).partition(_ANSWERS[0])[2]) :]
    return opener if _TOOL in text and opener.strip() and question not in opener else ""


def _ids_in_context(tokenizer: Any, marker: str, ids: list[int]) -> tuple[int, ...]:
    alone = tokenizer(marker, add_special_tokens=False)["input_ids"]
    width = len(alone)
    occurs = sum(ids[start : start + width] == alone for start in range(len(ids) - width + 1))
    return tuple(alone) if alone and occurs >= 2 else ()


def _render(tokenizer: Any, turns: int, *, answered: bool = True, generation_prompt: bool = False) -> str:
    conversation = []
    for question, answer in zip(_QUESTIONS[:turns], _ANSWERS[:turns], strict=True):
        conversation.append({"role": "user", "content": question})
        conversation.append({"role": "assistant", "content": answer})
    if not answered:
        conversation.pop()
    return str(tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=generation_prompt))
