"""Architectures of the models that the presets name, so that their memory can be estimated without a network.

The sizes are those of the models' published `config.json`.
"""

from __future__ import annotations

from typing import Any

_QWEN = {"model_type": "qwen2", "vocab_size": 151936, "tie_word_embeddings": True, "max_position_embeddings": 32768}
_ARCHITECTURES: dict[str, dict[str, Any]] = {
    "qwen2.5-0.5b": {**_QWEN, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
                     "num_attention_heads": 14, "num_key_value_heads": 2},
    "qwen2.5-1.5b": {**_QWEN, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
                     "num_attention_heads": 12, "num_key_value_heads": 2},
    "qwen2.5-3b": {**_QWEN, "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
                   "num_attention_heads": 16, "num_key_value_heads": 2},
    "qwen2.5-7b": {**_QWEN, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
                   "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064,
                   "tie_word_embeddings": False},
    "llama-3.2-1b": {"model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
                     "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
                     "tie_word_embeddings": True, "max_position_embeddings": 131072},
    "llama-3.2-3b": {"model_type": "llama", "vocab_size": 128256, "hidden_size": 3072, "intermediate_size": 8192,
                     "num_hidden_layers": 28, "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128,
                     "tie_word_embeddings": True, "max_position_embeddings": 131072},
    "smollm2-135m": {"model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
                     "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
                     "tie_word_embeddings": True, "max_position_embeddings": 8192},
}  # fmt: skip
_OWNERS = ("unsloth", "qwen", "meta-llama", "huggingfacetb")


def architecture(model_id: str) -> dict[str, Any] | None:
    """The values of a model's configuration, `quantization_config` among them where its id says so; None if unknown."""
    owner, _, name = model_id.lower().partition("/")
    stored_4bit = name.endswith("-bnb-4bit")
    values = _ARCHITECTURES.get(name.removesuffix("-bnb-4bit").removesuffix("-unsloth").removesuffix("-instruct"))
    if owner not in _OWNERS or values is None:
        return None
    quantized = {"quantization_config": {"load_in_4bit": True, "bnb_4bit_use_double_quant": True}}
    return {**values, **(quantized if stored_4bit else {})}
