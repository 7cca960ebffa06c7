"""The merge, tensor by tensor, against PEFT's own merge in float32; and the files that it reads and writes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="merging needs the extra [train]")
pytest.importorskip("peft")

from ftcore.errors import SaveError  # noqa: E402
from ftcore.testing.models import tiny_model  # noqa: E402
from ftcore_merged.adapter import read_adapter  # noqa: E402
from ftcore_merged.base import find_base, is_tied  # noqa: E402
from ftcore_merged.companions import write_companions  # noqa: E402
from ftcore_merged.merging import Kept, write_merged  # noqa: E402
from ftcore_merged.plan import plan  # noqa: E402
from ftcore_merged.tensor_files import TensorFile  # noqa: E402
from ftcore_merged.weights import open_weights  # noqa: E402

GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_inner": 128, "n_positions": 128}
SMALL: dict[str, dict[str, Any]] = {
    "llama": {},
    "tied": {"model_type": "llama", "tie_word_embeddings": True},
    "qwen2": {},
    "gpt2": GPT2 | {"tie_word_embeddings": True},
    "gpt2 untied": GPT2 | {"model_type": "gpt2"},
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", {}),
    "rank-stabilized": ("llama", {"use_rslora": True}),
    "patterns": (
        "llama",
        {"rank_pattern": {"q_proj": 2, r"model\.layers\.1\.mlp\.up_proj": 3}, "alpha_pattern": {"down_proj": 7, "layers.0.self_attn.v_proj": 1}},
    ),
    "biases": ("qwen2", {"bias": "all"}),
    "biases of adapted layers": ("qwen2", {"bias": "lora_only"}),
    "a bias of its own": ("qwen2", {"lora_bias": True, "target_modules": ["q_proj", "k_proj", "v_proj"]}),
    "modules_to_save": ("llama", {"modules_to_save": ["lm_head", "norm"]}),
    "embeddings": ("llama", {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
    "weights as inputs × outputs": ("gpt2 untied", {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
    "only square ones of these": ("gpt2 untied", {"target_modules": ["attn.c_proj"], "fan_in_fan_out": True}),
    "DoRA": ("llama", {"use_dora": True}),
    "DoRA, inputs × outputs": ("gpt2 untied", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True, "use_dora": True}),
    "DoRA on embeddings": ("llama", {"use_dora": True, "target_modules": ["embed_tokens", "v_proj"]}),
    "tied, but not touched": ("tied", {}),
}  # fmt: skip
UNTYING = {
    "LoRA on tied embeddings": {"target_modules": ["embed_tokens", "v_proj"]},
    "LoRA on the tied head": {"target_modules": ["lm_head", "v_proj"]},
    "the tied head trained whole": {"modules_to_save": ["lm_head"]},
    "the tied embeddings trained whole": {"modules_to_save": ["embed_tokens"]},
}

pytestmark = pytest.mark.filterwarnings(
    # PEFT's, about what these tests do on purpose.
    "ignore:Setting `save_embedding_layers`:UserWarning",
    "ignore:.*tied:UserWarning",
    "ignore:Adapter 'default'.*invalid shape",
    "ignore:fan_in_fan_out is set to:UserWarning",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    made: dict[str, Path] = {}
    for name, values in SMALL.items():
        folder = tmp_path_factory.mktemp("base") / name.replace(" ", "-")
        tiny_model(folder, **({"model_type": name} | values))
        made[name] = folder
    return made


def adapter_of(base: Path, folder: Path, **config: Any) -> Any:
    """A PEFT model with a random adapter, saved."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    options = {"r": 4, "lora_alpha": 6, "target_modules": targets, "task_type": "CAUSAL_LM"} | config
    adapted = get_peft_model(model, LoraConfig(**options))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad and "magnitude" in name:
                parameter.mul_(1 + 0.1 * torch.rand_like(parameter))
            elif parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    adapted.save_pretrained(str(folder))
    return adapted.eval()


