"""Base and adapters as one function: its gradients against float64, its rounding against PEFT's, and what it leaves alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [train]")
pytest.importorskip("peft", reason="training needs the extra [train]")

from ftcore_sft.lora import install, remove  # noqa: E402
from ftcore_sft.lora.product import AdaptedLinear, add_product, rounds_once  # noqa: E402

INPUTS, OUTPUTS, RANK, TOKENS = 48, 40, 4, 6


class Stack(torch.nn.Module):  # type: ignore[misc]
    """Two layers for adapters."""

    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(INPUTS, OUTPUTS, bias=bias)
        self.second = torch.nn.Linear(OUTPUTS, INPUTS, bias=bias)

    def forward(self, inputs: Any) -> Any:
        return self.second(torch.tanh(self.first(inputs)))


def adapted(base: Any, adapters: int = 1, size: float = 0.1, **lora: Any) -> Any:
    """A PEFT model whose adapters all are active and of a size; a fresh one, of zeros, would hide every mistake."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, lora_alpha=8, **{"target_modules": ["first", "second"], **lora})
    model = get_peft_model(base, config)
    for number in range(1, adapters):
        model.add_adapter(f"more{number}", config)
    names = ["default", *(f"more{number}" for number in range(1, adapters))]
    model.base_model.set_adapter(names)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * size)
            parameter.requires_grad_(True)
    return model


def inputs_of(dtype: Any = torch.float32) -> Any:
    return torch.randn(2, 3, INPUTS, generator=torch.Generator().manual_seed(2)).to(dtype).requires_grad_()


def run_of(model: Any, inputs: Any) -> dict[str, Any]:
    """The output and all gradients."""
    out = model(inputs)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(3)).to(out.dtype)
    model.zero_grad()
    inputs.grad = None
    (out * weights).sum().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {"out": out.detach(), "inputs": inputs.grad, **found}


def in_float64(model: Any, inputs: Any) -> dict[str, Any]:
    return run_of(copy.deepcopy(model).double(), inputs.detach().double().requires_grad_())


def worst(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """The largest relative difference of a tensor."""
    assert found.keys() == expected.keys()
    return max(float((found[name].double() - one).norm() / one.norm()) for name, one in expected.items())


COMBINATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "several": {"adapters": 3},
    "base_bias": {"bias": "lora_only"},
    "all_biases": {"bias": "all"},
    "adapters_bias": {"lora_bias": True},
    "several_with_biases": {"adapters": 2, "lora_bias": True},
}
BIASED = {"base_bias", "all_biases", "adapters_bias", "several_with_biases"}


@pytest.mark.parametrize("name", COMBINATIONS)
def test_outputs_and_gradients_are_those_of_float64(name: str) -> None:
    model = adapted(Stack(bias=name in BIASED), **COMBINATIONS[name])
    expected = in_float64(model, inputs_of())
    assert install(model, half=False, full=True).layers == 2
    assert worst(run_of(model, inputs_of()), expected) < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", COMBINATIONS)
