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
