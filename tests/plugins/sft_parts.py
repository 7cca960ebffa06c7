"""Parts for the tests of the trainer: chat templates with a reading of each by hand, data, and prepared examples."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ftcore.contracts import Conversation
from ftcore.testing.models import CHATML, SPECIAL_TOKENS, tiny_tokenizer

Pieces = list[tuple[str, bool]]
"""A rendered conversation in pieces, each with whether it is the assistant's."""


@dataclass(frozen=True)
class Style:
    """A chat template, and what it writes as somebody would read it, who knows it and nothing of markers."""

    template: str
    special_tokens: tuple[str, ...]
    read: Callable[[Conversation], Pieces]
    question: str
    answer: str

    @property
    def tokenizer(self) -> Any:
        return _tokenizer(self.template, self.special_tokens)


@cache
def _tokenizer(template: str, special_tokens: tuple[str, ...]) -> Any:
    return tiny_tokenizer(template, special_tokens)


def _chatml(conversation: Conversation) -> Pieces:
    pieces: Pieces = []
    for turn in conversation:
        pieces += [
            (f"<|im_start|>{turn['role']}\n", False),
            (f"{turn['content']}<|im_end|>", turn["role"] == "assistant"),
            ("\n", False),
        ]
    return pieces


def _llama3(conversation: Conversation) -> Pieces:
    pieces: Pieces = [("<|begin_of_text|>", False)]
    for turn in conversation:
        pieces += [
            (f"<|start_header_id|>{turn['role']}<|end_header_id|>\n\n", False),
            (f"{turn['content'].strip()}<|eot_id|>", turn["role"] == "assistant"),
        ]
    return pieces


def _mistral(conversation: Conversation) -> Pieces:
    pieces: Pieces = [("<s>", False)]
    for turn in conversation:
        asked = turn["role"] == "user"
        pieces += [(f"[INST] {turn['content']} [/INST] ", False)] if asked else [(f"{turn['content']}</s>", True)]
    return pieces


def _gemma(conversation: Conversation) -> Pieces:
    pieces: Pieces = [("<bos>", False)]
    for turn in conversation:
        role = "model" if turn["role"] == "assistant" else "user"
        pieces += [
            (f"<start_of_turn>{role}\n", False),
            (f"{turn['content'].strip()}<end_of_turn>", role == "model"),
            ("\n", False),
        ]
    return pieces


def _qwen3(conversation: Conversation) -> Pieces:
    pieces: Pieces = []
    for number, turn in enumerate(conversation):
        thought = "<think>\n\n</think>\n\n" if number == len(conversation) - 1 else ""
        if turn["role"] == "assistant":
            pieces += [
                ("<|im_start|>assistant\n", False),
                (f"{thought}{turn['content']}<|im_end|>", True),
                ("\n", False),
            ]
        else:
            pieces += [(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n", False)]
    return pieces


STYLES = {
    "chatml": Style(CHATML, SPECIAL_TOKENS, _chatml, "<|im_start|>user\n", "<|im_start|>assistant\n"),
    "llama3": Style(
        "{{ '<|begin_of_text|>' }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + "
        "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        ("<|finetune_right_pad_id|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        _llama3,
        "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    # [INST] is no special token here, and the space behind it belongs to the next word's token.
    "mistral": Style(
        "{{ '<s>' }}{% for message in messages %}{% if message['role'] == 'user' %}"
        "{{ '[INST] ' + message['content'] + ' [/INST] ' }}{% else %}{{ message['content'] + '</s>' }}{% endif %}"
        "{% endfor %}",
        ("<unk>", "<s>", "</s>"),
        _mistral,
        "[INST] ",
        " [/INST] ",
    ),
    "gemma": Style(
        "{{ '<bos>' }}{% for message in messages %}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' "
        "else message['role']) + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        ("<pad>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
        _gemma,
        "<start_of_turn>user\n",
        "<start_of_turn>model\n",
    ),
    "qwen3": Style(
        "{% for message in messages %}{% if message['role'] == 'assistant' and loop.last %}"
        "{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' + message['content'] + '<|im_end|>\n' }}{% else %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        SPECIAL_TOKENS,
        _qwen3,
        "<|im_start|>user\n",
        "<|im_start|>assistant\n",
    ),
}


def expected_labels(tokenizer: Any, pieces: Pieces) -> tuple[list[int], list[int]]:
    """The tokens of the pieces together, and labels: a token is learned where it has a letter of the assistant's.

    A token over the edge of two pieces is learned if what is the assistant's comes last in it.
    """
    mine = [own for text, own in pieces for _ in text]
    encoded = tokenizer("".join(text for text, _ in pieces), add_special_tokens=False, return_offsets_mapping=True)
    spans = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return encoded["input_ids"], [token if mine[end - 1] else -100 for token, (_, end) in spans]


def conversation(*turns: str, system: str | None = None) -> Conversation:
    """User and assistant by turns."""
    spoken: Conversation = [] if system is None else [{"role": "system", "content": system}]
    for number, text in enumerate(turns):
        spoken.append({"role": "assistant" if number % 2 else "user", "content": text})
    return spoken


class Given:
    """A formatter whose rows hold conversations already; ValueError for a row without one."""

    def __call__(self, row: Mapping[str, Any]) -> Conversation:
        turns: Conversation = json.loads(row["turns"])
        if not turns:
            raise ValueError("no turns")
        return turns


def rows_of(conversations: Sequence[Conversation]) -> Any:
    """A dataset for `Given`."""
    from datasets import Dataset

    return Dataset.from_dict({"turns": [json.dumps(turns) for turns in conversations]})


def gsm8k(count: int) -> list[dict[str, str]]:
    """Rows with `question` and `answer`."""
    path = Path(__file__).parents[2].parent / "shared" / "data" / "gsm8k_train_2k.jsonl"
    if not path.exists():
        pytest.skip(f"the GSM8K rows are not at {path}")
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for _, line in zip(range(count), file, strict=False)]
