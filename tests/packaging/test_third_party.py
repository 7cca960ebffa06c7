"""A third party's wheel replaces the stages of a run, one after the other, each by the configuration alone.

The plugin is examples/acme-ftcore. What each test looks for can only come from it; its own tests run in tests/examples.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("clean")]

CONFIG = """
[fine_tuner]
base_model_id = "models/base"
training_data_id = "train.jsonl"
validation_data_id = "validation.jsonl"
load_in_4bit = false
max_sequence_length = 512
rank = 4
epochs = 1
warmup_steps = 0
device_train_batch_size = 4
grad_accumulation = 1
optimizer = "adamw_torch"
use_gradient_checkpointing = false
log_steps = 1

[stages]
formatter = "qa"

[acme]
database_url = "sqlite:///tickets.db"
"""

TICKETS = [
    {
        "product": f"anvil {number}",
        "subject": "Weight",
        "body": "How heavy is it?",
        "reply": f"{number} kilograms.",
        "question": f"What is {number} plus one?",
        "answer": f"It is {number + 1}.",
    }
    for number in range(12)
]
"""Rows that ftcore's formatter `qa` and Acme's both read, each in its own way."""


@dataclass(frozen=True)
class Workplace:
    """A folder with a configuration, data and a tiny model; every test has its own."""

    environment: Any
    folder: Path

    def run(self, name: str, *overrides: str) -> tuple[str, Path, dict[str, Any]]:
        """Run the configuration with some values replaced: the output, the run directory and its manifest."""
        output = self.environment.ftcore(self.folder, "run", "config.toml", *settings(f"run.name={name}", *overrides))
        run = self.folder / "runs" / name
        return output, run, json.loads((run / "manifest.json").read_text(encoding="utf-8"))

    def why(self, *overrides: str) -> dict[str, str]:
        """Who serves each stage, as `ftcore plugins why` says."""
        output = self.environment.ftcore(self.folder, "plugins", "why", "config.toml", *settings(*overrides))
        stages, _, _ = output.partition("\n\n")
        rows = [re.split(r"\s{2,}", line) for line in stages.splitlines()[1:]]
        return {row[0]: f"{row[1]} ({row[2]})" for row in rows}


def settings(*overrides: str) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


SERVED_BY_ACME = "acme (acme-ftcore 1.0.0)"


@pytest.fixture(scope="module")
def model(acme_environment: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "base"
    program = "import sys, pathlib; from ftcore.testing.models import tiny_model; tiny_model(pathlib.Path(sys.argv[1]))"
    done = acme_environment.run(folder.parent, "python", "-c", program, str(folder))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def workplace(acme_environment: Any, model: Path, tmp_path: Path) -> Workplace:
    shutil.copytree(model, tmp_path / "models" / "base")
    (tmp_path / "config.toml").write_text(CONFIG, encoding="utf-8")
    for name, rows in (("train", TICKETS), ("validation", TICKETS[:3])):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    acme_environment.ftcore(tmp_path, "acme-demo", "tickets.db")  # a command of the plugin
    return Workplace(acme_environment, tmp_path)


def targets(run: Path) -> set[str]:
    adapter = json.loads((run / "model" / "adapter_config.json").read_text(encoding="utf-8"))
    return set(adapter["target_modules"])


def test_unasked_it_changes_nothing(workplace: Workplace) -> None:
    output, run, manifest = workplace.run("plain")
    assert "acme" not in output
    assert targets(run) == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert manifest["data"]["training_rows"] == 12
    assert not (run / "acme.jsonl").exists()
    assert not [name for name in ("archive", "acme.lock") if (workplace.folder / name).exists()]


def test_loader(workplace: Workplace) -> None:
    assert workplace.why("stages.loader=acme")["loader"] == SERVED_BY_ACME
    output, run, _ = workplace.run("loader", "stages.loader=acme")
    assert "loader     acme: float32 on cpu, adapter on q_proj and v_proj" in output
    assert targets(run) == {"q_proj", "v_proj"}


def test_model_source(workplace: Workplace) -> None:
    shutil.move(workplace.folder / "models", workplace.folder / "store")
    overrides = ("fine_tuner.base_model_id=acme:base", "acme.model_store=store")
    assert workplace.why(*overrides)["model"] == SERVED_BY_ACME
    _, run, _ = workplace.run("model", *overrides)
    adapter = json.loads((run / "model" / "adapter_config.json").read_text(encoding="utf-8"))
    assert adapter["base_model_name_or_path"] == "store/base"


def test_data_source(workplace: Workplace) -> None:
    overrides = ("fine_tuner.training_data_id=acme:tickets", "stages.formatter=auto", "run.sample_answers=1")
    assert workplace.why(*overrides)["data"].startswith(("acme", "file"))
    overrides = (*overrides, "fine_tuner.validation_data_id=acme:tickets")
    assert workplace.why(*overrides)["data"] == SERVED_BY_ACME
    output, _, manifest = workplace.run("data", *overrides)
    assert (manifest["data"]["training_rows"], manifest["data"]["validation_rows"]) == (18, 2)
    assert "formatter  acme (auto: the columns are those of Acme's tickets)" in output
    assert "Q      Subject: " in output


def test_formatter(workplace: Workplace) -> None:
    assert workplace.why("stages.formatter=acme")["formatter"] == SERVED_BY_ACME
    plain, _, _ = workplace.run("qa", "run.sample_answers=1")
    output, _, _ = workplace.run("tickets", "stages.formatter=acme", "run.sample_answers=1")
    assert "Q      What is 0 plus one?" in plain
    assert "Q      Subject: Weight\n" in output


def test_trainer(workplace: Workplace) -> None:
    overrides = (
        "stages.trainer=acme",
        "fine_tuner.save_steps=2",
        "fine_tuner.epochs=2",
        "fine_tuner.learning_rate=0.01",
    )
    assert workplace.why(*overrides)["trainer"] == SERVED_BY_ACME
    output, run, manifest = workplace.run("trainer", *overrides)
    assert "trainer    acme: plain PyTorch" in output
    assert manifest["data"]["labels"] == "acme"
    assert manifest["metrics"]["eval_loss"] < manifest["metrics"]["eval_loss_before"]
    assert sorted(folder.name for folder in (run / "checkpoints").iterdir()) == [
        "checkpoint-2", "checkpoint-4", "checkpoint-6"
    ]  # fmt: skip
    assert (run / "checkpoints" / "checkpoint-6" / "state.pt").exists()
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len([line for line in logged if "loss" in str(line)]) >= 6


def test_reporter(workplace: Workplace) -> None:
    assert workplace.why("fine_tuner.report_to=acme")["reporter"] == SERVED_BY_ACME
    _, run, _ = workplace.run("reporter", "fine_tuner.report_to=acme")
    lines = [json.loads(line) for line in (run / "acme.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[0]["kind"] == "start"
    assert lines[0]["params"]["fine_tuner.rank"] == 4
    assert lines[0]["tags"]["ftcore.reporter"] == "acme"
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3]
    assert "model" in [line.get("name") for line in lines if line["kind"] == "artifact"]
    assert (lines[-1]["kind"], lines[-1]["status"]) == ("finish", "finished")
    assert lines[-1]["time"] > run.stat().st_ctime - 600  # seconds since the epoch


def test_saver(workplace: Workplace) -> None:
    overrides = ('stages.savers=["acme"]', "acme.archive_dir=shelf")
    assert workplace.why(*overrides)["saver"] == SERVED_BY_ACME
    output, run, manifest = workplace.run("saver", *overrides)
    assert "saved      adapter in an archive: shelf/saver.tar.gz" in output
    with tarfile.open(workplace.folder / "shelf" / "saver.tar.gz") as tar:
        names = set(tar.getnames())
    assert {"saver/adapter_model.safetensors", "saver/tokenizer.json", "saver/README.md"} <= names
    assert [path.name for path in (workplace.folder / "shelf").iterdir()] == ["saver.tar.gz"]
    assert not (run / "model").exists()  # nobody asked the plugin `local`
    assert manifest["saved"] == [{"what": "adapter in an archive", "where": "shelf/saver.tar.gz"}]


def test_namer_and_diary(workplace: Workplace) -> None:
    overrides = settings("acme.name_runs=true", "acme.diary=diary.txt")
    workplace.environment.ftcore(workplace.folder, "run", "config.toml", *overrides)
    (run,) = (workplace.folder / "runs").iterdir()
    assert re.fullmatch(r"acme-\d{8}-\d{6}", run.name)
    started, finished = (workplace.folder / "diary.txt").read_text(encoding="utf-8").splitlines()
    assert started.endswith(f" {run.name} started")
    assert finished.endswith(f" {run.name} finished")


def test_launcher_waits_for_its_turn(workplace: Workplace) -> None:
    assert workplace.why("stages.launcher=acme")["launcher"] == SERVED_BY_ACME
    command = [workplace.environment.folder / "bin" / "ftcore", "run", "config.toml"]
    command += settings("stages.launcher=acme", "run.name=waits")
    with (workplace.folder / "acme.lock").open("w") as turnstile:
        fcntl.flock(turnstile, fcntl.LOCK_EX)
        run = subprocess.Popen(
            command, cwd=workplace.folder, env=workplace.environment.variables, stdout=subprocess.PIPE, text=True
        )
        assert run.stdout is not None
        heard = [run.stdout.readline(), run.stdout.readline()]
        assert heard[1] == "launcher   acme: another training runs, waiting for acme.lock\n"
        assert not list((workplace.folder / "runs" / "waits").glob("checkpoints"))
    rest, _ = run.communicate(timeout=300)  # the lock went with the file
    assert run.returncode == 0
    assert rest.startswith("launcher   acme: passed acme.lock\n")
    assert (workplace.folder / "runs" / "waits" / "model" / "adapter_model.safetensors").exists()


def test_every_stage_at_once(workplace: Workplace) -> None:
    overrides = (
        "fine_tuner.base_model_id=acme:base", "fine_tuner.training_data_id=acme:tickets",
        "fine_tuner.validation_data_id=acme:tickets", "fine_tuner.report_to=acme", "stages.launcher=acme",
        "stages.loader=acme", "stages.formatter=acme", "stages.trainer=acme", 'stages.savers=["local", "acme"]',
    )  # fmt: skip
    served = workplace.why(*overrides, "acme.name_runs=true")
    assert served == dict.fromkeys(
        ("namer", "launcher", "model", "loader", "data", "formatter", "trainer", "reporter"), SERVED_BY_ACME
    ) | {"saver": SERVED_BY_ACME}
    _, run, manifest = workplace.run("all", *overrides)
    assert manifest["status"] == "finished"
    assert (targets(run), manifest["data"]["labels"]) == ({"q_proj", "v_proj"}, "acme")
    assert (run / "acme.jsonl").exists()
    assert (workplace.folder / "archive" / "all.tar.gz").exists()


def test_what_its_check_finds_stops_the_run_before_any_work(workplace: Workplace) -> None:
    overrides = settings("fine_tuner.training_data_id=acme:tickets", "acme.database_url=sqlite:///none.db")
    done = workplace.environment.run(workplace.folder, "ftcore", "run", "config.toml", *overrides)
    assert done.returncode == 2
    assert "there is no file" in done.stderr
    assert "`ftcore acme-demo FILE` makes one to try" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (workplace.folder / "runs").exists()


def test_disabled_it_is_an_error_only_where_it_is_named(workplace: Workplace) -> None:
    override = settings("stages.loader=acme")
    done = workplace.environment.run(
        workplace.folder, "ftcore", "plugins", "why", "config.toml", *override, FTCORE_DISABLE="acme"
    )
    assert done.returncode != 0
    assert "disabled" in done.stderr