def test_gradients_in_16_bits_are_those_of_float64_but_for_rounding(name: str, dtype: Any) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    base = Stack(bias=name in BIASED).to(dtype)
    model = adapted(base, **COMBINATIONS[name])
    assert all(isinstance(part, BaseTunerLayer) for part in (base.first, base.second))
    expected = in_float64(model, inputs_of(dtype))
    assert install(model).layers == 2
    found = run_of(model, inputs_of(dtype))
    assert worst(found, expected) < (2e-2 if dtype == torch.bfloat16 else 2e-3)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(trained[name].grad.dtype == trained[name].dtype for name in trained)
    assert all(parameter.dtype == torch.float32 for name, parameter in trained.items() if "lora_" in name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tokens", [1, 7, 300])
@pytest.mark.parametrize("bias", [False, True])
def test_the_output_is_rounded_once_where_peft_rounds_twice(dtype: Any, tokens: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(512, 1024, bias=bias)).to(dtype)
    if bias:
        layer[0].bias.data.normal_()
    model = adapted(layer, size=0.02, target_modules=["0"])
    inputs = torch.randn(tokens, 512).to(dtype)
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(inputs.double())
        of_peft = model(inputs)
        install(model)
        found = model(inputs)

    def error(out: Any) -> float:
        return float((out.double() - exact).pow(2).mean().sqrt())

    assert found.dtype == dtype
    assert error(found) < 1.05 * error(exact.to(dtype))
    assert error(of_peft) > 1.2 * error(exact.to(dtype))


def test_what_is_smaller_than_a_step_is_kept_on_average() -> None:
    """Where PEFT keeps nothing of it: base outputs on the grid of bfloat16, an adapter of a tenth of a step."""
    base = torch.full((1, 4096), 1.0) + torch.rand(1, 4096, generator=torch.Generator().manual_seed(0)) * 0.9
    inputs, weight = torch.ones(1, 8).bfloat16(), torch.zeros(4096, 8)
    for column in range(8):  # eight numbers of 16 bits make one of many more
        weight[:, column] = (base[0] - weight.sum(1)).bfloat16().float()
    weight = weight.bfloat16()
    small = torch.full((1, 4096), 2.0**-11).bfloat16()
    exact = inputs.double() @ weight.double().T
    before = (inputs @ weight.T).clone()
    assert bool((before + small == before).double().mean() > 0.99)
    gained = (add_product(small.clone(), inputs, weight).double() - exact).mean()
    assert float(gained) == pytest.approx(2.0**-11, rel=0.15)


def test_the_machine_is_tried_before_it_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    from ftcore_sft.lora import product

    assert rounds_once(torch.device("cpu"), torch.bfloat16)

    def twice(out: Any, inputs: Any, weight: Any, bias: Any = None) -> Any:
        return out + torch.nn.functional.linear(inputs, weight, bias)

    monkeypatch.setattr(product, "add_product", twice)
    assert not rounds_once.__wrapped__(torch.device("cpu"), torch.bfloat16)
    monkeypatch.undo()
    monkeypatch.setattr("ftcore_sft.lora.layers.rounds_once", lambda device, dtype: False)
    report = install(adapted(Stack().bfloat16()))
    assert (report.layers, dict(report.aside)) == (0, {"cpu does not sum bfloat16 in float32": 2})


def test_a_bias_joins_in_float32_where_the_processor_has_no_product_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftcore_sft.lora.product._adds_in_one_go", lambda dtype: False)
    test_the_output_is_rounded_once_where_peft_rounds_twice(torch.bfloat16, 7, bias=True)


def test_dropout_reaches_the_adapter_alone() -> None:
    model = adapted(Stack(), lora_dropout=0.5)
    install(model, half=False, full=True)
    layer = model.base_model.model.first
    inputs = inputs_of()
    torch.manual_seed(5)
    found = run_of(layer, inputs)
    torch.manual_seed(5)
    dropped = layer.lora_dropout["default"](inputs)
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = layer.base_layer(inputs) + dropped @ down.T @ up.T * 2
    torch.testing.assert_close(found["out"], expected.detach())
    remove(model)
    torch.manual_seed(5)
    by_peft = run_of(layer, inputs_of())
    assert worst(found, by_peft) < 1e-5
    install(model, half=False, full=True)
    model.eval()
    remembered = model(inputs)
    remove(model)
    torch.testing.assert_close(remembered, model(inputs))


@pytest.mark.parametrize("name", COMBINATIONS)
def test_a_few_tokens_without_gradients_come_out_the_same(name: str) -> None:
    model = adapted(Stack(bias=name in BIASED), **COMBINATIONS[name])
    install(model, half=False, full=True)
    expected = model(inputs_of()).detach()
    with torch.no_grad():
        torch.testing.assert_close(model(inputs_of()), expected)


def test_numbers_of_gradients_are_checked_one_by_one() -> None:
    torch.manual_seed(0)
    shapes = ((5, 7), (6, 7), (6,), (6,), (5, 7), (2, 7), (6, 2), (3, 7), (6, 3))
    inputs, weight, bias, shift, *rest = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    given = [tensor.requires_grad_() for tensor in (inputs, bias, shift, *rest)]

    def function(inputs: Any, bias: Any, shift: Any, seen: Any, *pairs: Any) -> Any:
        down, up, other_down, other_up = pairs
        tensors = (seen, down, up, None, other_down, other_up)
        return AdaptedLinear.apply(inputs, weight, bias, shift, torch.float64, (0.5, 3.0), *tensors)

    assert torch.autograd.gradcheck(function, given)


def test_under_autocast_it_computes_in_the_type_of_autocast() -> None:
    model = adapted(Stack(), size=0.02)
    expected = in_float64(model, inputs_of())
    install(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run_of(model, inputs_of())
    assert found["out"].dtype == torch.bfloat16
    assert worst(found, expected) < 2e-2
    assert all(one.dtype == torch.float32 for name, one in found.items() if name != "out")
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        few = model(inputs_of())
    assert few.dtype == torch.bfloat16
    assert worst({"out": few}, {"out": expected["out"]}) < 2e-2
    out = run_of(model, inputs_of())["out"]  # without it, nothing is rounded, and PEFT computes
    remove(model)
    assert torch.equal(out, run_of(model, inputs_of())["out"])


@pytest.mark.parametrize(
    ("lora", "reason"),
    [
        ({"use_dora": True}, "their adapters are DoRA"),
        ({"target_modules": ["conv"]}, "they are of the kind Conv2d"),
        ({"init_lora_weights": "mica"}, "their adapters are MiCA"),
    ],
)
def test_what_it_does_not_suit_is_left_alone_and_said(lora: dict[str, Any], reason: str) -> None:
    base = Stack().bfloat16()
    base.conv = torch.nn.Conv2d(1, 1, 1).bfloat16()
    model = adapted(base, **lora)
    report = install(model)
    count = 1 if "conv" in reason.lower() else 2
    assert (report.layers, dict(report.aside)) == (0, {reason: count})
    assert next(iter(report.lines())).endswith(f"left to PEFT: {reason}")
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_trained_weights_and_foreign_forwards_are_left_alone() -> None:
    model = adapted(Stack().bfloat16())
    model.base_model.model.first.base_layer.weight.requires_grad_(True)
    model.base_model.model.second.forward = lambda inputs: inputs
    report = install(model)
    assert dict(report.aside) == {"their weights are trained too": 1, "their forward is another library's": 1}


def test_what_changes_later_is_left_to_peft_and_said_once() -> None:
    model = adapted(Stack().bfloat16())
    said: list[str] = []
    install(model, say=said.append)
    layer = model.base_model.model.first
    seen: list[int] = []
    handle = layer.base_layer.register_forward_hook(lambda *_: seen.append(1))
    inputs = inputs_of(torch.bfloat16)
    model(inputs)
    model(inputs)
    assert said == ["LoRA layers are left to PEFT: their base layers have hooks"]
    assert len(seen) == 2
    handle.remove()
    layer.lora_A["default"].weight.data = layer.lora_A["default"].weight.data.flatten()  # as FSDP leaves it
    with pytest.raises(RuntimeError):
        model(inputs)
    assert said[1:] == ["LoRA layers are left to PEFT: their adapters have hooks or are cut into shards"]


def test_adapters_are_switched_off_merged_and_chosen_as_ever() -> None:
    model = adapted(Stack(), adapters=2).eval()
    inputs = inputs_of().detach()

    def outputs() -> list[Any]:
        found = [model(inputs)]
        with model.disable_adapter():
            found.append(model(inputs))
        model.base_model.set_adapter("more1")
        found.append(model(inputs))
        model.merge_adapter()
        found.append(model(inputs))
        model.unmerge_adapter()
        found.append(model(inputs))
        model.base_model.set_adapter(["default", "more1"])
        return found

    expected = outputs()
    install(model, half=True, full=True)
    for found, other in zip(outputs(), expected, strict=True):
        torch.testing.assert_close(found, other, atol=1e-5, rtol=1e-5)
    names = set(model.state_dict())
    remove(model)
    assert set(model.state_dict()) == names


def test_half_precision_and_float32_are_asked_for_apart() -> None:
    assert install(adapted(Stack().bfloat16()), half=False, full=True).layers == 0
    assert install(adapted(Stack()), half=False, full=False).layers == 0
    assert install(adapted(Stack().bfloat16()), half=True).layers == 2


def test_a_copy_of_the_model_computes_with_its_own_weights() -> None:
    model = adapted(Stack().bfloat16())
    install(model)
    twin = copy.deepcopy(model)
    for parameter in twin.parameters():
        parameter.data.zero_()
    assert not twin(inputs_of(torch.bfloat16)).any()
    assert model(inputs_of(torch.bfloat16)).any()


def test_transposed_weights_of_conv1d() -> None:
    from transformers.pytorch_utils import Conv1D

    base = torch.nn.Sequential(Conv1D(OUTPUTS, INPUTS)).bfloat16()
    model = adapted(base, target_modules=["0"], fan_in_fan_out=True)
    expected = in_float64(model, inputs_of(torch.bfloat16))
    assert install(model).layers == 1
    assert worst(run_of(model, inputs_of(torch.bfloat16)), expected) < 1e-2