def merge(base: Path, adapter_folder: Path, folder: Path, dtype: Any = None, rounding: str = "stochastic") -> Kept:
    """The merged model in a folder, complete."""
    adapter, weights = read_adapter(adapter_folder), open_weights(base)
    dtype = torch.float32 if dtype is None else dtype
    changes = plan(weights, adapter, dtype, is_tied(weights))
    folder.mkdir()
    kept = write_merged(folder, weights, changes, rounding, seed=0)
    write_companions(folder, base, adapter_folder, str(dtype).removeprefix("torch."), changes.untied)
    return kept


def logits(model: Any) -> Any:
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        return model(input_ids=ids).logits.float()


def loaded(folder: Path, dtype: Any = None) -> Any:
    from transformers import AutoModelForCausalLM

    model, found = AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=torch.float32 if dtype is None else dtype, output_loading_info=True
    )
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    return model.eval()


@pytest.mark.parametrize("case", CASES)
def test_as_peft_merges_it(case: str, models: Mapping[str, Path], tmp_path: Path) -> None:
    base, config = CASES[case]
    adapted = adapter_of(models[base], tmp_path / "adapter", **config)
    before = logits(adapted)
    merge(models[base], tmp_path / "adapter", tmp_path / "merged")
    found = loaded(tmp_path / "merged").state_dict()
    expected = adapted.merge_and_unload().state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
    torch.testing.assert_close(logits(loaded(tmp_path / "merged")), before, rtol=1e-4, atol=1e-4)
    assert (before - logits(loaded(models[base]))).abs().max() > 1e-3  # the adapter does something


@pytest.mark.parametrize("case", UNTYING)
def test_head_and_embeddings_part_where_training_made_them_different(
    case: str, models: Mapping[str, Path], tmp_path: Path
) -> None:
    adapted = adapter_of(models["tied"], tmp_path / "adapter", **UNTYING[case])
    before = logits(adapted)
    merge(models["tied"], tmp_path / "adapter", tmp_path / "merged")
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["tie_word_embeddings"] is False
    torch.testing.assert_close(logits(loaded(tmp_path / "merged")), before, rtol=1e-4, atol=1e-4)


def test_names_with_and_without_prefixes(models: Mapping[str, Path], tmp_path: Path) -> None:
    """Keys as PEFT wrote them at other times, through torch.compile, with the adapter's name; a base without its prefix."""
    from safetensors.torch import load_file, save_file

    adapted = adapter_of(models["llama"], tmp_path / "adapter", modules_to_save=["lm_head"])
    expected = logits(adapted)
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    renamed = {}
    for key, tensor in load_file(file).items():
        key = re.sub(r"\.lora_([AB])\.weight", r".lora_\1.default.weight", key)
        key = key.replace("lm_head.", "lm_head.modules_to_save.default.")
        renamed[key.replace("base_model.model.", "base_model.model._orig_mod.")] = tensor
    save_file(renamed, file)
    bare = tmp_path / "bare"
    bare.mkdir()
    tensors = load_file(models["llama"] / "model.safetensors")
    save_file({key.removeprefix("model."): tensor for key, tensor in tensors.items()}, bare / "model.safetensors")
    (bare / "config.json").write_text((models["llama"] / "config.json").read_text())
    merge(models["llama"], tmp_path / "adapter", tmp_path / "merged")
    torch.testing.assert_close(logits(loaded(tmp_path / "merged")), expected, rtol=1e-4, atol=1e-4)
    merge(bare, tmp_path / "adapter", tmp_path / "merged-bare")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("merged", "merged-bare"))
    assert all(other[key.removeprefix("model.")].equal(tensor) for key, tensor in one.items())


