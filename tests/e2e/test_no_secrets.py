"""Secrets that a run is given are in nothing that it writes or prints: not in errors, tracebacks or trackers' files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SECRETS = {
    "HF_TOKEN": "hf_PlantedHubToken00112233",
    "WANDB_API_KEY": "planted0123456789abcdef0123456789abcdef0",
    "MLFLOW_TRACKING_PASSWORD": "planted-mlflow-password",
    "DB_PW": "planted/db:pass word",  # its name does not tell, the key that reads it does
    "TRACKER": "planted-inside-url",  # nor this one: it stands where a URL has its password
    "MY_SECRET_HEADER": 'planted"quoted\\header',
}

LEAKY = '''
    import os
    from typing import Annotated

    from pydantic import SecretStr

    from ftcore import hookimpl
    from ftcore.contracts import Saved
    from ftcore.settings.base import Section

    class LeakySettings(Section):
        """A section with secrets."""

        password: str = "none"
        """A key whose name tells."""

        hidden: SecretStr = SecretStr("none")
        """A key whose type tells."""

        url: str = "none"
        """A key whose value tells."""

        headers: dict[str, str] = {}
        """A table with one that tells."""

    @hookimpl
    def ftcore_settings():
        return LeakySettings

    def everything(settings):
        known = [os.environ[name] for name in os.environ["PLANTED"].split(",")]
        return " ".join([settings.password, settings.url, str(settings.headers), str(settings.hidden), *known])

    class Leaky:
        def __init__(self, run, settings):
            self.run, self.settings = run, settings
        def start(self, record):
            self.run.say(f"reporter {everything(self.settings)}")
            return everything(self.settings)
        def log(self, metrics, step, time):
            raise RuntimeError(f"log: {everything(self.settings)}")
        def artifact(self, path, name): ...
        def finish(self, status, time): ...

    @hookimpl
    def ftcore_make_reporter(run, settings):
        return Leaky(run, settings)

    @hookimpl
    def ftcore_run_started(run, settings):
        run.warn(f"started {everything(settings)}")
        raise ValueError(f"listener: {everything(settings)}")

    @hookimpl
    def ftcore_save(run, settings):
        try:
            raise ConnectionError(f"cause: {everything(settings)}")
        except ConnectionError as error:
            raise RuntimeError(f"saver: {everything(settings)}") from error
'''


@pytest.fixture
def started(tmp_path: Path, tiny_llama: Path, install: Callable[..., Path]) -> Callable[..., str]:
    """Runs `ftcore ARGUMENTS` with the secrets planted, and returns what was printed."""
    site = install("leaky-ftcore", {"leaky": LEAKY}, {"leaky": "leaky"})
    rows = [{"question": f"How many {number}?", "answer": f"There are {number}."} for number in range(4)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "config.toml").write_text(
        f"""
        [fine_tuner]
        base_model_id = "{tiny_llama}"
        training_data_id = "data.jsonl"
        load_in_4bit = false
        epochs = 1
        save_steps = 1
        log_steps = 1
        optimizer = "adamw_torch"
        report_to = ["leaky", "mlflow", "tensorboard", "wandb"]
        [stages]
        loader = "transformers"
        savers = ["local", "leaky"]
        [run]
        name = "r"
        report_timeout = 20.0
        [wandb]
        mode = "offline"
        notes = "see https://me:planted-inside-url@notes.example"
        [mlflow]
        tags = {{ secret = "${{DB_PW}}" }}
        [leaky]
        password = "${{DB_PW}}"
        hidden = "${{DB_PW}}"
        url = "http://me:${{TRACKER}}@tracker.example/x"
        headers = {{ Authorization = "planted-in-the-file", other = "${{MY_SECRET_HEADER}}" }}
        """
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "WANDB_", "HF_"))
    }
    environment |= {**SECRETS, "PLANTED": ",".join(SECRETS), "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
    environment |= {"HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}

    def start(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "ftcore", *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        return f"{done.returncode}\n{done.stdout}\n{done.stderr}"

    return start


def test_nothing_written_or_printed_has_a_secret_in_it(started: Callable[..., str], tmp_path: Path) -> None:
    printed = started("run", "config.toml")
    printed += started("report", "runs/r", "--to", "leaky", "--timeout", "1")
    printed += started("check", "config.toml", "--set", "fine_tuner.rank=${DB_PW}")
    printed += started("check", "config.toml", "--set", "leaky.nothing=${TRACKER}")
    assert "failed in ftcore_save" in printed, printed
    assert "leaky does not take the run's records" in printed
    assert "failed in ftcore_run_started" in printed

    planted = [value.encode() for value in SECRETS.values()] + [b"planted-in-the-file"]
    # As JSON, as a part of a URL, and as Python shows it.
    planted += [b'planted\\"quoted', b"planted%2Fdb", b"planted/db"]
    files = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    names = {path.name for path in files}
    assert {"run.log", "manifest.json", "config.toml", "records.jsonl", "mlflow.db", "README.md"} <= names
    assert any(name.endswith(".wandb") for name in names)
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert b"Traceback" in files[tmp_path / "runs" / "r" / "run.log"]
    found = [
        (str(path.relative_to(tmp_path)), secret)
        for path, data in files.items()
        for secret in planted
        if secret in data
    ]
    assert found == []
    assert [secret for secret in planted if secret in printed.encode()] == []
    # What came from the environment can come from there again.
    written = files[tmp_path / "runs" / "r" / "config.toml"].decode()
    assert 'password = "${DB_PW}"' in written
    assert 'hidden = "${DB_PW}"' in written
    assert "http://***@tracker.example/x" in written or "http://me:${TRACKER}@tracker.example/x" in written


def test_a_bug_keeps_its_traceback_and_no_secret(tmp_path: Path) -> None:
    script = (
        "import sys, os; from ftcore.cli import main\n"
        "def broken(*a, **k): raise KeyError(os.environ['HF_TOKEN'])\n"
        "main.cli.main = broken\n"
        "main.main(['check', 'x'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | SECRETS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("KeyError: '***'\n")
