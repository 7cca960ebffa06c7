"""A language model small enough to train in a test: real weights, a real tokenizer, no download.

    from ftcore.testing.models import tiny_model

    folder = tiny_model(tmp_path / "model")
    AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)

It knows nothing, but it loads, trains, saves and generates like its large relatives, in milliseconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The chat template of `tiny_model`, unless another is given."""

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""The special tokens of `tiny_tokenizer`, ids 0 to 2: padding, begin of a turn, and end of a turn (the EOS)."""

_TEXT = (
    "Which question shall the assistant answer? The user asks how many apples there are, and the system says: be short.",
    "There are 3 apples and 4 pears, so there are 3 + 4 = 7 fruits in all. Thank you for asking, and good night.",
    "What is the answer? The answer is 42, because the question was not what one thought that it would be.",
    "Big Apples And Bees Are Better; A Book Beside A Bed. And Bold Answers? An Aunt Baked Bread And Brought All Back.",
    "One.\n\nTwo.\n\n\nThree.\n\n\n\nFour.\n\n\n\n\nFive.\n\n",  # several line breaks are one token, as in large vocabularies
)


def tiny_tokenizer(template: str = CHATML, special_tokens: tuple[str, ...] = SPECIAL_TOKENS) -> Any:
    """A byte-level BPE tokenizer with a chat template; any text comes back from its tokens unchanged.

    Args:
        template: the Jinja chat template.
        special_tokens: at least three: padding, any number of others, and last the end of a turn (the EOS).

    Returns:
        A fast tokenizer (`PreTrainedTokenizerFast`) with 384 tokens or a few more.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    bare.train_from_iterator(
        _TEXT,
        trainers.BpeTrainer(
            vocab_size=381 + len(special_tokens),
            special_tokens=list(special_tokens),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bare,
        pad_token=special_tokens[0],
        eos_token=special_tokens[-1],
        additional_special_tokens=list(special_tokens[1:-1]),
        model_max_length=2048,
        chat_template=template,
    )


def tiny_model(folder: Path, model_type: str = "llama", *, template: str = CHATML, **config: Any) -> Path:
    """Write a causal language model of about 120,000 random parameters, and its tokenizer, into a folder.

    The weights are float32 and the same on every call; hidden size 64, 2 layers, 4 attention heads, 2 of them for
    keys and values, context of 2048 tokens.

    Args:
        folder: made if it is not there.
        model_type: the architecture, as transformers names it: "llama", "qwen2" (with biases), "gemma2", ….
        template: the Jinja chat template.
        config: values of the architecture's configuration that replace those above, e.g. `hidden_size=32`.

    Returns:
        The folder.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = tiny_tokenizer(template)
    size = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.convert_tokens_to_ids(SPECIAL_TOKENS[1]),
        "eos_token_id": tokenizer.eos_token_id,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **(size | config)))
    model.to(torch.float32).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder
