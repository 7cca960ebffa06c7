"""What is kept out of everything that is shown or written."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

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


@pytest.mark.parametrize("text", ["a/b c+secret", 'quo"ted\\secret', "ümlaut-secret"])
def test_a_secret_is_known_in_other_notations(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X_PASSWORD", text)
    for shown in (text, repr(text), json.dumps(text), quote(text), quote(text, safe="")):
        assert "secret" not in mask(f"it is {shown}!")


def test_the_password_of_a_url_is_masked_alone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://admin:pa%2Fss-word@host")
    assert mask("user admin, password pa/ss-word or pa%2Fss-word") == "user admin, password *** or ***"


def test_the_password_behind_the_question_mark_is_masked_alone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://host/db?user=reader&password=pa%2Fss-word")
    assert mask("user reader, password pa/ss-word or pa%2Fss-word") == "user reader, password *** or ***"


def test_a_long_word_is_looked_through_once() -> None:
    text = "a" * 1_000_000 + "://me@host"
    started = time.process_time()
    assert mask(text) == "a" * (1_000_000 - 41) + "a" * 41 + "://***@host"
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("key", "expected"),
    [("password", True), ("db_password", True), ("api_key", True), ("token", True), ("auth_token", True),
     ("client_secret", True), ("Authorization", True), ("pad_token", False), ("eos_token", False),
     ("sample_tokens", False), ("tokenizer", False), ("key", False), ("keyword", False)],
)  # fmt: skip
def test_keys_that_tell(key: str, expected: bool) -> None:
    from ftcore.secrets import is_secret_key

    assert is_secret_key(key) is expected


def test_a_secret_key_s_value_is_masked_wherever_it_came_from(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftcore.secrets._remembered", set())
    monkeypatch.setenv("UNTOLD", "from-the-environment")
    load('[mlflow]\ntags = { password = "in-the-file", pad_token = "<|padding|>", api_key = "${UNTOLD}" }\n')
    assert mask("in-the-file from-the-environment <|padding|>") == "*** *** <|padding|>"


def test_a_run_s_configuration_is_read_again_with_the_secrets_of_the_environment(
    load: Any, plugins: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftcore.config import load as load_config
    from ftcore.run import runs

    monkeypatch.setenv("MLFLOW_PASSWORD", "hidden/one")
    config = load(
        'load_in_8bit = true\nchat_template = "a$${b}.jinja"\nepochs = 2\n'
        '[mlflow]\ntracking_uri = "http://me:${MLFLOW_PASSWORD}@host"\ntags = { a = "x$${y}" }\n'
    )
    text = runs.as_toml(config)
    assert "hidden" not in text
    (tmp_path / "again.toml").write_text(text, encoding="utf-8")
    chosen = {section: list(table) for section, table in config.given.items()}
    again = load_config(tmp_path / "again.toml", plugins, (), chosen)
    assert (again.fine_tuner, again.run, again.stages, again.audit) == (
        config.fine_tuner, config.run, config.stages, config.audit,
    )  # fmt: skip
    assert again.sections == config.sections
    assert {name: table for name, table in again.given.items() if table} == config.given


def test_a_secret_inside_another_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "abcdef")
    monkeypatch.setenv("B_TOKEN", "abcdefghij")
    assert mask("abcdefghij") == "***"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://user:pass@host/x", "https://***@host/x"),
        ("https://TOKEN@github.example/x", "https://***@github.example/x"),
        ("git+https://TOKEN@github.example/x", "git+https://***@github.example/x"),
        ("redis://something@host", "redis://***@host"),  # a password or a user, nobody knows
        ("postgresql://reader@host/db", "postgresql://reader@host/db"),
        ("postgresql+psycopg://me@host", "postgresql+psycopg://me@host"),
        ("git+ssh://git@host/x", "git+ssh://git@host/x"),
        ("mysql+https://git@host/x", "mysql+https://***@host/x"),
        ("postgresql://reader:pass@host/db", "postgresql://***@host/db"),
        ("postgresql://:pass@host/db", "postgresql://***@host/db"),
        ("postgresql://pa%20ss@host", "postgresql://***@host"),
        ("postgresql://a@b@host", "postgresql://***@host"),
        ("postgresql://dapi0123456789abcdef@host", "postgresql://***@host"),
        ("postgresql://hf_" + "aB3" * 12 + "@host", "postgresql://***@host"),
        ("postgresql://h/d?user=me&password=hunter2&x=1", "postgresql://h/d?user=me&password=***&x=1"),
        ("https://h/d?api-key=abc;sig=a%2Fb#x", "https://h/d?api-key=***;sig=***#x"),
        ("https://h/d?password=${NAME}&token_count=3", "https://h/d?password=${NAME}&token_count=***"),
        ("see d?token=abc", "see d?token=abc"),  # of no URL
        ("https://u:p@ss@host", "https://***@host"),
        ("https://u:${NAME}@host", "https://u:${NAME}@host"),
        ("https://u:${NAME:-default}@host", "https://***@host"),
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

    from ftcore.run import runs

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
