"""A model with random weights, its tokenizer and rows to train on, made on the spot: no download, no licence.

python benchmarks/gpu/materials.py FOLDER MODEL
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from cases import ARCHITECTURES, Case

_WORDS = [
    "the",
    "question",
    "asks",
    "how",
    "many",
    "apples",
    "and",
    "pears",
    "there",
    "are",
    "in",
    "all",
    "so",
    "the",
    "answer",
    "is",
    "short",
    "and",
    "good",
]


def model_folder(root: Path, name: str) -> Path:
    """The model, saved in bfloat16 with a small ChatML tokenizer whose ids are all in its vocabulary."""
    folder = root / name
    if not (folder / "tokenizer.json").exists():
        # In a process of its own: its memory is not the training's.
        subprocess.run([sys.executable, __file__, str(root), name], check=True)
    return folder


def _make(folder: Path, name: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from ftcore.testing.models import tiny_tokenizer

    tokenizer, shape = tiny_tokenizer(), ARCHITECTURES[name]
    config = AutoConfig.for_model(
        shape.model_type,
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_key_value_heads,
        max_position_embeddings=shape.max_position_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    tokenizer.model_max_length = shape.max_position_embeddings
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def rows_file(root: Path, case: Case) -> tuple[Path, int]:
    """A JSON lines file with `question` and `answer`, half of a row's tokens each, and how many rows it has."""
    from ftcore.testing.models import tiny_tokenizer

    shares = (0.9, 0.99) if case.rows == "full" else (0.05, 0.15)
    # Packing puts about ten short rows into one.
    per_step = case.batch_size * case.accumulation * (10 if case.packing else 1)
    count = case.steps * per_step
    path = root / f"rows-{case.length}-{case.rows}-{count}.jsonl"
    if not path.exists():
        drawn = random.Random(0)
        per_word = len(tiny_tokenizer()(" ".join(_WORDS))["input_ids"]) / len(_WORDS)
        with path.open("w", encoding="utf-8") as file:
            for _ in range(count):
                words = max(2, int(case.length * drawn.uniform(*shares) / per_word / 2) - 6)
                row = {key: " ".join(drawn.choices(_WORDS, k=words)) for key in ("question", "answer")}
                file.write(json.dumps(row) + "\n")
    return path, count


if __name__ == "__main__":
    _make(Path(sys.argv[1]) / sys.argv[2], sys.argv[2])
