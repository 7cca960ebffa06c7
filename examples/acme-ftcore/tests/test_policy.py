"""The organisation's policy in real configurations and runs: defaults, locks and rules, where ACME_POLICY names a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

POLICY = """
reason = "one tracker for all of Acme"
models = ["acme:*", "HuggingFaceTB/SmolLM2-*"]
data = ["acme:tickets*", "*.jsonl"]
run_name = "(support|search)-.+"

[values.fine_tuner]
trust_remote_code = false
weight_decay = 0.02

[values.run]
name_prefix = "search-"

[locked]
"fine_tuner.trust_remote_code" = "code from the Hub is not run here"
"""


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    monkeypatch.setenv("ACME_POLICY", str(path))
    return path


def check(project: Any, *overrides: str, config: str = "config.toml") -> Any:
    return project.ftcore("check", config, *(part for override in overrides for part in ("--set", override)))


ALLOWED = {"fine_tuner": {"base_model_id": "HuggingFaceTB/SmolLM2-135M-Instruct"}}


def test_without_the_variable_nothing_is_ruled(ftcore_project: Any) -> None:
    ftcore_project.config({"fine_tuner": {"base_model_id": "anybody/anything"}})
    done = check(ftcore_project)
    assert (done.exit_code, "Acme" in done.output) == (0, False)


def test_defaults_are_given_and_the_users_file_wins(ftcore_project: Any, policy: Path) -> None:
    ftcore_project.config({**ALLOWED, "run": {"name_prefix": "support-"}})
    done = check(ftcore_project)
    assert done.exit_code == 0, done.output
    assert "fine_tuner.weight_decay" in done.output
    assert "run.name_prefix" not in done.output.partition("acme gives")[2].partition("\n")[0]


def test_a_locked_key_is_refused_with_the_reason(ftcore_project: Any, policy: Path) -> None:
    ftcore_project.config(ALLOWED)
    done = check(ftcore_project, "fine_tuner.trust_remote_code=true")
    assert done.exit_code == 2
    assert "code from the Hub is not run here" in done.output
    assert "acme" in done.output


def test_models_and_data_are_those_of_the_lists(ftcore_project: Any, policy: Path) -> None:
    ftcore_project.config({"fine_tuner": {"base_model_id": "anybody/anything", "validation_data_id": "ada/secrets"}})
    done = check(ftcore_project)
    assert done.exit_code == 2
    assert 'the base model "anybody/anything" is not allowed at Acme' in done.output
    assert 'the data "ada/secrets" are not registered at Acme' in done.output
    assert "train.jsonl" not in done.output


def test_a_run_has_a_name_of_the_convention(ftcore_project: Any, ftcore_model: Path, policy: Path) -> None:
    policy.write_text(POLICY.replace('models = ["acme:*"', f'models = ["{ftcore_model}"'))
    ftcore_project.config()
    command = ("run", "config.toml", "--set", "run.name_prefix=my-")
    done = ftcore_project.ftcore(*command)
    assert done.exit_code == 2
    assert 'named like (support|search)-.+, and this one would be "my-' in done.output
    assert ftcore_project.runs() == []
    run = ftcore_project.run()
    assert run.path.name.startswith("search-")
    assert run.manifest["status"] == "finished"


def test_the_readmes_policy(ftcore_project: Any, policy: Path) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in readme.split("```toml\n")[1:]]
    (text,) = [block for block in blocks if "[locked]" in block]
    policy.write_text(text, encoding="utf-8")
    ftcore_project.config({"fine_tuner": {**ALLOWED["fine_tuner"], "training_data_id": "acme:tickets"}})
    done = check(ftcore_project, "acme.database_url=postgresql+psycopg://reader@db.acme.example/support")
    assert done.exit_code == 0, done.output
    assert "mlflow.tracking_uri" in done.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("models = [", "Invalid"),
        ("modles = []", "modles"),
        ("run_name = '('", "no regular expression"),
        ("[locked]\n'run.name' = 'x'", "locks what it does not set"),
    ],
)
def test_a_policy_with_a_mistake_stops_everybody(
    ftcore_project: Any, policy: Path, text: str | None, message: str
) -> None:
    ftcore_project.config(ALLOWED)
    policy.unlink() if text is None else policy.write_text(text)
    done = check(ftcore_project)
    assert done.exit_code == 2
    assert message in done.output
    assert "Tell the platform team" in done.output
    assert "Traceback" not in done.output


def test_a_configuration_to_begin_with(ftcore_project: Any) -> None:
    ftcore_project.config('extends = "acme:support"\n[fine_tuner]\nepochs = 1\n')
    done = check(ftcore_project)
    assert done.exit_code == 0, done.output
    ftcore_project.config('extends = "acme:suport"\n')
    done = check(ftcore_project)
    assert done.exit_code == 2
    assert 'there is no configuration "acme:suport". There is support' in done.output
