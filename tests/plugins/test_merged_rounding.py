"""Stochastic rounding: unbiased, exact where nothing is to be rounded, the same for the same seed and name."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="merging needs the extra [train]")

from ftcore_merged.rounding import RANDOM_BITS, Rounding, stochastic  # noqa: E402

TYPES = {"bfloat16": 16, "float16": 13}
"""How many bits of float32 each type lacks, as long as its numbers are normal."""


def every_random(values: Any, bits: int) -> Any:
    """One value beside all the random numbers that can decide its rounding."""
    return values.expand(2**bits).contiguous(), torch.arange(2**bits, dtype=torch.int32)


def finite(dtype: Any) -> st.SearchStrategy[float]:
    largest = torch.finfo(dtype).max
    return st.floats(-largest, largest, width=32, allow_nan=False, allow_subnormal=True)


@pytest.mark.parametrize("name", TYPES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_expectation_is_exact(name: str, data: st.DataObject) -> None:
    """Over all random numbers, a value's mean is the value itself: to the last bit, not to a tolerance."""
    dtype = getattr(torch, name)
    value = torch.tensor([data.draw(finite(dtype))], dtype=torch.float32)
    if name == "float16" and value.abs().item() < 2.0**-14:
        # Subnormal in float16: the random number is a fraction of 31 bits, so a mean over 16 of them is near enough.
        random = torch.arange(0, 2**31, 2**15, dtype=torch.int64).to(torch.int32)
        rounded = stochastic(value.expand(random.shape).contiguous(), dtype, random).double()
        assert rounded.mean().item() == pytest.approx(value.double().item(), abs=2.0**-24 * 2.0**-15)
        return
    rounded = stochastic(*_swap(every_random(value, TYPES[name]), dtype)).double()
    assert rounded.mean().item() == value.double().item()
    assert len(set(rounded.tolist())) <= 2


def _swap(pair: tuple[Any, Any], dtype: Any) -> tuple[Any, Any, Any]:
    return pair[0], dtype, pair[1]


@pytest.mark.parametrize("name", TYPES)
@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**31 - 1))
def test_neighbours_only_and_exact_where_there_is_nothing_to_round(name: str, data: st.DataObject, seed: int) -> None:
    dtype = getattr(torch, name)
    values = torch.tensor(data.draw(st.lists(finite(dtype), min_size=1, max_size=50)), dtype=torch.float32)
    random = torch.empty(values.shape, dtype=torch.int32).random_(generator=torch.Generator().manual_seed(seed))
    rounded = stochastic(values, dtype, random)
    step = (values.to(dtype).float() - rounded.float()).abs()
    assert (step <= _ulp(values, dtype)).all()
    there = values.to(dtype)
    there = there[there.isfinite()]
    assert stochastic(there.float(), dtype, random[: there.numel()]).equal(there)


def _ulp(values: Any, dtype: Any) -> Any:
    information = torch.finfo(dtype)
    _, exponent = torch.frexp(values.double().abs())
    normal = information.eps * 2.0 ** (exponent - 1).double()
    return torch.clamp(normal, min=information.tiny * information.eps).float() * 1.0001


@pytest.mark.parametrize("name", TYPES)
def test_what_the_type_does_not_reach(name: str) -> None:
    dtype = getattr(torch, name)
    largest = torch.finfo(dtype).max
    values = torch.tensor([math.inf, -math.inf, math.nan, largest, -largest, 0.0, -0.0])
    random = torch.full(values.shape, 2**RANDOM_BITS - 1, dtype=torch.int32)
    rounded = stochastic(values, dtype, random)
    assert rounded[:2].tolist() == [math.inf, -math.inf]
    assert rounded[2].isnan()
    assert rounded[3:].tolist() == [largest, -largest, 0.0, 0.0]
    beyond = torch.nextafter(torch.tensor(largest), torch.tensor(math.inf)).reshape(1)
    assert stochastic(-beyond, dtype, torch.zeros(1, dtype=torch.int32)).tolist() == [-math.inf]


@pytest.mark.parametrize("name", TYPES)
def test_small_changes_are_kept_on_average(name: str) -> None:
    """A tenth of half a step, added to weights that the type has: rounding to the nearest loses all of it."""
    dtype = getattr(torch, name)
    weights = torch.randn(200_000, generator=torch.Generator().manual_seed(1)).to(dtype).float()
    change = 0.05 * torch.finfo(dtype).eps * 2.0 ** torch.frexp(weights.abs()).exponent.sub(1).float()
    change = torch.where(weights == 0, 0.0, change)
    nearest = (weights + change).to(dtype).float() - weights
    assert nearest.sum().item() == 0.0
    kept = Rounding("stochastic", dtype, 0, "w")(weights + change).float() - weights
    assert kept.sum().item() / change.sum().item() == pytest.approx(1, abs=0.05)


def test_the_seed_and_the_name_decide_and_nothing_else() -> None:
    values = torch.randn(3000, generator=torch.Generator().manual_seed(2))

    def rounded(seed: int, name: str, cut: int = 3000) -> Any:
        rounding = Rounding("stochastic", torch.bfloat16, seed, name)
        return torch.cat([rounding(part) for part in (values[:cut], values[cut:]) if part.numel()])

    assert rounded(0, "a").equal(rounded(0, "a"))
    assert rounded(0, "a", cut=1111).equal(rounded(0, "a"))
    assert not rounded(0, "a").equal(rounded(0, "b"))
    assert not rounded(0, "a").equal(rounded(1, "a"))
