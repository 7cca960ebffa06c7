"""The dry step, and running out of memory, on a GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

if TYPE_CHECKING:
    from ftcore.plugins import Plugins

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.xdist_group("gpu"),
    # What the libraries warn of depends on the card and its drivers.
    pytest.mark.filterwarnings("default"),
]


def config(folder: Path, name: str, batch: int) -> Path:
    """A configuration with rows of 1,024 tokens."""
    from ftcore.testing.models import tiny_model

    if not (folder / "model").exists():
        tiny_model(folder / "model", max_position_embeddings=4096)
    rows = [{"question": f"How many are {number}?", "answer": "Many. " * 1000} for number in range(2 * batch)]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings: dict[str, Any] = {
        "base_model_id": str(folder / "model"),
        "training_data_id": f"{name}.jsonl",
        "load_in_4bit": False,
        "max_sequence_length": 1024,
        "epochs": 1,
        "device_train_batch_size": batch,
        "grad_accumulation": 1,
        "optimizer": "adamw_torch",
        "use_gradient_checkpointing": False,
    }
    tables = {
        "fine_tuner": settings,
        "audit": {"max_truncated": 1.0},
        "run": {"output_dir": str(folder / "runs"), "name": name},
    }
    path = folder / f"{name}.toml"
    path.write_text(tomli_w.dumps(tables))
    return path


def facts(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "runs" / name / "manifest.json").read_text())
    return found


def test_the_dry_step_measures_the_gpu(cuda: str, tmp_path: Path, plugins: Plugins) -> None:
    from ftcore.config import load
    from ftcore.run import pipeline

    pipeline.run(load(config(tmp_path, "fits", 8), plugins), plugins)
    found = facts(tmp_path, "fits")["dry_step"]["training"]
    assert (found["rows"], found["device"]) == (8, "cuda")
    assert 0 < found["tensor_bytes"] <= found["peak_bytes"]
    assert found["growth_bytes"] > 8 * 1024 * 64 * 4  # at the least one layer's hidden states


def test_out_of_memory_ends_with_advice(cuda: str, tmp_path: Path, plugins: Plugins) -> None:
    import torch

    from ftcore.config import load
    from ftcore.errors import OutOfMemory
    from ftcore.run import pipeline

    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 256 * 2**20) / total)
    try:
        with pytest.raises(OutOfMemory, match=r"the longest training batch does not fit in memory \(dry step\)") as end:
            pipeline.run(load(config(tmp_path, "large", 64), plugins), plugins)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "CUDA out of memory. Tried to allocate" in str(end.value)
    assert end.value.exit_code == 6
    found = facts(tmp_path, "large")["out_of_memory"]
    assert found["advice"][0]["change"].startswith("device_train_batch_size = ")
    assert found["advice"][0]["peak"] < found["estimated"]
