"""Does packing keep the examples of a sequence apart with this model? It is tried, not assumed."""

from __future__ import annotations

from typing import Any

from ftcore.errors import TrainingError

_TOLERANCE = {"torch.float32": 1e-4, "torch.bfloat16": 0.05, "torch.float16": 0.01}
"""The largest relative difference that rounding explains, by the type that the model computes in."""


def require_isolation(model: Any, vocabulary: int) -> None:
    """Compute one example behind two different neighbours.

    Raises:
        TrainingError: its hidden states depend on the neighbour.
    """
    import torch

    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    implementation = getattr(causal.config, "_attn_implementation", "unknown")
    generator = torch.Generator().manual_seed(0)
    example, one, other = torch.randint(1, vocabulary - 1, (3, 24), generator=generator)
    positions = torch.arange(24).repeat(2)[None].to(model.device)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            first, second = (
                causal.get_decoder()(
                    input_ids=torch.cat([neighbour, example])[None].to(model.device),
                    position_ids=positions,
                    use_cache=False,
                )
                .last_hidden_state[:, 24:]
                .float()
                for neighbour in (one, other)
            )
    finally:
        model.train(training)
    difference = float((first - second).norm() / first.norm())
    if difference > _TOLERANCE.get(str(next(model.parameters()).dtype), 0.05):
        raise TrainingError(
            "packing cannot be used with this model",
            why=f"with attention {implementation}, an example's output changes by {difference:.1%} with its neighbour",
            fix="Set packing = false",
        )
