"""What is kept out of everything that is shown or written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftcore.secrets import mask, masked


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "my_secret_2", "APIKEY",
             "AWS_SECRET_ACCESS_KEY"],
)  # fmt: skip
def test_values_of_telling_variables_are_masked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "s3cr3t-value")
    assert mask("before s3cr3t-value after s3cr3t-value") == "before *** after ***"


@pytest.mark.parametrize(
    ("name", "value"), [("TOKENIZERS_PARALLELISM", "disabled"), ("HF_TOKEN", "short"), ("MAX_TOKENS", "1234567")]
)
def test_harmless_values_stay_readable(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert mask(f"it is {value}") == f"it is {value}"


def test_a_secret_inside_another_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "abcdef")
    monkeypatch.setenv("B_TOKEN", "abcdefghij")
    assert mask("abcdefghij") == "***"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://user:pass@host/x", "https://***@host/x"),
        ("postgresql+psycopg://me@host", "postgresql+psycopg://***@host"),
        ("https://u:p@ss@host", "https://***@host"),
        ("https://host/path@2?x=a@b", "https://host/path@2?x=a@b"),
        ("mail me@host", "mail me@host"),
        ("hf_" + "aB3" * 12, "***"),
        ("hf_hub", "hf_hub"),
    ],
)
def test_urls_and_hub_tokens(text: str, expected: str) -> None:
    assert mask(text) == expected


def test_masking_reaches_into_lists_and_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X_TOKEN", "hidden-one")
    value = {"a": ["hidden-one", 1, None], "b": {"c": ("x hidden-one",)}}
    assert masked(value) == {"a": ["***", 1, None], "b": {"c": ["x ***"]}}


def test_no_secret_reaches_the_screen_or_the_run_directory(
    load: Any, plugins: Any, ftcore: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import datetime

    from ftcore import runs

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_TOKEN", "very-secret-text")
    config = load('[mlflow]\ntracking_uri = "https://me:pw123@host/${MY_TOKEN}"\n', "run.name_suffix=${MY_TOKEN}")
    active = runs.create(config, plugins, [], "r", datetime.now().astimezone())
    active.warn("very-secret-text")
    active.close()
    written = "".join(path.read_text(encoding="utf-8") for path in active.dir.iterdir() if path.is_file())
    assert "very-secret-text" not in written
    assert "pw123" not in written
    assert "https://***@host/${MY_TOKEN}" in written, "the variable's name is kept, so that the file can be read again"
    assert active.settings["mlflow.tracking_uri"] == "https://***@host/***"
    assert json.loads((active.dir / "manifest.json").read_text(encoding="utf-8"))["run"] == "r"
    outcome = ftcore("check", "config.toml", "--set", "fine_tuner.rank=${MY_TOKEN}")
    assert "very-secret-text" not in outcome.err
    assert 'fine_tuner.rank = "***" is not allowed' in outcome.err
