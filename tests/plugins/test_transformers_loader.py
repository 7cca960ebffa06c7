"""The loader `transformers` on tiny real models: adapter, quantization, LoftQ, tokenizer, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ftcore.errors import ModelError
from ftcore.settings.lora import LoraSettings
from ftcore.settings.model import ModelSettings
from ftcore.testing.models import CHATML, tiny_model
from ftcore_transformers.hardware import attention_implementation, choose_dtype
from ftcore_transformers.loader import TransformersLoader

if TYPE_CHECKING:
    from conftest import TrackedRun

torch = pytest.importorskip("torch", reason="training needs the extra [train]")
pytest.importorskip("transformers", reason="training needs the extra [train]")

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


def loader_of(run: TrackedRun, source: Path | str, lora: LoraSettings | None = None, **own: Any) -> TransformersLoader:
    values = {
        "base_model_id": str(source),
        "load_in_4bit": False,
        "dtype": "float32",
        "use_gradient_checkpointing": False,
        "max_sequence_length": 512,
    } | own
    adapter = lora or LoraSettings(rank=4, lora_dropout=0.0)
    return TransformersLoader(run, str(source), ModelSettings(**values), adapter)


def batch_for(model: Any) -> dict[str, Any]:
    ids = torch.arange(3, 43).reshape(2, 20).to(model.device)
    return {"input_ids": ids, "labels": ids}


def adapter_weights(model: Any) -> dict[str, Any]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def train(model: Any, steps: int = 3) -> list[float]:
    optimizer = torch.optim.AdamW(adapter_weights(model).values(), lr=0.02)
    losses = []
    for _ in range(steps):
        loss = model(**batch_for(model)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_only_the_adapter_is_trained(tiny: Path, tracked_run: TrackedRun) -> None:
    model = loader_of(tracked_run, tiny).model()
    names = adapter_weights(model)
    assert names
    assert all(".lora_" in name for name in names)
    assert model.training
    assert not model.config.use_cache
    losses = train(model)
    assert losses[-1] < losses[0]


def test_the_adapter_starts_from_the_seed(tiny: Path, tracked_run: TrackedRun) -> None:
    def first(seed: int) -> Any:
        tracked_run.seed = seed
        return next(iter(adapter_weights(loader_of(tracked_run, tiny).model()).values()))

    one, same, other = first(1), first(1), first(2)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@needs_bitsandbytes
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("bits", ["load_in_4bit", "load_in_8bit"])
def test_a_quantized_model_trains_its_adapter(
    bits: str, checkpointing: bool, tiny: Path, tracked_run: TrackedRun
) -> None:
    own = {"load_in_4bit": False, bits: True, "use_gradient_checkpointing": checkpointing}
    model = loader_of(tracked_run, tiny, **own).model()
    before = {name: weight.detach().clone() for name, weight in adapter_weights(model).items()}
    frozen = {name: weight.detach().clone() for name, weight in model.named_parameters() if not weight.requires_grad}
    losses = train(model)
    assert losses[-1] < losses[0]
    assert all(not torch.equal(weight, before[name]) for name, weight in adapter_weights(model).items())
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            assert torch.equal(weight, frozen[name]), name


@needs_bitsandbytes
def test_quantized_weights_are_near_the_full_ones(tiny: Path, tracked_run: TrackedRun) -> None:
    def logits(**own: Any) -> Any:
        model = loader_of(tracked_run, tiny, **own).model().eval()
        with torch.no_grad():
            return model(**batch_for(model)).logits.float()

    full = logits()
    for bits, limit in (("load_in_8bit", 0.1), ("load_in_4bit", 0.5)):
        error = float((logits(**{"load_in_4bit": False, bits: True}) - full).norm() / full.norm())
        assert 0 < error < limit, bits


@needs_bitsandbytes
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("bits", ["load_in_4bit", "load_in_8bit"])
def test_an_evaluation_takes_no_gradient_away(bits: str, dtype: str, tiny: Path, tracked_run: TrackedRun) -> None:
    def gradients(*, evaluated: bool) -> dict[str, Any]:
        model = loader_of(tracked_run, tiny, **{"load_in_4bit": False, bits: True}, dtype=dtype).model()
        with torch.no_grad():
            for name, weight in adapter_weights(model).items():
                if ".lora_B" in name:
                    weight.fill_(0.01)  # at 0 no gradient reaches A
        if evaluated:
            with torch.no_grad():
                model.eval()(**batch_for(model))
            model.train()
        model(**batch_for(model)).loss.backward()
        return {name: weight.grad for name, weight in adapter_weights(model).items()}

    before, after = gradients(evaluated=False), gradients(evaluated=True)
    assert all(gradient is not None and gradient.any() for gradient in before.values())
    for name, gradient in after.items():
        assert gradient is not None, name
        torch.testing.assert_close(gradient, before[name], rtol=0.05, atol=1e-3)


@needs_bitsandbytes
def test_a_checkpoint_stored_in_4_bits_is_loaded_as_it_is(tiny: Path, tmp_path: Path, tracked_run: TrackedRun) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    stored = tmp_path / "stored-in-4bit"
    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    AutoModelForCausalLM.from_pretrained(str(tiny), quantization_config=quantization).save_pretrained(str(stored))
    AutoTokenizer.from_pretrained(str(tiny)).save_pretrained(str(stored))
    model = loader_of(tracked_run, stored, load_in_4bit=False).model()
    kinds = {type(module).__name__ for name, module in model.named_modules() if name.endswith("q_proj.base_layer")}
    assert kinds == {"Linear4bit"}
    assert any("the checkpoint is stored in 4bit" in warning for warning in tracked_run.warned)
    losses = train(model)
    assert losses[-1] < losses[0]
    with pytest.raises(ModelError, match="full_finetuning is true and the checkpoint is stored quantized"):
        loader_of(tracked_run, stored, full_finetuning=True).model()


def test_4_bits_by_default_give_way_without_a_gpu(
    tiny: Path, tracked_run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    settings = ModelSettings(base_model_id=str(tiny))
    model: Any = TransformersLoader(tracked_run, str(tiny), settings, LoraSettings()).model()
    assert not any("4bit" in type(module).__name__ for module in model.modules())
    assert any("load_in_4bit is only the default" in line for line in tracked_run.said)


def test_4_bits_without_bitsandbytes_are_refused(
    tiny: Path, tracked_run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name == "bitsandbytes" else find_spec(name, *more)
    )
    with pytest.raises(ModelError) as refused:
        loader_of(tracked_run, tiny, load_in_4bit=True).model()
    assert refused.value.fix == "Run: pip install 'ftcore[quantization]', or set load_in_4bit = false"


LOFTQ = LoraSettings(rank=8, lora_dropout=0.0, loftq_config={"loftq_bits": 4, "loftq_iter": 2})


@needs_bitsandbytes
@pytest.mark.parametrize("tied", [False, True])
def test_loftqs_adapter_reloads_on_the_base_that_was_saved_with_it(
    tied: bool, tmp_path: Path, tracked_run: TrackedRun
) -> None:
    from peft import AutoPeftModelForCausalLM

    source = tiny_model(tmp_path / "source", tie_word_embeddings=tied)
    model = loader_of(tracked_run, source, LOFTQ).model()
    train(model)
    model.save_pretrained(str(tmp_path / "adapter"))
    named = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert Path(named) == tracked_run.dir / "loftq-base"
    assert any(str(named) in line for line in tracked_run.said)
    again = AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "adapter"))
    with torch.no_grad():
        expected, found = (one.eval()(**batch_for(one)).logits for one in (model, again))
    torch.testing.assert_close(found, expected)


@needs_bitsandbytes
@pytest.mark.parametrize("bits", [4, 8])
def test_loftq_starts_near_the_full_weights(bits: int, tiny: Path, tracked_run: TrackedRun) -> None:
    from safetensors.torch import load_file

    settings = LoraSettings(rank=16, lora_dropout=0.0, loftq_config={"loftq_bits": bits})
    model = loader_of(tracked_run, tiny, settings).model()
    stored = load_file(tiny / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"]
    layer = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj")
    quantized, update = layer.base_layer.weight.detach(), layer.get_delta_weight("default").detach()
    assert len(quantized.unique()) < len(stored.unique())
    assert 0 < (quantized + update - stored).norm() < 0.9 * (quantized - stored).norm()


@pytest.mark.parametrize(
    "given", [{"loftq_bits": 3}, {"loftq_iter": 0}, {"loftq_bits": 4, "loftq_rounds": 2}, {"loftq_iter": "x"}]
)
def test_an_unknown_loftq_option_is_refused(given: dict[str, Any], tiny: Path, tracked_run: TrackedRun) -> None:
    with pytest.raises(ModelError) as refused:
        loader_of(tracked_run, tiny, LoraSettings(loftq_config=given)).model()
    assert refused.value.what == f"loftq_config = {given} cannot be used"


@needs_bitsandbytes
def test_loftq_on_a_quantized_base_is_refused(tiny: Path, tracked_run: TrackedRun) -> None:
    with pytest.raises(ModelError, match="the base model is quantized already"):
        loader_of(tracked_run, tiny, LOFTQ, load_in_8bit=True).model()


def test_a_target_that_is_not_there_is_refused_with_those_that_are(tiny: Path, tracked_run: TrackedRun) -> None:
    with pytest.raises(ModelError) as refused:
        loader_of(tracked_run, tiny, LoraSettings(target_modules=["q_proj", "query"])).model()
    assert refused.value.what == 'target_modules names "query", which this model does not have'
    assert "down_proj, embed_tokens, gate_proj, k_proj" in refused.value.why


def test_all_linear_adapts_every_layer_but_the_head(tiny: Path, tracked_run: TrackedRun) -> None:
    model = loader_of(tracked_run, tiny, LoraSettings(rank=2, target_modules="all-linear")).model()
    adapted = {name.split(".lora_")[0].rpartition(".")[2] for name in adapter_weights(model)}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_full_finetuning_trains_everything_in_float32(tiny: Path, tracked_run: TrackedRun) -> None:
    settings = ModelSettings(base_model_id=str(tiny), full_finetuning=True, load_in_4bit=False)
    model: Any = TransformersLoader(tracked_run, str(tiny), settings, LoraSettings()).model()
    assert all(weight.requires_grad and weight.dtype == torch.float32 for weight in model.parameters())


def test_gradient_checkpointing_changes_memory_and_not_the_gradients(tiny: Path, tracked_run: TrackedRun) -> None:
    def gradients(checkpointing: bool | str) -> list[Any]:
        model = loader_of(tracked_run, tiny, use_gradient_checkpointing=checkpointing).model()
        model(**batch_for(model)).loss.backward()
        return [weight.grad for weight in adapter_weights(model).values()]

    kept, again = gradients(False), gradients("unsloth")
    assert all(torch.allclose(one, other) for one, other in zip(kept, again, strict=True))
    assert any("torch's own, not unsloth's" in line for line in tracked_run.said)


def test_missing_weights_are_refused_rather_than_random(tiny: Path, tmp_path: Path, tracked_run: TrackedRun) -> None:
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(tiny, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError) as refused:
        loader_of(tracked_run, broken).model()
    assert refused.value.what == f"the weights of {broken} are incomplete"
    assert refused.value.why == "1 tensors are missing and would be random, e.g. model.layers.1.mlp.up_proj.weight"


def test_damaged_weights_are_the_models_fault(tiny: Path, tmp_path: Path, tracked_run: TrackedRun) -> None:
    shutil.copytree(tiny, tmp_path / "damaged")
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(
        ModelError, match=r'the model ".*damaged" cannot be loaded: .* The folder needs config.json, the weights'
    ):
        loader_of(tracked_run, tmp_path / "damaged").model()


def test_an_adapter_is_no_base_model(tiny: Path, tmp_path: Path, tracked_run: TrackedRun) -> None:
    loader_of(tracked_run, tiny).model().save_pretrained(str(tmp_path / "adapter"))
    with pytest.raises(ModelError, match="is an adapter, not a model"):
        loader_of(tracked_run, tmp_path / "adapter").tokenizer()


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("/no/such/folder", "there is no model folder /no/such/folder"),
        ("~/no/such.gguf", "there is no GGUF file ~/no/such.gguf"),
        ("nobody/nothing", 'the model "nobody/nothing" cannot be loaded'),
    ],
)
def test_a_model_that_is_not_there(source: str, what: str, tracked_run: TrackedRun) -> None:
    with pytest.raises(ModelError) as refused:
        loader_of(tracked_run, source).tokenizer()
    assert refused.value.what == what


def test_a_folder_that_is_no_model(tmp_path: Path, tracked_run: TrackedRun) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError) as refused:
        loader_of(tracked_run, tmp_path / "empty").tokenizer()
    assert refused.value.what == f'the model "{tmp_path / "empty"}" cannot be loaded'


def test_a_sequence_longer_than_the_model_was_made_for_is_warned_of(tiny: Path, tracked_run: TrackedRun) -> None:
    loader_of(tracked_run, tiny, max_sequence_length=4096).model()
    assert tracked_run.warned == [f"max_sequence_length is 4096 and {tiny} was made for 2048 tokens"]


def test_the_chat_template_can_be_given(tiny: Path, tmp_path: Path, tracked_run: TrackedRun) -> None:
    bare = shutil.copytree(tiny, tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(ModelError) as refused:
        loader_of(tracked_run, bare).tokenizer()
    assert refused.value.what == f"the tokenizer of {bare} has no chat template"
    turns = [{"role": "user", "content": "Hi"}]
    rendered = []
    (tmp_path / "mine.jinja").write_text(CHATML.replace("<|im_end|>", "<|endoftext|>"))
    for template in ("chatml", str(tmp_path / "mine.jinja")):
        tokenizer: Any = loader_of(tracked_run, bare, chat_template=template).tokenizer()
        rendered.append(tokenizer.apply_chat_template(turns, tokenize=False))
    assert rendered == ["<|im_start|>user\nHi<|im_end|>\n", "<|im_start|>user\nHi<|endoftext|>\n"]


def test_padding_is_never_the_end_where_there_is_another_token(
    tiny: Path, tmp_path: Path, tracked_run: TrackedRun
) -> None:
    from transformers import AutoTokenizer

    same = shutil.copytree(tiny, tmp_path / "same")
    tokenizer: Any = AutoTokenizer.from_pretrained(str(same))
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(str(same))
    loaded: Any = loader_of(tracked_run, same).tokenizer()
    assert (loaded.eos_token, loaded.pad_token, loaded.padding_side) == ("<|im_end|>", "<|endoftext|>", "right")


def test_the_type_of_the_weights_follows_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(**own: Any) -> Any:
        return choose_dtype(ModelSettings(base_model_id="m", **own), torch)

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for computes, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("ftcore_transformers.hardware.cpu_computes_bfloat16", lambda computes=computes: computes)
        assert chosen() == expected
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for supported, expected in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda supported=supported, **options: supported)
        assert chosen() == expected
    assert chosen(full_finetuning=True) == torch.float32
    assert chosen(full_finetuning=True, dtype="bfloat16") == torch.bfloat16


def test_flash_attention_is_used_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(dtype: Any, *, fused: bool = True) -> str:
        return attention_implementation(fused, None, dtype, torch)

    assert chosen(torch.bfloat16, fused=False) == "eager"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for capability, dtype, expected in (
        ((8, 0), torch.bfloat16, "flash_attention_2"),
        ((8, 0), torch.float32, "sdpa"),
        ((7, 5), torch.float16, "sdpa"),
    ):
        monkeypatch.setattr("torch.cuda.get_device_capability", lambda capability=capability: capability)
        assert chosen(dtype) == expected
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert chosen(torch.bfloat16) == "sdpa"
