"""LoRA layers rounded once in whole models: quantized, checkpointed, compiled, saved, trained, and evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftcore.testing.models import tiny_model

torch = pytest.importorskip("torch", reason="training needs the extra [train]")
pytest.importorskip("peft", reason="training needs the extra [train]")

from ftcore_sft.lora import install, remove  # noqa: E402
from ftcore_sft.lora.choose import compute_adapters  # noqa: E402
from ftcore_sft.lora.layers import AdaptedLinear  # noqa: E402
from ftcore_sft.lora.product import of_few  # noqa: E402

IDS = torch.arange(3, 43).view(2, 20)


class Said:
    """A run that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    warn = say


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "qwen2", "qwen2")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32}
    return tiny_model(tmp_path_factory.mktemp("model") / "wide", **sizes)


def adapted(folder: Path, dtype: Any = torch.bfloat16, size: float = 0.02, base: Any = None, **lora: Any) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = base or AutoModelForCausalLM.from_pretrained(str(folder), dtype=dtype)
    torch.manual_seed(1)
    config = LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "target_modules": "all-linear", **lora})
    model = get_peft_model(base, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=size)
    return model


def quantized(folder: Path, bits: int) -> Any:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    options: dict[str, Any] = {"bnb_4bit_compute_dtype": torch.bfloat16} if bits == 4 else {}
    config = BitsAndBytesConfig(**{f"load_in_{bits}bit": True}, **options)
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.bfloat16, quantization_config=config)
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def gradients(model: Any) -> dict[str, Any]:
    model.zero_grad()
    torch.manual_seed(2)
    loss = model(input_ids=IDS, labels=IDS, use_cache=False).loss
    loss.backward()
    named = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {"loss": loss.detach(), **named}


