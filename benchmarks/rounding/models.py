"""The models and rows of benchmarks/lora_rounding.py: two architectures, and a tiny one that shows that it runs."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from suite.workload import Row, gsm8k_rows, smollm2, synthetic_rows

_TEST_ROWS = Path(__file__).parents[2].parent / "shared" / "data" / "gsm8k_test_300.jsonl"

LONGEST = 256
"""Longer examples are cut, in tokens."""


@dataclass(frozen=True)
class Example:
    """Token ids, and from which of them on they are learned."""

    ids: list[int]
    start: int


class Subject:
    """A model to train adapters on; its weights are numbers that bfloat16 has.

    Attributes:
        name: as in the results.
        about: what one has to know of it.
    """

    name = ""
    about = ""

    def encode(self, row: Row) -> Example:
        """A row as the model is trained on it."""
        raise NotImplementedError

    def load(self) -> Any:
        """The model in bfloat16, in evaluation mode."""
        raise NotImplementedError

    def training_rows(self) -> list[Row]:
        """The rows to train on."""
        return list(gsm8k_rows(2000))

    def held_out_rows(self, count: int) -> list[Row]:
        """Rows that nothing is trained on."""
        with _TEST_ROWS.open(encoding="utf-8") as file:
            return [json.loads(line) for line in islice(file, count)]

    @cached_property
    def half(self) -> Any:
        """The model in bfloat16; to be copied, not changed."""
        return self.load()

    def examples(self, rows: Sequence[Row]) -> list[Example]:
        """The rows, encoded and cut."""
        return [Example(one.ids[:LONGEST], one.start) for one in map(self.encode, rows) if one.start < LONGEST]


class Chat(Subject):
    """A model whose tokenizer has a chat template."""

    def __init__(self, name: str, folder: Path, about: str = "") -> None:
        self.name, self._folder, self.about = name, folder, about

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(self._folder))

    def encode(self, row: Row) -> Example:
        asked = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": row["question"]}], tokenize=False, add_generation_prompt=True
        )
        prompt = self.tokenizer(asked, add_special_tokens=False)["input_ids"]
        answer = self.tokenizer(row["answer"], add_special_tokens=False)["input_ids"]
        return Example([*prompt, *answer, self.tokenizer.eos_token_id], len(prompt))

    def load(self) -> Any:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(str(self._folder), dtype=torch.bfloat16).eval()


class Tiny(Chat):
    """Random weights and made-up rows."""

    def training_rows(self) -> list[Row]:
        return list(synthetic_rows(32))

    def held_out_rows(self, count: int) -> list[Row]:
        return list(islice(synthetic_rows(100), 50, 50 + count))


class NeoX(Subject):
    """A small GPT-NeoX (fused attention matrix with biases, parallel residual), pre-trained here on GSM8K's questions.

    SmolLM2's tokenizer is used, its vocabulary cut down to the tokens that the rows have.
    """

    name = "GPT-NeoX-9M"
    about = (
        "6 layers of width 256, pre-trained for the purpose for some minutes on the 2,000 questions alone; the answers "
        "are what its adapters learn. Another architecture, no good model."
    )

    def __init__(self, cache: Path, tokens: int = 350_000) -> None:
        self._folder, self._tokens = cache / "neox-gsm8k-questions", tokens

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(smollm2()))

    @cached_property
    def _index(self) -> dict[int, int]:
        rows = [*self.training_rows(), *self.held_out_rows(300)]
        seen = {token for row in rows for text in row.values() for token in self._ids(text)}
        return {token: number for number, token in enumerate(sorted(seen), 2)}

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def encode(self, row: Row) -> Example:
        question, answer = ([self._index[token] for token in self._ids(row[key])] for key in ("question", "answer"))
        return Example([*question, 1, *answer, 0], len(question) + 1)

    def load(self) -> Any:
        from transformers import GPTNeoXForCausalLM

        if not (self._folder / "config.json").exists():
            self._pretrain()
        return GPTNeoXForCausalLM.from_pretrained(str(self._folder), dtype=torch.bfloat16).eval()

    def _pretrain(self) -> None:
        from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

        torch.manual_seed(0)
        config = GPTNeoXConfig(
            vocab_size=len(self._index) + 2, hidden_size=256, num_hidden_layers=6, num_attention_heads=4,
            intermediate_size=1024, max_position_embeddings=512, tie_word_embeddings=False,
            bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        model = GPTNeoXForCausalLM(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
        examples = [Example([0, *one.ids[: one.start]], 1) for one in map(self.encode, self.training_rows())]
        draw, seen = random.Random(0), 0
        while seen < self._tokens:
            chosen = sorted(draw.sample(examples, 64), key=lambda one: len(one.ids))
            for batch in (chosen[start : start + 16] for start in range(0, 64, 16)):
                inputs, mask, labels = padded(batch)
                optimizer.zero_grad()
                loss = model(input_ids=inputs, attention_mask=mask, labels=labels).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                seen += int(mask.sum())
        print(f"pre-trained {self.name}: loss {float(loss.detach()):.3f} after {seen:,} tokens", flush=True)
        model.to(torch.bfloat16).save_pretrained(str(self._folder))


def padded(batch: Sequence[Example]) -> tuple[Any, Any, Any]:
    """Token ids, attention mask and labels (-100: not learned), each [examples, longest]."""
    shape = (len(batch), max(len(one.ids) for one in batch))
    inputs, mask, labels = (
        torch.zeros(shape, dtype=torch.long),
        torch.zeros(shape, dtype=torch.long),
        torch.full(shape, -100),
    )
    for number, one in enumerate(batch):
        size = len(one.ids)
        inputs[number, :size] = torch.tensor(one.ids)
        mask[number, :size] = 1
        labels[number, one.start : size] = inputs[number, one.start : size]
    return inputs, mask, labels


def cache_folder() -> Path:
    """Where the model that is pre-trained here is kept."""
    named = os.environ.get("FTCORE_CACHE")
    base = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "ftcore"
    return base.expanduser() / "benchmarks"


def subjects() -> list[Subject]:
    """The models that are measured."""
    return [Chat("SmolLM2-135M-Instruct", smollm2()), NeoX(cache_folder())]
