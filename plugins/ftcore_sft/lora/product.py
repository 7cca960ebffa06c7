"""A frozen layer and its adapters as one function whose output is rounded once.

In 16 bits, adding an adapter's output to a base output that was rounded before loses whatever is smaller than half a
step of the larger number. Here the order is the other way round: the adapters' small product is computed first, and the
base product is accumulated onto it in float32, inside the matrix product itself, before its only rounding. Nothing is
held twice, and it costs what adding the adapter last would.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from torch.nn.functional import linear


class AdaptedLinear(torch.autograd.Function):  # type: ignore[misc]
    """`inputs @ weight.T + bias + shift + sum(scale * seen @ down.T @ up.T)`, of shape [..., outputs].

    Arguments of `apply`, gradients going to all but the weight:
        inputs: [..., inputs], of any floating type; they are computed with in `dtype`.
        weight: [outputs, inputs], frozen; or a function that makes it, in `dtype`, each time it is needed.
        bias: the base layer's, [outputs], or None.
        shift: a bias of the adapters, [outputs], or None.
        dtype: the type that is computed in and returned.
        scales: of each adapter.
        tensors: `seen, down, up` for each adapter: the inputs behind its dropout ([..., inputs], or None where there
            is no dropout), [rank, inputs] and [outputs, rank].
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Any, weight: Any, bias: Any, shift: Any, dtype: Any, scales: Any, *tensors: Any
    ) -> Any:
        with _as_written(inputs.device.type):
            flat = inputs.reshape(-1, inputs.shape[-1]).to(dtype)
            all_seen = [flat if seen is None else seen.reshape(flat.shape).to(dtype) for seen in tensors[::3]]
            downs = [down.to(dtype) for down in tensors[1::3]]
            # Scaled before it is rounded to `dtype`.
            ups = [(up * scale).to(dtype) for up, scale in zip(tensors[2::3], scales, strict=True)]
            inner = _joined([seen @ down.T for seen, down in zip(all_seen, downs, strict=True)])
            up = _joined(ups)
            out = inner @ up.T if shift is None else torch.addmm(shift.to(dtype), inner, up.T)
            out = _with_base(out, flat, weight, bias)
        held = weight if torch.is_tensor(weight) else None
        ctx.save_for_backward(held, inner, up, *all_seen, *downs)
        ctx.weight, ctx.dtype, ctx.scales = weight if held is None else None, dtype, scales
        ctx.shape, ctx.apart = inputs.shape, [seen is not None for seen in tensors[::3]]
        ctx.types = [None if tensor is None else tensor.dtype for tensor in (inputs, bias, shift, *tensors)]
        return out.view(*inputs.shape[:-1], out.shape[-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        held, inner, up, *rest = ctx.saved_tensors
        count, wanted = len(ctx.scales), ctx.needs_input_grad
        all_seen, downs = rest[:count], rest[count:]
        ranks = [down.shape[0] for down in downs]
        found: list[Any] = [None] * len(wanted)
        with _as_written(gradients[0].device.type):
            flat = gradients[0].reshape(-1, gradients[0].shape[-1]).to(ctx.dtype)
            of_inners = (flat @ up).split(ranks, 1)
            shared = []  # gradients to the inputs through adapters without dropout
            for number, (of_inner, of_up) in enumerate(zip(of_inners, inner.split(ranks, 1), strict=True)):
                place = _FIRST + 3 * number
                if ctx.apart[number] and wanted[place]:
                    found[place] = (of_inner @ downs[number]).view(ctx.shape)
                elif not ctx.apart[number]:
                    shared.append(number)
                if wanted[place + 1]:
                    found[place + 1] = product32(of_inner.T, all_seen[number])
                if wanted[place + 2]:
                    found[place + 2] = product32(flat.T, of_up).mul_(ctx.scales[number])
            if wanted[0]:
                matrix = dense(held if ctx.weight is None else ctx.weight, ctx.dtype)
                if shared:
                    small = _joined([of_inners[number] for number in shared]) @ torch.cat([downs[n] for n in shared])
                    found[0] = add_product(small, flat, matrix.T).view(ctx.shape)
                else:
                    found[0] = (flat @ matrix).view(ctx.shape)
            if wanted[2] or wanted[3]:
                summed = flat.sum(0, dtype=torch.float32)
                found[2], found[3] = (summed if wanted[place] else None for place in (2, 3))
            types = (ctx.types[0], None, *ctx.types[1:3], None, None, *ctx.types[3:])
            return tuple(None if one is None else one.to(kind) for one, kind in zip(found, types, strict=True))


_FIRST = 6
"""The place of the adapters' tensors among the arguments."""


def of_few(inputs: Any, weight: Any, bias: Any, shift: Any, dtype: Any, scales: Any, *tensors: Any) -> Any:
    """As `AdaptedLinear.apply`, without gradients, for a few tokens: converting the adapters would take longer than using
    them in their own type."""
    if torch.is_autocast_enabled(inputs.device.type):
        with _as_written(inputs.device.type):
            return of_few(inputs, weight, bias, shift, dtype, scales, *tensors)
    flat = _cast(inputs.reshape(-1, inputs.shape[-1]), dtype)
    total = shift
    for seen, down, up, scale in zip(tensors[::3], tensors[1::3], tensors[2::3], scales, strict=True):
        inner = linear(_cast(flat if seen is None else seen.reshape(flat.shape), down.dtype), down)
        # It multiplies and scales in one go; what it could add to, a beta of 0 leaves out.
        own = torch.addmm(up.select(1, 0), inner, up.t(), beta=0, alpha=scale)
        total = own if total is None else total + own
    out = _with_base(_cast(total, dtype), flat, weight, bias)
    return out.view(*inputs.shape[:-1], -1)


def _cast(tensor: Any, dtype: Any) -> Any:
    """`tensor.to(dtype)`; where it has that type, asking for it takes a microsecond."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def _as_written(device: str) -> Any:
    """Autocast would choose other types than these."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _with_base(out: Any, flat: Any, weight: Any, bias: Any) -> Any:
    if torch.is_tensor(weight) or not flat.is_cuda or len(flat) > _FEW or not hasattr(weight, "times"):
        return add_product(out, flat, dense(weight, flat.dtype), bias)
    wide = weight.times(flat.float()).add_(out)
    return out.copy_(wide if bias is None else wide.add_(bias))


_FEW = 4
"""Tokens of a batch in generation, for which packed weights are read faster than expanded."""


def dense(weight: Any, dtype: Any) -> Any:
    """The weight, a tensor or a function that makes one, as a matrix of a type."""
    return _cast(weight, dtype) if torch.is_tensor(weight) else weight(dtype)


def add_product(out: Any, inputs: Any, weight: Any, bias: Any = None) -> Any:
    """`out + inputs @ weight.T + bias`, summed in float32 and rounded once to the type of `out`; `out` may be reused.

    Args:
        out: [tokens, outputs].
        inputs: [tokens, inputs], of the same type.
        weight: [outputs, inputs], of the same type.
        bias: [outputs] or None.
    """
    if bias is None:
        return out.addmm_(inputs, weight.t())
    if out.dtype in (torch.float32, torch.float64):
        return out.addmm_(inputs, weight.T).add_(bias)
    # A bias of 16 bits on top of `out` would round away what is in `out`, so all three meet in float32.
    if out.device.type == "cpu" and not torch.compiler.is_compiling() and _adds_in_one_go(out.dtype):
        placed = inputs.contiguous(), out, weight.contiguous(), bias.to(out.dtype)
        return torch.ops.mkldnn._linear_pointwise.binary(*placed, "add")
    wide = product32(inputs, weight.T, exact=True)
    return out.copy_(wide.add_(out).add_(bias))


def product32(left: Any, right: Any, exact: bool = False) -> Any:
    """`left @ right` in float32, from factors of 16 bits.

    On a GPU its sums are never rounded to 16 bits. Elsewhere they are once, unless `exact`, which takes longer.
    """
    if left.dtype == torch.float32:
        return left @ right
    if left.device.type == "cuda":
        return torch.mm(left, right, out_dtype=torch.float32)
    if not exact:
        return (left @ right).float()
    with torch.autocast(left.device.type, enabled=False):
        return left.float() @ right.float()


@cache
def rounds_once(device: Any, dtype: Any) -> bool:
    """Whether `add_product` does on this device what it promises. It is tried, not assumed.

    Two shapes are tried, of many tokens and of one, with and without a bias.
    """
    return all(
        _error(device, dtype, tokens, biased) <= _SLACK * _error(device, dtype, tokens, biased, ideal=True)
        for tokens in (64, 1)
        for biased in (False, True)
    )


_SLACK = 1.1
"""Rounding before and after an addition errs by up to the root of two more than rounding once."""


def _error(device: Any, dtype: Any, tokens: int, biased: bool, ideal: bool = False) -> float:
    """How far from float64, in the root mean square: what `add_product` gives, or the exact sum rounded once."""
    generator = torch.Generator().manual_seed(0)
    sizes = (tokens, 1024), (512, 1024), (tokens, 512), (512,)
    inputs, weight, small, bias = (torch.randn(size, generator=generator).to(dtype) for size in sizes)
    out, given = 4 * small, bias if biased else None
    exact = out.double() + inputs.double() @ weight.double().T + (bias.double() if biased else 0)
    if ideal:
        found = exact.to(dtype)
    else:
        placed = [None if tensor is None else tensor.to(device) for tensor in (out, inputs, weight, given)]
        with torch.no_grad():
            found = add_product(*placed).cpu()
    return float((found.double() - exact).pow(2).mean().sqrt())


@cache
def _adds_in_one_go(dtype: Any) -> bool:
    """Whether oneDNN adds a bias and another tensor before it rounds; torch keeps this function for its compiler."""
    try:
        ones = torch.ones(2, 2, dtype=dtype)
        return bool(torch.ops.mkldnn._linear_pointwise.binary(ones, ones, ones, ones[0], "add")[0, 0] == 4)
    except (AttributeError, RuntimeError):
        return False


def _joined(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)