def worst(found: dict[str, Any], expected: dict[str, Any]) -> float:
    assert found.keys() == expected.keys()
    return max(
        float((found[name].double() - one.double()).norm() / one.double().norm()) for name, one in expected.items()
    )


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The types that the function was asked to compute in."""
    seen: list[Any] = []
    apply = AdaptedLinear.apply

    class Counted:
        @staticmethod
        def apply(*args: Any) -> Any:
            seen.append(args[4])
            return apply(*args)

    monkeypatch.setattr("ftcore_sft.lora.layers.AdaptedLinear", Counted)
    return seen


@pytest.mark.parametrize("bits", [4, 8])
def test_quantized_weights_are_expanded_when_they_are_used(
    bits: int, wide: Path, calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra [quantization]")
    model = adapted(wide, base=quantized(wide, bits), size=0.05)
    layer = model.base_model.model.model.layers[0].mlp.down_proj
    inputs = torch.randn(2, 5, 256, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    with torch.no_grad():
        of_peft = layer(inputs)
    assert install(model).layers == 14
    out = layer(inputs)
    out.float().square().sum().backward()

    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    from ftcore_sft.lora import weights

    matrix = weights.matrix(layer.base_layer)(torch.float32).double()
    exact_inputs = inputs.detach().double().requires_grad_()
    exact = exact_inputs @ (matrix + layer.scaling["default"] * (up @ down).detach().double()).T
    (2 * out.detach().double() * exact).sum().backward()
    assert calls == [torch.bfloat16]
    if bits == 4:  # as it is done on a GPU for one token at a time
        alone = weights.matrix(layer.base_layer).times(inputs.detach().float().view(-1, 256))
        torch.testing.assert_close(
            alone, (inputs.detach().float() @ matrix.float().T).view(-1, 128), atol=0.02, rtol=0.02
        )
    exact, wanted = exact.detach(), exact_inputs.grad
    assert float((out.detach().double() - exact).norm() / exact.norm()) < 3e-3
    assert float((of_peft.double() - exact).norm() / exact.norm()) < 3e-2
    assert float((inputs.grad.double() - wanted).norm() / wanted.norm()) < 5e-3
    assert down.grad is not None
    assert up.grad is not None

    found = gradients(model)
    remove(model)
    assert worst(found, gradients(model)) < 0.15


def test_four_bit_weights_that_bitsandbytes_packed_for_itself_are_left_to_it(wide: Path, calls: list[Any]) -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra [quantization]")
    model = adapted(wide, base=quantized(wide, 4)).eval()
    said: list[str] = []
    install(model, say=said.append)
    for module in model.modules():
        if hasattr(module, "quant_state"):
            module.weight.quant_state.packing_format_for_cpu = True
    layer = model.base_model.model.model.layers[0].mlp.down_proj
    layer.base_layer.forward = lambda inputs: inputs.new_zeros(*inputs.shape[:-1], 128)
    layer(torch.ones(1, 256).bfloat16())
    assert (calls, said) == ([], ["LoRA layers are left to PEFT: their weights were cut into shards or packed"])


@pytest.mark.parametrize("reentrant", [False, True])
def test_activations_computed_again_give_the_same_gradients(folder: Path, reentrant: bool) -> None:
    model = adapted(folder, lora_dropout=0.2, bias="all").train()
    install(model)
    expected = gradients(model)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    model.enable_input_require_grads()
    assert worst(gradients(model), expected) == 0.0


# torch's compiler looks at what others should not.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.filterwarnings("ignore:.*torch.autograd.function.Function.* should not be instantiated")
def test_a_compiled_model_gives_the_same_gradients(folder: Path) -> None:
    model = adapted(folder, torch.float32)
    install(model, full=True)
    expected = gradients(model)
    torch.compiler.reset()
    layers = model.base_model.model.model.layers
    for layer in layers:
        layer.mlp.forward = torch.compile(layer.mlp.forward, backend="aot_eager", fullgraph=True)
    assert worst(gradients(model), expected) < 1e-4


def test_a_trained_head_and_adapted_embeddings_stay_pefts(folder: Path) -> None:
    model = adapted(
        folder, target_modules=["q_proj", "embed_tokens"], modules_to_save=["lm_head"], ensure_weight_tying=False
    )
    report = install(model)
    assert (report.layers, dict(report.aside)) == (2, {})
    found = gradients(model)
    assert sum("lm_head" in name for name in found) == 1
    assert sum("lora_embedding" in name for name in found) == 2


def test_the_saved_adapter_is_plain_peft(folder: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = adapted(folder, torch.float32)
    install(model, full=True)
    gradients(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    model.save_pretrained(str(tmp_path / "adapter"))
    base = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    again = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    with torch.no_grad():
        torch.testing.assert_close(
            again(input_ids=IDS).logits, model.eval()(input_ids=IDS).logits, atol=1e-5, rtol=1e-5
        )
    remove(model)
    merged = model.merge_and_unload()
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=IDS).logits, merged(input_ids=IDS).logits, atol=1e-4, rtol=1e-4)


def test_generation_uses_it_token_by_token(folder: Path, calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    few: list[int] = []

    def counted(inputs: Any, *rest: Any) -> Any:
        few.append(inputs.shape[1])
        return of_few(inputs, *rest)

    monkeypatch.setattr("ftcore_sft.lora.layers.of_few", counted)
    model = adapted(folder).eval()
    install(model)
    model.generate(input_ids=IDS[:1], max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert len(calls) == 14  # for the prompt
    assert few == [1] * (2 * 14)


@pytest.mark.parametrize(
    ("round_once", "fast_cpu", "dtype", "expected"),
    [
        (True, True, torch.bfloat16, ["lora       14 layers rounded once"]),
        (True, False, torch.bfloat16, ["lora       14 layers rounded once"]),
        (False, True, torch.bfloat16, []),
        (True, True, torch.float32, ["lora       14 layers of base and adapter in one function"]),
        (True, False, torch.float32, []),
    ],
)
def test_a_run_says_what_its_layers_compute_with(
    round_once: bool, fast_cpu: bool, dtype: Any, expected: list[str], folder: Path
) -> None:
    run = Said()
    compute_adapters(adapted(folder, dtype), round_once, fast_cpu, run)  # type: ignore[arg-type]
    assert run.lines == expected


def test_a_run_says_which_layers_are_left_to_peft(folder: Path) -> None:
    model, run = adapted(folder, use_dora=True), Said()
    compute_adapters(model, True, True, run)  # type: ignore[arg-type]
    assert run.lines == ["lora       14 LoRA layers are left to PEFT: their adapters are DoRA"]
    model, run = adapted(folder), Said()
    model.base_model.model.model.layers[0].mlp.up_proj.base_layer.weight.requires_grad_(True)
    compute_adapters(model, True, True, run)  # type: ignore[arg-type]
    assert run.lines[1:] == ["           1 LoRA layer is left to PEFT: their weights are trained too"]


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    distributed = torch.distributed
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_distributed_training_finds_ordinary_parameters(folder: Path, calls: list[Any]) -> None:
    model = adapted(folder)
    install(model)
    expected = gradients(model)
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    found = {name.removeprefix("module."): one for name, one in gradients(wrapped).items()}
    assert worst(found, expected) == 0.0


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("adapters_apart", [False, True])
def test_sharded_weights_are_used_where_they_are_whole(folder: Path, adapters_apart: bool, calls: list[Any]) -> None:
    from torch.distributed.fsdp import fully_shard

    model, said = adapted(folder), []
    install(model, say=said.append)
    expected = gradients(model)
    assert len(calls) == 14
    calls.clear()
    for layer in model.base_model.model.model.layers:
        if adapters_apart:
            for module in [part for part in layer.modules() if hasattr(part, "lora_A")]:
                fully_shard(module.lora_A["default"])
        fully_shard(layer)
    found = {name: getattr(one, "full_tensor", lambda one=one: one)() for name, one in gradients(model).items()}
    assert worst(found, expected) < (0.05 if adapters_apart else 1e-6)
    assert len(calls) == (0 if adapters_apart else 14)
    assert said == ["LoRA layers are left to PEFT: their adapters are wrapped or cut into shards"] * adapters_apart


@pytest.mark.parametrize(("switch", "expected"), [(None, True), ("true", True), ("false", False)])
def test_ask_lets_a_model_answer_as_its_run_evaluated_it(
    switch: str | None, expected: bool, folder: Path, tmp_path: Path
) -> None:
    from ftcore.plugins import discover
    from ftcore.run.saved_model import _prepare

    if switch is not None:
        (tmp_path / "config.toml").write_text(
            f"""
            [fine_tuner]
            base_model_id = "{folder}"
            training_data_id = "data.jsonl"

            [sft]
            round_once = {switch}
            """
        )
    model = adapted(folder)
    _prepare(model, tmp_path, discover())
    assert ("forward" in model.base_model.model.model.layers[0].mlp.up_proj.__dict__) is expected
