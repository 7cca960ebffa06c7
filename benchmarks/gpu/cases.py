"""What is measured: models, settings, and the grid that varies one thing at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

RUNNERS = ("ftcore", "unsloth", "trl")
"""ftcore with its unsloth loader, a plain unsloth script, and a plain script with transformers, PEFT and TRL."""


@dataclass(frozen=True)
class Architecture:
    """A causal language model's shape, from its published config.json."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    rope_theta: float = 10_000.0
    max_position_embeddings: int = 32_768

    @property
    def matrix_parameters(self) -> int:
        """Weights of all matrices that a token is multiplied with: the layers' and the head's."""
        head = self.hidden_size // self.num_attention_heads
        attention = self.hidden_size * head * 2 * (self.num_attention_heads + self.num_key_value_heads)
        feed_forward = 3 * self.hidden_size * self.intermediate_size
        return self.num_hidden_layers * (attention + feed_forward) + self.hidden_size * self.vocab_size


ARCHITECTURES = {
    "qwen2.5-0.5b": Architecture("qwen2", 151_936, 896, 4_864, 24, 14, 2, 1_000_000.0),
    "qwen2.5-1.5b": Architecture("qwen2", 151_936, 1_536, 8_960, 28, 12, 2, 1_000_000.0),
    "llama-3.2-3b": Architecture("llama", 128_256, 3_072, 8_192, 28, 24, 8, 500_000.0, 131_072),
    "dry": Architecture("llama", 512, 64, 128, 2, 4, 2, max_position_embeddings=2_048),
}


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        runner: one of `RUNNERS`.
        model: a key of `ARCHITECTURES`.
        bits: 4 for NF4, 16 for bfloat16 weights.
        length: tokens that a row may have.
        rows: "full" rows are 90 to 100 % of `length`; "short" ones 5 to 15 %.
        checkpointing: "off", "true" or "unsloth" (which is "true" to TRL).
        preset: the size in GB of the card that the memory guide names; the process may use no more.
    """

    runner: str
    model: str
    bits: int = 16
    length: int = 2_048
    rows: str = "full"
    packing: bool = False
    checkpointing: str = "unsloth"
    batch_size: int = 4
    accumulation: int = 1
    rank: int = 16
    steps: int = 14
    warm_up: int = 4
    preset: int | None = None
    dry: bool = False

    @property
    def name(self) -> str:
        """Unique among the cases of a grid."""
        parts = [self.runner, self.model, f"{self.bits}bit", str(self.length), self.rows, f"gc-{self.checkpointing}"]
        parts += ["packed"] if self.packing else []
        parts += [f"preset-{self.preset}gb"] if self.preset else []
        return "_".join(parts)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def flops_per_token(self) -> float:
        """Of the model, forward and backward: recomputation and padding are not work done.

        A frozen matrix costs 2 operations per weight forward and 2 for the gradient of its input; attention costs
        2 x length x hidden in the mean of a causal mask forward, and twice that backward.
        """
        shape = ARCHITECTURES[self.model]
        seen = self.length if self.rows == "full" else self.length // 10
        return 4.0 * shape.matrix_parameters + 6.0 * shape.num_hidden_layers * shape.hidden_size * seen


def grid(models: list[str]) -> Iterator[Case]:
    """A base case for each model, and cases that differ from it in one thing."""
    for model in models:
        base = Case("ftcore", model)
        varied = [
            base,
            replace(base, bits=4),
            replace(base, length=512, batch_size=16),
            replace(base, length=4_096, batch_size=2),
            replace(base, checkpointing="off"),
            replace(base, checkpointing="true"),
            replace(base, rows="short", batch_size=8),
            replace(base, rows="short", batch_size=8, packing=True),
        ]
        for case in varied:
            yield from (replace(case, runner=runner) for runner in RUNNERS)


def presets() -> Iterator[Case]:
    """The memory guide's three presets, with rows as long as they allow."""
    base = Case("ftcore", "", bits=4, checkpointing="unsloth", steps=3, warm_up=1)
    small = replace(base, model="qwen2.5-0.5b", length=1_024, batch_size=1, accumulation=16, rank=8, preset=4)
    middle = replace(base, model="qwen2.5-1.5b", length=2_048, batch_size=2, accumulation=8, rank=16, preset=8)
    large = replace(base, model="llama-3.2-3b", length=4_096, batch_size=4, accumulation=4, rank=32, preset=12)
    yield from (small, middle, large)


def dry() -> Iterator[Case]:
    """The same code in a minute, on a processor: nothing that it measures means anything."""
    base = Case("ftcore", "dry", length=128, batch_size=2, rank=4, steps=3, warm_up=1, dry=True)
    yield from (replace(base, runner=runner) for runner in RUNNERS)
    yield from (replace(base, runner=runner, rows="short", packing=True) for runner in RUNNERS[:1])
    yield replace(base, bits=4, preset=4, accumulation=2)
