"""W&B: an offline run read back from its file, and a server that is not there."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ftcore_wandb
from ftcore.contracts import Reporter, RunStatus
from ftcore.errors import RecordRefused
from ftcore.reporting.fan_out import Reporting
from ftcore_wandb import WandbSettings

if TYPE_CHECKING:
    from conftest import TrackedRun

pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No variable of the caller's, and a home of its own."""
    for name in [name for name in os.environ if name.startswith("WANDB_")] + ["WANDB_ERROR_REPORTING", "NETRC"]:
        monkeypatch.setenv(name, "to be removed")
        monkeypatch.delenv(name)
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home" / name))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    import wandb

    wandb.teardown()  # a test of another file may have left a run open, whose service would go on
    yield
    wandb.teardown()


@pytest.fixture
def run(tracked_run: TrackedRun) -> TrackedRun:
    return tracked_run


def make(run: TrackedRun, **settings: Any) -> Reporter:
    return ftcore_wandb.ftcore_make_reporter(run, WandbSettings(**settings))


def report(run: TrackedRun, steps: range, status: RunStatus = "finished", **settings: Any) -> None:
    reporting = Reporting(run.dir, run.say, run.warn)
    reporting.start({"wandb": lambda: make(run, **settings)}, run.record())
    for step in steps:
        reporting.log(step, {"loss": 1 / step})
        reporting.log(step, {"learning_rate": 0.5})
    (run.dir / "manifest.json").write_text("{}")
    (run.dir / "model").mkdir(exist_ok=True)
    (run.dir / "model" / "adapter.bin").write_bytes(b"weights")
    reporting.artifact(run.dir / "manifest.json", "manifest.json")
    reporting.artifact(run.dir / "model", "model")
    reporting.finish(status, 30)


class Stored:
    """What a `.wandb` file holds: LevelDB's log format around W&B's protocol buffers."""

    def __init__(self, file: Path) -> None:
        self.rows: list[dict[str, Any]] = []
        self.artifacts: dict[str, list[str]] = {}
        self.run: Any = None
        self.exit_code: int | None = None
        for record in _records(file.read_bytes()):
            match record.WhichOneof("record_type"):
                case "run":
                    self.run = record.run
                case "history":
                    items = record.history.item
                    self.rows.append({(i.key or i.nested_key[0]): json.loads(i.value_json) for i in items})
                case "artifact":
                    self.artifacts[record.artifact.name] = [e.path for e in record.artifact.manifest.contents]
                case "exit":
                    self.exit_code = record.exit.exit_code

    @property
    def config(self) -> dict[str, Any]:
        return {update.key: json.loads(update.value_json) for update in self.run.config.update}


def _records(content: bytes) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    block, head = 32768, 7
    at, parts = head, b""  # the file begins with a header of the same length
    while at + head <= len(content):
        if block - at % block < head:
            at += block - at % block
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + head])
        parts += content[at + head : at + head + length]
        at += head + length
        if kind in (1, 4):  # whole, or last part
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def stored(run: TrackedRun) -> list[Stored]:
    files = sorted((run.dir / "wandb").glob("*run-*/run-*.wandb"), key=lambda file: file.stat().st_mtime_ns)
    return [Stored(file) for file in files]


@pytest.mark.parametrize(("status", "code"), [("finished", 0), ("failed", 1), ("interrupted", 130)])
def test_an_offline_run_comes_back_from_its_file(
    run: TrackedRun, tmp_path: Path, status: RunStatus, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    report(run, range(1, 6), status, mode="offline", project="answers", group="g", tags=["blue"], notes="why")
    assert run.warned == []
    (one,) = stored(run)
    assert [(row["_step"], row["loss"], row["learning_rate"]) for row in one.rows] == [
        (step, 1 / step, 0.5) for step in range(1, 6)
    ]
    assert abs(one.rows[0]["_timestamp"] - time.time()) < 60
    assert one.config["fine_tuner.epochs"] == 3
    assert one.config["fine_tuner.target_modules"] == ["q_proj", "v|proj"]
    assert one.config["ftcore.version"] == "1"
    assert (one.run.project, one.run.display_name, one.run.run_group) == ("answers", "exp-1", "g")
    assert (list(one.run.tags), one.run.notes) == (["blue"], "why")
    assert one.exit_code == code
    assert one.artifacts == {"exp-1-manifest.json": ["manifest.json"], "exp-1-model": ["adapter.bin"]}
    (said,) = run.said
    folder = said.rpartition("wandb sync ")[2]
    assert said.startswith(f"wandb      run {one.run.run_id}, offline")
    assert (Path(folder) / f"run-{one.run.run_id}.wandb").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_record_keeps_the_time_at_which_it_was_made(run: TrackedRun) -> None:
    reporter = make(run, mode="offline")
    reporter.start(run.record())
    reporter.log({"loss": 1.0}, 3, 1_700_000_000.5)
    reporter.finish("finished", time.time())
    (one,) = stored(run)
    assert one.rows[0]["_timestamp"] == 1_700_000_000.5
    assert one.run.project == "ftcore"


def test_a_resumed_run_has_the_same_id(run: TrackedRun) -> None:
    report(run, range(1, 4), "interrupted", mode="offline")
    report(run, range(4, 6), mode="offline")
    first, second = stored(run)
    assert first.run.run_id == second.run.run_id
    assert [row["_step"] for one in (first, second) for row in one.rows] == [1, 2, 3, 4, 5]
    assert run.warned == []


def test_steps_that_go_back_are_refused_aloud(run: TrackedRun) -> None:
    reporter = make(run, mode="offline")
    reporter.start(run.record())
    reporter.log({"loss": 1.0}, 3, 1.0)
    with pytest.raises(RecordRefused, match="at step 3 and takes no metrics of step 2"):
        reporter.log({"loss": 1.0}, 2, 2.0)
    reporter.log({"eval_loss": 1.0}, 3, 3.0)
    reporter.finish("finished", time.time())
    (one,) = stored(run)
    assert one.rows[0].items() >= {"_step": 3, "loss": 1.0, "eval_loss": 1.0}.items()


def test_a_run_of_the_users_own_is_left_alone(run: TrackedRun, tmp_path: Path) -> None:
    import wandb

    theirs = wandb.init(project="theirs", mode="offline", dir=str(tmp_path), settings=wandb.Settings(silent=True))
    report(run, range(1, 4), mode="offline")
    theirs.log({"theirs": 1})
    theirs.finish()
    assert len(stored(run)) == 1
    wandb.teardown()
    assert [row["_step"] for row in stored(run)[0].rows] == [1, 2, 3]
    (file,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert Stored(file).rows[0]["theirs"] == 1


def test_the_environment_decides_where_the_section_is_silent(run: TrackedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "by-variable")
    report(run, range(1, 2))
    assert stored(run)[0].run.project == "by-variable"


def test_several_reporters_at_once(run: TrackedRun) -> None:
    tensorboard = pytest.importorskip("ftcore_tensorboard")
    reporting = Reporting(run.dir, run.say, run.warn)
    settings = tensorboard.TensorboardSettings()
    makers = {
        "wandb": lambda: make(run, mode="offline"),
        "tensorboard": lambda: tensorboard.ftcore_make_reporter(run, settings),
    }
    reporting.start(makers, run.record())
    for step in range(1, 4):
        reporting.log(step, {"loss": 1 / step})
    reporting.finish("finished", 30)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.dir / "tensorboard")).Reload()
    assert [point.step for point in events.Scalars("loss")] == [1, 2, 3]
    assert [row["_step"] for row in stored(run)[0].rows] == [1, 2, 3]


