"""Where turns begin and end in a chat template: given, or read off the template itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ftcore.errors import DataError
from ftcore_sft.probes import ANSWERS, QUESTIONS, atoms, probe, render, shared_start, special_in


@dataclass(frozen=True)
class Markers:
    """The texts that open a user's and an assistant's turn, and the one that ends an answer.

    Attributes:
        question, answer: the texts that open.
        question_ids, answer_ids: their tokens, as they appear inside a rendered conversation; empty where tokens
            merge across the marker's edge, so that it can only be found in the text.
        end: what the template writes behind an answer, up to and with the special token that ends the turn; empty
            where no special token does.
        end_id: that token.
        reliable: whether the markers alone find the assistant's turns; otherwise each row is traced (see `tracing`).
        generation: whether the template's own `{% generation %}` marks leave out some of what the markers find.
    """

    question: str
    answer: str
    question_ids: tuple[int, ...] = ()
    answer_ids: tuple[int, ...] = ()
    end: str = ""
    end_id: int | None = None
    reliable: bool = True
    generation: bool = False

    def quoted_in(self, content: str) -> bool:
        """Whether a turn's own text holds one of the markers."""
        return any(text in content for text in self._stripped)

    @cached_property
    def _stripped(self) -> tuple[str, ...]:
        # White space at a marker's edge may come from the text beside it.
        return tuple(filter(None, (self.question.strip(), self.answer.strip(), self.end.strip())))


def given_markers(tokenizer: Any, question: str, answer: str) -> Markers:
    """The configured markers.

    Raises:
        DataError: the template does not write them.
    """
    text = _two_turns(tokenizer)
    for key, marker in (("question_part", question), ("answer_part", answer)):
        if marker not in text:
            raise DataError(
                f"{key} = {marker!r} is not in what the chat template writes",
                why=f"a conversation becomes {text[:200]!r}{own_markers(tokenizer)}",
                fix="Correct it, or remove question_part and answer_part to read them off the template",
            )
    return _complete(tokenizer, question, answer)


def own_markers(tokenizer: Any) -> str:
    """The template's own markers, as the end of a sentence; empty where they cannot be read off."""
    derived = _derive(tokenizer)
    return f"; it writes {derived[0]!r} and {derived[1]!r}" if derived else ""


def derived_markers(tokenizer: Any) -> Markers:
    """The markers that the chat template itself writes around two probe turns.

    Raises:
        DataError: they cannot be told apart from the rest.
    """
    found = _derive(tokenizer)
    if found is None:
        raise DataError(
            "question_part and answer_part cannot be read off the chat template",
            why=f"two turns become {_two_turns(tokenizer)[:300]!r}",
            fix="Set both, or set train_on_responses_only = false",
        )
    return _complete(tokenizer, *found)


def _derive(tokenizer: Any) -> tuple[str, str] | None:
    question, answer = _question(tokenizer), _answer(tokenizer)
    return (question, answer) if question.strip() and answer.strip() else None


def _answer(tokenizer: Any) -> str:
    """What the template writes between a question and its answer, as far as it also asks for an answer with it.

    What it writes behind that (a space, an empty thought) the model has to say itself, so that it is learned.
    """
    from jinja2 import TemplateError

    before = atoms(tokenizer, _two_turns(tokenizer).partition(QUESTIONS[1])[2].partition(ANSWERS[1])[0])
    try:
        asked, prompt = (
            atoms(tokenizer, render(tokenizer, probe(1, answered=False), cue=cue).partition(QUESTIONS[0])[2])
            for cue in (False, True)
        )
    except (TemplateError, TypeError):
        return "".join(before)
    opener = before[: shared_start(before, prompt)]
    without_question = "".join(opener[shared_start(asked, prompt) :])
    return next((text for text in (without_question, "".join(opener)) if text.strip()), "".join(before))


def _question(tokenizer: Any) -> str:
    """What the template writes between a question and the answer before it, without what closes that answer."""
    between, after = _behind_answers(tokenizer)
    opener = between[shared_start(between, after) :]
    first = atoms(tokenizer, _two_turns(tokenizer).partition(QUESTIONS[0])[0])
    # It stands before the first question too, perhaps without the white space that parts it from an answer.
    everywhere = "".join(opener[len(opener) - shared_start(opener[::-1], first[::-1]) :])
    # In some templates (GLM) it is the question's own opener that ends an answer.
    return next((text for text in (everywhere, "".join(opener)) if text.strip()), "".join(between))


def _behind_answers(tokenizer: Any) -> tuple[list[str], list[str]]:
    """What stands between an answer and the next question, and behind the last answer, in atoms."""
    between = _two_turns(tokenizer).partition(ANSWERS[0])[2].partition(QUESTIONS[1])[0]
    after = render(tokenizer, probe(1)).partition(ANSWERS[0])[2]
    return atoms(tokenizer, between), atoms(tokenizer, after)


def _complete(tokenizer: Any, question: str, answer: str) -> Markers:
    ids = tokenizer(_two_turns(tokenizer), add_special_tokens=False)["input_ids"]
    end, end_id = _end(tokenizer)
    return Markers(
        question, answer, _ids_in(tokenizer, question, ids), _ids_in(tokenizer, answer, ids), end, end_id, bool(end)
    )


def _end(tokenizer: Any) -> tuple[str, int | None]:
    """What closes every answer, up to the first special token; or, where none does, what closes the last one."""
    between, after = _behind_answers(tokenizer)
    for closing in (between[: shared_start(between, after)], after):
        if (token := special_in(tokenizer, closing)) is not None:
            return "".join(closing[: closing.index(token) + 1]), tokenizer.convert_tokens_to_ids(token)
    return "", None


def _ids_in(tokenizer: Any, marker: str, ids: Sequence[int]) -> tuple[int, ...]:
    alone = tokenizer(marker, add_special_tokens=False)["input_ids"]
    width = len(alone)
    occurs = sum(ids[start : start + width] == alone for start in range(len(ids) - width + 1))
    return tuple(alone) if alone and occurs >= 2 else ()


def _two_turns(tokenizer: Any) -> str:
    from jinja2 import TemplateError

    try:
        return render(tokenizer, probe(2))
    except (TemplateError, TypeError) as error:
        raise DataError(
            "the chat template refuses a conversation of two questions and answers",
            why=str(error),
            fix="Set train_on_responses_only = false, or chat_template to another one",
        ) from error
