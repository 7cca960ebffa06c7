"""A launcher that runs the job in another process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LAUNCHER = """
    import os
    import subprocess

    from ftcore import hookimpl
    from ftcore.errors import TrainingError

    @hookimpl
    def ftcore_launch(run, job):
        run.say("launching elsewhere")
        environment = {**os.environ, "ELSEWHERE": "1", "RANK": os.environ.get("ELSEWHERE_RANK", "0")}
        done = subprocess.run(job.command, env=environment)
        if done.returncode:
            raise TrainingError("the job failed elsewhere", why=f"exit status {done.returncode}")

    @hookimpl
    def ftcore_run_started(run):
        (run.dir / "started.txt").write_text(os.environ.get("ELSEWHERE", "here"))
"""


@pytest.fixture
def config(tmp_path: Path, tiny_llama: Path, install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    site = install("elsewhere-ftcore", {"elsewhere": LAUNCHER}, {"elsewhere": "elsewhere"})
    monkeypatch.setenv("PYTHONPATH", str(site))
    rows = [{"question": f"How many {number}?", "answer": f"There are {number}."} for number in range(8)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "config.toml").write_text(
        f"""
        [fine_tuner]
        base_model_id = "{tiny_llama}"
        training_data_id = "data.jsonl"
        load_in_4bit = false
        epochs = 1
        optimizer = "adamw_torch"

        [stages]
        loader = "transformers"
        launcher = "elsewhere"

        [run]
        output_dir = "{tmp_path / "runs"}"
        name = "there"
        """
    )
    return tmp_path / "config.toml"


def manifest(config: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((config.parent / "runs" / "there" / "manifest.json").read_text())
    return found


def test_the_job_goes_on_in_the_run_directory_that_is_there(config: Path, ftcore: Any) -> None:
    outcome = ftcore("run", str(config))
    assert outcome.code == 0, outcome.err
    run = config.parent / "runs" / "there"
    assert [path.name for path in run.parent.iterdir()] == ["there"]
    assert (run / "started.txt").read_text() == "1"
    assert (run / "model" / "adapter_model.safetensors").exists()
    assert manifest(config)["status"] == "finished"
    assert manifest(config)["overrides"] == []
    assert "launching elsewhere" in (run / "run.log").read_text()


def test_a_failure_elsewhere_is_a_failure(config: Path, ftcore: Any) -> None:
    outcome = ftcore("run", str(config), "--set", "fine_tuner.training_data_id=missing.jsonl")
    assert outcome.code == 6
    assert outcome.errors[-1] == "error: the job failed elsewhere: exit status 4"
    assert manifest(config)["status"] == "failed"
    assert manifest(config)["overrides"] == ["fine_tuner.training_data_id=missing.jsonl"]


def test_only_the_main_process_reports_and_saves(config: Path, ftcore: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELSEWHERE_RANK", "1")
    outcome = ftcore("run", str(config))
    assert outcome.code == 0, outcome.err
    run = config.parent / "runs" / "there"
    assert manifest(config)["status"] == "running"  # the main process would have changed it, and there was none
    assert not (run / "model").exists()
    assert not (run / "metrics.jsonl").exists()
    assert "trained" in (run / "run.1.log").read_text()
