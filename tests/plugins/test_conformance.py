"""The built-in plugins keep the rules that third parties' plugins are held against."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ftcore.plugins import discover
from ftcore.testing import PluginSetup, check_plugin

if TYPE_CHECKING:
    from ftcore.testing.conformance.report import Report

NOWHERE = "http://127.0.0.1:9"
"""An address at which nothing listens."""

Check = Callable[..., "Report"]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Check:
    """`check_plugin`, somewhere without a pyproject.toml."""
    monkeypatch.chdir(tmp_path)
    return check_plugin


def not_tried(report: Report) -> set[str]:
    return {outcome.rule for outcome in report.of("skipped")}


@pytest.mark.parametrize("name", ["naming", "local", "qa", "instruction", "messages", "transformers", "sft", "merged"])
def test_with_nothing_but_its_name(check: Check, name: str) -> None:
    report = check(name)
    assert report.kinds
    kinds = {outcome.rule.partition("-")[0] for outcome in report.of("passed")}
    assert kinds == {"plugin", *report.kinds}
    # Every rule of its kinds could be tried.
    assert not_tried(report) == set(), report


def test_files(check: Check, tmp_path: Path) -> None:
    few, many = tmp_path / "few.jsonl", tmp_path / "many.jsonl"
    few.write_text("".join(json.dumps({"question": f"q{n}", "answer": f"a{n}"}) + "\n" for n in range(5)))
    line = json.dumps({"question": "How many apples are there?", "answer": "There are three apples. " * 4})
    many.write_text(f"{line}\n" * 100_000)
    on_disk = {"file": {"memory_limit_mb": 1, "cache_dir": str(tmp_path / "cache")}}
    setup = PluginSetup(on_disk, data=f"file:{few}", missing=f"file:{tmp_path / 'gone.jsonl'}", large=f"file:{many}")
    report = check("file", setup=setup)
    assert "data-streams" in {outcome.rule for outcome in report.of("passed")}


def test_tensorboard(check: Check) -> None:
    pytest.importorskip("tensorboard")
    report = check("tensorboard")
    assert not_tried(report) & {"reporter-batches", "reporter-survives-failures"} == set()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
def test_mlflow(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    setup = PluginSetup(
        config={"mlflow": {"tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}"}},
        down={"mlflow": {"tracking_uri": NOWHERE}},
    )
    report = check("mlflow", setup=setup)
    assert "reporter-outage" in {outcome.rule for outcome in report.of("passed")}


@pytest.mark.slow
def test_wandb(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home" / name))
    check("wandb", setup=PluginSetup(config={"wandb": {"mode": "offline"}}))


@pytest.fixture
def pushing(ftcore_hub: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The Hub on loopback, from which answers come at once."""
    monkeypatch.setattr("ftcore_hub.push.PAUSES", (0.01, 0.02))
    return ftcore_hub


@pytest.mark.filterwarnings(
    # The client uploads LFS files by an argument that httpx would have under another name.
    "ignore:Use 'content=<...>' to upload raw bytes/text content.:DeprecationWarning"
)
def test_hub(check: Check, pushing: Any) -> None:
    pytest.importorskip("huggingface_hub")
    check("hub")
    (repository,) = {repo for repo in pushing.repos if repo.endswith("run-1")}
    assert "adapter_model.safetensors" in pushing.repos[repository].files()


@pytest.mark.parametrize("name", ["hf", "smollm2", "unsloth"])
def test_what_needs_more_than_is_here(check: Check, name: str) -> None:
    """The Hub's data, the large wheel and a GPU have tests of their own; here are the rules for every plugin."""
    report = check(name, kinds=["model"] if name == "smollm2" else [])
    assert "plugin-imports-nothing-heavy" in {outcome.rule for outcome in report.of("passed")}


def test_none_is_forgotten() -> None:
    ours = {record.name for record in discover(disabled=()).records if record.distribution == "ftcore"}
    here = Path(__file__).read_text(encoding="utf-8")
    assert {name for name in ours if f'"{name}"' not in here} == set()
