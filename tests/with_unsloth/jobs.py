"""Jobs with the unsloth loader, run by `worker.py` in an interpreter that has unsloth."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from ftcore.testing.models import tiny_model

ROWS = [{"question": f"How many are {number} and 1?", "answer": f"They are {number + 1}."} for number in range(16)]
BASELINE: Mapping[str, Any] = {
    "max_sequence_length": 128,
    "load_in_4bit": False,
    "dtype": "float32",
    "rank": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.0,
    "epochs": 1,
    "learning_rate": 0.01,
    "device_train_batch_size": 4,
    "grad_accumulation": 1,
    "warmup_steps": 0,
    "lr_scheduler_type": "constant",
    "optimizer": "adamw_torch",
    "use_gradient_checkpointing": False,
    "log_steps": 1,
    "save_steps": 2,
}


@dataclass(frozen=True)
class Outcome:
    """What the worker saw of a job."""

    seen: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        if name not in self.seen:
            pytest.fail(f"the job ended with: {self.seen.get('error')}")
        return self.seen[name]

    @property
    def dir(self) -> Path:
        return Path(self["dir"])

    @property
    def losses(self) -> list[float]:
        lines = (json.loads(line) for line in (self.dir / "metrics.jsonl").read_text().splitlines())
        return [line["loss"] for line in lines if "loss" in line]

    @property
    def said(self) -> str:
        return (self.dir / "run.log").read_text()


class Jobs:
    """Runs jobs in one process of the interpreter with unsloth, on its CPU backend unless on a GPU."""

    def __init__(self, folder: Path, python: Path, on_gpu: bool = False) -> None:
        self.folder, self._python = folder, python
        # On a GPU the libraries warn of what depends on the card.
        self._options = [] if on_gpu else ["-W", "error"]
        self._environment = {} if on_gpu else {"UNSLOTH_FORCE_CPU": "1", "CUDA_VISIBLE_DEVICES": ""}
        (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        tiny_model(folder / "models" / "llama")
        tiny_model(folder / "models" / "wide", hidden_size=128, intermediate_size=256, head_dim=32)
        tiny_model(folder / "models" / "large", hidden_size=256, intermediate_size=512, head_dim=64)
        tiny_model(folder / "models" / "qwen2", "qwen2")
        (folder / "models" / "adapter").mkdir()
        (folder / "models" / "adapter" / "adapter_config.json").write_text("{}")

    def run(self, jobs: Mapping[str, Mapping[str, Any]], **environment: str) -> dict[str, Outcome]:
        given = {
            name: {"config": str(self._config(name, dict(own))), **own.get("job", {})} for name, own in jobs.items()
        }
        return self.ask(given, **environment)

    def ask(self, given: Mapping[str, Mapping[str, str]], **environment: str) -> dict[str, Outcome]:
        done = subprocess.run(
            [str(self._python), *self._options, str(Path(__file__).with_name("worker.py"))],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={**os.environ, **self._environment, **environment},
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return {name: Outcome(seen) for name, seen in json.loads(done.stdout).items()}

    def _config(self, name: str, own: dict[str, Any]) -> Path:
        own.pop("job", None)
        sections = {key: own.pop(key) for key in ("sft", "stages") if key in own}
        settings = {"base_model_id": "llama", "training_data_id": "train.jsonl", **BASELINE, **own}
        model = self.folder / "models" / settings["base_model_id"]
        if model.exists():
            settings["base_model_id"] = str(model)
        written = {key: value for key, value in settings.items() if value is not None}
        path = self.folder / f"{name}.toml"
        run = {"output_dir": str(self.folder / "runs"), "name": name}
        stages = {"loader": "unsloth"}
        path.write_text(tomli_w.dumps({"fine_tuner": written, "run": run, "stages": stages, **sections}))
        return path
