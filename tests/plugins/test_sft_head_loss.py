"""Cross entropy in pieces is cross entropy, behind a frozen head and a trained one."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from ftcore_sft import head_loss as module  # noqa: E402

TOKENS, SIZE, VOCABULARY = 23, 16, 50


def parts(trained: bool, bias: bool = False) -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    head = torch.nn.Linear(SIZE, VOCABULARY, bias=bias, dtype=torch.float64).requires_grad_(trained)
    hidden = torch.randn(TOKENS, SIZE, dtype=torch.float64, requires_grad=True)
    return head, hidden, torch.randint(0, VOCABULARY, (TOKENS,))


@pytest.mark.parametrize("rows", [1, 7, 23, 100])
@pytest.mark.parametrize(("trained", "bias"), [(False, False), (True, False), (False, True), (True, True)])
def test_loss_and_gradients_are_torchs(rows: int, trained: bool, bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS_ON_CPU", rows)
    head, hidden, targets = parts(trained, bias)
    expected = torch.nn.functional.cross_entropy(head(hidden), targets, reduction="sum")
    (3 * expected).backward()
    again, seen, _ = parts(trained, bias)
    found = module.head_loss(again, seen, targets)
    (3 * found).backward()
    # The loss itself is taken in float32, whatever the model computes in.
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(seen.grad, hidden.grad, rtol=1e-4, atol=1e-5)
    if trained:
        torch.testing.assert_close(again.weight.grad, head.weight.grad, rtol=1e-4, atol=1e-5)
    else:
        assert again.weight.grad is None


@pytest.mark.parametrize("trained", [False, True])
def test_of_nothing_the_loss_is_0_and_so_are_the_gradients(trained: bool) -> None:
    head, hidden, targets = parts(trained)
    loss = module.head_loss(head, hidden[:0], targets[:0])
    loss.backward()
    assert loss.item() == 0.0
    assert not hidden.grad.any()
    assert head.weight.grad is None or not head.weight.grad.any()
    assert (head.weight.grad is not None) == trained  # DDP waits for each of them


def test_no_gradient_is_taken_where_none_is_wanted() -> None:
    head, hidden, targets = parts(trained=False)
    with torch.no_grad():
        assert not module.head_loss(head, hidden, targets).requires_grad


def test_logits_are_never_all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):  # type: ignore[misc]
        rows = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.ndim == 2 and out.shape[1] == VOCABULARY:
                self.rows = max(self.rows, out.shape[0] if out.shape[0] != SIZE else 0)
            return out

    monkeypatch.setattr(module, "_ROWS_ON_CPU", 5)
    for trained in (False, True):
        head, hidden, targets = parts(trained)
        with Largest() as largest:
            module.head_loss(head, hidden, targets).backward()
        assert largest.rows == 5


def test_a_gpu_gets_pieces_by_their_bytes() -> None:
    assert module.rows_at_once("cpu", 150_000) == 128
    assert module.rows_at_once("cuda", 150_000) == 256 * 2**20 // 600_000
    assert module.rows_at_once("cuda", 10_000_000) == 128
