"""The model's answers to questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ftcore.contracts import Conversation
from ftcore.turns import ends_of

_TOGETHER = 8


def answers(model: Any, tokenizer: Any, conversations: Sequence[Conversation], max_new_tokens: int) -> list[str]:
    """Greedy answers to conversations that end with a user's turn, special tokens left out."""
    training, cached, side = model.training, model.config.use_cache, tokenizer.padding_side
    model.eval()
    model.config.use_cache, tokenizer.padding_side = True, "left"
    try:
        return [
            answer
            for start in range(0, len(conversations), _TOGETHER)
            for answer in _batch(model, tokenizer, conversations[start : start + _TOGETHER], max_new_tokens)
        ]
    finally:
        model.config.use_cache, tokenizer.padding_side = cached, side
        model.train(training)


def _batch(model: Any, tokenizer: Any, conversations: Sequence[Conversation], max_new_tokens: int) -> list[str]:
    import torch

    prompts = tokenizer.apply_chat_template(
        [list(conversation) for conversation in conversations], tokenize=False, add_generation_prompt=True
    )
    inputs = tokenizer(prompts, add_special_tokens=False, return_tensors="pt", padding=True).to(model.device)
    with torch.no_grad():
        output = model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=list(ends_of(tokenizer).ids),
        )
    new = output[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