_ONLINE = """
import sys, time, datetime, types; from pathlib import Path
import ftcore_wandb; from ftcore.reporting.fan_out import Reporting; from ftcore.contracts import RunRecord
folder = Path(sys.argv[1]); settings = ftcore_wandb.WandbSettings()
run = types.SimpleNamespace(dir=folder, name="a", say=print, warn=print, settings={"run.report_timeout": 2.0},
                            started_at=datetime.datetime.now())
reporting = Reporting(folder, print, print)
reporting.start({"wandb": lambda: ftcore_wandb.ftcore_make_reporter(run, settings)}, RunRecord("a", folder, {}, {}))
reporting.log(1, {"loss": 1.0})
started = time.monotonic(); reporting.finish("finished", 2.0)
print("waited", round(time.monotonic() - started))
"""


@pytest.mark.slow
@pytest.mark.parametrize("answers", [False, True])
def test_a_process_ends_in_time_though_the_server_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if answers:
            listener.listen(50)  # takes connections, and never says a word
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", 4 * "0123456789")
        done = subprocess.run(
            [sys.executable, "-c", _ONLINE, str(tmp_path)], capture_output=True, text=True, timeout=120, check=True
        )
    assert "wandb has not taken 2 records" in done.stdout
    waited = re.search(r"waited (\d+)", done.stdout)
    assert waited is not None
    assert 2 <= int(waited[1]) < 20
    assert done.stderr == ""


CONFIG = """
[fine_tuner]
base_model_id = "m"
training_data_id = "hf:d"
report_to = "wandb"
[wandb]
"""


@pytest.mark.parametrize(
    ("section", "environment", "problem"),
    [
        ("", {}, "there is no key to log in with. Set the variable WANDB_API_KEY, or run `wandb login`, or"),
        ('mode = "online"', {"WANDB_MODE": "offline"}, "there is no key to log in with"),
        ("", {"WANDB_MODE": "sideways"}, "WANDB_MODE='sideways' is neither online nor offline"),
        ("", {"WANDB_MODE": "disabled"}, "WANDB_MODE=disabled keeps it from recording anything"),
        ("", {"WANDB_MODE": "offline"}, ""),
        ('mode = "offline"', {}, ""),
        ("", {"WANDB_API_KEY": "k" * 40}, ""),
    ],
)
def test_what_check_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str, environment: dict[str, str], problem: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = problems(tmp_path, section)
    assert [problem in text for text in found] == ([True] if problem else [])


def test_check_names_the_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # what an import system answers where nothing is installed
    (problem,) = problems(tmp_path, "")
    assert problem.endswith("the package wandb is not installed. Install it: pip install 'ftcore[wandb]'")


def test_a_login_in_netrc_is_enough(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "netrc").write_text("machine api.wandb.ai login user password " + "k" * 40)
    assert problems(tmp_path, "") == []


def problems(folder: Path, section: str) -> list[str]:
    from ftcore.config import load
    from ftcore.plugins import discover

    file = folder / "config.toml"
    file.write_text(CONFIG + section)
    config = load(file, discover())
    found = ftcore_wandb.ftcore_check(config, config.section("wandb"))
    return [f"{problem.message}. {problem.fix}" for problem in found]


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    code = "import sys, ftcore_wandb; print({'wandb', 'numpy', 'requests'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
