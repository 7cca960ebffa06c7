"""Cross entropy behind a model's head, a few rows of logits at a time.

Logits are vocabulary-sized: kept for the backward pass they are the largest tensors of a step, gigabytes with a long
batch. Here they are made, used, and forgotten. Behind a frozen head the gradient is taken in the same go; a trained head
computes its logits a second time for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

_ROWS_ON_CPU = 128  # what stays in a processor's cache
_BYTES_ELSEWHERE = 256 * 2**20  # of float32 logits: large enough to keep a GPU busy


def head_loss(head: Any, hidden: Any, targets: Any, device: str | None = None) -> Any:
    """The summed cross entropy, a float32 scalar.

    Args:
        head: the model's output embeddings.
        hidden: [tokens, size].
        targets: token ids, [tokens].
        device: the kind to compute as if on; by default the one that `hidden` is on.
    """
    rows = rows_at_once(device or hidden.device.type, getattr(head, "out_features", 0) or head.weight.shape[0])
    if _is_frozen_matrix(head):
        return FrozenHeadLoss.apply(hidden, head.weight, targets, rows)
    total = torch.zeros((), dtype=torch.float32, device=hidden.device)
    for start in range(0, max(1, len(targets)), rows):  # of nothing, too: gradients of 0 are gradients
        piece = hidden[start : start + rows], targets[start : start + rows]
        total = total + checkpoint(_piece, head, *piece, use_reentrant=False)
    return total


def rows_at_once(device: str, vocabulary: int) -> int:
    """For how many tokens logits are held at a time."""
    return _ROWS_ON_CPU if device == "cpu" else max(_ROWS_ON_CPU, _BYTES_ELSEWHERE // (4 * vocabulary))


def _piece(head: Any, hidden: Any, targets: Any) -> Any:
    return torch.nn.functional.cross_entropy(head(hidden).float(), targets, reduction="sum")


def _is_frozen_matrix(head: Any) -> bool:
    return type(head) is torch.nn.Linear and head.bias is None and not head.weight.requires_grad


class FrozenHeadLoss(torch.autograd.Function):  # type: ignore[misc]
    """The summed cross entropy (float32 scalar) of `hidden @ weight.T` and the targets.

    Shapes: hidden [tokens, size], weight [vocabulary, size], targets [tokens]. Only `hidden` has a gradient.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, targets: Any, at_once: int) -> Any:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        of_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, len(targets), at_once):
            rows, wanted = hidden[start : start + at_once], targets[start : start + at_once, None]
            logits = (rows.to(weight.dtype) @ weight.T).float()
            normalizer = torch.logsumexp(logits, -1, keepdim=True)
            total += (normalizer - logits.gather(1, wanted)).sum()
            if of_hidden is not None:
                # The gradient of cross entropy: softmax, less one at the target.
                probabilities = logits.sub_(normalizer).exp_()
                probabilities.scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=probabilities.dtype))
                of_hidden[start : start + at_once] = probabilities.to(weight.dtype) @ weight
                del probabilities
            del logits  # or the next piece would be made beside this one
        ctx.save_for_backward(of_hidden)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (of_hidden,) = ctx.saved_tensors
        # In float32: the factor, rounded, would scale the whole batch's gradient.
        return (of_hidden.float() * gradients[0]).to(of_hidden.dtype), None, None, None
