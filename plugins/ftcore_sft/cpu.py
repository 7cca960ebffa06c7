"""Training on a CPU: attention with a function that suits it."""

from __future__ import annotations

from typing import Any

from ftcore.contracts import Run

_TOLERANCE = {"torch.float32": 1e-3, "torch.bfloat16": 0.05, "torch.float16": 0.01}
"""The largest relative difference of hidden states that rounding explains, by the type that the model computes in."""

_LENGTHS = (19, 24)


def speed_up(model: Any, vocabulary: int, run: Run) -> bool:
    """Install what suits this model, if it is on a CPU.

    Returns:
        Whether its attention works by segments, so that batches are laid end to end (see `Collator.segments`).
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    if causal.device.type != "cpu":
        return False
    from ftcore_sft import cpu_attention

    previous = getattr(causal.config, "_attn_implementation", None)
    alone = _states(causal, vocabulary, behind_another=False)
    segments = cpu_attention.install(causal)
    if segments and not _agree(alone, _states(causal, vocabulary, behind_another=True), causal):
        causal.set_attn_implementation(previous)
        segments = False
    if segments:
        run.say("cpu        attention with ftcore's own function")
    return segments


def _states(causal: Any, vocabulary: int, behind_another: bool) -> Any:
    """An example's hidden states, alone as the model is, or as the second segment of a row.

    Its positions count on behind the first, so that nothing but the segments' borders keeps the two apart.
    """
    import torch

    from ftcore_sft import cpu_attention

    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(1, vocabulary - 1, (length,), generator=generator) for length in _LENGTHS)
    ids = torch.cat([first, second]) if behind_another else second
    options = cpu_attention.options([0, _LENGTHS[0], sum(_LENGTHS)]) if behind_another else {}
    training = causal.training
    causal.eval()
    try:
        with torch.no_grad():
            found = causal.get_decoder()(input_ids=ids[None], use_cache=False, **options).last_hidden_state
    except (
        AttributeError,
        TypeError,
        ValueError,
        RuntimeError,
        IndexError,
    ):  # it wants a mask, or knows no such option
        return None
    finally:
        causal.train(training)
    return found[:, -_LENGTHS[1] :].float()


def _agree(expected: Any, found: Any, causal: Any) -> bool:
    if expected is None or found is None:
        return False
    difference = float((expected - found).norm() / expected.norm())
    return difference <= _TOLERANCE.get(str(causal.dtype), 0.05)
