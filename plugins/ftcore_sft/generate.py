"""The model's answers to questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ftcore.contracts import Conversation


def answers(model: Any, tokenizer: Any, conversations: Sequence[Conversation], max_new_tokens: int) -> list[str]:
    """Greedy answers, one conversation at a time, special tokens left out."""
    import torch

    training, cached = model.training, model.config.use_cache
    model.eval()
    model.config.use_cache = True
    texts = []
    try:
        for conversation in conversations:
            prompt = tokenizer.apply_chat_template(list(conversation), tokenize=False, add_generation_prompt=True)
            inputs = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").to(model.device)
            with torch.no_grad():
                output = model.generate(
                    **inputs,
                    max_new_tokens=max_new_tokens,
                    do_sample=False,
                    pad_token_id=tokenizer.pad_token_id,
                    eos_token_id=tokenizer.eos_token_id,
                )
            texts.append(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    finally:
        model.config.use_cache = cached
        model.train(training)
    return texts
