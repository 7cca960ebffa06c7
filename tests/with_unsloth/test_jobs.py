"""The unsloth loader trains, with every key of its section: real jobs on a tiny model, in an interpreter with unsloth."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from jobs import Jobs, Outcome

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("unsloth")]
pytest.importorskip("transformers", reason="training needs the extra [train]")

JOBS: Mapping[str, Mapping[str, Any]] = {
    "lora": {},
    "full": {"full_finetuning": True, "dtype": "null", "learning_rate": 0.001},
    "full_bfloat16": {"full_finetuning": True, "dtype": "bfloat16"},
    "4bit": {"load_in_4bit": True, "dtype": "null", "base_model_id": "wide"},
    "4bit_by_default": {"load_in_4bit": None},
    "8bit": {"load_in_8bit": True},
    "float16": {"dtype": "float16"},
    "dtype_null": {"dtype": "null"},
    "rslora": {"use_rslora": True},
    "loftq": {"loftq_config": {"loftq_bits": 4}},
    "biases": {"bias": "all", "base_model_id": "qwen2"},
    "two_targets": {"target_modules": ["q_proj", "down_proj"]},
    "all_linear": {"target_modules": "all-linear"},
    "no_such_target": {"target_modules": ["q_proj", "wqkv"]},
    "dropout": {"lora_dropout": 0.3},
    "recompute": {"use_gradient_checkpointing": True},
    "recompute_unsloth": {"use_gradient_checkpointing": "unsloth"},
    "eager": {"use_flash_attention": False},
    "seed": {"seed": 7},
    "packing": {"packing": True},
    "adamw_8bit": {"optimizer": "adamw_8bit"},
    "paged": {"optimizer": "paged_adamw_8bit"},
    "adapter": {"base_model_id": "adapter"},
    "nothing": {"base_model_id": "/no/such/model"},
    "four_at_once": {"sft": {"group_by_length": False}},
    "four_by_one": {"sft": {"group_by_length": False}, "device_train_batch_size": 1, "grad_accumulation": 4},
}
"""Keys that differ from the baseline; None leaves the key out."""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, unsloth_python: Path) -> Jobs:
    return Jobs(tmp_path_factory.mktemp("unsloth"), unsloth_python)


@pytest.fixture(scope="module")
def outcomes(jobs: Jobs) -> dict[str, Outcome]:
    return jobs.run(JOBS)


Outcomes = dict[str, Outcome]


def test_an_adapter_is_trained_and_the_rest_is_frozen(outcomes: Outcomes) -> None:
    job = outcomes["lora"]
    assert len(job.losses) == 4
    assert job.losses[-1] < job.losses[0]
    assert (job["weight"], job["dtype"], job["trained"]) == ("Linear", "torch.float32", ["torch.float32"])
    assert job["adapted"] == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert (job["training"], job["use_cache"], job["attention"]) == (True, False, "sdpa")
    assert "unsloth_zoo.cpu.trainer" in job["trainer"] or "trl.trainer.sft_trainer" in job["trainer"]
    assert job.said.count("warning") == 0


def test_the_adapter_is_plain_peft_and_needs_no_unsloth(outcomes: Outcomes, jobs: Jobs) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    job = outcomes["lora"]
    base = json.loads((job.dir / "model" / "adapter_config.json").read_text())["base_model_name_or_path"]
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(job.dir / "model")).eval()
    with torch.no_grad():
        logits = model(input_ids=torch.arange(3, 23)[None]).logits[0, -1, :8].float().tolist()
    assert logits == pytest.approx(job["logits"], abs=1e-4)


def test_full_fine_tuning_trains_every_weight_in_float32_unless_told_otherwise(outcomes: Outcomes) -> None:
    job = outcomes["full"]
    assert (job["dtype"], job["trained"], job["trained_share"]) == ("torch.float32", ["torch.float32"], 1.0)
    assert job.losses[-1] < job.losses[0]
    assert outcomes["full_bfloat16"]["dtype"] == "torch.bfloat16"
    assert (job.dir / "model" / "model.safetensors").exists()


def test_four_bits_are_four_bits_and_learn(outcomes: Outcomes) -> None:
    job = outcomes["4bit"]
    assert (job["weight"], job["dtype"]) == ("Linear4bit", "torch.uint8")
    assert job.losses[-1] < job.losses[0]
    assert outcomes["4bit_by_default"]["weight"] == "Linear"
    assert "load_in_4bit is only the default" in outcomes["4bit_by_default"].said


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("8bit", "without a GPU, unsloth would load 16-bit weights instead"),
        ("float16", "without a GPU, unsloth would use another type than float16"),
        ("loftq", "unsloth does not start an adapter with LoftQ"),
        ("no_such_target", 'target_modules names "wqkv", which this model does not have'),
        ("adapter", "is an adapter, not a model"),
        ("nothing", "there is no model folder /no/such/model"),
    ],
)
def test_what_it_cannot_do_is_an_error(outcomes: Outcomes, name: str, expected: str) -> None:
    assert expected in outcomes[name]["error"]


def test_dtype_null_is_what_the_processor_computes_in(outcomes: Outcomes) -> None:
    from ftcore_transformers.hardware import cpu_computes_bfloat16

    expected = "torch.bfloat16" if cpu_computes_bfloat16() else "torch.float32"
    job = outcomes["dtype_null"]
    assert (job["dtype"], job["trained"]) == (expected, ["torch.float32"])


def test_keys_of_the_adapter(outcomes: Outcomes) -> None:
    assert (outcomes["lora"]["scaling"], outcomes["rslora"]["scaling"]) == (2.0, 4.0)
    assert (outcomes["lora"]["biases"], outcomes["biases"]["biases"]) == ([], ["base_layer"])
    assert outcomes["two_targets"]["adapted"] == ["down_proj", "q_proj"]
    assert outcomes["all_linear"]["adapted"] == outcomes["lora"]["adapted"]
    assert (outcomes["lora"]["dropout"], outcomes["dropout"]["dropout"]) == (0.0, 0.3)
    assert outcomes["lora"]["first_a"] != outcomes["seed"]["first_a"]
    assert outcomes["lora"]["first_a"] == outcomes["eager"]["first_a"]


def test_gradient_checkpointing_computes_activations_again(outcomes: Outcomes) -> None:
    assert [outcomes[name]["computations"] for name in ("lora", "recompute", "recompute_unsloth")] == [1, 2, 2]
    assert outcomes["recompute"].losses == pytest.approx(outcomes["lora"].losses, abs=1e-5)
    assert outcomes["recompute_unsloth"].losses == pytest.approx(outcomes["lora"].losses, abs=1e-5)


def test_use_flash_attention_false_is_eager(outcomes: Outcomes) -> None:
    assert outcomes["eager"]["attention"] == "eager"


def test_packed_examples_stay_apart(outcomes: Outcomes) -> None:
    job = outcomes["packing"]
    assert "packing    16 examples in" in job.said
    assert job.losses[0] == pytest.approx(outcomes["lora"].losses[0], rel=0.1)
    one, other = job["among_neighbours"]
    assert one == pytest.approx(other, abs=1e-5), "an example's loss does not depend on its neighbours"


def test_the_optimizer_is_the_configured_one_where_unsloth_would_take_another(outcomes: Outcomes) -> None:
    assert (outcomes["adamw_8bit"]["optim"], outcomes["adamw_8bit"]["optimizer"]) == ("adamw_8bit", "bitsandbytes")
    assert outcomes["paged"]["optim"] == "adamw_8bit"
    assert "optimizer = paged_adamw_8bit cannot run here (paging needs a GPU)" in outcomes["paged"].said
    assert outcomes["lora"]["optimizer"] == "torch"


def test_accumulated_batches_learn_what_one_batch_learns(outcomes: Outcomes) -> None:
    assert outcomes["four_by_one"].losses == pytest.approx(outcomes["four_at_once"].losses, abs=1e-4)


def test_a_resumed_run_goes_on_as_if_nothing_had_happened(outcomes: Outcomes, jobs: Jobs) -> None:
    checkpoint = outcomes["lora"].dir / "checkpoints" / "checkpoint-2"
    resumed = jobs.run({"resumed": {"job": {"resume": str(checkpoint)}}})["resumed"]
    assert resumed.losses == pytest.approx(outcomes["lora"].losses[2:], abs=1e-6)
    assert resumed["logits"] == pytest.approx(outcomes["lora"]["logits"], abs=1e-6)


def test_who_imported_transformers_first_is_named_once(jobs: Jobs, install: Callable[..., Path]) -> None:
    site = install("acme-eager", {"acme_eager": "import transformers\n"}, {"eager": "acme_eager"})
    job = jobs.run({"late": {}}, PYTHONPATH=str(site))["late"]
    assert job.losses[-1] < job.losses[0]
    (warning,) = (line for line in job.said.splitlines() if "before unsloth" in line)
    assert "transformers was imported before unsloth by eager: some of unsloth's optimizations may" in warning


def test_nothing_is_written_into_the_working_directory(outcomes: Outcomes, jobs: Jobs) -> None:
    expected = {"train.jsonl", "models", "runs", *(f"{name}.toml" for name in JOBS)}
    assert {path.name for path in jobs.folder.iterdir()} <= expected | {"resumed.toml", "late.toml"}


@pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes/text content.:DeprecationWarning")
def test_the_environment_decides_on_gated_models_and_on_four_bits(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants
    from huggingface_hub import HfApi

    from ftcore.testing.hub import FakeHub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    with FakeHub() as hub:
        token = "hf_ReadTokenOfAda0123456789"
        hub.add_token(token, user="ada")
        api = HfApi(endpoint=hub.url, token=token)
        api.create_repo("ada/secret", private=True)
        api.upload_folder(repo_id="ada/secret", folder_path=str(jobs.folder / "models" / "llama"))
        online = {"HF_HUB_OFFLINE": "0", "HF_HOME": str(jobs.folder / "models" / "hub")}
        gated = {"gated": {"base_model_id": "ada/secret"}}
        without = {**hub.environment(token), **online, "HF_TOKEN": "", "UNSLOTH_CPU_LOAD_IN_4BIT": "0"}
        refused = jobs.run({"refused": gated["gated"], "no_4bit": JOBS["4bit"]}, **without)
        loaded = jobs.run(gated, **{**hub.environment(token), **online})["gated"]
    assert "set HF_TOKEN to a token that may read it" in refused["refused"]["error"]
    assert "did not load" in refused["no_4bit"]["error"]
    assert "it falls back on 16-bit weights" in refused["no_4bit"]["error"]
    assert loaded.losses[-1] < loaded.losses[0]