@pytest.mark.parametrize("stored", ["shards", "pytorch", "pytorch shards"])
def test_a_base_in_other_files(stored: str, models: Mapping[str, Path], tmp_path: Path) -> None:
    adapted = adapter_of(models["llama"], tmp_path / "adapter")
    expected, base = logits(adapted), tmp_path / "base"
    plain = loaded(models["llama"])
    plain.save_pretrained(str(base), max_shard_size="200KB")
    names = [path.name for path in sorted(base.glob("*.safetensors"))]
    assert len(names) > 2
    if stored != "shards":
        from safetensors.torch import load_file

        parts = {name: load_file(base / name) for name in names}
        for path in base.glob("*.safetensors*"):
            path.unlink()
        if stored == "pytorch":
            torch.save({key: one for part in parts.values() for key, one in part.items()}, base / "pytorch_model.bin")
        else:
            files = {name: name.replace("model", "pytorch_model").replace("safetensors", "bin") for name in parts}
            for name, part in parts.items():
                torch.save(part, base / files[name])
            index = {key: files[name] for name, part in parts.items() for key in part}
            (base / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    merge(base, tmp_path / "adapter", tmp_path / "merged")
    merged = sorted(path.name for path in (tmp_path / "merged").glob("*.safetensors"))
    assert merged == (["model.safetensors"] if stored == "pytorch" else names)
    torch.testing.assert_close(logits(loaded(tmp_path / "merged")), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_short_types_hold_the_float32_merge_within_rounding(
    name: str, models: Mapping[str, Path], tmp_path: Path
) -> None:
    dtype = getattr(torch, name)
    adapter_of(models["llama"], tmp_path / "adapter", use_dora=True)
    merge(models["llama"], tmp_path / "adapter", tmp_path / "exact")
    kept = merge(models["llama"], tmp_path / "adapter", tmp_path / "short", dtype)
    exact, short = (
        TensorFile(tmp_path / "exact" / "model.safetensors"),
        TensorFile(tmp_path / "short" / "model.safetensors"),
    )
    for tensor in exact.described:
        whole, rounded = exact.read(tensor), short.read(tensor)
        assert rounded.dtype == dtype
        step = torch.finfo(dtype).eps * 2.0 ** torch.frexp(whole.abs()).exponent.sub(1).float()
        step = step.clamp(min=torch.finfo(dtype).tiny * torch.finfo(dtype).eps)
        assert ((whole - rounded.float()).abs() <= step).all(), tensor
    assert kept.share == pytest.approx(1, abs=0.05)
    config = json.loads((tmp_path / "short" / "config.json").read_text())
    assert config["dtype"] == name
    assert loaded(tmp_path / "short", "auto").dtype == dtype


def test_small_changes_survive_stochastic_rounding_and_not_the_nearest(
    models: Mapping[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    base = tmp_path / "base"
    loaded(models["llama"]).to(torch.bfloat16).save_pretrained(str(base))
    adapter_of(models["llama"], tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({key: tensor * (0.0005 if "lora_B" in key else 1) for key, tensor in load_file(file).items()}, file)
    shares = {
        rounding: merge(base, tmp_path / "adapter", tmp_path / rounding, torch.bfloat16, rounding).share
        for rounding in ("nearest", "stochastic")
    }
    assert shares["nearest"] < 0.5
    assert shares["stochastic"] == pytest.approx(1, abs=0.1)


def test_the_same_seed_gives_the_same_file(models: Mapping[str, Path], tmp_path: Path) -> None:
    adapter_of(models["llama"], tmp_path / "adapter")
    for name in ("one", "two"):
        merge(models["llama"], tmp_path / "adapter", tmp_path / name, torch.bfloat16)
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantized_checkpoint_is_expanded(bits: int, models: Mapping[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    options: Any = (
        {"load_in_8bit": True}
        if bits == 8
        else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    )
    quantized = AutoModelForCausalLM.from_pretrained(
        str(models["llama"]), dtype=torch.float32, quantization_config=BitsAndBytesConfig(**options)
    )
    quantized.save_pretrained(str(tmp_path / "base"))
    adapter_of(models["llama"], tmp_path / "adapter")
    weights = open_weights(tmp_path / "base")
    assert weights.quantized == f"{bits}-bit"
    merge(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
    assert "quantization_config" not in json.loads((tmp_path / "merged" / "config.json").read_text())
    exact = merge_exactly(models["llama"], tmp_path)
    merged = loaded(tmp_path / "merged").state_dict()
    for name, tensor in exact.items():
        error = (merged[name] - tensor).abs().max() / tensor.abs().max()
        assert error < (0.15 if bits == 4 else 0.01), name
    # The numbers are bitsandbytes' own.
    import bitsandbytes.functional as functional

    layer = quantized.model.layers[0].self_attn.q_proj
    if bits == 4:
        own = functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
        torch.testing.assert_close(weights.read("model.layers.0.self_attn.q_proj.weight"), own)


def merge_exactly(base: Path, folder: Path) -> Any:
    merge(base, folder / "adapter", folder / "exact")
    return loaded(folder / "exact").state_dict()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "other methods": ({"peft_type": "IA3"}, "it is of the type IA3, not LoRA"),
    "altered bases": ({"init_lora_weights": "pissa_niter_4"}, 'it began with "pissa_niter_4", which altered the base'),
    "single tokens": ({"trainable_token_indices": [1]}, "single rows of the embeddings are trained"),
    "other variants": ({"use_qalora": True}, "it is a QA-LoRA"),
    "a DoRA that lost its magnitudes": ({"use_dora": True}, "the magnitudes of the layer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_merged_is_refused(case: str, models: Mapping[str, Path], tmp_path: Path) -> None:
    adapter_of(models["llama"], tmp_path)
    values, why = REFUSED[case]
    config = json.loads((tmp_path / "adapter_config.json").read_text()) | values
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(SaveError, match=re.escape(why)) as refused:
        read_adapter(tmp_path)
    assert refused.value.exit_code == 7


def test_an_adapter_of_another_model_is_refused(models: Mapping[str, Path], tmp_path: Path) -> None:
    adapter_of(models["llama"], tmp_path / "adapter")
    narrow = tiny_model(tmp_path / "narrow", hidden_size=32, head_dim=8)
    with pytest.raises(SaveError, match="does not fit the base model"):
        merge(narrow, tmp_path / "adapter", tmp_path / "one")
    with pytest.raises(SaveError, match=r"which the base model in .* does not have"):
        merge(models["gpt2"], tmp_path / "adapter", tmp_path / "two")


def test_what_float16_cannot_hold_is_refused(models: Mapping[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    adapter_of(models["llama"], tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({key: tensor * (1e6 if "lora_B" in key else 1) for key, tensor in load_file(file).items()}, file)
    with pytest.raises(
        SaveError, match=r"cannot be stored in float16: .* the largest number of that type is 6\.55e\+04"
    ):
        merge(models["llama"], tmp_path / "adapter", tmp_path / "merged", torch.float16)


def test_the_base_that_a_run_has_kept_comes_first(models: Mapping[str, Path], tmp_path: Path) -> None:
    """LoftQ alters the base model: only what the run directory holds fits, wherever that has been moved to."""
    kept = tmp_path / "loftq-base"
    kept.symlink_to(models["llama"])
    found = find_base(
        None, "/once/runs/x/loftq-base", tmp_path, "some/model", lambda: pytest.fail("the configured base is another")
    )
    assert found.weights.folder == kept
    assert "loftq-base, which the run has kept" in found.which


def test_full_precision_weights_of_a_quantized_copy(models: Mapping[str, Path], tmp_path: Path) -> None:
    (tmp_path / "tiny").symlink_to(models["llama"])
    copy = tmp_path / "tiny-unsloth-bnb-4bit"
    copy.mkdir()
    config = json.loads((models["llama"] / "config.json").read_text())
    stored = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    (copy / "config.json").write_text(json.dumps(config | stored))
    (copy / "model.safetensors").symlink_to(models["llama"] / "model.safetensors")
    found = find_base(None, "", tmp_path, str(copy), lambda: str(copy))
    assert found.weights.folder == tmp_path / "tiny"
    assert found.which.startswith("the full-precision weights of ")
    (tmp_path / "tiny").unlink()
    alone = find_base(None, "", tmp_path, str(copy), lambda: str(copy))
    assert alone.weights.folder == copy
    assert "the 4-bit weights of " in alone.which
    assert "full-precision ones could not be had" in alone.which


@pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes/text content.:DeprecationWarning")
def test_weights_come_from_the_hub(models: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import HfApi

    from ftcore.testing.hub import FakeHub

    with FakeHub() as hub:
        token = hub.add_token("hf_TokenOfAda", user="ada")
        for name, value in {"ENDPOINT": hub.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        address = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", token)
        api = HfApi(endpoint=hub.url, token=token)
        api.create_repo("ada/tiny", private=True)
        api.upload_folder(repo_id="ada/tiny", folder_path=models["llama"])
        found = find_base(None, "", tmp_path, "ada/tiny", lambda: "ada/tiny")
        assert found.which == "the full-precision weights of ada/tiny"
        own = open_weights(models["llama"])
        assert all(found.weights.read(name).equal(own.read(name)) for name in own.described)
        with pytest.raises(SaveError, match="the weights of ada/other cannot be had"):
            find_base("ada/other", "", tmp_path, "ada/tiny", lambda: "ada/tiny")


MEASURED = """
import resource, sys, json
from pathlib import Path
import torch
from ftcore_merged.adapter import Adapter, LoraLayer
from ftcore_merged.merging import write_merged
from ftcore_merged.plan import plan
from ftcore_merged.weights import open_weights

base, out = Path(sys.argv[1]), Path(sys.argv[2])
weights = open_weights(base)
layers = {name.removesuffix(".weight"): LoraLayer(torch.randn(8, shape.shape[1]), torch.randn(shape.shape[0], 8), 0.1)
          for name, shape in weights.described.items()}
changes = plan(weights, Adapter(layers), torch.bfloat16, tied=False)
out.mkdir()
torch.randn(512, 512) @ torch.randn(512, 512)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_merged(out, weights, changes, "stochastic", 0)
print(json.dumps((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))
"""


def test_memory_stays_at_one_tensor(tmp_path: Path) -> None:
    """Weights of 256 MiB in tensors of 32 MiB, merged in a process of its own, whose peak is measured."""
    from ftcore_merged.tensor_files import Described, write

    rows, columns, count = 4096, 4096, 8
    (tmp_path / "config.json").write_text('{"tie_word_embeddings": false}')
    described = Described((rows, columns), torch.bfloat16)
    names = [(f"layers.{number}.proj.weight", described) for number in range(count)]
    write(tmp_path / "model.safetensors", names, lambda name: [torch.full((rows, columns), 0.5, dtype=torch.bfloat16)])
    # A child's peak begins at what its parent has: it is started by a small one.
    starter = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
    done = subprocess.run(
        [sys.executable, "-c", starter, sys.executable, "-c", MEASURED, str(tmp_path), str(tmp_path / "out")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    grown = float(done.stdout)
    # One tensor as it is stored, and a piece of it in float32 a few times over; all weights would be 256 MiB.
    assert grown < 32 + 90
    merged = TensorFile(tmp_path / "out" / "model.safetensors")
    assert len(merged.described) == count
    assert not merged.read(names[0][0]).float().eq(0.5).all()


def test_files_are_safetensors(tmp_path: Path) -> None:
    """What is written here, the library reads; and the other way round."""
    from safetensors.torch import load_file, save_file

    from ftcore_merged.tensor_files import Described, write

    tensors = {
        "a": torch.randn(3, 5), "b": torch.randn(7).to(torch.bfloat16), "c": torch.tensor(4), "d": torch.zeros(0, 3),
        "e": torch.tensor([True, False]), "f": torch.arange(5, dtype=torch.uint8), "g": torch.randn(2, 2).half(),
    }  # fmt: skip
    described = [(name, Described(tuple(one.shape), one.dtype)) for name, one in tensors.items()]
    write(tmp_path / "own.safetensors", described, lambda name: [tensors[name]])
    save_file(tensors, tmp_path / "theirs.safetensors")
    for found in (
        load_file(tmp_path / "own.safetensors"),
        _read(tmp_path / "own.safetensors"),
        _read(tmp_path / "theirs.safetensors"),
    ):
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype
            assert found[name].equal(tensor)
    (tmp_path / "bad.safetensors").write_bytes(b"PK" + b"\xff" * 40)
    with pytest.raises(ValueError, match="is no safetensors file"):
        TensorFile(tmp_path / "bad.safetensors")


def _read(path: Path) -> dict[str, Any]:
    file = TensorFile(path)
    return {name: file.read(name) for name in file.described}
