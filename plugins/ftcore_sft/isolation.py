"""Does packing keep the examples of a sequence apart with this model? It is tried, not assumed."""

from __future__ import annotations

from typing import Any

from ftcore.errors import TrainingError

_TOLERANCE = {"torch.float32": 1e-4, "torch.bfloat16": 0.05, "torch.float16": 0.01}
"""The largest relative difference that rounding explains, by the type that the model computes in."""

_LENGTH = 24


def needs_one_row(model: Any, vocabulary: int) -> bool:
    """Compute an example behind two different neighbours, in a batch of two rows and, if that fails, of one.

    flash-attn and unsloth's kernels tell examples apart by their positions in a batch of one row only.

    Returns:
        Whether the rows of a batch have to be laid end to end (see `Collator.flatten`).

    Raises:
        TrainingError: its hidden states depend on the neighbour either way.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    tolerance = _TOLERANCE.get(str(next(model.parameters()).dtype), 0.05)
    training = model.training
    model.eval()
    try:
        if _difference(causal, vocabulary, rows=2) <= tolerance:
            return False
        difference = _difference(causal, vocabulary, rows=1)
    finally:
        model.train(training)
    if difference > tolerance:
        implementation = getattr(causal.config, "_attn_implementation", "unknown")
        raise TrainingError(
            "packing cannot be used with this model",
            why=f"with attention {implementation}, an example's output changes by {difference:.1%} with its neighbour",
            fix="Set packing = false",
        )
    return True


def _difference(causal: Any, vocabulary: int, rows: int) -> float:
    """The relative change of an example's hidden states when its neighbour is another."""
    import torch

    generator = torch.Generator().manual_seed(0)
    example, one, other = torch.randint(1, vocabulary - 1, (3, _LENGTH), generator=generator)
    positions = torch.arange(_LENGTH).repeat(rows, 2).to(causal.device)
    with torch.no_grad():
        first, second = (
            causal.get_decoder()(
                input_ids=torch.cat([neighbour, example]).repeat(rows, 1).to(causal.device),
                position_ids=positions,
                use_cache=False,
            )
            .last_hidden_state[:, _LENGTH:]
            .float()
            for neighbour in (one, other)
        )
    return float((first - second).norm() / first.norm())
