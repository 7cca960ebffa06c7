"""The fixtures of `ftcore.testing`, as a plugin's tests use them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ftcore.errors import ConfigError, InvalidConfig
from ftcore.testing.recorder import HookCall

if TYPE_CHECKING:
    from ftcore.testing.hub import FakeHub
    from ftcore.testing.memory_reporter import MemoryReporter
    from ftcore.testing.project import Project
    from ftcore.testing.recorder import HookRecorder


def test_a_project_runs_for_real(
    ftcore_project: Project, ftcore_hooks: HookRecorder, ftcore_reporter: MemoryReporter
) -> None:
    ftcore_project.data([{"question": "How many?", "answer": "Two."}] * 4, "validation.jsonl")
    ftcore_reporter.fail("log")
    run = ftcore_project.run('[fine_tuner]\nreport_to = "memory"\n', "run.name=first", "fine_tuner.epochs=2")

    assert run.path == ftcore_project.path / "runs" / "first"
    assert (run.manifest["status"], run.manifest["steps"]) == ("finished", 4)
    assert [line["step"] for line in run.metrics if "loss" in line] == [1, 2, 3, 4]
    assert run.manifest["metrics"]["eval_loss"] > 0  # validation.jsonl is used where it is there
    assert (run.model / "adapter_model.safetensors").exists()
    assert "formatter  qa" in run.output

    # The reporter has everything, though it was down at first.
    assert ftcore_reporter.refused == 1
    assert ftcore_reporter.metric("loss") == [line["loss"] for line in run.metrics if "loss" in line]
    assert ([record.name for record in ftcore_reporter.started], ftcore_reporter.finished) == (["first"], ["finished"])
    assert ftcore_reporter.artifacts

    assert ftcore_hooks.names("local") == ["ftcore_launch", "ftcore_save"]
    (made,) = ftcore_hooks.of("ftcore_make_reporter")
    assert (made.plugin, made.answer, made.error) == ("memory", ftcore_reporter, None)
    order = [hook for hook in ftcore_hooks.names() if hook in ("ftcore_name_run", "ftcore_make_loader", "ftcore_save")]
    assert order == ["ftcore_name_run", "ftcore_make_loader", "ftcore_save"]

    assert [found.path.name for found in ftcore_project.runs()] == ["first"]


def test_a_configuration_keeps_what_it_says(ftcore_project: Project, ftcore_model: Path) -> None:
    import tomli

    filled = tomli.loads(ftcore_project.config({"fine_tuner": {"epochs": 3}, "mlflow": {"tags": {}}}).read_text())
    assert filled["fine_tuner"]["epochs"] == 3
    assert filled["fine_tuner"]["base_model_id"] == str(ftcore_model)
    assert (filled["stages"], filled["mlflow"]) == ({"loader": "transformers"}, {"tags": {}})
    assert len((ftcore_project.path / "train.jsonl").read_text().splitlines()) == 4

    # What is no TOML, extends another file, or is asked to be left alone, stays as it is.
    for number, text in enumerate(["[fine_tuner\n", 'extends = "config.toml"\n']):
        assert ftcore_project.config(text, f"{number}.toml").read_text() == text
    assert ftcore_project.config("[run]\nseed = 1\n", "2.toml", fill=False).read_text() == "[run]\nseed = 1\n"


def test_commands_end_as_in_a_shell(ftcore_project: Project) -> None:
    done = ftcore_project.ftcore("check", ftcore_project.config("[fine_tuner]\nepoch = 3\n"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "epoch" in done.stderr
    assert "Did you mean" in done.output
    with pytest.raises(InvalidConfig, match="epoch"):
        ftcore_project.run()
    assert ftcore_project.ftcore("--help").exit_code == 0
    assert ftcore_project.ftcore("no-such-command").exit_code == 2


def test_a_recorded_call_shows_no_values(ftcore_project: Project, ftcore_hooks: HookRecorder) -> None:
    ftcore_project.config({"fine_tuner": {"base_model_id": "a-model"}, "mlflow": {"tags": {"key": "s3cret-value"}}})
    ftcore_project.ftcore("check", "config.toml")
    (call,) = ftcore_hooks.of("ftcore_check", "mlflow")
    assert call.arguments["config"].section("mlflow").tags == {"key": "s3cret-value"}
    assert repr(call) == "HookCall(ftcore_check of mlflow, with config, settings)"
    failed = HookCall("ftcore_save", "hub", {"token": "s3cret-value"}, error=ConfigError("s3cret-value"))
    assert repr(failed) == "HookCall(ftcore_save of hub, with token, raised ConfigError)"
    assert "s3cret" not in repr(ftcore_hooks) + repr([call, failed])
    ftcore_hooks.clear()
    assert ftcore_hooks.calls == []


def test_the_reporter_is_there_for_one_test_only() -> None:
    from ftcore.plugins import discover

    assert discover(disabled=()).get("memory") is None


def test_the_hub_is_where_the_client_looks(ftcore_hub: FakeHub) -> None:
    client = pytest.importorskip("huggingface_hub")
    api = client.HfApi()
    assert api.whoami()["name"] == "ada"
    api.create_repo("ada/model", private=True)
    assert list(ftcore_hub.repos) == ["ada/model"]


def test_a_model_takes_less_than_a_second(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from ftcore.testing.models import tiny_model

    tiny_model(tmp_path / "first")  # with whatever is imported for it
    began = time.process_time()
    tiny_model(tmp_path / "second")
    assert time.process_time() - began < 1
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second"))
    assert first == second


def test_pytest_starts_with_next_to_nothing() -> None:
    code = """
import json, sys, time
import pytest, importlib.util, importlib.metadata, pluggy
importlib.metadata.version("pytest")
before, began = set(sys.modules), time.process_time()
import ftcore.testing.pytest_plugin
print(json.dumps([time.process_time() - began, sorted(set(sys.modules) - before)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    seconds, modules = json.loads(done.stdout)
    others = {module for module in modules if module.partition(".")[0] != "ftcore"}
    assert others == set(), others
    ours = {module for module in modules if module.startswith("ftcore.") and not module.startswith("ftcore.contracts.")}
    assert ours == {
        "ftcore.contracts",
        "ftcore.errors",
        "ftcore.hookspecs",
        "ftcore.testing",
        "ftcore.testing.pytest_plugin",
    }
    assert seconds < 0.2
