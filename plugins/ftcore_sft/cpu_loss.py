"""Cross entropy behind a frozen head, for CPUs: logits are made, used for loss and gradient, and forgotten, a few rows
at a time. Kept for the backward pass they would be a small model's largest tensors, and out of the processor's cache."""

from __future__ import annotations

from typing import Any

import torch

_ROWS = 128


class HeadLoss(torch.autograd.Function):  # type: ignore[misc]
    """The summed cross entropy (float32 scalar) of `hidden @ weight.T` and the targets.

    Shapes: hidden [tokens, size], weight [vocabulary, size], targets [tokens]. Only `hidden` has a gradient.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, targets: Any) -> Any:
        total = torch.zeros((), dtype=torch.float32)
        of_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, len(targets), _ROWS):
            rows, wanted = hidden[start : start + _ROWS], targets[start : start + _ROWS, None]
            logits = (rows @ weight.T).float()
            normalizer = torch.logsumexp(logits, -1, keepdim=True)
            total += (normalizer - logits.gather(1, wanted)).sum()
            if of_hidden is not None:
                probabilities = logits.sub_(normalizer).exp_()
                probabilities.scatter_add_(1, wanted, torch.full(wanted.shape, -1.0))
                of_hidden[start : start + _ROWS] = probabilities.to(hidden.dtype) @ weight
        ctx.save_for_backward(of_hidden)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (of_hidden,) = ctx.saved_tensors
        # In float32: the factor, rounded, would scale the whole batch's gradient.
        return (of_hidden.float() * gradients[0]).to(of_hidden.dtype), None, None


def suits(head: Any) -> bool:
    """Whether the head is a plain frozen matrix on a CPU."""
    return (
        type(head) is torch.nn.Linear
        and head.bias is None
        and head.weight.device.type == "cpu"
        and not head.weight.requires_grad
    )
