"""`ftcore ask`: the saved model, adapter or full, is one that answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftcore.cli.main import main

_ANSWER = "There are 3 apples."


def ftcore(*args: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(args))
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.parametrize("full", [False, True], ids=["adapter", "full"])
def test_a_trained_model_answers_what_it_was_taught(
    full: bool, tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data.jsonl").write_text(json.dumps({"question": "How many?", "answer": _ANSWER}) + "\n")
    (tmp_path / "config.toml").write_text(
        f"""
        [fine_tuner]
        base_model_id = "{tiny_llama}"
        training_data_id = "data.jsonl"
        load_in_4bit = false
        dtype = "float32"
        full_finetuning = {str(full).lower()}
        max_sequence_length = 64
        epochs = 60
        learning_rate = 0.02
        lora_dropout = 0.0
        lr_scheduler_type = "constant"
        optimizer = "adamw_torch"
        device_train_batch_size = 1
        grad_accumulation = 1
        save_steps = 1000

        [stages]
        loader = "transformers"

        [run]
        output_dir = "{tmp_path / "runs"}"
        name = "taught"
        """
    )
    assert ftcore("run", str(tmp_path / "config.toml")) == 0
    capsys.readouterr()
    assert ftcore("ask", str(tmp_path / "runs" / "taught"), "How many?", "--tokens", "20", "--trace") == 0
    asked = capsys.readouterr()
    assert asked.out.strip() == _ANSWER
    assert [line for line in asked.err.splitlines() if "ftcore_answering" in line and "sft (ftcore)" in line]

    model = tmp_path / "runs" / "taught" / "model"
    for weights in model.glob("*.safetensors"):
        weights.write_bytes(b"x" * 100)
    assert ftcore("ask", str(model), "How many?") == 5
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert error.startswith(f"error: the model in {model} cannot be loaded: SafetensorError: ")
    assert error.endswith("Copy the folder again: the files are damaged, or the base model is not there")
    (model / "tokenizer.json").unlink()
    assert ftcore("ask", str(model), "How many?") == 5
    assert capsys.readouterr().err.endswith(
        f"error: the model in {model} cannot be loaded: it has no tokenizer.json. Copy the folder again\n"
    )
    if not full:
        settings = json.loads((model / "adapter_config.json").read_text(encoding="utf-8"))
        settings["base_model_name_or_path"] = "/nowhere/model"
        (model / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
        assert ftcore("ask", str(model), "How many?") == 5
        assert capsys.readouterr().err.endswith(
            "cannot be loaded: its base model /nowhere/model is not there. Put it back there\n"
        )


def test_a_folder_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ftcore("ask", str(tmp_path), "How many?") == 5
    error = capsys.readouterr().err
    assert error == f"error: there is no saved model in {tmp_path}. Name a run directory, such as runs/<name>\n"
