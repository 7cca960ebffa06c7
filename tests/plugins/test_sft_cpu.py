"""Attention by segments and LoRA layers as one function give what torch and PEFT give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftcore.testing.models import tiny_model

torch = pytest.importorskip("torch", reason="training needs the extra [train]")
pytest.importorskip("peft", reason="training needs the extra [train]")

from ftcore_sft import cpu_attention  # noqa: E402
from ftcore_sft.collate import Collator  # noqa: E402
from ftcore_sft.cpu import speed_up  # noqa: E402
from ftcore_sft.lora.choose import compute_adapters  # noqa: E402
from ftcore_sft.loss import SupervisedLoss  # noqa: E402


class Said:
    """A run that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    warn = say


@pytest.mark.parametrize("block", [256, 16])
@pytest.mark.parametrize(("heads", "groups"), [(9, 3), (4, 4), (4, 1)])
def test_attention_and_its_gradients_are_torchs(
    heads: int, groups: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_attention, "_BLOCK", block)
    torch.manual_seed(0)
    borders = [0, 37, 38, 90, 150]
    shapes = ((1, heads, 150, 16), (1, groups, 150, 16), (1, groups, 150, 16))
    mine = [torch.randn(shape, requires_grad=True) for shape in shapes]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in mine]

    out = cpu_attention.SegmentedAttention.apply(*mine, borders, 0.3)
    segment = torch.repeat_interleave(torch.arange(4), torch.tensor(borders).diff())
    mask = (segment[:, None] == segment[None]) & torch.ones(150, 150, dtype=torch.bool).tril()
    query, key, value = theirs
    repeated = [tensor.repeat_interleave(heads // groups, 1) for tensor in (key, value)]
    expected = torch.nn.functional.scaled_dot_product_attention(query, *repeated, attn_mask=mask, scale=0.3)
    torch.testing.assert_close(out, expected.transpose(1, 2), atol=1e-5, rtol=1e-5)

    gradient = torch.randn_like(out)
    out.backward(gradient)
    expected.backward(gradient.transpose(1, 2))
    for tensor, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(tensor.grad, other.grad, atol=2e-5, rtol=1e-4)


def adapted(folder: Path, model_type: str = "llama", **lora: Any) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(str(tiny_model(folder, model_type)))
    torch.manual_seed(1)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", **lora))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zeros in a fresh adapter, behind which every mistake would hide
            torch.nn.init.normal_(parameter, std=0.1)
    return model.train()


@pytest.fixture
def rows() -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(3)
    ids = [torch.randint(3, 380, (length,), generator=generator).tolist() for length in (5, 31, 18)]
    return [{"input_ids": row, "labels": [-100, -100, *row[2:]]} for row in ids]


def loss_and_gradients(model: Any, batch: dict[str, Any], sample: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    torch.manual_seed(0)
    supervised_loss = SupervisedLoss(model, sample)
    assert supervised_loss.short
    loss, count = supervised_loss(model, batch)
    (loss / count).backward()
    return float(loss.detach() / count), {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("model_type", ["llama", "qwen2"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradients_are_those_of_padded_batches(
    model_type: str, checkpointing: bool, rows: Any, tmp_path: Path
) -> None:
    sample = Collator(0)(rows[:1])
    model = adapted(tmp_path / "model", model_type)
    expected, gradients = loss_and_gradients(model, Collator(0)(rows), sample)

    model, run = adapted(tmp_path / "model", model_type), Said()
    compute_adapters(model, True, True, run)  # type: ignore[arg-type]
    assert speed_up(model, 380, run)  # type: ignore[arg-type]
    assert run.lines == [
        "lora       14 layers of base and adapter in one function",
        "cpu        attention with ftcore's own function",
    ]
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    batch = Collator(0, segments=True)(rows)
    assert batch["input_ids"].shape == (1, 5 + 31 + 18)
    assert batch["borders"].tolist() == [0, 5, 36, 54]
    found, own = loss_and_gradients(model, batch, sample)
    assert found == pytest.approx(expected, abs=1e-5)
    assert own.keys() == gradients.keys()
    for name, gradient in own.items():
        torch.testing.assert_close(gradient, gradients[name], atol=1e-6, rtol=1e-3)
