"""Markers read off chat templates, and labels compared with a reading of each template by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sft_parts import STYLES, Given, Style, conversation, expected_labels, gsm8k, rows_of

from ftcore.contracts import Conversation
from ftcore.errors import DataError
from ftcore.testing.models import tiny_tokenizer
from ftcore_sft.labels import labels_by_ids, labels_in, marked_spans
from ftcore_sft.markers import derived_markers, given_markers
from ftcore_sft.prepare import Recipe, prepare
from ftcore_sft.verified import trained_markers

pytest.importorskip("transformers", reason="training needs the extra [train]")

AWKWARD = [
    conversation("Hi", "Hello."),
    conversation("", "x"),
    conversation("One", "Two", "Three", "Four", system="Be brief."),
    conversation("  spaces  ", "  spaces  ", " more ", " more "),
    conversation("ünïcödé 💚 日本語", "💚💚 — ж", "\u200b", "é"),
    conversation("[INST] no marker", "not [/INST]a marker"),
]


def prepared(style: Style, conversations: list[Conversation]) -> Any:
    markers = trained_markers(style.tokenizer, None, None)
    dataset, _ = prepare(rows_of(conversations), Recipe(Given(), style.tokenizer, markers, 100_000), 1)
    return dataset


def without_system(conversations: list[Conversation]) -> list[Conversation]:
    return [[turn for turn in turns if turn["role"] != "system"] for turns in conversations]


@pytest.mark.parametrize("name", STYLES)
def test_markers_are_read_off_the_template(name: str) -> None:
    markers = derived_markers(STYLES[name].tokenizer)
    assert (markers.question, markers.answer) == (STYLES[name].question, STYLES[name].answer)


def test_markers_have_tokens_where_none_merge_across_their_edges() -> None:
    with_tokens = set()
    for name, style in STYLES.items():
        markers = derived_markers(style.tokenizer)
        if markers.answer_ids and markers.question_ids:
            with_tokens.add(name)
            assert style.tokenizer.decode(markers.answer_ids) == markers.answer
            assert style.tokenizer.decode(markers.question_ids) == markers.question
    # Mistral's space belongs to the next word. Llama's two line breaks are one token alone and two before a word.
    assert with_tokens == {"chatml", "gemma", "qwen3"}


@pytest.mark.parametrize("name", STYLES)
def test_the_reading_by_hand_is_what_the_template_writes(name: str) -> None:
    style = STYLES[name]
    for turns in without_system(AWKWARD):
        rendered = style.tokenizer.apply_chat_template(turns, tokenize=False)
        assert "".join(text for text, _ in style.read(turns)) == rendered


@pytest.mark.parametrize("name", STYLES)
def test_labels_are_the_assistants_turns(name: str) -> None:
    style = STYLES[name]
    conversations = without_system(AWKWARD)
    for turns, row in zip(conversations, prepared(style, conversations), strict=True):
        assert (row["input_ids"], row["labels"]) == expected_labels(style.tokenizer, style.read(turns)), turns


@pytest.mark.parametrize("name", STYLES)
def test_labels_of_gsm8k(name: str) -> None:
    style, rows = STYLES[name], gsm8k(120)
    conversations = [conversation(row["question"], row["answer"]) for row in rows]
    conversations += [
        conversation(one["question"], one["answer"], other["question"], other["answer"])
        for one, other in zip(rows[::2], rows[1::2], strict=True)
    ]
    for turns, row in zip(conversations, prepared(style, conversations), strict=True):
        assert (row["input_ids"], row["labels"]) == expected_labels(style.tokenizer, style.read(turns))


def test_the_end_of_a_turn_is_learned() -> None:
    style = STYLES["chatml"]
    (row,) = prepared(style, [conversation("Hi", "Hello.")])
    assert style.tokenizer.eos_token_id in row["labels"]


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_token_that_swallows_a_markers_end_hides_no_turn(place: int) -> None:
    style = STYLES["chatml"]
    turns = ["One", "Two", "Three", "Four"]
    turns[place] = "\n\n\nbelow"
    rendered = style.tokenizer.apply_chat_template(conversation(*turns), tokenize=False)
    opener = "<|im_start|>" + ("assistant" if place % 2 else "user")
    swallowed = style.tokenizer(rendered, add_special_tokens=False)["input_ids"]
    intact = style.tokenizer(opener + "\nx", add_special_tokens=False)["input_ids"][:-1]
    found = sum(swallowed[at : at + len(intact)] == intact for at in range(len(swallowed)))
    assert found == 1, "only the other turn of this role shows its marker"
    (row,) = prepared(style, [conversation(*turns)])
    assert (row["input_ids"], row["labels"]) == expected_labels(style.tokenizer, style.read(conversation(*turns)))


_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<|>"), max_size=30)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.tuples(_texts, _texts), min_size=1, max_size=3), min_size=1, max_size=4))
def test_labels_by_ids_are_labels_by_text(chats: list[list[tuple[str, str]]]) -> None:
    import numpy as np

    tokenizer = STYLES["chatml"].tokenizer
    markers = derived_markers(tokenizer)
    conversations = [conversation(*(text for pair in chat for text in pair)) for chat in chats]
    texts = [tokenizer.apply_chat_template(turns, tokenize=False) for turns in conversations]
    encoded = [tokenizer(text, add_special_tokens=False, return_offsets_mapping=True) for text in texts]
    flat = np.concatenate([one["input_ids"] for one in encoded])
    offsets = np.cumsum([0, *(len(one["input_ids"]) for one in encoded)])
    labels, questions, answers = labels_by_ids(flat, offsets, markers)
    for number, (text, one, chat) in enumerate(zip(texts, encoded, chats, strict=True)):
        if questions[number] == answers[number] == len(chat):
            found = labels[offsets[number] : offsets[number + 1]].tolist()
            by_text = labels_in(marked_spans(text, markers), np.array(one["input_ids"]), one["offset_mapping"])
            assert found == by_text.tolist()
    assert sum(answers) >= sum(not any(answer.startswith("\n") for _, answer in chat) for chat in chats)


def test_an_answer_marker_at_the_end_of_a_row_opens_nothing_in_the_next() -> None:
    import numpy as np

    from ftcore_sft.markers import Markers

    markers = Markers("q", "a", (8,), (9,), "e", 7)
    labels, questions, answers = labels_by_ids(np.array([8, 1, 9, 8, 2, 9, 3]), np.array([0, 3, 7]), markers)
    assert labels.tolist() == [-100, -100, -100, -100, -100, -100, 3]
    assert (questions.tolist(), answers.tolist()) == ([1, 1], [1, 1])


def with_tool(content: str = "Sunny.") -> Conversation:
    """A conversation in which a tool speaks between two turns of the assistant."""
    chat = conversation("Weather?", "I look.", "unused", "It is sunny.", "Thanks!", "Welcome.")
    chat[2] = {"role": "tool", "content": content}
    return chat


@pytest.mark.parametrize("content", ["Sunny.", "\n\n\nSunny."])
def test_what_a_tool_says_is_not_learned(content: str) -> None:
    style, chat = STYLES["chatml"], with_tool(content)
    (row,) = prepared(style, [chat])
    assert (row["input_ids"], row["labels"]) == expected_labels(style.tokenizer, style.read(chat))


def test_a_tool_that_speaks_as_a_user_is_not_learned_either() -> None:
    chatml, chat = STYLES["chatml"], with_tool()
    as_user = chatml.template.replace("message['role']", "(message['role'] | replace('tool', 'user'))")
    style = Style(as_user, chatml.special_tokens, chatml.read, chatml.question, chatml.answer)
    (row,) = prepared(style, [chat])
    said_by_user: Any = [{**turn, "role": turn["role"].replace("tool", "user")} for turn in chat]
    assert (row["input_ids"], row["labels"]) == expected_labels(style.tokenizer, style.read(said_by_user))


def test_a_conversation_that_the_template_refuses_is_explained() -> None:
    strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    style = STYLES["gemma"]
    tokenizer = tiny_tokenizer(strict + style.template, style.special_tokens)
    recipe = Recipe(Given(), tokenizer, derived_markers(tokenizer), 100)
    with pytest.raises(DataError) as refused:
        prepare(rows_of([conversation("Hi", "Ho"), [], conversation("Hi", "Ho", system="Be kind.")]), recipe, 1)
    assert refused.value.what == "the chat template does not take the conversation of row 2"
    assert refused.value.why == "System role not supported; its turns are system user assistant"


def test_given_markers_must_be_in_the_template() -> None:
    tokenizer = STYLES["llama3"].tokenizer
    with pytest.raises(DataError) as refused:
        given_markers(tokenizer, "<|im_start|>user\n", "<|im_start|>assistant\n")
    assert refused.value.what.startswith(
        "question_part = '<|im_start|>user\\n' is not in what the chat template writes"
    )
    assert "it writes '<|start_header_id|>user<|end_header_id|>\\n\\n' and" in refused.value.why


def test_a_template_that_does_not_tell_turns_apart_is_refused() -> None:
    tokenizer = tiny_tokenizer("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    with pytest.raises(DataError, match="cannot be read off the chat template") as refused:
        derived_markers(tokenizer)
    assert "train_on_responses_only = false" in refused.value.fix
