"""Causal attention within segments of one long row, for CPUs.

torch's kernel for CPUs computes whole rows, padding and masked halves included, and its backward pass takes three
times as long as the matrix products that it consists of. Here each example is a segment, computed for itself in blocks
of queries, with the matrix products of the processor's library.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

NAME = "ftcore_segments"
"""The attention implementation, as transformers is told it, and the argument with the segments' borders."""


def options(borders: Sequence[int]) -> dict[str, Any]:
    """What a decoder is called with beside its tokens.

    With a mask of four dimensions transformers makes none itself. Its own would be of tokens × tokens, and the borders
    say as much.
    """
    return {NAME: list(borders), "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool)}


_BLOCK = 256  # queries at a time: their scores stay in the processor's cache


class SegmentedAttention(torch.autograd.Function):  # type: ignore[misc]
    """Softmax attention of each token to those before it in its segment; scores are computed again for the gradients.

    Shapes: query [1, heads, tokens, size], key and value [1, key heads, tokens, size]; the result has the tokens
    before the heads, as models want it. `borders` are the segments' starts and the end of the last.
    """

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, borders: Sequence[int], scale: float) -> Any:
        heads, size = query.shape[1], query.shape[3]
        out = query.new_empty(query.shape[2], heads, size)
        for start, begin, end in _blocks(borders):
            grouped = _grouped(query[0, :, begin:end] * scale, key.shape[1])
            weights = _weights(grouped, key[0, :, start:end], end - begin).to(query.dtype)
            found = torch.bmm(weights.flatten(1, 2), value[0, :, start:end])
            out[begin:end] = found.view(heads, end - begin, size).transpose(0, 1)
        ctx.save_for_backward(query, key, value)
        ctx.borders, ctx.scale = borders, scale
        return out[None]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        query, key, value = ctx.saved_tensors
        (of_out,) = gradients
        of_query, of_key, of_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        groups = key.shape[1]
        for start, begin, end in _blocks(ctx.borders):
            keys, values = key[0, :, start:end], value[0, :, start:end]
            grouped = _grouped(query[0, :, begin:end] * ctx.scale, groups)
            weights = _weights(grouped, keys, end - begin)
            gradient = _grouped(of_out[0, begin:end].transpose(0, 1), groups)
            of_value[0, :, start:end] += torch.bmm(weights.to(query.dtype).flatten(1, 2).transpose(1, 2), gradient)
            of_weights = torch.bmm(gradient, values.transpose(1, 2)).view(weights.shape).float()
            # The gradient of softmax: weights * (gradient - sum(weights * gradient)).
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, torch.float32)
            of_scores = of_scores.to(query.dtype).flatten(1, 2)
            found = torch.bmm(of_scores, keys).view(query.shape[1], end - begin, -1)
            of_query[0, :, begin:end] = found.mul_(ctx.scale)
            of_key[0, :, start:end] += torch.bmm(of_scores.transpose(1, 2), grouped)
        return of_query, of_key, of_value, None, None


def _blocks(borders: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Blocks of queries [begin, end) and the start of their segment, where their keys begin."""
    for start, stop in pairwise(borders):
        for begin in range(start, stop, _BLOCK):
            yield start, begin, min(begin + _BLOCK, stop)


def _grouped(heads: Any, groups: int) -> Any:
    """[heads, tokens, size] as [groups, heads of a group × tokens, size]: one product for all heads with one key."""
    return heads.reshape(groups, -1, heads.shape[2])


def _weights(grouped: Any, keys: Any, tokens: int) -> Any:
    """Attention weights, float32, of shape [groups, heads of a group, tokens, keys]; the last keys are the tokens'."""
    scores = torch.bmm(grouped, keys.transpose(1, 2)).view(keys.shape[0], -1, tokens, keys.shape[1]).float()
    scores[..., -tokens:] += _ahead(tokens)
    return torch.softmax(scores, -1)


def _ahead(tokens: int) -> Any:
    """What keeps a token from those behind it; shape [tokens, tokens]."""
    # A tensor made while a model is traced has no contents, and a trace takes none that has: these are not kept.
    traced = _get_current_dispatch_mode() is not None
    return _made_ahead.__wrapped__(tokens) if traced else _made_ahead(tokens)


@cache
def _made_ahead(tokens: int) -> Any:
    return torch.full((tokens, tokens), float("-inf")).triu_(1)


def attention(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> Any:
    """An attention function for transformers: by segments where it is told them, torch's own in every other case."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    borders = options.pop(NAME, None)
    plain = not options.get("dropout") and options.get("sliding_window") is None and options.get("softcap") is None
    if borders is None or not plain or query.device.type != "cpu":
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    scale = options.get("scaling")
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return SegmentedAttention.apply(query, key, value, borders, scale), None


def install(causal: Any) -> bool:
    """Let a model on a CPU attend by segments; False where it has another attention than torch's, and is left alone."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    if causal.device.type != "cpu" or getattr(causal.config, "_attn_implementation", "") != "sdpa":
        return False
    if getattr(causal.config, "sliding_window", None) or getattr(causal.config, "attn_logit_softcapping", None):
        return False  # torch's own function would see a whole batch as one row, which costs more than padding
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    causal.set_attn_implementation(NAME)
    return bool(causal.config._attn_implementation == NAME)
