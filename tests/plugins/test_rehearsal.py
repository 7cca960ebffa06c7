"""The dry step: the longest batches before training, which leave no trace."""

from __future__ import annotations

import json
import random
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

from ftcore.config import load
from ftcore.contracts import Prepared
from ftcore.run import pipeline, runs
from ftcore.run.rehearsal import rehearse
from ftcore.testing.models import tiny_model
from ftcore_sft import rehearsal
from ftcore_sft.rehearsal import longest_in_order, longest_rows

if TYPE_CHECKING:
    from ftcore.plugins import Plugins

torch = pytest.importorskip("torch", reason="training needs the extra [train]")
pytest.importorskip("transformers", reason="training needs the extra [train]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model and data of very different lengths."""
    folder = tmp_path_factory.mktemp("rehearsal")
    tiny_model(folder / "model")
    rows = [
        {"question": f"How many apples are {number}?", "answer": "Many. " * (1 + 7 * number % 11)}
        for number in range(12)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[3:8]))
    return folder


def run(folder: Path, plugins: Plugins, name: str, dry_step: bool, **own: Any) -> Path:
    """The directory of a whole run."""
    settings = {
        "base_model_id": str(folder / "model"),
        "training_data_id": "train.jsonl",
        "validation_data_id": "held_out.jsonl",
        "load_in_4bit": False,
        "max_sequence_length": 128,
        "lora_dropout": 0.2,
        "epochs": 1,
        "device_train_batch_size": 3,
        "device_validation_batch_size": 2,
        "grad_accumulation": 2,
        "optimizer": "adamw_torch",
        "use_gradient_checkpointing": False,
        "log_steps": 1,
        "save_steps": 2,
        **own,
    }
    tables = {
        "fine_tuner": settings,
        "run": {"output_dir": str(folder / "runs"), "name": name, "dry_step": dry_step},
    }
    (folder / f"{name}.toml").write_text(tomli_w.dumps(tables))
    return pipeline.run(load(folder / f"{name}.toml", plugins), plugins).dir


def steps(run_dir: Path) -> list[dict[str, float]]:
    """The logged metrics without what a clock decides."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "time"} for line in lines]


def same_files(one: Path, other: Path, name: str) -> bool:
    return (one / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.parametrize("full", [False, True])
def test_training_is_bit_equal_with_and_without_it(folder: Path, plugins: Plugins, full: bool) -> None:
    random.seed(7)
    kind = "full" if full else "lora"
    weights = "model.safetensors" if full else "adapter_model.safetensors"
    with_it, without = (run(folder, plugins, f"{kind}-{dry}", dry, full_finetuning=full) for dry in (True, False))
    assert steps(with_it) == steps(without)
    for checkpoint in ("checkpoints/checkpoint-1", "checkpoints/checkpoint-2"):
        if (without / checkpoint).exists():
            assert same_files(with_it, without, f"{checkpoint}/{weights}")
            one, other = (
                torch.load(one / checkpoint / "optimizer.pt", weights_only=True) for one in (with_it, without)
            )
            assert str(one) == str(other)
    assert same_files(with_it, without, f"model/{weights}")

    found = json.loads((with_it / "manifest.json").read_text())["dry_step"]
    assert (found["training"]["rows"], found["evaluation"]["rows"]) == (3, 2)
    assert found["training"]["peak_bytes"] > 100 * 2**20
    assert "dry_step" not in json.loads((without / "manifest.json").read_text())
    said = (with_it / "run.log").read_text()
    assert "dry step   training 3 rows of " in said

    audit = json.loads((with_it / "audit.json").read_text())
    assert audit["passed"]
    assert [one["check"] for one in audit["violations"]] == ["overlap", "warmup"]
    assert audit["statistics"]["training"]["rows"] == 12
    assert steps(with_it)[0]["data_rows"] == 12
    records = [json.loads(line) for line in (with_it / "reporting" / "records.jsonl").read_text().splitlines()]
    assert ("artifact", "audit.json") in [(record["kind"], record.get("name")) for record in records]
    facts = json.loads((with_it / "manifest.json").read_text())["data"]
    assert facts["audit"].startswith("passed with warnings: 5 of 5 validation examples are training examples too")
    assert "| audit | passed with warnings: " in (with_it / "model" / "README.md").read_text()


def test_no_random_state_gradient_or_mode_is_different_afterwards(folder: Path) -> None:
    import numpy as np
    from datasets import Dataset
    from transformers import AutoModelForCausalLM

    class Trainer:
        """As much of the trainer as is read; it draws random numbers and leaves gradients, as training does."""

        train_dataset = eval_dataset = Dataset.from_dict({"input_ids": [[1, 2, 3], [4] * 9]})

        class args:
            per_device_train_batch_size = per_device_eval_batch_size = 2

        def __init__(self) -> None:
            self.model = AutoModelForCausalLM.from_pretrained(folder / "model").train()
            self.batches: list[Any] = []

        def data_collator(self, rows: list[Any]) -> dict[str, Any]:
            return {"input_ids": torch.zeros(len(rows), max(len(row["input_ids"]) for row in rows))}

        def rehearse_training(self, batch: Any) -> None:
            self.model.train()
            ids = torch.randint(0, 300, (2, 8))
            self.model(input_ids=ids, labels=ids).loss.backward()
            random.random()
            np.random.rand()

        def rehearse_evaluation(self, batch: Any) -> None:
            self.model.eval()
            torch.rand(1)

    trainer: Any = Trainer()
    before = (torch.get_rng_state(), random.getstate(), str(np.random.get_state(legacy=False)))
    assert vars(rehearsal.rehearse(trainer, "training")) == {"rows": 2, "tokens": 18}
    assert vars(rehearsal.rehearse(trainer, "evaluation")) == {"rows": 2, "tokens": 18}
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), str(np.random.get_state(legacy=False)))
    assert trainer.model.training
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


def test_a_trainer_without_a_dry_step_is_told_of_once(
    folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    path = folder / "without.toml"
    path.write_text('[fine_tuner]\nbase_model_id = "m"\ntraining_data_id = "d.jsonl"\n')
    config = load(path, plugins)
    active = runs.create(config, plugins, [], "without", datetime(2026, 11, 23).astimezone())
    model, prepared = torch.nn.Linear(2, 2), Prepared(None, None)
    rehearse(active, config, object(), model, prepared)
    rehearse(active, load(path, plugins, ["run.dry_step=false"]), object(), model, prepared)
    active.close()
    said = "dry step   the trainer sft has none: the longest batch is not tried beforehand\n"
    assert capsys.readouterr().out == said
    assert "dry_step" not in active.facts


def test_the_longest_batches() -> None:
    lengths = [3, 9, 4, 1, 8, 8]
    assert longest_rows(lengths, 2) == [1, 4]
    assert longest_rows(lengths, 9) == [1, 4, 5, 2, 0, 3]
    assert longest_in_order(lengths, 2) == [0, 1]  # 2 × 9, not 2 × 8
    assert longest_in_order([1, 1, 9], 2) == [2]
    assert longest_in_order([5, 5, 9], 2) == [0, 1]  # the rest of one row is smaller than two rows of 5
