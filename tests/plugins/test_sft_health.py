"""Numbers that are not finite, and whose they are."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [train]")

from ftcore_sft.health import NotFinite, Watch  # noqa: E402


def judged(losses: list[float], norm: Any, scaled: bool = False, step: int = 5) -> NotFinite | None:
    watch = Watch(scaled)
    for loss in losses:
        watch.add_loss(torch.tensor(loss))
    watch.set_norm(norm)
    return watch.judge(step) or watch.settle()


def test_finite_numbers_pass() -> None:
    assert judged([1.0, 2.0], torch.tensor(3.0)) is None
    assert judged([1.0], None) is None
    assert judged([1.0], 0.5) is None


@pytest.mark.parametrize(("value", "name"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")])
def test_one_of_the_accumulated_losses_is_enough(value: float, name: str) -> None:
    assert judged([1.0, value, 2.0], torch.tensor(1.0)) == NotFinite(5, "loss", name)


def test_a_gradient_can_be_infinite_where_the_loss_is_not() -> None:
    assert judged([1.0], torch.tensor(math.inf)) == NotFinite(5, "gradient", "inf")
    assert judged([1.0], math.nan) == NotFinite(5, "gradient", "nan")


def test_with_scaled_losses_a_gradient_may_overflow() -> None:
    assert judged([1.0], torch.tensor(math.inf), scaled=True) is None
    assert judged([math.nan], torch.tensor(1.0), scaled=True) == NotFinite(5, "loss", "nan")


def test_but_not_step_after_step() -> None:
    watch = Watch(scaled=True)
    assert [watch.stepped(step, skipped=True) for step in range(31)] == [None] * 31
    assert watch.stepped(31, skipped=False) is None
    assert [watch.stepped(step, skipped=True) for step in range(31)] == [None] * 31
    assert watch.stepped(40, skipped=True) == NotFinite(40, "gradient", "inf")


def test_each_step_is_judged_by_its_own_numbers() -> None:
    watch = Watch(scaled=False)
    watch.add_loss(torch.tensor(math.nan))
    assert watch.judge(1) == NotFinite(1, "loss", "nan")
    watch.add_loss(torch.tensor(1.0))
    assert watch.judge(2) is None


@pytest.mark.gpu
def test_on_a_gpu_a_step_is_judged_at_the_next_or_when_it_must_be(cuda: str) -> None:
    watch = Watch(scaled=False)
    for step, loss in ((1, 1.0), (2, math.nan)):
        watch.add_loss(torch.tensor(loss, device="cuda"))
        watch.set_norm(torch.tensor(1.0, device="cuda"))
        assert watch.judge(step) is None
    watch.add_loss(torch.tensor(1.0, device="cuda"))
    assert watch.judge(3) == NotFinite(2, "loss", "nan")
    assert watch.settle() is None
