"""For every family of templates and kind of conversation, exactly the assistant's turns are learned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from families import FAMILIES, Family, tokenizer_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sft_parts import Given, conversation, expected_labels, gsm8k, rows_of

from ftcore.contracts import Conversation
from ftcore.errors import DataError
from ftcore.testing.models import tiny_tokenizer
from ftcore_sft.labels import IGNORED
from ftcore_sft.prepare import Recipe, Tally, prepare
from ftcore_sft.verified import trained_markers

pytest.importorskip("transformers", reason="training needs the extra [train]")

PLAIN = {
    "one turn": conversation("How many apples?", "There are 7."),
    "many turns": conversation("One", "Two", "Three", "Four", "Five", "Six"),
    "the same said again": conversation("Two", "Two", "Two", "Two"),
    "system": conversation("Who?", "Me.", system="Be brief."),
    "system, many turns": conversation("Who?", "Me.", "Why?", "So.", system="Be brief."),
    "empty system": conversation("Who?", "Me.", system=""),
    "spaces": conversation("  in  ", "  out  ", " more ", " more\n"),
    "line breaks": conversation("\n\nA\n\n\nB\n", "\n\n\nbelow\n\n", "x", "y\n\n"),
    "other scripts": conversation("ünïcödé 💚 日本語", "💚💚 — ж", "\u200b!", "é"),
    "code": conversation("def f(x):\n\treturn x", "```python\nprint({'a': [1]})\n```"),
    "empty question": conversation("", "x"),
}


def quoting(family: Family) -> dict[str, Conversation]:
    """Conversations whose texts hold what the template writes."""
    markers = trained_markers(family.tokenizer, None, None)
    question, answer, end = markers.question, markers.answer, family.end
    return {
        "an answer's opener in a question": conversation(f"What is {answer}evil?", "A marker."),
        "a whole turn in a question": conversation(f"{answer}evil{end}\n{question}And?", "No.", "x", "y"),
        "all markers in an answer": conversation("How?", f"Write {question}a{answer}b and {end} then c.", "x", "y"),
        "a stripped opener": conversation(f"What is {answer.strip()}", "A marker.", answer.strip(), "The same."),
        "an end in an answer": conversation("How?", f"It ends with {end} here.", "Why?", "So."),
        "a marker in the system prompt": conversation("Who?", "Me.", system=f"Never write {answer}x."),
    }


def taken(family: Family, conversations: dict[str, Conversation]) -> list[Conversation]:
    return [turns for turns in conversations.values() if family.system or turns[0]["role"] != "system"]


def prepared(family: Family, conversations: Sequence[Conversation]) -> tuple[Any, Tally]:
    markers = trained_markers(family.tokenizer, None, None)
    return prepare(rows_of(conversations), Recipe(Given(), family.tokenizer, markers, 100_000), 1)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_reading_by_hand_is_what_the_template_writes(name: str) -> None:
    family = FAMILIES[name]
    for turns in taken(family, PLAIN | quoting(family)):
        rendered = family.tokenizer.apply_chat_template(turns, tokenize=False)
        assert "".join(text for text, _ in family.read(turns)) == rendered


@pytest.mark.parametrize("name", FAMILIES)
def test_exactly_the_assistants_turns_are_learned(name: str) -> None:
    family = FAMILIES[name]
    plain, quotes = taken(family, PLAIN), taken(family, quoting(family))
    dataset, tally = prepared(family, plain + quotes)
    assert tally.bad_rows == 0, tally.bad
    assert tally.quoting_rows == len(quotes)
    for turns, row in zip(plain + quotes, dataset, strict=True):
        assert (row["input_ids"], row["labels"]) == expected_labels(family.tokenizer, family.read(turns)), turns


@pytest.mark.parametrize("name", FAMILIES)
def test_every_answer_ends_once_and_no_row_begins_twice(name: str) -> None:
    family = FAMILIES[name]
    tokenizer, plain = family.tokenizer, taken(family, PLAIN)
    dataset, _ = prepared(family, plain)
    end = tokenizer.convert_tokens_to_ids(family.end)
    for turns, row in zip(plain, dataset, strict=True):
        ids = row["input_ids"]
        assert row["labels"].count(end) == sum(turn["role"] == "assistant" for turn in turns)
        assert ids == tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False), "as it is served"
        if tokenizer.bos_token_id is not None and name != "smollm":  # whose BOS opens every turn
            assert [tokenizer.bos_token_id] * 2 not in [ids[at : at + 2] for at in range(len(ids))]
            assert ids.count(tokenizer.bos_token_id) <= (len(turns) // 2 if "llama2" in name else 1)
            assert tokenizer.bos_token_id not in row["labels"]


@pytest.mark.parametrize("name", FAMILIES)
def test_ordinary_rows_are_not_rendered_twice(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family, rows = FAMILIES[name], gsm8k(60)
    markers = trained_markers(family.tokenizer, None, None)
    assert markers.reliable
    conversations = [conversation(row["question"], row["answer"]) for row in rows]
    monkeypatch.delattr("ftcore_sft.labelling.answer_spans")
    recipe = Recipe(Given(), family.tokenizer, markers, 100_000)
    dataset, _ = prepare(rows_of(conversations), recipe, 1)
    for turns, row in zip(conversations, dataset, strict=True):
        assert (row["input_ids"], row["labels"]) == expected_labels(family.tokenizer, family.read(turns))


_pieces = st.sampled_from(["", " ", "\n", "a", "Ü", "No.", "</think>", "<think>", "user", "assistant", "[INST]"])
_texts = st.lists(st.one_of(_pieces, st.integers(0, 5)), min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(FAMILIES)), st.lists(st.tuples(_texts, _texts), min_size=1, max_size=3), st.booleans())
def test_whatever_is_said_a_row_is_right_or_refused(name: str, chat: list[Any], with_system: bool) -> None:
    family = FAMILIES[name]
    markers = trained_markers(family.tokenizer, None, None)
    special = (markers.question, markers.answer, markers.end, family.end, markers.answer.strip(), "\n\n")

    def text(parts: list[str | int]) -> str:
        return "".join(special[part] if isinstance(part, int) else part for part in parts)

    # An answer that is blank is refused by the formatters, and so is none at all.
    turns = conversation(*(said for pair in chat for said in (text(pair[0]), text(pair[1]) + ".")))
    if with_system and family.system:
        turns.insert(0, {"role": "system", "content": "Be brief."})
    dataset, tally = prepared(family, [turns])
    if tally.bad_rows:
        assert "cannot be told apart" in tally.bad[0][1]
        return
    (row,) = dataset
    rendered = family.tokenizer.apply_chat_template(turns, tokenize=False)
    pieces = family.read(turns)
    if "".join(piece for piece, _ in pieces) == rendered:  # the readings know less of thoughts than templates do
        assert (row["input_ids"], row["labels"]) == expected_labels(family.tokenizer, pieces)


def test_a_thought_is_learned_where_the_template_keeps_it() -> None:
    family = FAMILIES["qwen3"]
    first, second = "<think>\nHm.\n</think>\n\nSeven.", "<think>\nWell.\n</think>\n\nEight."
    chats = [conversation("How many?", first, "And now?", second)]
    chats.append(conversation("What is <|im_start|>assistant\n?", first, "And now?", second))
    dataset, tally = prepared(family, chats)
    assert (tally.bad_rows, tally.quoting_rows) == (0, 1)
    for turns, row in zip(chats, dataset, strict=True):
        assert (row["input_ids"], row["labels"]) == expected_labels(family.tokenizer, family.read(turns))
        learned = family.tokenizer.decode([label for label in row["labels"] if label != IGNORED])
        assert learned == "Seven.<|im_end|><think>\nWell.\n</think>\n\nEight.<|im_end|>"


@pytest.mark.parametrize("name", ["chatml", "qwen2_5", "qwen3"])
@pytest.mark.parametrize("said", ["Sunny.", "\n\n\nSunny.", "<|im_start|>assistant\nRainy.<|im_end|>"])
def test_what_a_tool_says_is_not_learned(name: str, said: str) -> None:
    tokenizer = FAMILIES[name].tokenizer
    chat = conversation("Weather?", "I look.", "", "It is sunny.", "Thanks!", "Welcome.")
    chat[2] = {"role": "tool", "content": said}
    dataset, tally = prepared(FAMILIES[name], [chat])
    assert tally.bad_rows == 0
    learned = tokenizer.decode([label for label in dataset[0]["labels"] if label != IGNORED])
    learned = learned.replace("<think>\n\n</think>\n\n", "")
    assert learned == "I look.<|im_end|>It is sunny.<|im_end|>Welcome.<|im_end|>"


def test_a_row_whose_turns_cannot_be_told_apart_is_named() -> None:
    loud = FAMILIES["chatml"].tokenizer.chat_template.replace("message['content']", "message['content'] | upper")
    tokenizer = tiny_tokenizer(loud)
    markers = trained_markers(tiny_tokenizer(), None, None)
    chats = [conversation("Hi", "Ho"), conversation("Hi", "Ho <|im_end|> ho"), conversation("Hi", "Ho")]
    dataset, tally = prepare(rows_of(chats), Recipe(Given(), tokenizer, markers, 1000), 1)
    reason = "its texts hold the chat template's own markers, and its turns cannot be told apart"
    assert (len(dataset), tally.bad_rows, tally.bad) == (2, 1, [(1, reason)])
    assert dataset["row"] == [0, 2]


def assistant_mask(tokenizer: Any, turns: Conversation) -> tuple[list[int], list[int]]:
    encoded = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    return encoded["input_ids"], encoded["assistant_masks"]


def generation_family(template: str) -> Family:
    chatml = FAMILIES["chatml"]
    return Family(template, chatml.read, "bytes", None, chatml.eos, chatml.pad, chatml.others, False, chatml.end)


@pytest.mark.parametrize("kind", PLAIN)
def test_what_a_template_marks_as_generated_agrees(kind: str) -> None:
    family = generation_family("chatml_generation")
    assert not trained_markers(family.tokenizer, None, None).generation, "the markers find the same, and faster"
    (row,), _ = prepared(family, [PLAIN[kind]])
    ids, mask = assistant_mask(family.tokenizer, PLAIN[kind])
    assert row["input_ids"] == ids
    end = family.tokenizer.eos_token_id
    # The template marks its line break behind the end token, too; nobody generates it.
    behind_end = [mine and before == end for mine, before in zip(mask, [None, *ids], strict=False)]
    assert [label != IGNORED for label in row["labels"]] == [
        bool(mine) and not behind for mine, behind in zip(mask, behind_end, strict=True)
    ]


def test_where_a_template_marks_other_turns_its_marks_rule() -> None:
    family = generation_family("last_only_generation")
    assert trained_markers(family.tokenizer, None, None).generation
    chats = [PLAIN["many turns"], PLAIN["one turn"], quoting(FAMILIES["chatml"])["a whole turn in a question"]]
    dataset, _ = prepared(family, chats)
    for turns, row in zip(chats, dataset, strict=True):
        learned = family.tokenizer.decode([label for label in row["labels"] if label != IGNORED])
        assert learned == turns[-1]["content"] + "<|im_end|>"


def test_a_question_can_be_what_ends_an_answer() -> None:
    # As in GLM, whose model says <|user|> when it is done.
    phi3 = tokenizer_of.__wrapped__(FAMILIES["phi3"])
    phi3.chat_template = (
        "{% for m in messages %}{{ '<|' ~ m['role'] ~ '|>\n' ~ m['content'] }}{% endfor %}"
        "{{ '<|assistant|>\n' if add_generation_prompt else '<|user|>' }}"
    )
    markers = trained_markers(phi3, None, None)
    chats = [conversation("Who?", "Me.", "Why?", "So.", system="Be brief."), conversation("Hi", "Ho")]
    dataset, _ = prepare(rows_of(chats), Recipe(Given(), phi3, markers, 1000), 1)
    texts = [phi3.decode([label for label in row["labels"] if label != IGNORED]) for row in dataset]
    assert texts == ["Me.<|user|>So.<|user|>", "Ho<|user|>"]


def test_configured_markers_outrank_the_templates_marks() -> None:
    family = generation_family("last_only_generation")
    markers = trained_markers(family.tokenizer, "<|im_start|>user\n", "<|im_start|>assistant\n")
    assert not markers.generation


@pytest.mark.parametrize(
    ("name", "question", "answer"),
    [
        ("chatml", "<|im_start|>assistant\n", "<|im_start|>user\n"),
        ("chatml", "<|im_start|>user\n", "<|im_start|>"),
        ("chatml", "<|im_end|>", "<|im_start|>assistant\n"),
        ("llama3", "<|start_header_id|>user<|end_header_id|>\n\n", "<|start_header_id|>assistant"),
        ("phi3", "<|user|>\n", "<|end|>\n"),
        ("gemma", "<start_of_turn>user\n", "<start_of_turn>"),
    ],
)
def test_given_markers_that_mark_something_else_are_refused(name: str, question: str, answer: str) -> None:
    tokenizer = FAMILIES[name].tokenizer
    own = trained_markers(tokenizer, None, None)
    with pytest.raises(DataError) as refused:
        trained_markers(tokenizer, question, answer)
    assert refused.value.what == f"question_part = {question!r} and answer_part = {answer!r} do not mark the answers"
    assert f"it writes {own.question!r} and {own.answer!r}" in refused.value.why


@pytest.mark.parametrize(
    ("name", "question", "answer"),
    [
        ("chatml", "<|im_start|>user\n", "<|im_start|>assistant\n"),
        ("chatml", "<|im_start|>user", "<|im_start|>assistant"),
        ("mistral", "[INST]", "[/INST]"),
        ("llama2", "[INST]", "[/INST]"),
        ("gemma", "<start_of_turn>user\n", "<start_of_turn>model\n"),
        ("phi3", "<|user|>\n", "<|assistant|>\n"),
        ("deepseek", "<｜User｜>", "<｜Assistant｜>"),
    ],
)
def test_given_markers_may_leave_white_space_to_the_answer(name: str, question: str, answer: str) -> None:
    family = FAMILIES[name]
    markers = trained_markers(family.tokenizer, question, answer)
    assert (markers.question, markers.answer) == (question, answer)
    for turns in taken(family, PLAIN | quoting(family)):
        own = trained_markers(family.tokenizer, None, None)
        rows = [
            prepare(rows_of([turns]), Recipe(Given(), family.tokenizer, each, 100_000), 1)[0][0]["labels"]
            for each in (markers, own)
        ]
        different = [a if a != IGNORED else b for a, b in zip(*rows, strict=True) if a != b]
        assert not family.tokenizer.decode(different).strip(), json.dumps(turns)


def test_a_template_that_refuses_probes_is_an_error_of_one_line() -> None:
    refuses = "{{ raise_exception('nothing pleases me') }}"
    with pytest.raises(DataError) as refused:
        trained_markers(tiny_tokenizer(refuses), None, None)
    assert refused.value.what == "the chat template refuses a question with its answer"
    assert refused.value.why == "nothing pleases me"
    single = "{% if messages | length > 2 %}{{ raise_exception('one turn only') }}{% endif %}"
    with pytest.raises(DataError, match="two questions and answers: one turn only"):
        trained_markers(tiny_tokenizer(single + FAMILIES["chatml"].tokenizer.chat_template), None, None)
